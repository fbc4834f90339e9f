"""Scores a run on cases with masks: one row per photo, from which every mean is taken."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lesionseg.data.files import files_digest
from lesionseg.data.images import read_bytes, resize_mask
from lesionseg.errors import DataError, ImageError, OutputError, RunError
from lesionseg.evaluation.columns import FURTHER, PER_IMAGE
from lesionseg.evaluation.runs import CLASS_FILES, load_run
from lesionseg.evaluation.scoring import EVALUATION_FILES, Scored, write_evaluation
from lesionseg.helper import MANY, Crew, count_cores
from lesionseg.inference.comparing import Compared, Ready, compare, compare_known
from lesionseg.inference.predictor import Predictor, load_predictor
from lesionseg.inference.stages import decode, infer, overlapped
from lesionseg.io.leftovers import scratch
from lesionseg.io.ownership import RECORD, check_outputs, is_own, record_outputs
from lesionseg.records import THRESHOLD, Case, Probability

__all__ = ["AT_MODEL_SIZE", "Ready", "Source", "check_evaluation", "evaluate_cases", "score_run"]

AT_MODEL_SIZE = "-at-model-size"
"""What the name of such an evaluation ends in."""

_NAME_BYTES = 200


class Source(Protocol):
    """Where predictions come from: a model, or the files of another tool."""

    def prepare(self, case: Case) -> Ready | list[str]:
        """Reads a case, side by side with others; or what is wrong with it."""

    def predict(self, ready: Ready) -> Probability:
        """``float32 h w`` in [0, 1] at any size, one case at a time, in order."""


def score_run(
    run: Path,
    cases: Sequence[Case],
    *,
    split: str,
    manifest_sha256: str,
    predictor: Predictor | None = None,
    threshold: float = THRESHOLD,
    at_model_size: bool = False,
    with_classes: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Predicts cases and compares them with their masks, at the masks' own size.

    Writes into ``run/evaluation/<split>``, in place of an earlier evaluation:

    - ``per_image.csv``: case id, the metrics, counts of pixels, the true mask's part of the photo, group, labels,
      distances of the outlines, calibration error, traits of the photo;
    - ``calibration.csv`` and ``thresholds.csv``: over all photos;
    - ``probabilities/<case_id>.png``: 8-bit grey, at the size that was scored;
    - ``summary.json``: what was scored with what, and the means of the per-image values; written last.

    Args:
        run: the run folder.
        cases: photos with masks.
        split: the evaluation's name.
        manifest_sha256: of the manifest that the cases come from.
        predictor: by default the run's best checkpoint.
        threshold: lesion where the probability is at least this.
        at_model_size: bring the masks to the model's input size instead, as many papers do; nearest neighbour. The
            name of the evaluation then ends in ``AT_MODEL_SIZE``.
        with_classes: as in ``evaluate_cases``.
        progress: called with (done, total) after each case.

    Returns:
        the folder with the evaluation.

    Raises:
        DataError: listing every case that cannot be scored; an earlier evaluation stays as it was.
        RunError: the run has no intact checkpoint.
        OutputError: the run folder cannot be written to.
        NonFiniteError: the model gives NaN.
    """
    _check_request(cases, split)
    model = predictor or load_predictor(run)
    facts = {
        "run": run.resolve().name,
        "split": split + AT_MODEL_SIZE * at_model_size,
        "threshold": threshold,
        "checkpoint": model.checkpoint,
        "model_sha256": model.sha256,
        "manifest_sha256": manifest_sha256,
        "files_sha256": _digest(cases),
        "size": [model.height, model.width] if at_model_size else "own",
    }
    source = _Model(model, at_model_size)
    return evaluate_cases(run, cases, source, facts, with_classes=with_classes, progress=progress)


def _digest(cases: Sequence[Case]) -> str:
    try:
        return files_digest(cases)
    except ImageError:
        # What cannot be read is told with all that is wrong with the cases.
        return ""


@dataclass(frozen=True, slots=True)
class _Model:
    predictor: Predictor
    at_model_size: bool

    def prepare(self, case: Case) -> Ready | list[str]:
        prepared = _prepare(case, self.predictor)
        if self.at_model_size and isinstance(prepared, Ready):
            small = resize_mask(prepared.truth, self.predictor.height, self.predictor.width)
            return Ready(case, small, prepared.photo, prepared.width, prepared.height, prepared.given)
        return prepared

    def predict(self, ready: Ready) -> Probability:
        decoded, binary = ready.given
        if not binary:
            return infer(decoded, self.predictor)
        weights = np.array(self.predictor.labels.outline_weights, np.float32)
        classes = self.predictor.infer_classes(decoded.pixels[None])[0]
        lesion: Probability = np.tensordot(weights, classes, 1).clip(0, 1)
        return lesion


def evaluate_cases(
    run: Path,
    cases: Sequence[Case],
    source: Source,
    facts: dict[str, Any],
    *,
    probabilities: bool = True,
    with_classes: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Scores what a source predicts, and writes the evaluation as ``score_run`` tells.

    Args:
        run: an existing folder.
        cases: at least one.
        source: predicts them.
        facts: for ``summary.json``; ``split`` names the evaluation, ``threshold`` is applied.
        probabilities: whether the source gives any, or bare masks.
        with_classes: keep what ``score_classes`` has just written of these cases; that of others goes.
        progress: called with (done, total) after each case.

    Raises:
        DataError: listing every case that cannot be scored; an earlier evaluation stays as it was.
        OutputError: the folder cannot be written to.
    """
    _check_request(cases, facts["split"])
    place = run / "evaluation" / str(facts["split"])
    with _staging(run) as maps:
        scored, problems = _score(cases, source, facts["threshold"], maps, progress)
        if problems:
            raise DataError(
                f"{run.name}: not every case of {facts['split']} can be scored",
                problems=problems,
                fix="correct these in the manifest or replace their files",
            )
        _replace_maps(maps, place, with_classes=with_classes)
    labels = {name for case in cases for name in case.labels}
    write_evaluation(place, scored, labels, facts, probabilities=probabilities)
    return place


def check_evaluation(
    place: Path, cases: Sequence[Case], *, inputs: Iterable[Path] = (), overwrite: bool = False
) -> None:
    """Make sure that the files of an evaluation may be written; call it before anything is scored.

    Args:
        place: the evaluation's folder, ``run/evaluation/<split>``.
        cases: those that will be scored.
        inputs: what is read beside the cases' photos and masks.
        overwrite: replace files that lesionseg did not write, or that were changed since.

    Raises:
        OutputError: listing every file in the way.
    """
    maps = [place / "probabilities" / f"{case.case_id}.png" for case in cases if _is_plain(case.case_id)]
    read = (file for case in cases for file in (case.image, case.mask) if file is not None)
    files = [place / name for name in (*EVALUATION_FILES, *CLASS_FILES)]
    try:
        summary = load_run(place.parent.parent, place.name).summary
    except RunError:
        summary = {}
    if summary:
        # The summary of an intact evaluation is lesionseg's, and nothing else: it says what the scores are of.
        files.remove(place / "summary.json")
    # Earlier versions kept no record of their files, or scored less.
    is_older = summary and not ((place / RECORD).exists() and {"files_sha256", "sources"} & summary.keys())
    outputs = dict.fromkeys((*files, *maps))
    check_outputs(outputs, inputs=chain(inputs, read), overwrite=overwrite or bool(is_older))


def _check_request(cases: Sequence[Case], split: str) -> None:
    if not cases or not _is_plain(split):
        what = f"the split {split!r} cannot be a folder's name" if cases else "there is no case to score"
        raise DataError(what, fix="name a split of the manifest")


@contextmanager
def _staging(run: Path) -> Iterator[Path]:
    """A folder for probability maps inside the run, gone afterwards unless it was moved."""
    try:
        # Only a folder inside it is moved out: the temporary one is private to the user.
        with scratch(".scores-", run) as folder:
            maps = folder / "probabilities"
            maps.mkdir()
            yield maps
    except OSError as error:
        raise OutputError(
            f"{run} cannot be written to: {error.strerror}", fix="make room or the folder writable"
        ) from error


def _replace_maps(maps: Path, place: Path, *, with_classes: bool) -> None:
    place.mkdir(parents=True, exist_ok=True)
    # Without its summary an evaluation counts as missing, so no reader meets old scores with new maps.
    (place / "summary.json").unlink(missing_ok=True)
    for name in () if with_classes else CLASS_FILES:
        (place / name).unlink(missing_ok=True)
    old = place / maps.name
    if old.exists():
        # What the user keeps beside the maps stays there.
        for path in [path for path in old.iterdir() if not _is_replaced(path, maps)]:
            path.replace(maps / path.name)
        shutil.rmtree(old)
    maps.rename(old)


def _is_replaced(path: Path, maps: Path) -> bool:
    return path.name == RECORD or (maps / path.name).exists() or is_own(path)


def _score(
    cases: Sequence[Case],
    source: Source,
    threshold: float,
    maps: Path,
    progress: Callable[[int, int], None] | None,
) -> tuple[list[Scored], list[str]]:
    """The scores in the cases' order, and what is wrong with any case; once something is, the rest is only checked."""
    problems = _misnamed(cases)

    def inferred(prepared: Iterable[Ready | list[str]]) -> Iterator[tuple[Ready, Probability]]:
        for item in prepared:
            if isinstance(item, list):
                problems.extend(item)
            elif not problems:
                yield item, source.predict(item)

    cores = count_cores()
    workers = min(4, cores)
    # While one process predicts, others compare; in one they would wait for each other at Python's lock. Two keep up
    # with any network.
    helpers = min(2, cores - 1) if len(cases) >= MANY else 0
    crew: Crew[Compared] = Crew(compare, helpers)

    written: dict[str, str] = {}

    def compared(item: tuple[Ready, Probability]) -> Scored:
        one = compare_known(crew, *item, threshold)
        # In a folder that only appears as a whole; waiting for the disk would take as long as the scoring.
        name = f"{item[0].case.case_id}.png"
        (maps / name).write_bytes(one.png)
        written[name] = hashlib.sha256(one.png).hexdigest()
        return one.scored

    pool, pairs = ThreadPoolExecutor(workers), ThreadPoolExecutor(helpers or workers)
    scored = []
    try:
        with _torch_threads(cores - helpers):
            prepared = overlapped(pool, source.prepare, cases, 2 * workers)
            for one in overlapped(pairs, compared, inferred(prepared), 2 * workers):
                scored.append(one)
                if progress:
                    progress(len(scored), len(cases))
        # The order in which they were written differs from run to run.
        record_outputs(maps, dict(sorted(written.items())))
    finally:
        for executor in (pool, pairs):
            executor.shutdown(wait=True, cancel_futures=True)
        crew.close()
    return scored, problems


@contextmanager
def _torch_threads(most: int) -> Iterator[None]:
    """Keeps torch to that many threads, where it is in use: on a core that is taken, it waits for its own work."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 0
    if torch is None or before <= most:
        yield
        return
    torch.set_num_threads(most)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _misnamed(cases: Iterable[Case]) -> list[str]:
    counts = Counter(case.case_id for case in cases)
    problems = [f"{case_id!r}: more than one case" for case_id, count in counts.items() if count > 1]
    # An id becomes a file's name and a table's cell, and has to be found again by both.
    problems += [f"{name!r}: cannot name a file and a table cell" for name in counts if not _is_plain(name)]
    labels = {name for case in cases for name in case.labels}
    return problems + [
        f"label column {name!r}: a score is called so" for name in sorted(labels.intersection((*PER_IMAGE, *FURTHER)))
    ]


def _is_plain(name: str) -> bool:
    fits = name not in ("", ".", "..") and Path(name).name == name and len(os.fsencode(name)) <= _NAME_BYTES
    return fits and name.isprintable() and not name.startswith(("=", "+", "-", "@"))


def _prepare(case: Case, predictor: Predictor) -> Ready | list[str]:
    problems = []
    decoded, truth, binary = None, None, False
    try:
        if case.mask:
            truth, binary = predictor.labels.read_lesion(case.mask)
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
    return Ready(case, truth, decoded.data, decoded.width, decoded.height, (decoded, binary))
