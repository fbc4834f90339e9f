"""Run folders read back: training history, per-image scores and probability maps, checked before anything is compared.

::

    NAME/run.json
    NAME/history.csv
    NAME/evaluation/SPLIT/per_image.csv
    NAME/evaluation/SPLIT/summary.json
    NAME/evaluation/SPLIT/probabilities/CASE_ID.png
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionseg.config import DataConfig
from lesionseg.data.labels import BINARY, Labels, labels_of
from lesionseg.errors import RunError
from lesionseg.evaluation.columns import CALIBRATION, COUNTS, FURTHER, SCORES, THRESHOLD_CURVE
from lesionseg.evaluation.reading import is_a, read_json, read_table, require_readable, shorten
from lesionseg.evaluation.schema import ClassesInfo, OutsideInfo, RunInfo, SummaryInfo
from lesionseg.io.locking import is_held
from lesionseg.io.schema import Record

__all__ = [
    "CLASS_FILES",
    "HISTORY",
    "KILLED",
    "RunResult",
    "epoch_table",
    "groups_of",
    "is_trained",
    "load_info",
    "load_run",
    "per_image_table",
    "scores_of",
    "shared_groups",
    "truths_of",
]

HISTORY = (
    *("epoch", "train_loss", "val_loss", "val_dice", "val_iou", "val_soft_dice", "val_soft_iou"),
    *("encoder_lr", "decoder_lr", "seconds", "images_per_second"),
)
"""Columns of ``history.csv``, all numbers."""

_PER_IMAGE = (*SCORES, *COUNTS, "lesion_fraction")
_NUMBER = (int, float)
CLASS_FILES = ("classes.json", "per_image_classes.csv")
"""What an evaluation of several classes has beside the rest."""

_EVALUATION = ("summary.json", "per_image.csv", "calibration.csv", "thresholds.csv", "probabilities", *CLASS_FILES)

KILLED = "killed"
"""The status of a training that ended without writing another one."""

_TRAIN = "train it with 'lesionseg train'"
# Means may have been rounded when they were written; a stale table differs by more.
_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class RunResult:
    """One run and its scores on one split.

    Attributes:
        name: the run's name, unique in a comparison.
        folder: the run folder.
        info: ``run.json``.
        history: one row per finished epoch with the columns ``HISTORY``.
        per_image: one row per case, sorted by ``case_id`` (str): ``SCORES`` in [0, 1], pixel counts ``tp fp fn tn``,
            ``lesion_fraction``, label columns (str) and ``FURTHER``, NaN where an evaluation does not know it.
        summary: ``summary.json`` of the split.
        probabilities: folder with one 8-bit grey PNG per case.
        classes: ``classes.json`` of the split, for a run of several classes; else None.
        calibration: ``calibration.csv``, or None where there are no probabilities.
        thresholds: ``thresholds.csv``, mean Dice and IoU by threshold, or None where there are no probabilities.
    """

    name: str
    folder: Path
    info: Mapping[str, Any]
    history: pd.DataFrame
    per_image: pd.DataFrame
    summary: Mapping[str, Any]
    probabilities: Path
    classes: Mapping[str, Any] | None = None
    calibration: pd.DataFrame | None = None
    thresholds: pd.DataFrame | None = None

    @property
    def trained(self) -> bool:
        """Whether it is a training's run; else it holds the predictions of another tool."""
        return is_trained(self.info)


def is_trained(info: Mapping[str, Any]) -> bool:
    """Whether a ``run.json`` tells of a training, and not of another tool's predictions."""
    return "predictions" not in info


def load_info(folder: Path) -> Mapping[str, Any]:
    """``run.json`` of a run that need not have been scored yet.

    Raises:
        RunError: it is missing or damaged, and the command that makes it.
    """
    _check_folder(folder)
    problems: list[str] = []
    info = _read_info(folder, problems)
    if problems:
        raise RunError(f"the run {folder} cannot be read", problems=problems, fix=_TRAIN)
    return info


def load_run(folder: Path, split: str) -> RunResult:
    """Reads a run and its evaluation on a split, for example ``test``.

    Raises:
        RunError: naming every file that is missing or damaged and the command that makes it.
    """
    _check_folder(folder)
    trained: list[str] = []
    info = _read_info(folder, trained)
    outside = not is_trained(info)
    history = pd.DataFrame(columns=list(HISTORY)) if outside else read_table(folder / "history.csv", HISTORY, trained)
    if not history.empty and history["epoch"].tolist() != list(range(1, len(history) + 1)):
        trained.append(f"{folder / 'history.csv'}: the epochs do not count 1, 2, 3, ...")
    place = folder / "evaluation" / split
    require_readable([place])
    require_readable(place / name for name in _EVALUATION)
    evaluated: list[str] = []
    summary = read_json(place / "summary.json", SummaryInfo, evaluated)
    per_image = read_table(place / "per_image.csv", _PER_IMAGE, evaluated, key="case_id", maybe=FURTHER)
    if not evaluated:
        evaluated += _check_evaluation(place, split, summary, per_image)
    # Where another tool's files came from differs between the splits of one folder.
    info = {**info, **summary.get("sources", {})} if outside and not evaluated else info
    classes = None
    if (place / "classes.json").is_file():
        classes = read_json(place / "classes.json", ClassesInfo, evaluated)
        if not evaluated and (classes["model_sha256"], classes["n"]) != (summary["model_sha256"], summary["n"]):
            evaluated.append(f"{place / 'classes.json'}: of another model or other photos than summary.json")
    calibration = _read_curve(place / "calibration.csv", CALIBRATION, evaluated)
    thresholds = _read_curve(place / "thresholds.csv", THRESHOLD_CURVE, evaluated)
    fixes = [_TRAIN] * bool(trained)
    fixes += [_how_to_score(folder, split, outside)] * bool(evaluated)
    if fixes:
        raise RunError(f"the run {folder} cannot be read", problems=trained + evaluated, fix=", then ".join(fixes))
    per_image = per_image.sort_values("case_id", ignore_index=True)
    maps = place / "probabilities"
    return RunResult(info["name"], folder, info, history, per_image, summary, maps, classes, calibration, thresholds)


def _how_to_score(folder: Path, split: str, outside: bool) -> str:
    if outside:
        return f"score it with 'lesionseg evaluate --predictions DIR --masks DIR --name {folder.name} --split {split}'"
    return f"score it with 'lesionseg evaluate --model {folder} --split {split}'"


def _read_info(folder: Path, problems: list[str]) -> dict[str, Any]:
    """``run.json`` of a training, or of another tool's predictions."""
    path = folder / "run.json"
    info = read_json(path, RunInfo if is_trained(read_json(path, Record, [])) else OutsideInfo, problems)
    if info.get("status") == "running" and is_held(folder) is False:
        # A training holds its folder. One that was killed could not write that it has ended.
        info["status"] = KILLED
    return info


def _read_curve(path: Path, columns: Sequence[str], problems: list[str]) -> pd.DataFrame | None:
    return read_table(path, columns, problems) if path.is_file() else None


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise RunError(f"{folder} is not a run folder", fix="check the path; 'lesionseg train' makes run folders")
    require_readable([folder])
    require_readable([folder / "run.json", folder / "history.csv", folder / "evaluation"])


def _check_evaluation(place: Path, split: str, summary: Mapping[str, Any], frame: pd.DataFrame) -> list[str]:
    """Problems of an evaluation whose two files could be read."""
    problems = []
    table = place / "per_image.csv"
    ids = frame["case_id"].tolist()
    if repeated := [case_id for case_id, count in Counter(ids).items() if count > 1]:
        problems.append(f"{table}: the same case in several rows: {shorten(repeated)}")
    if outside := [name for name in SCORES if not frame[name].between(0, 1).all()]:
        problems.append(f"{table}: values outside [0, 1] in {', '.join(outside)}")
    if summary["split"] != split or summary["n"] != len(frame):
        problems.append(
            f"{place / 'summary.json'}: is of {summary['n']} cases of the split {summary['split']!r}, "
            f"{table.name} has {len(frame)} of {split!r}"
        )
    means = {name: summary["means"].get(name) for name in SCORES}
    wrong = [name for name, mean in means.items() if not _agrees(mean, frame[name].mean())]
    if wrong:
        problems.append(f"{place / 'summary.json'}: means differ from those of {table.name}: {', '.join(wrong)}")
    # A case id becomes a file name below; it must not lead out of the folder.
    unsafe = [case_id for case_id in ids if not case_id or Path(case_id).name != case_id]
    if unsafe:
        problems.append(f"{table}: ids that cannot be file names: {shorten([repr(case_id) for case_id in unsafe])}")
    absent = [i for i in ids if i not in unsafe and not (place / "probabilities" / f"{i}.png").is_file()]
    if absent:
        problems.append(f"{place / 'probabilities'}: no map for {shorten(absent)}")
    return problems


def _agrees(claimed: object, mean: float) -> bool:
    return is_a(claimed, _NUMBER) and isinstance(claimed, _NUMBER) and abs(claimed - mean) <= _TOLERANCE


def scores_of(results: Sequence[RunResult], column: str) -> dict[str, NDArray[np.float64]]:
    """Run name -> ``float64 n`` of one ``per_image`` column, in the order of the case ids."""
    return {
        result.name: result.per_image.set_index("case_id")[column].sort_index().to_numpy(np.float64)
        for result in results
    }


def groups_of(result: RunResult) -> list[str] | None:
    """The group of each case in the order of the case ids, or None where no two cases share one."""
    if "group" not in result.per_image:
        return None
    column = result.per_image.set_index("case_id")["group"].sort_index()
    groups = [str(group) or str(case_id) for case_id, group in column.items()]
    return groups if len(set(groups)) < len(groups) else None


def shared_groups(results: Sequence[RunResult]) -> list[str] | None:
    """The groups of runs of the same cases, from the first one that knows any: masks from a folder come without."""
    return next((groups for result in results if (groups := groups_of(result)) is not None), None)


def truths_of(results: Sequence[RunResult]) -> Labels:
    """How the true masks of runs of the same cases are read: as by the first run of several classes, else as binary."""
    for result in results:
        settings = result.info.get("config", {}).get("data", {})
        if settings.get("classes"):
            return labels_of(DataConfig(manifest="-", classes=settings["classes"]))
    return BINARY


def epoch_table(results: Sequence[RunResult]) -> pd.DataFrame:
    """Every epoch of every run: ``run`` and the columns ``HISTORY``."""
    frames = [r.history.loc[:, list(HISTORY)].assign(run=r.name, epoch=r.history["epoch"].astype(int)) for r in results]
    return pd.concat(frames, ignore_index=True)[["run", *HISTORY]]


def per_image_table(results: Sequence[RunResult]) -> pd.DataFrame:
    """One row per run and case: ``run`` and the columns of ``per_image.csv``, empty where a run lacks a label."""
    # A label column of the manifest may be called run as well.
    frames = [r.per_image.rename(columns={"run": "label_run"}).assign(run=r.name) for r in results]
    table = pd.concat(frames, ignore_index=True)
    labels = table.columns[table.dtypes != np.float64]
    table[labels] = table[labels].fillna("")
    return table[["run", *(name for name in table if name != "run")]]
