"""What goes wrong while a training runs ends in one message, and the last good checkpoint stays."""

import errno
import math
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_net import small_config, small_fit, small_net, tensors, timeless
from torch import Tensor

from lesionseg.errors import LesionsegError, NonFiniteError, OutputError, ResourceError
from lesionseg.models import SegmentationModel
from lesionseg.training.checkpoint import FOLDER, checkpoint_files, latest_checkpoint, load_checkpoint
from lesionseg.training.run import run_training
from lesionseg.training.trouble import plain_errors

MEMORY_ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 100 bytes."),
    RuntimeError("MPS backend out of memory (MPS allocated: 5.00 GB)"),
    MemoryError(),
]


def short_of_memory(error: Exception, largest: int, **options: bool) -> tuple[SegmentationModel, list[int]]:
    """A network that holds at most so many pictures at a time while it trains, and the sizes that it was given."""
    net = small_net(0, **options)
    sizes: list[int] = []

    def check(module: torch.nn.Module, inputs: tuple[Tensor]) -> None:
        if module.training:
            sizes.append(len(inputs[0]))
            if sizes[-1] > largest:
                raise error

    net.decoder.register_forward_pre_hook(check)
    return net, sizes


# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", MEMORY_ERRORS, ids=lambda error: type(error).__name__)
def test_a_batch_that_is_too_large_is_taken_in_halves(tmp_path: Path, error: Exception) -> None:
    # Without BatchNorm, which sees the halves by themselves, the two are the same training.
    config = small_config("optim.name=sgd", "optim.clip_norm=1")
    whole = small_fit(config, tmp_path / "whole", model=small_net(0, norm=False))
    net, sizes = short_of_memory(error, 2, norm=False)
    said: list[str] = []
    halves = small_fit(config, tmp_path / "halves", model=net, on_notice=said.append)
    assert len(said) == 1
    assert "out of memory" in said[0]
    # 10 pictures in batches of 4.
    assert sizes == [4, *[2] * 4, 1, 1, *[2] * 4, 1, 1]
    for a, b in zip(timeless(whole), timeless(halves), strict=True):
        assert a == pytest.approx(b, rel=1e-5)
    a, b = tensors(tmp_path / "whole"), tensors(tmp_path / "halves")
    for key, value in a.items():
        torch.testing.assert_close(value, b[key], rtol=1e-4, atol=1e-6)


def test_half_a_batch_that_is_too_large_ends_it(tmp_path: Path) -> None:
    small_fit(small_config("loop.epochs=1"), tmp_path)
    net, sizes = short_of_memory(MEMORY_ERRORS[0], 1)
    said: list[str] = []
    with pytest.raises(ResourceError, match=r"(?s)not enough memory for half a batch.*loop.batch_size.*--resume"):
        small_fit(small_config(), tmp_path, model=net, resume=True, on_notice=said.append)
    assert (len(said), sizes) == (1, [4, 2])
    assert load_checkpoint(latest_checkpoint(tmp_path)).epoch == 1


def test_memory_may_also_end_outside_a_step(tmp_path: Path) -> None:
    def too_much(progress: object) -> None:
        raise MEMORY_ERRORS[2]

    with pytest.raises(ResourceError, match="not enough memory for the training"):
        small_fit(small_config(), tmp_path, on_step=too_much)


def test_other_errors_are_bugs(tmp_path: Path) -> None:
    net, sizes = short_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"), 2)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        small_fit(small_config(), tmp_path, model=net)
    assert sizes == [4]


# --- helpers ----------------------------------------------------------------------------------------------------------


def test_a_killed_worker(tmp_path: Path) -> None:
    def kill(row: object) -> None:
        worker = multiprocessing.active_children()[0]
        assert worker.pid
        os.kill(worker.pid, signal.SIGKILL)

    with pytest.raises(
        ResourceError, match=r"(?s)a process that prepares batches is gone.*(Killed|exited unexpectedly).*data.workers"
    ) as caught:
        small_fit(small_config("data.workers=1", "loop.epochs=50"), tmp_path, on_epoch=kill)
    assert len(str(caught.value).splitlines()) == 2
    assert load_checkpoint(latest_checkpoint(tmp_path)).epoch >= 1


# --- disk -------------------------------------------------------------------------------------------------------------


def failing(number: int) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize(
    ("module", "name", "number", "reason"),
    [
        (os, "fsync", errno.ENOSPC, "No space left on device"),
        (os, "open", errno.EROFS, "Read-only file system"),
        (os, "open", errno.EACCES, "Permission denied"),
    ],
)
def test_a_disk_that_fills_up_or_turns_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: object, name: str, number: int, reason: str
) -> None:
    small_fit(small_config("loop.epochs=3"), tmp_path / "whole")

    def break_disk(row: dict[str, int]) -> None:
        if row["epoch"] == 2:
            monkeypatch.setattr(module, name, failing(number))

    with pytest.raises(OutputError) as caught:
        small_fit(small_config("loop.epochs=3"), tmp_path / "run", on_epoch=break_disk)
    assert "epoch-0003.model.safetensors cannot be written: " + reason in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2
    monkeypatch.undo()
    assert [load_checkpoint(file).epoch for file in checkpoint_files(tmp_path / "run" / FOLDER)] == [1, 2]
    assert not list((tmp_path / "run").rglob(".part-*"))
    small_fit(small_config("loop.epochs=3"), tmp_path / "run", resume=True)
    a, b = tensors(tmp_path / "whole"), tensors(tmp_path / "run")
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_a_full_disk_at_the_start(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", failing(errno.ENOSPC))
    with pytest.raises(OutputError, match="cannot be written: No space left on device"):
        run_training(tiny.config(), tmp_path / "run")


# --- numbers ----------------------------------------------------------------------------------------------------------


def poison(net: SegmentationModel, when: Callable[[bool], bool]) -> SegmentationModel:
    net.decoder.register_forward_hook(
        lambda module, inputs, output: output * math.nan if when(module.training) else output
    )
    return net


def check_epoch_one_is_kept(folder: Path, net: SegmentationModel, message: str) -> None:
    small_fit(small_config("loop.epochs=1"), folder)
    with pytest.raises(NonFiniteError, match=rf"(?s){message}.*--resume"):
        small_fit(small_config(), folder, model=net, resume=True)
    assert [load_checkpoint(file).epoch for file in checkpoint_files(folder / FOLDER)] == [1]


def test_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    net = poison(small_net(), lambda training: training)
    check_epoch_one_is_kept(tmp_path, net, "epoch 2, step 1: the loss is not finite on a batch with these pictures")


def test_a_validation_loss_that_is_not_finite(tmp_path: Path) -> None:
    net = poison(small_net(), lambda training: not training)
    check_epoch_one_is_kept(tmp_path, net, "the validation loss is not finite on 3 of 3 pictures")


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    net = small_net()

    def spoil(progress: object) -> None:
        with torch.no_grad():
            net.decoder[0].bias.fill_(math.inf)

    with pytest.raises(NonFiniteError, match="a weight is not finite, so nothing was saved"):
        small_fit(small_config(), tmp_path, model=net, on_step=spoil, stop_requested=lambda: True)
    assert checkpoint_files(tmp_path / FOLDER) == []


def test_every_message_says_what_to_do(tmp_path: Path) -> None:
    net = poison(small_net(), lambda training: True)
    with pytest.raises(LesionsegError) as caught:
        small_fit(small_config(), tmp_path, model=net)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("error", "short", "advice"),
    [
        (
            RuntimeError(
                "Caught RuntimeError in DataLoader worker process 0.\nTraceback :\nRuntimeError: "
                "unable to allocate shared memory(shm) for file </torch_1_2_0>: No space left on device (28)\n"
            ),
            "shared memory",
            "--shm-size",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), "shared memory", "docker run"),
        (OSError(errno.EMFILE, "Too many open files"), "open file", "ulimit -n"),
        (RuntimeError("received 0 items of ancdata"), "open file", "data.workers=0"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "process", "ulimit -u"),
        (RuntimeError("can't start new thread"), "process", "ulimit -u"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "memory", "free memory"),
    ],
)
def test_what_the_machine_does_not_give_is_one_message(error: Exception, short: str, advice: str) -> None:
    with pytest.raises(ResourceError) as caught, plain_errors():
        raise error
    assert caught.value.message.startswith(f"this machine gives the training no more {short}: ")
    assert "\n" not in caught.value.message
    assert advice in caught.value.fix


@pytest.mark.parametrize("error", [RuntimeError("a bug"), FileNotFoundError(errno.ENOENT, "None"), OSError("x")])
def test_other_errors_keep_their_traceback(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, plain_errors():
        raise error
    assert caught.value is error
