"""``run.json``: what a run was made of, and how it ended."""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from lesionseg.config import RunConfig
from lesionseg.data.manifest import Manifest
from lesionseg.errors import LesionsegError, OutputError
from lesionseg.io.reading import read_json
from lesionseg.io.writing import write_atomic
from lesionseg.models import SegmentationModel, count_parameters
from lesionseg.records import Case
from lesionseg.tables import one_line
from lesionseg.training.launch import count_processes
from lesionseg.training.teacher import Teacher

__all__ = ["describe", "recorded", "was_killed"]

_PACKAGES = ("lesionseg", "torch", "monai", "timm", "accelerate", "numpy", "pillow")
_LONGEST_REASON = 500


def describe(
    config: RunConfig,
    name: str,
    manifest: Manifest,
    parts: tuple[Sequence[Case], Sequence[Case]],
    model: SegmentationModel,
    teacher: Teacher | None,
) -> dict[str, Any]:
    """Return the content of ``run.json`` but for the status.

    Args:
        config: the settings.
        name: of the run.
        manifest: what the cases come from.
        parts: the training and the validation cases.
        model: before its first step.
        teacher: what ``optim.teacher`` names, loaded.
    """
    encoder = model.spec.encoder
    return {
        "name": name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": config.model_dump(mode="json"),
        "seeds": {"run": config.loop.seed},
        "versions": {"python": platform.python_version()} | {package: _version(package) for package in _PACKAGES},
        "hardware": _hardware(config),
        "parameters": count_parameters(model),
        "encoder_weights": {"source": encoder.source, "sha256": encoder.sha256},
        **({"teacher": {"run": teacher.run, "sha256": teacher.sha256}} if teacher else {}),
        "manifest": {
            "name": manifest.name,
            "sha256": manifest.sha256,
            "train": len(parts[0]),
            "val": len(parts[1]),
        },
        "notice": "Research use only. Not a medical device.",
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _hardware(config: RunConfig) -> dict[str, Any]:
    cuda = config.loop.device != "cpu" and torch.cuda.is_available()
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processes": count_processes(),
        "device": torch.cuda.get_device_name(0) if cuda else "cpu",
    }


def was_killed(run: Path) -> bool:
    """Return whether the last training of a run that this process holds ended without writing that it did."""
    try:
        info = read_json(run / "run.json")
    except LesionsegError:
        return False
    return isinstance(info, dict) and info.get("status") == "running"


@contextlib.contextmanager
def recorded(run: Path, info: dict[str, Any], *, writes: bool) -> Iterator[Callable[[str, str], None]]:
    """Keep ``run.json`` of a training that goes on inside: ``running`` at first, and then how it ended.

    A training that raises is ``failed``, or ``interrupted`` where the user stopped it at once.

    Args:
        run: the run folder.
        info: the rest of the file, as ``describe`` returns it.
        writes: whether this process is the one of several that writes.

    Yields:
        a function that is called with the status and the reason of a training that came to its end.

    Raises:
        OutputError: the file cannot be written.
    """

    def write(status: str, reason: str) -> None:
        if writes:
            write_atomic(run / "run.json", json.dumps(info | {"status": status, "reason": reason}, indent=2).encode())

    write("running", "")
    try:
        yield write
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt)
        # A full disk, perhaps; what is wrong is about to be reported.
        with contextlib.suppress(OutputError):
            write("interrupted" if stopped else "failed", "stopped at once" if stopped else _reason(error))
        raise


def _reason(error: BaseException) -> str:
    text = error.message if isinstance(error, LesionsegError) else f"{type(error).__name__}: {error}"
    return one_line(text)[:_LONGEST_REASON]
