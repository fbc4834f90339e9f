"""Scores a run on cases with masks: one row per photo, from which every mean is taken."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lesionseg.data.images import (
    decode_photo,
    encode_probability_png,
    read_bytes,
    resize_mask,
    resize_probability,
)
from lesionseg.errors import DataError, ImageError, OutputError
from lesionseg.evaluation.columns import FURTHER, PER_IMAGE
from lesionseg.evaluation.scoring import Scored, score_case, write_evaluation
from lesionseg.evaluation.traits import TRAIT_SIDE, Traits, photo_traits
from lesionseg.inference.predictor import Predictor, load_predictor
from lesionseg.inference.stages import Decoded, decode, infer, overlapped
from lesionseg.records import THRESHOLD, BoolMask, Case, Prediction, Probability

__all__ = ["AT_MODEL_SIZE", "Ready", "Source", "evaluate_cases", "score_run"]

AT_MODEL_SIZE = "-at-model-size"
"""What the name of such an evaluation ends in."""

_NAME_BYTES = 200


@dataclass(frozen=True, slots=True, eq=False)
class Ready:
    """A case, read and waiting for its prediction.

    Attributes:
        truth: ``bool H W``, at the size that is scored.
        photo: the photo's bytes, or None where there is none.
        width, height: of the photo, in pixels.
        given: what the source needs to predict it.
    """

    case: Case
    truth: BoolMask
    photo: bytes | None
    width: int
    height: int
    given: Any


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
        "size": [model.height, model.width] if at_model_size else "own",
    }
    return evaluate_cases(run, cases, _Model(model, at_model_size), facts, progress=progress)


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
        decoded: Decoded = ready.given
        return infer(decoded, self.predictor)


def evaluate_cases(
    run: Path,
    cases: Sequence[Case],
    source: Source,
    facts: dict[str, Any],
    *,
    probabilities: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Scores what a source predicts, and writes the evaluation as ``score_run`` tells.

    Args:
        run: an existing folder.
        cases: at least one.
        source: predicts them.
        facts: for ``summary.json``; ``split`` names the evaluation, ``threshold`` is applied.
        probabilities: whether the source gives any, or bare masks.
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
        _replace_maps(maps, place)
    labels = {name for case in cases for name in case.labels}
    write_evaluation(place, scored, labels, facts, probabilities=probabilities)
    return place


def _check_request(cases: Sequence[Case], split: str) -> None:
    if not cases or not _is_plain(split):
        what = f"the split {split!r} cannot be a folder's name" if cases else "there is no case to score"
        raise DataError(what, fix="name a split of the manifest")


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

    workers = min(4, os.cpu_count() or 1)
    pool = ThreadPoolExecutor(workers)
    scored = []
    try:
        prepared = overlapped(pool, source.prepare, cases, 2 * workers)
        for one in overlapped(pool, lambda item: _compare(*item, threshold, maps), inferred(prepared), 2 * workers):
            scored.append(one)
            if progress:
                progress(len(scored), len(cases))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return scored, problems


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
    return Ready(case, truth, decoded.data, decoded.width, decoded.height, decoded)


def _compare(ready: Ready, small: Probability, threshold: float, maps: Path) -> Scored:
    case, truth = ready.case, ready.truth
    probability = small if small.shape == truth.shape else resize_probability(small, *truth.shape)
    # In a folder that only appears as a whole; waiting for the disk would take as long as the scoring.
    (maps / f"{case.case_id}.png").write_bytes(encode_probability_png(probability))
    traits = None if ready.photo is None else _traits(ready, ready.photo)
    prediction = Prediction(case.case_id, probability)
    aspect = ready.width / ready.height
    return score_case(case, prediction, truth, threshold=threshold, traits=traits, aspect=aspect)


# Runs that are compared see the same photos; looking at one takes longer than anything else in its scoring.
_KNOWN_TRAITS: dict[bytes, Traits] = {}
_MOST_KNOWN = 1 << 16


def _traits(ready: Ready, photo: bytes) -> Traits:
    key = hashlib.sha256(hashlib.sha256(photo).digest() + np.packbits(ready.truth).tobytes()).digest()
    if known := _KNOWN_TRAITS.get(key):
        return known
    if len(_KNOWN_TRAITS) >= _MOST_KNOWN:
        _KNOWN_TRAITS.clear()
    upright = (ready.height, ready.width)
    small = decode_photo(photo, str(ready.case.image), at_least=(TRAIT_SIDE, TRAIT_SIDE), like=upright)
    _KNOWN_TRAITS[key] = found = photo_traits(small.pixels, ready.truth)
    return found
