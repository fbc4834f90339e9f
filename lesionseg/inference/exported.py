"""What an exported model says of itself, as text beside its weights, so that the file alone is enough to use it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lesionseg import RESEARCH_USE, __version__
from lesionseg.data.labels import Labels
from lesionseg.errors import RunError
from lesionseg.inference.quality import Quality
from lesionseg.io.writing import write_atomic
from lesionseg.records import THRESHOLD
from lesionseg.shipped_models import SCORES_OF

__all__ = ["INPUT", "OPENVINO_INFO", "ExportInfo", "run_files", "unpack_run"]

INPUT = "photos"
"""The graph's input: ``uint8 N H W 3``, RGB."""

OPENVINO_INFO = "lesionseg"
"""Where an OpenVINO file's ``rt_info`` holds the texts of ``ExportInfo.to_metadata``."""

_VERSION = "1"
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
        try:
            masks = json.loads(values["masks"])
            return cls(
                name=values["name"],
                checkpoint=values["checkpoint"],
                architecture=values["architecture"],
                precision=values["precision"],
                height=int(values["height"]),
                width=int(values["width"]),
                macs=int(values["macs"]),
                history=values["history"],
                # Files of earlier versions do not have it.
                qat_epochs=int(values.get("qat_epochs", "0")),
                mean=tuple(json.loads(values["mean"])),
                std=tuple(json.loads(values["std"])),
                labels=Labels(tuple(json.loads(values["classes"])), masks["classes"], masks["band"]),
                weights_sha256=values["weights_sha256"],
                run=json.loads(values["run"]),
                quality=Quality.from_json(json.loads(values["quality"])) if "quality" in values else None,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"{path}: what it says of itself is damaged ({error})", fix="export it again") from error


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
