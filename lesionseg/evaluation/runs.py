"""Run folders read back: training history, per-image scores and probability maps, checked before anything is compared.

::

    NAME/run.json
    NAME/history.csv
    NAME/evaluation/SPLIT/per_image.csv
    NAME/evaluation/SPLIT/summary.json
    NAME/evaluation/SPLIT/probabilities/CASE_ID.png
"""

from __future__ import annotations

import json
import math
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lesionseg.errors import ComparisonError, RunError
from lesionseg.evaluation.metrics import METRICS

__all__ = [
    "HISTORY",
    "SCORES",
    "RunResult",
    "check_comparable",
    "epoch_table",
    "groups_of",
    "load_info",
    "load_run",
    "per_image_table",
    "scores_of",
    "shorten",
]

SCORES = (*METRICS, "soft_dice", "soft_iou")
"""Score columns of ``per_image.csv``, each in [0, 1]."""

HISTORY = (
    *("epoch", "train_loss", "val_loss", "val_dice", "val_iou", "val_soft_dice", "val_soft_iou"),
    *("encoder_lr", "decoder_lr", "seconds", "images_per_second"),
)
"""Columns of ``history.csv``, all numbers."""

_COUNTS = ("tp", "fp", "fn", "tn")
_PER_IMAGE = (*SCORES, *_COUNTS, "lesion_fraction")
_NUMBER = (int, float)
_INFO: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("name", "created", "status", "config.data.manifest", "config.optim.loss"), (str,)),
    **dict.fromkeys(("config.optim.encoder_lr", "config.optim.decoder_lr", "config.loop.epochs"), _NUMBER),
    **{f"parameters.{part}": (int,) for part in ("encoder", "decoder", "total", "trainable", "non_trainable")},
    **dict.fromkeys(("encoder_weights.source", "encoder_weights.sha256", "manifest.name", "manifest.sha256"), (str,)),
    **dict.fromkeys(("versions", "hardware"), (dict,)),
}
_SUMMARY: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("run", "split", "checkpoint", "model_sha256", "manifest_sha256", "empty_mask_policy"), (str,)),
    "n": (int,),
    "threshold": _NUMBER,
    "means": (dict,),
}
_CLASSES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("pixel_accuracy", "mean_iou"), _NUMBER),
    **dict.fromkeys(("names", "size"), (list,)),
    "iou": (dict,),
    "model_sha256": (str,),
}
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
            ``lesion_fraction`` and label columns (str).
        summary: ``summary.json`` of the split.
        probabilities: folder with one 8-bit grey PNG per case.
        classes: ``classes.json`` of the split, for a run of several classes; else None.
    """

    name: str
    folder: Path
    info: Mapping[str, Any]
    history: pd.DataFrame
    per_image: pd.DataFrame
    summary: Mapping[str, Any]
    probabilities: Path
    classes: Mapping[str, Any] | None = None


def load_info(folder: Path) -> Mapping[str, Any]:
    """``run.json`` of a run that need not have been scored yet.

    Raises:
        RunError: it is missing or damaged, and the command that makes it.
    """
    _check_folder(folder)
    problems: list[str] = []
    info = _read_json(folder / "run.json", _INFO, problems)
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
    info = _read_json(folder / "run.json", _INFO, trained)
    history = _read_table(folder / "history.csv", HISTORY, trained)
    if not history.empty and history["epoch"].tolist() != list(range(1, len(history) + 1)):
        trained.append(f"{folder / 'history.csv'}: the epochs do not count 1, 2, 3, ...")
    place = folder / "evaluation" / split
    evaluated: list[str] = []
    summary = _read_json(place / "summary.json", _SUMMARY, evaluated)
    per_image = _read_table(place / "per_image.csv", _PER_IMAGE, evaluated, key="case_id")
    if not evaluated:
        evaluated += _check_evaluation(place, split, summary, per_image)
    classes = None
    if (place / "classes.json").is_file():
        classes = _read_json(place / "classes.json", _CLASSES, evaluated)
    fixes = [_TRAIN] * bool(trained)
    fixes += [f"score it with 'lesionseg evaluate --model {folder} --split {split}'"] * bool(evaluated)
    if fixes:
        raise RunError(f"the run {folder} cannot be read", problems=trained + evaluated, fix=", then ".join(fixes))
    per_image = per_image.sort_values("case_id", ignore_index=True)
    return RunResult(info["name"], folder, info, history, per_image, summary, place / "probabilities", classes)


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise RunError(f"{folder} is not a run folder", fix="check the path; 'lesionseg train' makes run folders")


def _read_json(path: Path, keys: Mapping[str, tuple[type, ...]], problems: list[str]) -> dict[str, Any]:
    """A JSON object that holds the dotted ``keys`` with values of those types."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        problems.append(f"{path}: {error.strerror}")
        return {}
    except (ValueError, RecursionError) as error:
        problems.append(f"{path}: not valid JSON ({error})")
        return {}
    wrong = [key for key, kinds in keys.items() if not _is_a(_look_up(tree, key), kinds)]
    if wrong:
        problems.append(f"{path}: missing or of the wrong type: {', '.join(wrong)}")
    return tree if isinstance(tree, dict) else {}


def _look_up(tree: object, dotted: str) -> object:
    for part in dotted.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def _is_a(value: object, kinds: tuple[type, ...]) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, kinds) and not (isinstance(value, float) and not math.isfinite(value))


def _read_table(path: Path, numbers: Sequence[str], problems: list[str], key: str = "") -> pd.DataFrame:
    """A CSV whose ``numbers`` columns are finite floats; every other column stays text ('0012' and 'NA' survive)."""
    try:
        with warnings.catch_warnings():
            # Pandas only warns of rows that are longer than the header, and drops their ends.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False, encoding="utf-8-sig").fillna(
                ""
            )
    except OSError as error:
        problems.append(f"{path}: {error.strerror}")
        return pd.DataFrame()
    except (pd.errors.ParserError, pd.errors.EmptyDataError, pd.errors.ParserWarning, UnicodeDecodeError) as error:
        problems.append(f"{path}: not a valid CSV ({error})")
        return pd.DataFrame()
    missing = [name for name in ([key] if key else []) + list(numbers) if name not in frame]
    if missing or frame.empty:
        problems.append(f"{path}: lacks the columns {', '.join(missing)}" if missing else f"{path}: has no rows")
        return pd.DataFrame()
    for name in numbers:
        values = np.array([_number(cell) for cell in frame[name]])
        wrong = np.flatnonzero(~np.isfinite(values))
        if wrong.size:
            problems.append(f"{path}: {name} is not a finite number in {shorten([f'row {i + 2}' for i in wrong])}")
        frame[name] = values
    return frame


def _number(cell: object) -> float:
    try:
        return float(str(cell))
    except ValueError:
        return math.nan


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
    return _is_a(claimed, _NUMBER) and isinstance(claimed, _NUMBER) and abs(claimed - mean) <= _TOLERANCE


def shorten(names: Iterable[str], limit: int = 5) -> str:
    """``3: A, B, C`` or ``12: A, B, C, D, E and 7 more``."""
    listed = list(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return f"{len(listed)}: {', '.join(listed[:limit])}{more}"


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


def epoch_table(results: Sequence[RunResult]) -> pd.DataFrame:
    """Every epoch of every run: ``run`` and the columns ``HISTORY``."""
    frames = [r.history.loc[:, list(HISTORY)].assign(run=r.name, epoch=r.history["epoch"].astype(int)) for r in results]
    return pd.concat(frames, ignore_index=True)[["run", *HISTORY]]


def per_image_table(results: Sequence[RunResult]) -> pd.DataFrame:
    """One row per run and case: ``run`` and the columns of ``per_image.csv``, empty where a run lacks a label."""
    # A label column of the manifest may be called run as well.
    frames = [r.per_image.rename(columns={"run": "label_run"}).assign(run=r.name) for r in results]
    table = pd.concat(frames, ignore_index=True).fillna("")
    return table[["run", *(name for name in table if name != "run")]]


def check_comparable(results: Sequence[RunResult]) -> None:
    """Makes sure that the runs may stand in one table: the same cases, masks, manifest, split, threshold and policy.

    Raises:
        ComparisonError: no runs, a name twice, or naming every run that differs and in what.
    """
    if not results:
        raise ComparisonError("there are no runs to compare", fix="name at least one run folder")
    doubled = [name for name, count in Counter(result.name for result in results).items() if count > 1]
    if doubled:
        places = [f"{r.name}: {r.folder}" for r in results if r.name in doubled]
        raise ComparisonError(
            "several runs have the same name", problems=places, fix="pass each run once, or rename it"
        )
    problems = _different_cases(results)
    for key in ("split", "manifest_sha256", "threshold", "empty_mask_policy"):
        values = [result.summary[key] for result in results]
        if any(value != values[0] for value in values):
            problems += [f"{r.name}: its {key} is {value}" for r, value in zip(results, values, strict=True)]
    if not problems:
        problems = _different_masks(results)
    if problems:
        raise ComparisonError(
            "these runs were not scored on the same photos in the same way: " + ", ".join(r.name for r in results),
            problems=problems,
            fix="run 'lesionseg evaluate' for each of them with the same manifest, split and threshold",
        )


def _different_cases(results: Sequence[RunResult]) -> list[str]:
    cases = {result.name: set(result.per_image["case_id"]) for result in results}
    union = set().union(*cases.values())
    lacking = {name: sorted(union - own) for name, own in cases.items()}
    return [f"{name}: lacks cases that others have, {shorten(ids)}" for name, ids in lacking.items() if ids]


def _different_masks(results: Sequence[RunResult]) -> list[str]:
    """Runs of one case must agree on how many pixels the photo and its true lesion have."""

    def sizes(result: RunResult) -> pd.DataFrame:
        frame = result.per_image.set_index("case_id").sort_index()
        return pd.DataFrame({"lesion": frame["tp"] + frame["fn"], "rest": frame["fp"] + frame["tn"]})

    first = sizes(results[0])
    different = {result.name: first.index[(sizes(result) != first).any(axis=1)] for result in results[1:]}
    return [
        f"{name}: its true masks differ from those of {results[0].name}, {shorten(map(str, ids))}"
        for name, ids in different.items()
        if len(ids)
    ]
