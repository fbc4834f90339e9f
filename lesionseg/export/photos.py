"""Photos that an export needs: some to calibrate with, some to score with, none of them from a test split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesionseg.config import load_config
from lesionseg.data.images import read_bytes
from lesionseg.data.labels import Labels
from lesionseg.data.manifest import read_manifest
from lesionseg.data.recorded import RecordedPhotos
from lesionseg.data.resizing import resize_probability
from lesionseg.data.splits import training_parts
from lesionseg.data.synthetic import generate
from lesionseg.errors import DataError, ImageError
from lesionseg.evaluation.metrics import confusion, dice
from lesionseg.evaluation.runs import load_info
from lesionseg.inference.stages import decode
from lesionseg.records import THRESHOLD, BoolMask, Case

__all__ = ["ScoredPhotos", "generated_photos", "mean_dice", "read_photos", "run_parts"]


@dataclass(frozen=True, slots=True, eq=False)
class ScoredPhotos:
    """Photos at a model's input size, and their true masks at their own.

    Attributes:
        pixels: ``uint8 N H W 3``, RGB.
        truths: N times ``bool h w``.
    """

    pixels: NDArray[np.uint8]
    truths: tuple[BoolMask, ...]


def run_parts(run: Path, manifest: str | Path | None, root: str | Path | None) -> tuple[list[Case], list[Case]]:
    """The cases that a run was trained with, and those that it was validated with.

    Args:
        run: a run folder.
        manifest, root: of the training data; None takes the run's own.

    Raises:
        DataError: the data are not there any more, or not those of the training.
        RunError: the run has no ``run.json``.
    """
    info: Any = load_info(run)
    config = load_config(info["config"])
    data = read_manifest(manifest or config.data.manifest, root or config.data.root)
    if data.sha256 != info["manifest"]["sha256"]:
        raise DataError(
            f"{data.name} is not the manifest that {run} was trained with",
            fix="pass the one of the training with --manifest: a test photo must not take part in an export",
        )
    train, val = training_parts(data, config.data.validation_fraction, config.loop.seed)
    return list(train), list(val)


def read_photos(cases: Sequence[Case], labels: Labels, height: int, width: int) -> ScoredPhotos:
    """Decodes cases.

    Raises:
        DataError: listing every case that cannot be read, or every photo that is not the one of its manifest.
    """
    recorded = RecordedPhotos()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda case: _read(case, labels, height, width, recorded), cases))
    recorded.require(lambda _: None)
    if problems := [item for item in found if isinstance(item, str)]:
        raise DataError("not every photo can be used", problems=problems, fix="correct these files")
    pairs = [item for item in found if not isinstance(item, str)]
    return ScoredPhotos(np.stack([pixels for pixels, _ in pairs]), tuple(truth for _, truth in pairs))


def _read(
    case: Case, labels: Labels, height: int, width: int, recorded: RecordedPhotos
) -> tuple[NDArray[np.uint8], BoolMask] | str:
    if case.mask is None:
        return f"{case.case_id}: has no mask"
    try:
        truth = labels.lesion(labels.read(case.mask))
        like = (truth.shape[0], truth.shape[1])
        data = read_bytes(case.image)
        recorded.add(case, data)
        return decode(data, str(case.image), height, width, like=like).pixels, truth
    except ImageError as error:
        return f"{case.case_id}: {error.message}"


def generated_photos(count: int, height: int, width: int) -> NDArray[np.uint8]:
    """``uint8 count height width 3``: always the same photos, for comparing numbers where no data are at hand."""
    return np.stack([generate(0, index, width=width, height=height).pair.image for index in range(count)])


def mean_dice(infer: Callable[[NDArray[np.uint8]], NDArray[np.float32]], photos: ScoredPhotos) -> float:
    """The mean of the photos' Dice coefficients at the masks' own size, in [0, 1].

    Args:
        infer: as ``Predictor.infer``.
        photos: at its input size.
    """
    scores = []
    for pixels, truth in zip(photos.pixels, photos.truths, strict=True):
        probability = resize_probability(infer(pixels[None])[0], *truth.shape)
        scores.append(dice(confusion("photo", probability >= THRESHOLD, truth)))
    return fmean(scores)
