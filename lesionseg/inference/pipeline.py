"""list | decode | infer | encode, side by side on one machine.

Each worker takes one photo from its bytes to its files: while one decodes, another infers and a third encodes, and no
picture waits in a queue. Workers are threads: Pillow, ONNX Runtime, deflate and SHA-256 let go of Python's lock. Where
there are photos enough to pay for starting them, each has a process to do its photos, if the model can be sent there.
"""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lesionseg.data.files import read_bytes
from lesionseg.errors import ConfigError, ImageError, OutputError
from lesionseg.helper import Crew, count_cores
from lesionseg.inference.job import Job, Outcome, refuse_long_name
from lesionseg.inference.journal import Journal
from lesionseg.inference.outputs import Outputs
from lesionseg.inference.stages import overlapped
from lesionseg.inference.table import Row
from lesionseg.io.writing import make_folder

__all__ = ["MAX_WORKERS", "PHOTOS_PER_PROCESS", "Errand", "Pipeline", "require_workers", "scratch_folder"]

# Finished photos that may wait for one that takes longer, per worker.
_AHEAD = 8

PHOTOS_PER_PROCESS = 200
"""Starting a process takes as much time as thirty photos, and on two cores saves a twelfth of them."""


MAX_WORKERS = 1024
"""How many photos can be done at a time on one machine."""


def require_workers(number: int | None, most: int = MAX_WORKERS) -> None:
    """Make sure that a number of workers can be had.

    Raises:
        ConfigError: it is not positive, or above ``most``.
    """
    if number is not None and not 1 <= number <= most:
        raise ConfigError(f"the number of workers is {number}", fix=f"use 1 to {most}")


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """A folder for files that are not finished; what a kill left there is removed."""
    try:
        shutil.rmtree(path, ignore_errors=True)
        make_folder(path.parent)
        path.mkdir()
        yield path
    except FileExistsError as error:
        raise OutputError(f"{path} cannot be removed", fix="remove it, or choose another output folder") from error
    finally:
        shutil.rmtree(path, ignore_errors=True)


@dataclass(frozen=True, slots=True, eq=False)
class Errand:
    """What is done with a photo of a folder, in this process or in another.

    Attributes:
        job: what is done with each photo.
        folder: of the photos.
        outputs: where to.
    """

    job: Job
    folder: Path
    outputs: Outputs

    def __call__(self, name: str, before: Row | None) -> Outcome:
        """Do a photo, unless what an earlier run wrote, described by the row ``before``, still holds.

        Raises:
            OutputError: a file cannot be written.
            NonFiniteError: the model gives NaN.
        """
        path = self.folder / name
        try:
            refuse_long_name(path)
            return self.job.run(name, str(path), read_bytes(path), before, self.outputs)
        except ImageError as error:
            return self.job.failed(name, error, self.outputs)


@dataclass(frozen=True, slots=True, eq=False)
class Pipeline:
    """What the workers share.

    Attributes:
        errand: what is done with each photo.
        names: of the photos.
        journal: of the same names.
        workers: how many photos are done at a time; None takes the cores.
    """

    errand: Errand
    names: Sequence[str]
    journal: Journal
    workers: int | None = None

    def run(self) -> Generator[Outcome, None, None]:
        """What became of each photo, in order.

        When closed early, the photos under way are finished and recorded.
        """
        workers = self.workers or count_cores()
        crew = Crew(self.errand, workers if self._pays(workers) else 0)
        pool = ThreadPoolExecutor(workers)

        def one(index: int) -> Outcome:
            outcome: Outcome = crew(self.names[index], self.journal[index])
            if outcome.row is not None:
                self.journal.add(index, outcome.row)
            return outcome

        try:
            yield from overlapped(pool, one, range(len(self.names)), _AHEAD * workers)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            crew.close()

    def _pays(self, workers: int) -> bool:
        movable = bool(getattr(self.errand.job.predictor, "moves", False))
        return movable and workers > 1 and len(self.names) >= PHOTOS_PER_PROCESS * workers
