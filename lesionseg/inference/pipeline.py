"""list | decode | infer | encode, side by side on one machine.

Each worker takes one photo from its bytes to its files: while one decodes, another infers and a third encodes, and no
picture waits in a queue. Pillow, ONNX Runtime, deflate and SHA-256 let go of Python's lock, so workers are threads.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lesionseg.data.files import read_bytes
from lesionseg.data.writing import write_whole
from lesionseg.errors import ImageError, OutputError
from lesionseg.inference.journal import Journal, Row
from lesionseg.inference.photos import Listing, output_stem
from lesionseg.inference.predictor import Predictor
from lesionseg.inference.stages import ENDINGS, OUTPUTS, Encoded, PredictOptions, decode, encode, infer, overlapped

__all__ = ["Pipeline", "count_cores", "scratch_folder"]

_NAME_BYTES = 255
# Finished photos that may wait for one that takes longer, per worker.
_AHEAD = 8


def count_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """A folder for files that are not finished; what a kill left there is removed."""
    try:
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        yield path
    except FileExistsError as error:
        raise OutputError(f"{path} cannot be removed", fix="remove it, or choose another output folder") from error
    finally:
        shutil.rmtree(path, ignore_errors=True)


@dataclass(frozen=True, slots=True, eq=False)
class Pipeline:
    """What the workers share.

    Attributes:
        predictor: the model.
        photos: what to do.
        output: where to.
        options: what is written.
        journal: of the photos' names.
        scratch: for files that are being written.
        workers: how many photos are done at a time; None takes the cores.
    """

    predictor: Predictor
    photos: Listing
    output: Path
    options: PredictOptions
    journal: Journal
    scratch: Path
    workers: int | None = None

    def run(self) -> Generator[str, None, None]:
        """What became of each photo, in order: ``ok``, ``reused`` or ``failed``.

        When closed early, the photos under way are finished and recorded.
        """
        workers = self.workers or count_cores()
        pool = ThreadPoolExecutor(workers)
        try:
            yield from overlapped(pool, self._one, range(len(self.photos.names)), _AHEAD * workers)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    @property
    def made(self) -> dict[str, str]:
        """What every row says of how it was made."""
        settings = {"threshold": repr(float(self.options.threshold)), "options": self.options.settings}
        return {"model_sha256": self.predictor.sha256} | settings

    def _one(self, index: int) -> str:
        name = self.photos.names[index]
        try:
            row = self._predict(index, name)
        except ImageError as error:
            row = {"file": name, **self.made, "status": "failed", "error": error.message}
        if row is None:
            return "reused"
        self.journal.add(index, row)
        return row["status"]

    def _predict(self, index: int, name: str) -> Row | None:
        """The photo's row; None if what an earlier run wrote is right."""
        started = time.perf_counter()
        path = self.photos.path(name)
        _refuse_long_name(path)
        data = read_bytes(path)
        before = self.journal[index]
        if before is not None and self._is_current(before, name, data):
            return None
        decoded = decode(data, str(path), self.predictor.height, self.predictor.width)
        probability = infer(decoded, self.predictor)
        options = self.options
        encoded = encode(decoded, probability, options.threshold, self._endings(name), options.bits, options.measuring)
        for ending, content in encoded.files.items():
            write_whole(self._path(name, ending), content, self.scratch)
        mean = encoded.mean_probability
        return {
            "file": name,
            "width": str(decoded.width),
            "height": str(decoded.height),
            "lesion_pixels": str(encoded.lesion_pixels),
            "lesion_fraction": repr(encoded.lesion_fraction),
            "mean_probability": "" if mean is None else repr(mean),
            **encoded.measures,
            **self.made,
            "photo_sha256": decoded.sha256,
            **self._hashes(encoded),
            "seconds": f"{time.perf_counter() - started:.3f}",
            "status": "ok",
        }

    def _hashes(self, encoded: Encoded) -> dict[str, str]:
        return {
            f"{kind}_sha256": hashlib.sha256(encoded.files[ending]).hexdigest()
            for kind, ending in ENDINGS.items()
            if ending in encoded.files
        }

    def _is_current(self, row: Row, name: str, data: bytes) -> bool:
        expected = {**self.made, "status": "ok"}
        return (
            all(row.get(key) == value for key, value in expected.items())
            and row.get("photo_sha256") == hashlib.sha256(data).hexdigest()
            and all(
                _digest(self._path(name, ending)) == row.get(f"{kind}_sha256")
                for kind, ending in self.options.endings.items()
            )
        )

    def _endings(self, name: str) -> list[str]:
        # What an earlier run left of this photo is renewed too: another model's overlay beside this mask misleads.
        wanted = self.options.endings.values()
        return [ending for ending in OUTPUTS if ending in wanted or self._path(name, ending).exists()]

    def _path(self, name: str, ending: str) -> Path:
        return self.output / f"{output_stem(name)}{ending}"


def _refuse_long_name(path: Path) -> None:
    longest = len(os.fsencode(path.stem)) + max(map(len, OUTPUTS))
    if longest > _NAME_BYTES:
        raise ImageError(f"{path}: its name is too long to add to", fix="rename it")


def _digest(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
