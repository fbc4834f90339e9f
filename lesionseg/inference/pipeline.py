"""list | decode | infer | encode, side by side on one machine.

Each worker takes one photo from its bytes to its files: while one decodes, another infers and a third encodes, and no
picture waits in a queue. Pillow, ONNX Runtime, deflate and SHA-256 let go of Python's lock, so workers are threads.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lesionseg.data.files import read_bytes
from lesionseg.data.writing import write_whole
from lesionseg.errors import ImageError, OutputError
from lesionseg.inference.job import Job, refuse_long_name
from lesionseg.inference.journal import Journal, Row
from lesionseg.inference.photos import Listing, output_stem
from lesionseg.inference.stages import overlapped

__all__ = ["Pipeline", "count_cores", "scratch_folder"]

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
        job: what is done with each photo.
        photos: what to do.
        output: where to.
        journal: of the photos' names.
        scratch: for files that are being written.
        workers: how many photos are done at a time; None takes the cores.
    """

    job: Job
    photos: Listing
    output: Path
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

    def _one(self, index: int) -> str:
        name = self.photos.names[index]
        try:
            row = self._predict(index, name)
        except ImageError as error:
            row = self.job.failed(name, error)
        if row is None:
            return "reused"
        self.journal.add(index, row)
        return row["status"]

    def _predict(self, index: int, name: str) -> Row | None:
        """The photo's row; None if what an earlier run wrote is right."""
        path = self.photos.path(name)
        refuse_long_name(path)
        data = read_bytes(path)
        before = self.journal[index]
        if before is not None and self.job.is_current(before, data, lambda ending: _digest(self._path(name, ending))):
            return None

        def write(ending: str, content: bytes) -> None:
            write_whole(self._path(name, ending), content, self.scratch)

        endings = self.job.endings(lambda ending: self._path(name, ending).exists())
        return self.job.predict(name, str(path), data, endings, write)

    def _path(self, name: str, ending: str) -> Path:
        return self.output / f"{output_stem(name)}{ending}"


def _digest(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
