"""Training from a teacher: a trained network's probabilities are learned beside the truth (arXiv:1503.02531)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812 - the field's usual name
from torch import Tensor, nn

from lesionseg.config import RunConfig
from lesionseg.errors import ConfigError, LesionsegError
from lesionseg.io.reading import read_json
from lesionseg.models.folding import fold_norms
from lesionseg.shipped_models import find_model
from lesionseg.training.precision import Precision, compiled
from lesionseg.training.start import trained_model

__all__ = ["Lesson", "Teacher", "load_teacher", "require_same_teacher", "taught_by"]

Lesson = Callable[[Tensor, Tensor], Tensor]
"""From the student's logits ``float N 1 H W`` and its pictures ``uint8 N 3 H W`` to a scalar."""


@dataclass(frozen=True, slots=True, eq=False)
class Teacher:
    """A trained network for inference only.

    Attributes:
        net: from pictures ``N 3 H W`` of its size to logits ``N 1 H W``.
        size: height and width that it was trained at.
        run: the name of its run, or of the model that ships.
        sha256: hex digest of its weights file.
    """

    net: nn.Module
    size: tuple[int, int]
    run: str
    sha256: str


def load_teacher(config: RunConfig) -> Teacher | None:
    """The best state of the run, or the model, that ``optim.teacher`` names, with its BatchNorms folded.

    None where it names none.

    Raises:
        ConfigError: naming each setting that does not go with a teacher, or the teacher has several classes.
        RunError: there is no such model, or it is damaged.
    """
    if config.optim.teacher is None:
        return None
    classes = len(config.data.class_names)
    problems = [f"the masks have {classes} classes: a teacher's probabilities are of one"] if classes > 1 else []
    if config.loop.cache_features:
        problems.append("loop.cache_features=true: the teacher would still look at every picture in every epoch")
    if problems:
        raise ConfigError(
            "optim.teacher does not go with these settings", problems=problems, fix="change them, or set it to null"
        )
    model, size, digest = trained_model(config.optim.teacher)
    if model.spec.classes != 1:
        raise ConfigError(
            f"optim.teacher={config.optim.teacher} has {model.spec.classes} classes",
            fix="name a run on binary masks, or set optim.teacher=null",
        )
    return Teacher(fold_norms(model), size, find_model(config.optim.teacher).resolve().name, digest)


def require_same_teacher(teacher: Teacher | None, run: Path) -> None:
    """Makes sure that a resumed run learns from the weights that it began with; their folder may have moved.

    Args:
        teacher: as loaded now.
        run: the folder of the run that is resumed.

    Raises:
        ConfigError: its ``run.json`` tells of others.
    """
    try:
        info = read_json(run / "run.json")
        before = info["teacher"]["sha256"] if "teacher" in info else "no teacher"
    except (LesionsegError, TypeError, KeyError):
        # Lost or damaged; it is written anew in a moment.
        return
    now = teacher.sha256 if teacher else "no teacher"
    if before != now:
        raise ConfigError(
            "the teacher is part of the run and cannot change on resuming",
            problems=[f"weights of {before} in the run, {now} asked for"],
            fix="set optim.teacher as it was, or start a new run under another --name",
        )


def taught_by(teacher: Teacher, config: RunConfig, precision: Precision, layout: torch.memory_format) -> Lesson:
    """What is minimised beside the loss: the binary cross-entropy between student's and teacher's probabilities.

    A teacher of another input size is given pictures of its own, and what it says is brought to the student's.

    Args:
        teacher: moved to the device of the training here.
        config: of the student.
        precision: of the student's forward pass, and of the teacher's.
        layout: of pictures and weights in memory.

    Raises:
        ConfigError: ``loop.compile`` is on, and there is no compiler.
    """
    placed = teacher.net.to(precision.device).to(memory_format=layout)
    net = compiled(placed, config.loop, precision.device)

    def lesson(logits: Tensor, image: Tensor) -> Tensor:
        with torch.no_grad():
            seen = _resized(image.to(precision.device, non_blocking=True).float(), teacher.size)
            with precision.autocast():
                said = net(seen.contiguous(memory_format=layout))
            target = _resized(said.float(), tuple(logits.shape[2:])).sigmoid()
        return F.binary_cross_entropy_with_logits(logits, target)

    return lesson


def _resized(x: Tensor, size: tuple[int, ...]) -> Tensor:
    if x.shape[2:] == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=True)
