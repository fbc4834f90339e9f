"""The same stages under Ray Data, on all machines of a cluster.

Photos are read by tasks and predicted by a pool of actors, each of which loads the model once. What a worker that dies
had under way is done again by another. Every photo is read by itself, and not by ``ray.data.read_binary_files``: there,
one file that vanished ends the whole run. The driver keeps the journal, so that a run that was stopped can be gone on
with, and another engine can go on with it.
"""

from __future__ import annotations

import json
import logging
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from lesionseg.errors import ConfigError, ImageError, LesionsegError
from lesionseg.inference.job import Job, refuse_long_name
from lesionseg.inference.journal import TABLE, Journal, Row, journal_path
from lesionseg.inference.kinds import Skipped
from lesionseg.inference.onnx_predictor import OnnxPredictor
from lesionseg.inference.parts import claim
from lesionseg.inference.photos import (
    is_within,
    list_photos,
    no_photo,
    output_holds,
    output_stem,
    refuse_shared_names,
)
from lesionseg.inference.pipeline import require_workers
from lesionseg.inference.refine import Refinement
from lesionseg.inference.stages import PredictOptions
from lesionseg.inference.store import Store, open_store
from lesionseg.io.leftovers import scratch
from lesionseg.shipped_models import INT8, find_model, is_bundle, open_bundle

__all__ = ["ClusterResult", "next_save", "predict_distributed"]

Progress = Callable[[int, int], None]
Batch = dict[str, Any]

_BATCH = 8
_MOST_WORKERS = 100_000
# Photos between two copies of the journal in an object store; more as it grows, or a million photos would send 500 GB.
_SAVE_EVERY, _SAVE_SHARE = 1000, 10
# Seconds until a cluster has to answer.
_PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class ClusterResult:
    """What became of a folder.

    Attributes:
        output: where the masks are: a path or an address.
        table: ``predictions.csv``, likewise.
        done, reused, failed, skipped: as in ``FolderResult``.
    """

    output: str
    table: str
    done: int
    reused: int
    failed: int
    skipped: Sequence[Skipped] = ()


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

    Raises:
        ConfigError: Ray is not installed, the model is no exported file, or a place cannot be opened.
        DataError, OutputError, RunError, NonFiniteError: as ``predict_folder``; but nothing keeps two runs off one
            output in an object store.
    """
    require_workers(workers, _MOST_WORKERS)
    ray = _require_ray()
    data, model = _sendable(find_model(model))
    options, refine = options or PredictOptions(), refine or Refinement()
    # A model that cannot be used is told before a cluster is asked for.
    refine.around(OnnxPredictor(data, model, threads=1), options.threshold)
    here, there = open_store(source), open_store(output)
    here, names, skipped = _list(here, there)
    counts: Counter[str] = Counter()
    with _cluster(ray, address, workers) as cores, _journal_folder(there) as folder, claim(folder, None):
        with closing(Journal(folder, names)) as journal:
            # Held here by its reference: an actor that is started again asks for it again.
            sent = _Workers(ray.put(data), model.name, options, refine, here, there)
            rows = _rows(ray, sent, journal, names, workers or cores)
            save = _SAVE_EVERY
            for number, (index, row) in enumerate(rows, start=1):
                counts[row["status"] if row else "reused"] += 1
                if row:
                    journal.add(index, row)
                if progress:
                    progress(number, len(names))
                if there.files is not None and number == save:
                    there.upload(journal.path)
                    save = next_save(number)
            if there.files is not None:
                # Finishing takes the journal away here; where the table then cannot be sent, it is gone on from this.
                there.upload(journal.path)
            table = journal.finish(skipped)
        if there.files is not None:
            # The table first: a stop between the two leaves one journal too many, and never one too few.
            there.upload(table)
            there.remove(journal.path.name)
    return ClusterResult(there.uri, f"{there.uri}/{TABLE}", counts["ok"], counts["reused"], counts["failed"], skipped)


def _sendable(model: Path) -> tuple[bytes, Path]:
    if is_bundle(model):
        return open_bundle(model).read(INT8), model / INT8
    if model.suffix != ".onnx":
        raise ConfigError(f"{model} cannot be sent to other machines", fix="make an .onnx file: lesionseg export RUN")
    return model.read_bytes(), model


def _require_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ConfigError("this engine needs the extra [ray]", fix="pip install 'lesionseg[ray]'") from error
    return ray


def _list(source: Store, output: Store) -> tuple[Store, list[str], list[Skipped]]:
    """The folder of the photos, which a single photo is not itself; their names in it, and what was left out."""
    if source.files is None:
        photos = list_photos(Path(source.base), Path(output.base if output.files is None else "/nowhere/else"))
        given = source.base == str(photos.folder)
        return source if given else open_store(photos.folder), photos.names, photos.skipped
    together = source.files == output.files
    if together and is_within(source.base, output.base):
        raise output_holds(source.uri, output.uri)
    names, skipped = source.list_photos(leave_out=output.base if together else None)
    if not names:
        raise no_photo(source.uri, skipped)
    refuse_shared_names(names)
    return source, names, skipped


@contextmanager
def _cluster(ray: Any, address: str | None, workers: int | None) -> Iterator[int]:
    """Joins or starts a cluster; gives its number of cores."""
    started = not ray.is_initialized()
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    if started:
        _join(ray, address, workers)
    try:
        yield max(1, int(ray.cluster_resources().get("CPU", 1)))
    finally:
        if started:
            ray.shutdown()


def _join(ray: Any, address: str | None, workers: int | None) -> None:
    """The cluster that is named, or that is here; else one is started, and may have so many cores."""
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    address = address or os.environ.get("RAY_ADDRESS") or None
    try:
        if address is not None:
            _knock(address)
            ray.init(address, **quiet)
            return
        try:
            ray.init(num_cpus=workers, include_dashboard=False, **quiet)
        except ValueError:
            # That is what Ray says to a number of cores where a cluster has been started on this machine.
            ray.init(**quiet)
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"the Ray cluster {address or 'here'} cannot be joined: {reason}",
            fix="check --address and that the cluster runs: ray status",
        ) from error


def _knock(address: str) -> None:
    """Raises OSError where nobody answers: Ray would try for many minutes, and tell of it in its own log alone."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()


@contextmanager
def _journal_folder(output: Store) -> Iterator[Path]:
    """Where the driver keeps the journal: in the output, or for an object store in a folder for the time of the run."""
    if output.files is None:
        yield Path(output.base)
        return
    with scratch("lesionseg-") as place:
        for name in (TABLE, journal_path(place, None).name):
            with suppress(ImageError):
                output.fetch(place / name)
        try:
            yield place
        except BaseException:
            # What was done is not lost: the next run goes on from it.
            if journal_path(place, None).exists():
                output.upload(journal_path(place, None))
            raise


def next_save(done: int) -> int:
    """After how many photos the journal is copied again; with one at the end, all copies together are twelve times
    as large as the last.
    """
    return done + max(_SAVE_EVERY, done // _SAVE_SHARE)


def _rows(
    ray: Any, workers: _Workers, journal: Journal, names: list[str], count: int
) -> Iterator[tuple[int, Row | None]]:
    """Each photo's place among the names and its row, in any order; no row where an earlier run's outputs are right."""
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
            yield int(item["index"]), json.loads(item["row"])
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
        model = OnnxPredictor(ray.get(sent.model), Path(sent.name), threads=1)
        self._job = Job(sent.refine.around(model, sent.options.threshold), sent.options)

    def __call__(self, batch: Batch) -> Batch:
        keys = ("name", "data", "problem", "before")
        # As text: Arrow would make one structure of rows that differ in their columns.
        rows = [json.dumps(self._one(*one)) for one in zip(*(batch[key] for key in keys), strict=True)]
        return {"index": batch["index"], "row": np.array(rows, object)}

    def _one(self, name: str, data: bytes, problem: str, before: str) -> Row | None:
        """The photo's row; None where an earlier run's outputs are right."""
        job, output, stem = self._job, self._sent.output, output_stem(name)
        if problem:
            return job.failed(name, ImageError(problem))
        row: Row | None = json.loads(before)
        if row and job.is_current(row, data, lambda ending: output.digest(stem + ending)):
            return None
        endings = job.endings(lambda ending: output.exists(stem + ending))
        called = f"{self._sent.source.uri}/{name}"
        try:
            return job.predict(name, called, data, endings, lambda end, made: output.write(stem + end, made))
        except ImageError as error:
            return job.failed(name, error)
