"""A folder of photos in, a folder of masks and ``predictions.csv`` out; can be stopped at any moment and gone on with.

Every finished photo is a row of ``predictions.partial.csv`` at once; at the end the rows become ``predictions.csv``. A
later run uses an output again where the row's hashes show that nothing has changed.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from lesionseg.data.images import read_bytes, write_atomic
from lesionseg.errors import ImageError
from lesionseg.inference.journal import COLUMNS, PARTIAL, TABLE, Row, journal, read_rows
from lesionseg.inference.photos import Photo, list_photos, refuse_shared_names, survey_photos
from lesionseg.inference.predictor import Predictor
from lesionseg.inference.stages import (
    OUTPUTS,
    Decoded,
    PredictOptions,
    decode,
    encode,
    infer,
    overlapped,
)
from lesionseg.records import Probability
from lesionseg.tables import encode_table, safe_cell

__all__ = ["FolderResult", "Photo", "PredictOptions", "list_photos", "predict_folder"]

Progress = Callable[[int, int], None]

_NAME_BYTES = 255


@dataclass(frozen=True, slots=True)
class FolderResult:
    """What became of a folder.

    Attributes:
        output: where the masks are.
        table: ``predictions.csv``, one row per photo, sorted by file.
        done: photos predicted now.
        reused: photos whose outputs of an earlier run were still right.
        failed: photos that could not be used; the table says why.
    """

    output: Path
    table: Path
    done: int
    reused: int
    failed: int


@dataclass(frozen=True, slots=True)
class _Outcome:
    row: Row
    reused: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class _Ready:
    photo: Photo
    decoded: Decoded
    seconds: float


def predict_folder(
    source: Path,
    predictor: Predictor,
    output: Path,
    options: PredictOptions | None = None,
    progress: Progress | None = None,
) -> FolderResult:
    """Writes a mask for each photo, at the photo's own size, and ``predictions.csv``.

    Masks are named ``<stem>_segmentation.png`` (or ``.nii.gz``), in sub-folders as in the source. A photo that cannot
    be used is recorded and the others go on; so are companion and system files, as skipped. The table holds the files
    of this run only.

    Args:
        source: a photo, or a folder that is searched with its sub-folders.
        predictor: the model.
        output: a folder; nothing in it is ever taken for a photo.
        options: what is written; by default PNG masks at the threshold 0.5.
        progress: called with (done, total) after each photo.

    Raises:
        DataError: there is no photo, the source lies in the output folder, or two photos would share an output.
        OutputError: the output cannot be written, or holds a ``predictions.csv`` of something else.
        NonFiniteError: the model gives NaN.
    """
    photos, left_out = survey_photos(source, output)
    refuse_shared_names(photos)
    previous = read_rows(output / TABLE) | read_rows(output / PARTIAL)
    outcomes = []
    with journal(output / PARTIAL, previous.values()) as record:
        work = _Work(predictor, output, options or PredictOptions(), previous, record)
        # Closed before the journal is: an interrupted run still records the photos under way.
        with closing(work.through(photos)) as finished:
            for number, outcome in enumerate(finished, start=1):
                outcomes.append(outcome)
                if progress:
                    progress(number, len(photos))
    rows = dict(zip(photos, (outcome.row for outcome in outcomes), strict=True)) | {
        photo: {"file": photo.file.as_posix(), "status": "skipped", "error": "a companion or system file"}
        for photo in left_out
    }
    ordered = [rows[photo] for photo in sorted(rows, key=lambda photo: photo.file.as_posix())]
    write_atomic(output / TABLE, encode_table(COLUMNS, ordered))
    (output / PARTIAL).unlink(missing_ok=True)
    reused = sum(outcome.reused for outcome in outcomes)
    failed = sum(outcome.row["status"] == "failed" for outcome in outcomes)
    return FolderResult(output, output / TABLE, len(outcomes) - reused - failed, reused, failed)


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """The stages with what they share: decoding and encoding in a pool, the model in the calling thread."""

    predictor: Predictor
    output: Path
    options: PredictOptions
    previous: Mapping[str, Row]
    record: Callable[[Row], None]

    def through(self, photos: Iterable[Photo]) -> Generator[_Outcome, None, None]:
        """One outcome per photo, in order; when closed early, photos under way are finished and recorded."""
        workers = min(4, os.cpu_count() or 1)
        pool = ThreadPoolExecutor(workers)
        try:
            prepared = overlapped(pool, self._prepare, photos, 2 * workers)
            yield from overlapped(pool, self._finish, map(self._infer, prepared), 2 * workers)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _prepare(self, photo: Photo) -> _Ready | _Outcome:
        started = time.perf_counter()
        try:
            _refuse_long_name(photo)
            data = read_bytes(photo.path)
            row = self.previous.get(safe_cell(photo.file.as_posix()))
            if row is not None and self._is_current(row, photo, hashlib.sha256(data).hexdigest()):
                return _Outcome(row, reused=True)
            decoded = decode(data, str(photo.path), self.predictor.height, self.predictor.width)
        except ImageError as error:
            return self._failed(photo, error)
        return _Ready(photo, decoded, time.perf_counter() - started)

    def _infer(self, item: _Ready | _Outcome) -> tuple[_Ready, Probability] | _Outcome:
        if isinstance(item, _Outcome):
            return item
        started = time.perf_counter()
        probability = infer(item.decoded, self.predictor)
        return replace(item, seconds=item.seconds + time.perf_counter() - started), probability

    def _finish(self, item: tuple[_Ready, Probability] | _Outcome) -> _Outcome:
        outcome = item if isinstance(item, _Outcome) else self._write(*item)
        if not outcome.reused:
            self.record(outcome.row)
        return outcome

    def _write(self, ready: _Ready, probability: Probability) -> _Outcome:
        started = time.perf_counter()
        try:
            encoded = encode(ready.decoded, probability, self.options.threshold, self._endings(ready.photo))
        except ImageError as error:
            return self._failed(ready.photo, error)
        for ending, data in encoded.files.items():
            write_atomic(self._path(ready.photo, ending), data)
        kinds = replace(self.options, overlay=True, save_probabilities=True).endings
        hashes = {
            f"{kind}_sha256": hashlib.sha256(encoded.files[ending]).hexdigest()
            for kind, ending in kinds.items()
            if ending in encoded.files
        }
        mean = encoded.mean_probability
        row = self._identity(ready.photo) | {
            "width": str(ready.decoded.width),
            "height": str(ready.decoded.height),
            "lesion_pixels": str(encoded.lesion_pixels),
            "lesion_fraction": repr(encoded.lesion_fraction),
            "mean_probability": "" if mean is None else repr(mean),
            "seconds": f"{ready.seconds + time.perf_counter() - started:.3f}",
            "photo_sha256": ready.decoded.sha256,
            "status": "ok",
        }
        return _Outcome(row | hashes)

    def _failed(self, photo: Photo, error: ImageError) -> _Outcome:
        return _Outcome(self._identity(photo) | {"status": "failed", "error": error.message})

    def _identity(self, photo: Photo) -> dict[str, str]:
        settings = {"model_sha256": self.predictor.sha256, "threshold": repr(float(self.options.threshold))}
        return {"file": photo.file.as_posix()} | settings

    def _is_current(self, row: Row, photo: Photo, sha256: str) -> bool:
        expected = self._identity(photo) | {"file": row["file"], "photo_sha256": sha256, "status": "ok"}
        return all(row[name] == value for name, value in expected.items()) and all(
            _digest(self._path(photo, ending)) == row[f"{kind}_sha256"] for kind, ending in self.options.endings.items()
        )

    def _endings(self, photo: Photo) -> list[str]:
        # What an earlier run left of this photo is renewed too: another model's overlay beside this mask misleads.
        wanted = self.options.endings.values()
        return [ending for ending in OUTPUTS if ending in wanted or self._path(photo, ending).exists()]

    def _path(self, photo: Photo, ending: str) -> Path:
        return self.output / f"{photo.file.with_suffix('')}{ending}"


def _refuse_long_name(photo: Photo) -> None:
    longest = max(len(os.fsencode(photo.file.stem + ending)) for ending in OUTPUTS)
    if longest > _NAME_BYTES:
        raise ImageError(f"{photo.path}: its name is too long to add to", fix="rename it")


def _digest(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
