"""What several processes share: the images of each batch, numbers that all must agree on, BatchNorm statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from accelerate import Accelerator
from timm.layers import convert_sync_batchnorm

from lesionseg.data.loader import EpochSampler
from lesionseg.models import SegmentationModel

__all__ = ["SharedSampler", "agreed", "average", "share_buffers", "synchronise_norms"]


class SharedSampler(EpochSampler):
    """Each process's part of each batch; with one process, the whole of it.

    Every process takes every step. One that is left without an image repeats the batch's first, which counts for
    nothing: see ``own``.
    """

    def __init__(
        self, size: int, batch_size: int, seed: int | None = None, *, rank: int = 0, processes: int = 1
    ) -> None:
        super().__init__(size, batch_size, seed)
        self.rank, self.processes = rank, processes

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for batch in super().__iter__():
            yield batch[self.rank :: self.processes] or batch[:1]

    def images(self, step: int) -> int:
        """How many images all processes together have at a step of the epoch."""
        return min(self.batch_size, self.size - step * self.batch_size)

    def own(self, step: int) -> int:
        """How many of them are this process's; they come first in its batch."""
        return len(range(self.rank, self.images(step), self.processes))


def average(accelerator: Accelerator, value: float) -> float:
    """A number's mean over the processes."""
    if accelerator.num_processes == 1:
        return value
    mean: torch.Tensor = accelerator.reduce(torch.tensor(value, device=accelerator.device), "mean")
    return mean.item()


def agreed(accelerator: Accelerator, question: Callable[[], bool]) -> Callable[[], bool]:
    """A question that all processes ask at the same time, and that one can answer for all with yes."""
    return lambda: average(accelerator, float(question())) > 0


def share_buffers(accelerator: Accelerator, net: torch.nn.Module) -> None:
    """Gives all processes the first one's BatchNorm statistics, which are the ones that are kept."""
    if accelerator.num_processes > 1:
        for buffer in net.buffers():
            torch.distributed.broadcast(buffer, 0)


def synchronise_norms(accelerator: Accelerator, model: SegmentationModel) -> None:
    """Lets BatchNorm see the whole batch, where torch can: on CUDA. Elsewhere each process sees its own part."""
    if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
        model.decoder = convert_sync_batchnorm(model.decoder)
        if not model.encoder.frozen:
            model.encoder.net = convert_sync_batchnorm(model.encoder.net)
