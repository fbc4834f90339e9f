"""What an exported model says of itself, as text beside its weights, so that the file alone is enough to use it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lesionseg import RESEARCH_USE, __version__
from lesionseg.data.labels import Labels
from lesionseg.errors import RunError
from lesionseg.inference.quality import Quality
from lesionseg.io.reading import parse_json
from lesionseg.io.schema import Count, Record, Triple, require
from lesionseg.io.writing import write_atomic
from lesionseg.records import THRESHOLD
from lesionseg.shipped_models import SCORES_OF
from lesionseg.shipped_models.schema import LabelsRecord, QualityRecord, Side

__all__ = ["INPUT", "OPENVINO_INFO", "ExportInfo", "run_files", "unpack_run"]

INPUT = "photos"
"""The graph's input: ``uint8 N H W 3``, RGB."""

OPENVINO_INFO = "lesionseg"
"""Where an OpenVINO file's ``rt_info`` holds the texts of ``ExportInfo.to_metadata``."""

_VERSION = "1"
_AGAIN = "export it again"
_NUMBERS = {"height", "width", "macs", "qat_epochs"}
_NUMBER = re.compile(r"\d{1,18}")
_JSON = {"mean", "std", "classes", "masks", "run", "quality"}
_RESIZE = "to height x width without keeping the aspect, Pillow BILINEAR (antialiased); probability back with BILINEAR"
_LICENCE = "Apache-2.0 for the program; the weights also carry the terms of their encoder weights and training photos"


@dataclass(frozen=True, slots=True)
class ExportInfo:
    """What travels with exported weights.

    Attributes:
        name: the run's name.
        checkpoint: which state of the run.
        architecture: a key of ``models.DECODERS``.
        precision: ``float32``, ``float16``, ``int8`` or ``dynamic``.
        height, width: of the input, in pixels.
        mean, std: of the input's channels, for pixel values in [0, 1]; the graph applies them itself.
        labels: the model's classes.
        weights_sha256: hex digest of the run's weights file.
        macs: multiplications with addition for one photo, counted in the trained network.
        run: the run's ``run.json``, without the machine's paths.
        history: the run's ``history.csv``.
        qat_epochs: for how many epochs it was trained on with int8's rounding.
        quality: the calibration of what is expected of a mask; None where there was none.
    """

    name: str
    checkpoint: str
    architecture: str
    precision: str
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: Labels
    weights_sha256: str
    macs: int
    run: Mapping[str, Any]
    history: str
    qat_epochs: int = 0
    quality: Quality | None = None

    def to_metadata(self) -> dict[str, str]:
        """Key -> text; what is not of this record explains the file to other programs and to people."""
        return {
            "lesionseg_export": _VERSION,
            "lesionseg_version": __version__,
            **{key: getattr(self, key) for key in ("name", "checkpoint", "architecture", "precision", "history")},
            **{key: str(getattr(self, key)) for key in ("height", "width", "macs", "qat_epochs")},
            "mean": json.dumps(self.mean),
            "std": json.dumps(self.std),
            "classes": json.dumps(self.labels.names),
            "masks": json.dumps({"classes": self.labels.classes, "band": self.labels.band}),
            "weights_sha256": self.weights_sha256,
            "threshold": str(THRESHOLD),
            "input": f"{INPUT}: uint8 N x {self.height} x {self.width} x 3, RGB, 0 to 255; normalised in the graph",
            "output": "probability: float32 N x H x W, the lesion's, in [0, 1]",
            "resize": _RESIZE,
            "licence": _LICENCE,
            "notice": RESEARCH_USE,
            "run": json.dumps(self.run),
            **({} if self.quality is None else {"quality": json.dumps(self.quality.to_json())}),
        }

    @classmethod
    def from_metadata(cls, values: Mapping[str, str], path: Path) -> ExportInfo:
        """The inverse of ``to_metadata``.

        Raises:
            RunError: the file was not exported by this program, or by a version that wrote it otherwise.
        """
        if values.get("lesionseg_export") != _VERSION:
            raise RunError(f"{path} was not exported by this version of lesionseg", fix="use 'lesionseg export RUN'")
        found = _read(values, path)
        return cls(
            name=found.name,
            checkpoint=found.checkpoint,
            architecture=found.architecture,
            precision=found.precision,
            height=found.height,
            width=found.width,
            macs=found.macs,
            history=found.history,
            qat_epochs=found.qat_epochs,
            mean=tuple(found.mean),
            std=tuple(found.std),
            labels=Labels(tuple(found.labels.names), found.labels.classes, found.labels.band),
            weights_sha256=found.weights_sha256,
            run=found.run,
            quality=None if found.quality is None else Quality.from_json(found.quality.model_dump()),
        )


class _Texts(Record):
    """The metadata, with the numbers and JSON in its texts parsed."""

    name: str
    checkpoint: str
    architecture: str
    precision: str
    height: Side
    width: Side
    macs: Count
    history: str
    qat_epochs: Count
    mean: Triple
    std: Triple
    labels: LabelsRecord
    weights_sha256: str
    run: dict[str, Any]
    quality: QualityRecord | None = None


def _read(values: Mapping[str, str], path: Path) -> _Texts:
    where, texts = f"{path}: its metadata", {key: str(text) for key, text in values.items()}
    found: dict[str, Any] = dict(texts)
    for key in _NUMBERS & texts.keys():
        found[key] = int(texts[key]) if _NUMBER.fullmatch(texts[key]) else texts[key]
    for key in _JSON & texts.keys():
        found[key] = parse_json(texts[key], f"{where}, {key},", error=RunError, repair=_AGAIN)
    masks = found.get("masks")
    found["labels"] = {"names": found.get("classes"), **(masks if isinstance(masks, dict) else {})}
    return require(_Texts, found, where, error=RunError, fix=_AGAIN)


def run_files(info: ExportInfo, name: str, scores_of: str | None = None) -> dict[str, bytes]:
    """Return what a run folder for the scores of an exported file or of a bundle holds: file name -> bytes.

    Args:
        info: the file's description of itself.
        name: what the scores are called in reports.
        scores_of: the name or path of the bundle, or the path of the exported file, that the scores are of.

    Raises:
        RunError: the file was exported from a run without ``run.json`` or ``history.csv``.
    """
    if not info.run or not info.history:
        raise RunError(f"{info.name} does not say how it was trained", fix="export it from a whole run folder")
    described = {**info.run, "name": name, **({} if scores_of is None else {SCORES_OF: scores_of})}
    return {"run.json": json.dumps(described, indent=1).encode(), "history.csv": info.history.encode()}


def unpack_run(info: ExportInfo, folder: Path) -> Path:
    """Write a run folder for the scores of an exported file, and return it.

    Raises:
        OutputError: it cannot be written.
        RunError: as ``run_files``.
    """
    for name, data in run_files(info, folder.name).items():
        write_atomic(folder / name, data)
    return folder
