"""Scores a run on cases with masks: one row per photo, from which every mean is taken."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from lesionseg.data.images import encode_probability_png, read_bytes, resize_probability, write_atomic
from lesionseg.errors import DataError, ImageError, OutputError
from lesionseg.evaluation.metrics import EMPTY_MASK_POLICY, METRICS, confusion, score_row, soft_dice, soft_iou
from lesionseg.inference.predictor import Predictor, load_predictor
from lesionseg.inference.stages import Decoded, decode, infer, overlapped
from lesionseg.records import THRESHOLD, BoolMask, Case, Prediction, Probability
from lesionseg.tables import encode_table

__all__ = ["score_run"]

_MEANS = (*METRICS, "soft_dice", "soft_iou")
_COLUMNS = ("case_id", *_MEANS, "tp", "fp", "fn", "tn", "lesion_fraction", "group")
_NAME_BYTES = 200

Row = dict[str, float | str]


@dataclass(frozen=True, slots=True, eq=False)
class _Ready:
    case: Case
    decoded: Decoded
    truth: BoolMask


def score_run(
    run: Path,
    cases: Sequence[Case],
    *,
    split: str,
    manifest_sha256: str,
    predictor: Predictor | None = None,
    threshold: float = THRESHOLD,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Predicts cases and compares them with their masks, at the masks' own size.

    Writes into ``run/evaluation/<split>``, in place of an earlier evaluation:

    - ``per_image.csv``: case id, the metrics, counts of pixels, the true mask's part of the photo, group, labels;
    - ``probabilities/<case_id>.png``: 8-bit grey, at the mask's size;
    - ``summary.json``: what was scored with what, and the means of the per-image values; written last.

    Args:
        run: the run folder.
        cases: photos with masks.
        split: the evaluation's name.
        manifest_sha256: of the manifest that the cases come from.
        predictor: by default the run's best checkpoint.
        threshold: lesion where the probability is at least this.
        progress: called with (done, total) after each case.

    Returns:
        the folder with the evaluation.

    Raises:
        DataError: listing every case that cannot be scored; an earlier evaluation stays as it was.
        RunError: the run has no intact checkpoint.
        OutputError: the run folder cannot be written to.
        NonFiniteError: the model gives NaN.
    """
    if not cases or not _is_plain(split):
        what = f"the split {split!r} cannot be a folder's name" if cases else "there is no case to score"
        raise DataError(what, fix="name a split of the manifest")
    model = predictor or load_predictor(run)
    place = run / "evaluation" / split
    with _staging(run) as maps:
        rows, problems = _score(cases, model, threshold, maps, progress)
        if problems:
            raise DataError(
                f"{run.name}: not every case of {split} can be scored",
                problems=problems,
                fix="correct these in the manifest or replace their files",
            )
        _replace_maps(maps, place)
    labels = sorted({name for case in cases for name in case.labels})
    write_atomic(place / "per_image.csv", encode_table([*_COLUMNS, *labels], rows))
    summary = {
        "run": run.resolve().name,
        "split": split,
        "n": len(rows),
        "threshold": threshold,
        "checkpoint": model.checkpoint,
        "model_sha256": model.sha256,
        "manifest_sha256": manifest_sha256,
        "means": {name: fmean(float(row[name]) for row in rows) for name in _MEANS},
        "empty_mask_policy": EMPTY_MASK_POLICY,
    }
    write_atomic(place / "summary.json", json.dumps(summary, indent=1).encode())
    return place


@contextmanager
def _staging(run: Path) -> Iterator[Path]:
    """A folder for probability maps inside the run, gone afterwards unless it was moved."""
    try:
        # Only a folder inside it is moved out: the temporary one is private to the user.
        with tempfile.TemporaryDirectory(prefix=".scores-", dir=run) as folder:
            maps = Path(folder) / "probabilities"
            maps.mkdir()
            yield maps
    except OSError as error:
        raise OutputError(
            f"{run} cannot be written to: {error.strerror}", fix="make room or the folder writable"
        ) from error


def _replace_maps(maps: Path, place: Path) -> None:
    place.mkdir(parents=True, exist_ok=True)
    # Without its summary an evaluation counts as missing, so no reader meets old scores with new maps.
    (place / "summary.json").unlink(missing_ok=True)
    old = place / maps.name
    if old.exists():
        shutil.rmtree(old)
    maps.rename(old)


def _score(
    cases: Sequence[Case],
    predictor: Predictor,
    threshold: float,
    maps: Path,
    progress: Callable[[int, int], None] | None,
) -> tuple[list[Row], list[str]]:
    """The rows in the cases' order, and what is wrong with any case; once something is, the rest is only checked."""
    problems = _misnamed(cases)

    def inferred(prepared: Iterable[_Ready | list[str]]) -> Iterator[tuple[_Ready, Probability]]:
        for item in prepared:
            if isinstance(item, list):
                problems.extend(item)
            elif not problems:
                yield item, infer(item.decoded, predictor)

    workers = min(4, os.cpu_count() or 1)
    pool = ThreadPoolExecutor(workers)
    rows = []
    try:
        prepared = overlapped(pool, lambda case: _prepare(case, predictor), cases, 2 * workers)
        scored = overlapped(pool, lambda item: _compare(*item, threshold, maps), inferred(prepared), 2 * workers)
        for row in scored:
            rows.append(row)
            if progress:
                progress(len(rows), len(cases))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return rows, problems


def _misnamed(cases: Iterable[Case]) -> list[str]:
    counts = Counter(case.case_id for case in cases)
    problems = [f"{case_id!r}: more than one case" for case_id, count in counts.items() if count > 1]
    # An id becomes a file's name and a table's cell, and has to be found again by both.
    problems += [f"{name!r}: cannot name a file and a table cell" for name in counts if not _is_plain(name)]
    labels = {name for case in cases for name in case.labels}
    return problems + [f"label column {name!r}: a score is called so" for name in sorted(labels.intersection(_COLUMNS))]


def _is_plain(name: str) -> bool:
    fits = name not in ("", ".", "..") and Path(name).name == name and len(os.fsencode(name)) <= _NAME_BYTES
    return fits and name.isprintable() and not name.startswith(("=", "+", "-", "@"))


def _prepare(case: Case, predictor: Predictor) -> _Ready | list[str]:
    problems = []
    decoded, truth = None, None
    try:
        truth = predictor.labels.lesion(predictor.labels.read(case.mask)) if case.mask else None
    except ImageError as error:
        problems.append(f"{case.case_id}: {error.message}")
    try:
        like = truth.shape if truth is not None else None
        data = read_bytes(case.image)
        decoded = decode(data, str(case.image), predictor.height, predictor.width, like=like)
    except ImageError as error:
        problems.append(f"{case.case_id}: {error.message}")
    if case.mask is None:
        return [*problems, f"{case.case_id}: has no mask"]
    if decoded is None or truth is None:
        return problems
    if truth.shape != (decoded.height, decoded.width):
        sizes = f"{truth.shape[1]} x {truth.shape[0]}, the photo {decoded.width} x {decoded.height}"
        return [f"{case.case_id}: the mask is {sizes} ({case.mask})"]
    return _Ready(case, decoded, truth)


def _compare(ready: _Ready, small: Probability, threshold: float, maps: Path) -> Row:
    case, truth = ready.case, ready.truth
    prediction = Prediction(case.case_id, resize_probability(small, *truth.shape))
    write_atomic(maps / f"{case.case_id}.png", encode_probability_png(prediction.probability))
    row = score_row(confusion(case.case_id, prediction.mask(threshold), truth))
    row |= {"soft_dice": soft_dice(prediction.probability, truth), "soft_iou": soft_iou(prediction.probability, truth)}
    return row | {"lesion_fraction": float(truth.mean()), "group": case.group, **case.labels}
