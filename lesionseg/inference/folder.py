"""A folder of photos in, masks and ``predictions.csv`` out; can be stopped at any moment and gone on with."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lesionseg.errors import OutputError
from lesionseg.inference.job import Job, Outcome, Tally
from lesionseg.inference.journal import Journal
from lesionseg.inference.kinds import Skipped
from lesionseg.inference.outputs import Folder, Outputs, check_folders, check_outputs
from lesionseg.inference.parts import claim, merge
from lesionseg.inference.photos import Listing, list_photos
from lesionseg.inference.pipeline import Errand, Pipeline, require_workers, scratch_folder
from lesionseg.inference.predictor import Predictor
from lesionseg.inference.stages import PredictOptions
from lesionseg.inference.table import TABLE, Part, is_table
from lesionseg.inference.written import Written, log_outputs, log_path

__all__ = [
    "FolderPlan",
    "FolderResult",
    "Part",
    "PredictOptions",
    "default_output",
    "plan_folder",
    "predict_folder",
]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class FolderResult:
    """What became of a folder.

    Attributes:
        output: where the masks are.
        table: ``predictions.csv``, one row per photo, sorted by file; of a part, as long as others are missing,
            ``predictions.part-K-of-N.csv``.
        done: photos predicted now, without those whose outputs were kept.
        reused: photos whose outputs of an earlier run were still right.
        failed: photos that could not be used; the table says why.
        missing: numbers of the parts that are still to come, or to come again with these settings and names; otherwise
            what a part has done is trusted.
        skipped: files that are no photos to predict, with the reason; the table lists them too.
        kept: outputs that lesionseg did not write, or that were changed since, and that stay as they are.
        removed: number of outputs of an earlier run that were removed, as their photo cannot be used now.
    """

    output: Path
    table: Path
    done: int
    reused: int
    failed: int
    missing: Sequence[int] = ()
    skipped: Sequence[Skipped] = ()
    kept: Sequence[str] = ()
    removed: int = 0


def default_output(folder: Path = Path("masks")) -> Path:
    """The folder for masks where none is named: it is new, or an earlier run's.

    Raises:
        OutputError: it holds something else, perhaps masks that somebody has drawn.
    """
    names = [path.name for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []
    if names and not any(is_table(str(folder), name) for name in names):
        raise OutputError(f"{folder} holds files of another origin", fix="name a folder with --output")
    return folder


@dataclass(frozen=True, slots=True, eq=False)
class FolderPlan:
    """A folder of photos and where its outputs go, looked over before anything is written; see ``plan_folder``."""

    listed: Listing
    output: Path
    options: PredictOptions
    part: Part | None
    overwrite: bool
    written: Written

    def run(self, predictor: Predictor, progress: Progress | None = None, workers: int | None = None) -> FolderResult:
        """Predict the photos; arguments and errors are those of ``predict_folder``."""
        output, part, photos = self.output, self.part, self.listed.share(self.part)
        tally = Tally()
        job = Job(predictor, self.options)
        with (
            claim(output, part),
            scratch_folder(output / (f".predictions.{part}.unfinished" if part else ".predictions.unfinished")) as at,
        ):
            # Another run may have ended between the check and the lock.
            written = self.written.renewed(output)
            outputs = Outputs(Folder(output, at), written, partial(log_outputs, log_path(output, part)), self.overwrite)
            journal = Journal(output, photos.names, part, written=written, overwrite=self.overwrite)
            # Closed before the journal is: an interrupted run still records the photos under way.
            with closing(journal), closing(self._outcomes(job, outputs, photos, journal, workers)) as finished:
                for number, outcome in enumerate(finished, start=1):
                    tally.add(outcome)
                    if progress:
                        progress(number, len(photos.names))
                table = journal.finish(photos.skipped)
            missing = merge(output, part, job.made, self.listed, self.options.endings) if part else ()
        counts = tally.counts
        return FolderResult(
            output,
            output / TABLE if part and not missing else table,
            counts["ok"],
            counts["reused"],
            counts["failed"],
            missing,
            photos.skipped,
            tally.kept,
            tally.removed,
        )

    def _outcomes(
        self, job: Job, outputs: Outputs, photos: Listing, journal: Journal, workers: int | None
    ) -> Generator[Outcome, None, None]:
        return Pipeline(Errand(job, photos.folder, outputs), photos.names, journal, workers).run()


def plan_folder(
    source: Path,
    output: Path,
    options: PredictOptions | None = None,
    *,
    part: Part | None = None,
    overwrite: bool = False,
) -> FolderPlan:
    """List the photos of a folder, and make sure that its outputs can be written; writes nothing.

    Arguments and errors are those of ``predict_folder``.
    """
    options = options or PredictOptions()
    listed = list_photos(source, output)
    check_folders(listed, output)
    if overwrite:
        written = Written.read(output)
    else:
        written = check_outputs(output, listed.share(part), options.endings.values(), part)
    return FolderPlan(listed, output, options, part, overwrite, written)


def predict_folder(
    source: Path,
    predictor: Predictor,
    output: Path,
    options: PredictOptions | None = None,
    progress: Progress | None = None,
    *,
    workers: int | None = None,
    part: Part | None = None,
    overwrite: bool = False,
) -> FolderResult:
    """Write a mask for each photo, at the photo's own size, and ``predictions.csv``.

    Masks are named ``<stem>_segmentation.png`` (or ``.nii.gz``), in sub-folders as in the source. A photo that cannot
    be used is recorded and the others go on; so are files that are no photos, as skipped. What an earlier run made of
    such a photo is removed. The table holds the files of this run only. After a kill, the same call goes on where the
    run was. A file that lesionseg wrote and that was changed since is kept, with status ``kept`` in the table.

    Args:
        source: a photo, or a folder that is searched with its sub-folders.
        predictor: the model; it is called from several threads.
        output: a folder; nothing in it is ever taken for a photo.
        options: what is written; by default PNG masks at the threshold 0.5.
        progress: called with (done, total) after each photo.
        workers: photos done at a time; by default as many as there are cores.
        part: does only a share of the photos, for one of several processes or machines that share the output folder.
            The one that ends last makes ``predictions.csv`` of all.
        overwrite: replace files of other origin, and files that were changed, too.

    Raises:
        ConfigError: the number of workers is out of range.
        DataError: there is no photo, the source lies in the output folder, or two photos would share an output.
        OutputError: the output cannot be written, or holds files of other origin under the names of the outputs, or a
            table that was changed; all of them are listed.
        RunError: another run is writing there.
        NonFiniteError: the model gives NaN.
    """
    require_workers(workers)
    plan = plan_folder(source, output, options, part=part, overwrite=overwrite)
    return plan.run(predictor, progress, workers)
