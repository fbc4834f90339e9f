"""What is published: the exported file, and beside it a card that says what it is and how it was checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lesionseg import RESEARCH_USE
from lesionseg.errors import RunError
from lesionseg.evaluation.runs import load_info
from lesionseg.export.graph import count_macs
from lesionseg.inference.exported import ExportInfo
from lesionseg.inference.predictor import TorchPredictor, load_int8
from lesionseg.io.ownership import write_output
from lesionseg.io.reading import read_text
from lesionseg.shipped_models import is_bundle, open_bundle
from lesionseg.tables import one_line

__all__ = ["Checked", "card_path", "describe", "write_card"]

_PLACES = ("root", "cache", "checkpoints", "start", "teacher")
_NOT_IN_CARD = ("run", "history", "masks", "quality")


@dataclass(frozen=True, slots=True)
class Checked:
    """How an exported model compares with the trained one.

    Attributes:
        difference: the largest difference of a probability, on generated photos, in [0, 1].
        mean_difference: the mean of the differences there.
        photos: number of validation photos that the two Dice values are of; 0 where none were needed.
        dice_before, dice_after: mean Dice of the trained and of the exported model, in [0, 1].
    """

    difference: float
    mean_difference: float
    photos: int = 0
    dice_before: float = 0.0
    dice_after: float = 0.0

    @property
    def drop(self) -> float:
        """What was lost, in Dice points (hundredths); negative where something was gained."""
        return 100 * (self.dice_before - self.dice_after)

    def __str__(self) -> str:
        apart = f"probabilities differ from torch's by {self.mean_difference:.2g}, at most {self.difference:.2g}"
        if not self.photos:
            return apart
        return f"{apart}; Dice {self.dice_after:.4f} (torch {self.dice_before:.4f}) on {self.photos} validation photos"


def describe(run: Path, predictor: TorchPredictor, precision: str, qat_epochs: int = 0) -> ExportInfo:
    """What the exported file will say of itself.

    Raises:
        RunError: the run has no ``run.json``.
    """
    encoder = predictor.model.spec.encoder
    told, history = _origin(run)
    return ExportInfo(
        name=predictor.name,
        checkpoint=predictor.checkpoint,
        architecture=predictor.model.spec.name,
        precision=precision,
        height=predictor.height,
        width=predictor.width,
        mean=encoder.mean,
        std=encoder.std,
        labels=predictor.labels,
        weights_sha256=predictor.sha256,
        macs=count_macs(predictor.model, predictor.height, predictor.width),
        run=told,
        history=history,
        qat_epochs=qat_epochs,
        quality=predictor.quality,
    )


def _origin(run: Path) -> tuple[Mapping[str, Any], str]:
    """``run.json`` and ``history.csv`` of the training that a run folder, or a bundle, comes from."""
    if is_bundle(run):
        info = load_int8(open_bundle(run), threads=1).info
        return info.run, info.history
    history = read_text(run / "history.csv", error=RunError, fix="train it again")
    return _without_places(load_info(run)), history


def _without_places(info: Mapping[str, Any]) -> dict[str, Any]:
    """A published file tells nothing of the folders of the machine that made it."""
    tree: dict[str, Any] = json.loads(json.dumps(dict(info)))
    for section in tree["config"].values():
        section |= {key: None for key in _PLACES if key in section}
    data, model = tree["config"]["data"], tree["config"].get("model", {})
    data["manifest"] = _last(data["manifest"])
    for key in ("encoder_weights", "start"):
        if model.get(key):
            model[key] = _last(model[key])
    return tree


def _last(path: str) -> str:
    return path.replace("\\", "/").rsplit("/", 1)[-1]


def card_path(path: Path) -> Path:
    """Return where the card of an exported file is: ``<file>.md``."""
    return path.with_name(f"{path.name}.md")


def write_card(path: Path, info: ExportInfo, checked: Checked) -> Path:
    """Writes ``<file>.md`` beside an exported file, with its SHA-256.

    Raises:
        OutputError: the folder cannot be written to.
    """
    values = {key: text for key, text in info.to_metadata().items() if key not in _NOT_IN_CARD}
    values["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    values["bytes"] = str(path.stat().st_size)
    values["checked"] = str(checked)
    lines = [f"# {path.name}", "", RESEARCH_USE, "", "| | |", "|---|---|"]
    lines += [f"| {key} | {one_line(text).replace('|', ' ')} |" for key, text in values.items()]
    card = card_path(path)
    write_output(card, ("\n".join(lines) + "\n").encode())
    return card
