"""A folder of photos in, masks and ``predictions.csv`` out; can be stopped at any moment and gone on with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from lesionseg.errors import OutputError
from lesionseg.inference.job import Job
from lesionseg.inference.journal import TABLE, Journal, Part, is_table
from lesionseg.inference.kinds import Skipped
from lesionseg.inference.parts import claim, merge
from lesionseg.inference.photos import list_photos
from lesionseg.inference.pipeline import Errand, Pipeline, require_workers, scratch_folder
from lesionseg.inference.predictor import Predictor
from lesionseg.inference.stages import PredictOptions

__all__ = ["FolderResult", "Part", "PredictOptions", "default_output", "predict_folder"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class FolderResult:
    """What became of a folder.

    Attributes:
        output: where the masks are.
        table: ``predictions.csv``, one row per photo, sorted by file; of a part, as long as others are missing,
            ``predictions.part-K-of-N.csv``.
        done: photos predicted now.
        reused: photos whose outputs of an earlier run were still right.
        failed: photos that could not be used; the table says why.
        missing: numbers of the parts that are still to come, or to come again with these settings and names; otherwise
            what a part has done is trusted.
        skipped: files that are no photos to predict, with the reason; the table lists them too.
    """

    output: Path
    table: Path
    done: int
    reused: int
    failed: int
    missing: Sequence[int] = ()
    skipped: Sequence[Skipped] = ()


def default_output(folder: Path = Path("masks")) -> Path:
    """The folder for masks where none is named: it is new, or an earlier run's.

    Raises:
        OutputError: it holds something else, perhaps masks that somebody has drawn.
    """
    names = [path.name for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []
    if names and not any(is_table(str(folder), name) for name in names):
        raise OutputError(f"{folder} holds files of another origin", fix="name a folder with --output")
    return folder


def predict_folder(
    source: Path,
    predictor: Predictor,
    output: Path,
    options: PredictOptions | None = None,
    progress: Progress | None = None,
    *,
    workers: int | None = None,
    part: Part | None = None,
) -> FolderResult:
    """Writes a mask for each photo, at the photo's own size, and ``predictions.csv``.

    Masks are named ``<stem>_segmentation.png`` (or ``.nii.gz``), in sub-folders as in the source. A photo that cannot
    be used is recorded and the others go on; so are files that are no photos, as skipped. What an earlier run made of
    such a photo stays. The table holds the files of this run only. After a kill, the same call goes on where the run
    was.

    Args:
        source: a photo, or a folder that is searched with its sub-folders.
        predictor: the model; it is called from several threads.
        output: a folder; nothing in it is ever taken for a photo.
        options: what is written; by default PNG masks at the threshold 0.5.
        progress: called with (done, total) after each photo.
        workers: photos done at a time; by default as many as there are cores.
        part: does only a share of the photos, for one of several processes or machines that share the output folder.
            The one that ends last makes ``predictions.csv`` of all.

    Raises:
        ConfigError: the number of workers is out of range.
        DataError: there is no photo, the source lies in the output folder, or two photos would share an output.
        OutputError: the output cannot be written, or holds a ``predictions.csv`` of something else.
        RunError: another run is writing there.
        NonFiniteError: the model gives NaN.
    """
    require_workers(workers)
    listed = list_photos(source, output)
    photos = listed.share(part)
    counts: Counter[str] = Counter()
    job = Job(predictor, options or PredictOptions())
    with (
        claim(output, part),
        scratch_folder(output / (f".predictions.{part}.unfinished" if part else ".predictions.unfinished")) as scratch,
        closing(Journal(output, photos.names, part)) as journal,
    ):
        pipeline = Pipeline(Errand(job, photos.folder, output, scratch), photos.names, journal, workers)
        # Closed before the journal is: an interrupted run still records the photos under way.
        with closing(pipeline.run()) as finished:
            for number, outcome in enumerate(finished, start=1):
                counts[outcome] += 1
                if progress:
                    progress(number, len(photos.names))
        table = journal.finish(photos.skipped)
        missing = merge(output, part, job.made, listed, job.options.endings) if part else ()
    if part and not missing:
        table = output / TABLE
    return FolderResult(output, table, counts["ok"], counts["reused"], counts["failed"], missing, photos.skipped)
