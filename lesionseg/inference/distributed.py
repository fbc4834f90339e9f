"""The same stages under Ray Data, on all machines of a cluster.

Photos are read by tasks and predicted by a pool of actors, each of which loads the model once. What a worker that dies
had under way is done again by another. Every photo is read by itself, and not by ``ray.data.read_binary_files``: there,
one file that vanished ends the whole run. The driver keeps the journal, so that a run that was stopped can be gone on
with, and another engine can go on with it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from lesionseg.errors import ConfigError, ImageError, LesionsegError, RunError
from lesionseg.inference.cluster import join_cluster, require_ray
from lesionseg.inference.job import Job, Outcome, Tally, refuse_long_name
from lesionseg.inference.journal import Journal
from lesionseg.inference.kinds import Skipped
from lesionseg.inference.onnx_predictor import OnnxPredictor
from lesionseg.inference.outputs import Outputs
from lesionseg.inference.parts import claim
from lesionseg.inference.photos import (
    Listing,
    is_within,
    list_photos,
    no_photo,
    output_holds,
    refuse_shared_names,
)
from lesionseg.inference.pipeline import require_workers
from lesionseg.inference.refine import Refinement
from lesionseg.inference.remote import check_store, journal_folder, record_row, upload
from lesionseg.inference.stages import PredictOptions
from lesionseg.inference.store import Store, open_store
from lesionseg.inference.table import TABLE
from lesionseg.inference.written import Written, log_outputs, log_path
from lesionseg.io.reading import MAX_MODEL_BYTES, read_regular
from lesionseg.shipped_models import INT8, find_model, is_bundle, open_bundle

__all__ = ["ClusterResult", "next_save", "predict_distributed"]

Progress = Callable[[int, int], None]
Batch = dict[str, Any]

_BATCH = 8
_MOST_WORKERS = 100_000
# Photos between two copies of the journal in an object store; more as it grows, or a million photos would send 500 GB.
_SAVE_EVERY, _SAVE_SHARE = 1000, 10


@dataclass(frozen=True, slots=True)
class ClusterResult:
    """What became of a folder.

    Attributes:
        output: where the masks are: a path or an address.
        table: ``predictions.csv``, likewise.
        done, reused, failed, skipped, kept, removed: as in ``FolderResult``.
    """

    output: str
    table: str
    done: int
    reused: int
    failed: int
    skipped: Sequence[Skipped] = ()
    kept: Sequence[str] = ()
    removed: int = 0


def predict_distributed(
    source: str | Path,
    model: Path,
    output: str | Path,
    options: PredictOptions | None = None,
    progress: Progress | None = None,
    *,
    refine: Refinement | None = None,
    address: str | None = None,
    workers: int | None = None,
    overwrite: bool = False,
) -> ClusterResult:
    """Predicts a folder on a Ray cluster; masks and table are those that ``predict_folder`` writes.

    Args:
        source, output: folders that all machines reach: paths on a shared file system, or ``s3://`` and ``gs://``.
        model: an ``.onnx`` file that ``lesionseg export`` wrote, a bundle, or the name of a model that ships; it is
            sent to the machines.
        options: what is written.
        progress: called with (done, total) after each photo.
        refine: what is asked of the model beyond one look at each photo.
        address: of the cluster, as ``ray.init`` takes it; None joins one that is there, or starts one here.
        workers: photos done at a time; by default as many as the cluster has cores.
        overwrite: replace files of other origin, and files that were changed, too.

    Raises:
        ConfigError: Ray is not installed, the model is no exported file, or a place cannot be opened.
        DataError, OutputError, RunError, NonFiniteError: as ``predict_folder``; but nothing keeps two runs off one
            output in an object store.
    """
    require_workers(workers, _MOST_WORKERS)
    ray = require_ray()
    data, model = _sendable(find_model(model))
    options, refine = options or PredictOptions(), refine or Refinement()
    # A model that cannot be used is told before a cluster is asked for.
    refine.around(OnnxPredictor(data, model, threads=1), options.threshold)
    here, there = open_store(source), open_store(output)
    here, listed = _list(here, there)
    with journal_folder(there) as folder:
        written = check_store(there, folder, listed, options.endings.values(), overwrite)
        with join_cluster(ray, address, workers) as cores, claim(folder, None):
            # Held here by its reference: an actor that is started again asks for it again.
            sent = _Workers(ray.put(data), model.name, options, refine, here, there, written, overwrite)
            with closing(Journal(folder, listed.names, written=written, overwrite=overwrite)) as journal:
                tally = _collect(ray, sent, journal, listed.names, workers or cores, progress)
                table = journal.finish(listed.skipped)
            if there.files is not None:
                # The table first: a stop between the two leaves one journal too many, and never one too few.
                upload(there, log_path(folder), table)
                there.remove(journal.path.name)
    done, reused, failed = (tally.counts[status] for status in ("ok", "reused", "failed"))
    place = f"{there.uri}/{TABLE}"
    return ClusterResult(there.uri, place, done, reused, failed, listed.skipped, tally.kept, tally.removed)


def _collect(
    ray: Any, workers: _Workers, journal: Journal, names: list[str], count: int, progress: Progress | None
) -> Tally:
    """Predict all photos and record what became of them, with a copy of the journal in an object store now and then."""
    there, log, tally, save = workers.output, log_path(journal.path.parent), Tally(), _SAVE_EVERY
    # In the bucket before any output is: it says that a run has begun, and may have to be gone on with.
    upload(there, journal.path)
    for number, (index, outcome) in enumerate(_rows(ray, workers, journal, names, count), start=1):
        tally.add(outcome)
        if outcome.row:
            journal.add(index, outcome.row)
            record_row(there, log, outcome.row)
        if progress:
            progress(number, len(names))
        if number == save:
            upload(there, log, journal.path)
            save = next_save(number)
    # Finishing takes the journal away here; where the table then cannot be sent, it is gone on from this.
    upload(there, log, journal.path)
    return tally


def _sendable(model: Path) -> tuple[bytes, Path]:
    if is_bundle(model):
        return open_bundle(model).read(INT8), model / INT8
    if model.suffix != ".onnx":
        raise ConfigError(f"{model} cannot be sent to other machines", fix="make an .onnx file: lesionseg export RUN")
    return read_regular(model, limit=MAX_MODEL_BYTES, error=RunError), model


def _list(source: Store, output: Store) -> tuple[Store, Listing]:
    """The folder of the photos, which a single photo is not itself, and what is in it."""
    if source.files is None:
        photos = list_photos(Path(source.base), Path(output.base if output.files is None else "/nowhere/else"))
        given = source.base == str(photos.folder)
        return source if given else open_store(photos.folder), photos
    together = source.files == output.files
    if together and is_within(source.base, output.base):
        raise output_holds(source.uri, output.uri)
    names, skipped = source.list_photos(leave_out=output.base if together else None)
    if not names:
        raise no_photo(source.uri, skipped)
    refuse_shared_names(names)
    return source, Listing(Path("/nowhere/else"), names, skipped)


def next_save(done: int) -> int:
    """After how many photos the journal is copied again; with one at the end, all copies together are twelve times
    as large as the last.
    """
    return done + max(_SAVE_EVERY, done // _SAVE_SHARE)


def _rows(ray: Any, workers: _Workers, journal: Journal, names: list[str], count: int) -> Iterator[tuple[int, Outcome]]:
    """Each photo's place among the names, and what became of it, in any order."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = False
    items = [{"index": index, "name": name, "before": json.dumps(journal[index])} for index, name in enumerate(names)]
    blocks = max(1, min(len(items) // _BATCH, 64 * count))
    photos = ray.data.from_items(items, override_num_blocks=blocks).map_batches(
        _Reader(workers.source), batch_size=_BATCH, num_cpus=0.25
    )
    done = photos.map_batches(
        _Actor,
        fn_constructor_args=(workers,),
        batch_size=_BATCH,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=count),
        # A quarter of each core is left to a reader: on a single one, readers would never get their turn.
        num_cpus=0.75,
    )
    try:
        for item in done.iter_rows():
            row, kept, removed = json.loads(item["row"])
            yield int(item["index"]), Outcome(row, tuple(kept), tuple(removed))
    except ray.exceptions.RayError as error:
        raise _own(error) or error from error


def _own(error: BaseException | None) -> LesionsegError | None:
    """What a worker raised, if it is of this program."""
    while error is not None:
        if isinstance(error, LesionsegError):
            return error
        error = getattr(error, "cause", None) or error.__cause__
    return None


@dataclass(frozen=True, slots=True)
class _Workers:
    """What every worker is sent; ``model`` is a reference to the file's bytes."""

    model: Any
    name: str
    options: PredictOptions
    refine: Refinement
    source: Store
    output: Store
    written: Written
    overwrite: bool


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads photos ahead of the model."""

    source: Store

    def __call__(self, batch: Batch) -> Batch:
        contents, problems = [], []
        for name in batch["name"]:
            try:
                refuse_long_name(PurePosixPath(name))
                contents.append(self.source.read(name))
                problems.append("")
            except ImageError as error:
                contents.append(b"")
                problems.append(error.message)
        return {**batch, "data": np.array(contents, object), "problem": np.array(problems, object)}


class _Actor:
    """Predicts photos and writes what is asked for."""

    def __init__(self, sent: _Workers) -> None:
        import ray

        self._sent = sent
        model = OnnxPredictor(ray.get(sent.model), Path(sent.name), threads=1, verified=True)
        self._job = Job(sent.refine.around(model, sent.options.threshold), sent.options)
        log = log_path(Path(sent.output.base), f"ray-{uuid.uuid4().hex}")
        record = partial(log_outputs, log) if sent.output.files is None else lambda *_: None
        self._outputs = Outputs(sent.output, sent.written, record, sent.overwrite)

    def __call__(self, batch: Batch) -> Batch:
        keys = ("name", "data", "problem", "before")
        done = [self._one(*one) for one in zip(*(batch[key] for key in keys), strict=True)]
        # As text: Arrow would make one structure of rows that differ in their columns.
        rows = [json.dumps((one.row, one.kept, one.removed)) for one in done]
        return {"index": batch["index"], "row": np.array(rows, object)}

    def _one(self, name: str, data: bytes, problem: str, before: str) -> Outcome:
        try:
            if problem:
                raise ImageError(problem)
            called = f"{self._sent.source.uri}/{name}"
            return self._job.run(name, called, data, json.loads(before), self._outputs)
        except ImageError as error:
            return self._job.failed(name, error, self._outputs)
