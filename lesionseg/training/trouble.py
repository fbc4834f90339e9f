"""What goes wrong while a training runs, in words: memory, lost helpers, numbers that are not finite."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from lesionseg.errors import NonFiniteError, ResourceError
from lesionseg.models import SegmentationModel

__all__ = ["LOWER", "Halving", "not_finite", "plain_errors", "require_finite"]

# CUDA has an exception of its own; the CPU's and MPS's allocators tell it in words only.
_OUT_OF_MEMORY = re.compile(r"out of memory|not enough memory|can't allocate memory", re.IGNORECASE)
# A small /dev/shm, as in containers, and few open files; in a worker, torch puts its own words around them.
_NO_SHARED_MEMORY = re.compile(
    r"unable to \w+ shared memory|torch_shm_manager|unable to \w+ file </torch_", re.IGNORECASE
)
_NO_FILES = re.compile(r"too many open files|received 0 items of ancdata", re.IGNORECASE)
_NO_PROCESS = re.compile(r"can't start new thread|resource temporarily unavailable", re.IGNORECASE)
_LIMITS = {
    errno.EMFILE: "open file",
    errno.ENFILE: "open file",
    errno.EAGAIN: "process",
    errno.ENOMEM: "memory",
    errno.ENOSPC: "shared memory",
}
_LOST_WORKER = re.compile(r"DataLoader worker \(pid.*", re.DOTALL)
_RESUME = "--resume goes on from the last checkpoint"
LOWER = "train again with lower learning rates, under another --name"
"""What to do about numbers that are not finite: the rates of a run cannot change."""


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or bool(_OUT_OF_MEMORY.search(str(error)))


class Halving:
    """Runs steps, and from the first that finds no memory on, runs them in two halves.

    The halves' gradients add up to the batch's, so its size stays; only BatchNorm sees the halves by themselves.

    Args:
        allowed: whether it may; several processes would wait for each other.
        say: told once.
    """

    def __init__(self, say: Callable[[str], None], *, allowed: bool) -> None:
        self.say, self.allowed = say, allowed
        self.pieces = 1

    def __call__(self, step: Callable[[int], float]) -> float:
        """The loss of a step, which is given the number of pieces to take its batch in.

        Raises:
            ResourceError: there is not enough memory for half a batch either.
        """
        try:
            return step(self.pieces)
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            if self.pieces == 2 or not self.allowed:
                raise _no_memory("half a batch" if self.pieces == 2 else "a batch") from error
        # Outside the handler, whose traceback holds the failed step's tensors.
        self.pieces = 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.say("out of memory: from here on each batch is taken in two halves, whose gradients are added up")
        return self(step)


def _no_memory(what: str) -> ResourceError:
    return ResourceError(
        f"there is not enough memory for {what}",
        fix=f"lower loop.batch_size or data.image_size, or free memory; {_RESUME}",
    )


def _shortage(error: Exception) -> ResourceError | None:
    """What to raise where the machine gives the training no more processes, files or shared memory."""
    text = str(error)
    short = _LIMITS.get(error.errno or 0, "") if isinstance(error, OSError) else ""
    if _NO_SHARED_MEMORY.search(text):
        short = "shared memory"
    elif _NO_FILES.search(text):
        short = "open file"
    elif _NO_PROCESS.search(text):
        short = "process"
    advice = {
        "shared memory": "enlarge /dev/shm (docker run --shm-size=1g), or set data.workers=0",
        "open file": "raise the limit (ulimit -n 4096), or set data.workers=0",
        "process": "raise the limit (ulimit -u), or set data.workers=0 and OMP_NUM_THREADS=1",
        "memory": "free memory, or set data.workers=0",
    }
    if not short:
        return None
    line = text.strip().rpartition("\n")[2]
    return ResourceError(f"this machine gives the training no more {short}: {line}", fix=f"{advice[short]}; {_RESUME}")


@contextmanager
def plain_errors() -> Iterator[None]:
    """Tells of a lost data-loader worker, which torch's signal handler raises anywhere, and of memory in one message.

    Raises:
        ResourceError: a worker was killed, or there is no memory for what is no training step, or no process, open file
            or shared memory for workers.
    """
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if shortage := _shortage(error):
            raise shortage from error
        if _is_out_of_memory(error):
            raise _no_memory("the training") from error
        lost = _LOST_WORKER.search(str(error))
        if not lost:
            raise
        reason = " ".join(lost[0].split()).rstrip(". ")
        raise ResourceError(
            f"a process that prepares batches is gone: {reason}",
            fix=f"if memory was short, lower data.workers or set data.cache; {_RESUME}",
        ) from error


def not_finite(
    model: SegmentationModel, images: torch.Tensor, names: Sequence[str], epoch: int, step: int
) -> NonFiniteError:
    """Finds the pictures whose logits are not finite by themselves; if none are, the weights are at fault.

    Args:
        model: as trained so far.
        images: the batch, on the model's device.
        names: its case ids.
        epoch, step: counted from 1.
    """
    model.eval()
    with torch.no_grad():
        bad = [name for name, image in zip(names, images, strict=True) if not model(image[None]).isfinite().all()]
    where = "these pictures" if bad and len(bad) < len(names) else "a batch with these pictures"
    return NonFiniteError(
        f"epoch {epoch}, step {step}: the loss is not finite on {where}",
        problems=bad or names,
        fix=f"mend the file that is to blame and go on with --resume; if they are fine, {LOWER}",
    )


def require_finite(values: Sequence[torch.Tensor], what: str) -> None:
    """Keeps numbers that are not finite out of checkpoints.

    Raises:
        NonFiniteError: some are not.
    """
    if not all(value.isfinite().all() for value in values if value.is_floating_point()):
        raise NonFiniteError(f"{what} is not finite, so nothing was saved", fix=LOWER)
