"""How good a model is before it is given away: what to expect of its masks, and its scores on the test photos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lesionseg.data.resizing import resize_probability
from lesionseg.evaluation.metrics import METRICS, confusion, dice
from lesionseg.evaluation.runs import RunResult, groups_of, load_run
from lesionseg.evaluation.statistics import bootstrap_mean
from lesionseg.evaluation.subgroups import subgroup_table
from lesionseg.export.photos import ScoredPhotos
from lesionseg.inference.exported import ExportInfo, unpack_run
from lesionseg.inference.predictor import Predictor
from lesionseg.inference.quality import FEWEST, Quality, certainty, fit_quality
from lesionseg.inference.scoring import score_run
from lesionseg.records import THRESHOLD, Case

__all__ = ["calibrate", "score"]

_DIGITS = 4


def calibrate(predictor: Predictor, photos: ScoredPhotos) -> Quality | None:
    """The calibration of a model on photos that it was not trained with; None where they are too few.

    Args:
        predictor: the model, as it will be used.
        photos: at its input size; Dice is taken at the masks' own.
    """
    if len(photos.truths) < FEWEST:
        return None
    sure, found = [], []
    for pixels, truth in zip(photos.pixels, photos.truths, strict=True):
        probability = predictor.infer(pixels[None])[0]
        mask = resize_probability(probability, *truth.shape) >= THRESHOLD
        sure.append(certainty(probability))
        found.append(dice(confusion("photo", mask, truth)))
    return fit_quality(sure, found)


def score(
    predictors: Mapping[str, Predictor], info: ExportInfo, cases: Sequence[Case], manifest_sha256: str, work: Path
) -> dict[str, Any] | None:
    """Scores of several forms of a model on photos that it has never seen; None where there are none.

    Args:
        predictors: name -> model; the subgroups are of the first.
        info: of the training that they come from.
        cases: photos with masks, of one split.
        manifest_sha256: of the manifest that these come from.
        work: an empty folder for what is thrown away afterwards.

    Returns:
        plain JSON values: ``split``, ``photos``, ``threshold``, ``manifest_sha256``, ``means`` (form -> metric -> mean
        and the ends of its 95 % bootstrap interval) and ``subgroups`` (rows of ``subgroup_table``).

    Raises:
        DataError: listing every case that cannot be scored.
    """
    if not cases:
        return None
    results = {}
    for name, predictor in predictors.items():
        home, split = unpack_run(info, work / name), cases[0].split
        score_run(home, cases, split=split, manifest_sha256=manifest_sha256, predictor=predictor)
        results[name] = load_run(home, split)
    first = next(iter(results.values()))
    groups = subgroup_table([first], []).drop(columns=["kind", "run"])
    rounded = groups.round({"dice": _DIGITS, "low": _DIGITS, "high": _DIGITS})
    return {
        "split": cases[0].split,
        "photos": len(cases),
        "threshold": THRESHOLD,
        "manifest_sha256": manifest_sha256,
        "means": {name: _means(result) for name, result in results.items()},
        "subgroups": [
            {key: value.item() if hasattr(value, "item") else value for key, value in row.items()}
            for row in rounded.to_dict("records")
        ],
    }


def _means(result: RunResult) -> dict[str, list[float]]:
    clusters = groups_of(result)
    return {
        name: [round(value, _DIGITS) for value in bootstrap_mean(result.per_image[name], groups=clusters)]
        for name in METRICS
    }
