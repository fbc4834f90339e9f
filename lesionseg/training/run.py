"""From a config to a run folder: manifest, split, model, ``run.json``, and ``fit``."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lesionseg.config import RunConfig, load_config
from lesionseg.data.labels import labels_of
from lesionseg.data.loader import PairDataset, decode_pairs
from lesionseg.data.manifest import read_manifest
from lesionseg.data.splits import training_parts
from lesionseg.data.transforms import augmentation
from lesionseg.errors import ConfigError
from lesionseg.io.locking import hold
from lesionseg.io.names import require_run_name
from lesionseg.records import Case, Checkpoint
from lesionseg.signals import deferred
from lesionseg.training.callbacks import Callback
from lesionseg.training.checkpoint import build_from, checkpoint_folder, latest_checkpoint, load_checkpoint
from lesionseg.training.fit import FitResult, fit
from lesionseg.training.info import describe, recorded, was_killed
from lesionseg.training.launch import count_processes, is_first_process, read_launch
from lesionseg.training.limits import require_batches, require_memory
from lesionseg.training.places import require_unused
from lesionseg.training.precision import open_accelerator
from lesionseg.training.settings import require_same_manifest, require_trainable
from lesionseg.training.start import starting_model
from lesionseg.training.teacher import load_teacher, require_same_teacher
from lesionseg.training.tracking import open_trackers
from lesionseg.training.watch import Row, Watcher

__all__ = ["run_training"]

# What may change between the start of a run and its resumption without making it another experiment.
_CHANGEABLE = frozenset(
    {f"loop.{key}" for key in ("epochs", "stop_at", "patience", "device", "threads", "keep_checkpoints", "trackers")}
    | {"loop.example"}
    | {f"data.{key}" for key in ("manifest", "root", "workers", "cache")}
    | {"model.encoder_weights", "model.start"}
    # Its weights have to be the same, wherever they are now.
    | {"optim.teacher"}
)


def run_training(
    config: RunConfig | None,
    run: Path,
    *,
    resume: bool = False,
    overrides: Sequence[str] = (),
    callbacks: Sequence[Callback] = (),
    watcher: Watcher | None = None,
) -> FitResult:
    """Trains a run into its folder.

    SIGINT (Ctrl-C), SIGTERM and SIGHUP finish the step, save a checkpoint and end the run as ``interrupted``; another
    one, if it comes more than a second later, ends it at once.

    Args:
        config: the settings; None on resuming, which takes the run's own.
        run: the run folder; its name is the run's.
        resume: go on from the newest checkpoint.
        overrides: ``key.subkey=value`` words for a resumed run; only those that leave the experiment the same.
        callbacks: asked after each epoch.
        watcher: told of the progress.

    Raises:
        RunError: the name cannot be a run's; the folder holds a run or other files already or is in use, or, on
            resuming, holds no run.
        LesionsegError: as the parts say.
    """
    require_run_name(run.name)
    if resume:
        # Told before the lock makes a folder.
        latest_checkpoint(run)
    elif config is None:
        raise ConfigError("a new run needs a config", fix="pass --config, or data.manifest=FILE")
    first = is_first_process()
    with contextlib.ExitStack() as locks:
        if first:
            locks.enter_context(hold(run))
        if resume or config is None:
            checkpoint = load_checkpoint(latest_checkpoint(run))
            config = _resumed_config(checkpoint, overrides, config)
            checkpoints = checkpoint_folder(run)
        else:
            checkpoint = None
            checkpoints = require_unused(run, config.loop.checkpoints)
        if first and checkpoints.parent != run:
            locks.enter_context(hold(checkpoints))
        return _train(config, run, checkpoint, callbacks, watcher if watcher and first else Watcher())


def _train(
    config: RunConfig, run: Path, checkpoint: Checkpoint | None, callbacks: Sequence[Callback], watcher: Watcher
) -> FitResult:
    first = is_first_process()
    require_trainable(config)
    if config.loop.threads:
        torch.set_num_threads(config.loop.threads)
    if notice := read_launch().notice:
        watcher.on_notice(notice)
    if count_processes() > 1:
        # Before signals are caught: waiting for the other processes can be ended as usual.
        open_accelerator(config.loop)
    if first and checkpoint is not None and was_killed(run):
        watcher.on_notice("the last training of this run was killed; what it did after its last checkpoint is repeated")
    teacher = load_teacher(config)
    if checkpoint is not None:
        require_same_teacher(teacher, run)
    manifest = read_manifest(config.data.manifest, config.data.root)
    if checkpoint is not None:
        require_same_manifest(manifest, run)
    train_cases, val_cases = training_parts(manifest, config.data.validation_fraction, config.loop.seed)
    require_batches(config, len(train_cases))
    require_memory(config, len(train_cases) + len(val_cases))
    model = starting_model(config) if checkpoint is None else build_from(checkpoint, run)
    if config.optim.frozen:
        model.encoder.freeze()
    info = describe(config, run.name, manifest, (train_cases, val_cases), model, teacher)
    watcher.on_start(info)
    train, validation = _datasets(config, train_cases, val_cases, watcher)
    trackers = config.loop.trackers if first else ()
    with (
        recorded(run, info, writes=first) as ended,
        open_trackers(trackers, run, info) as track,
        deferred(_tell_stop) as stop_requested,
    ):

        def on_epoch(row: Row) -> None:
            track(row)
            watcher.on_epoch(row)

        result = fit(
            config,
            model,
            train,
            validation,
            run,
            resume_from=checkpoint,
            teacher=teacher,
            callbacks=callbacks,
            on_step=watcher.on_step,
            on_epoch=on_epoch,
            on_notice=watcher.on_notice,
            stop_requested=stop_requested,
            names=[case.case_id for case in train_cases],
            val_names=[case.case_id for case in val_cases],
        )
        ended(result.status, result.reason)
    return result


def _resumed_config(checkpoint: Checkpoint, overrides: Sequence[str], config: RunConfig | None) -> RunConfig:
    # Keys that an earlier version did not know have their defaults.
    stored = load_config(checkpoint.config).model_dump(mode="json")
    wanted = load_config(config.model_dump() if config else stored, overrides).model_dump(mode="json")
    changed = [
        f"{section}.{key}: {stored[section].get(key)!r} in the run, {value!r} asked for"
        for section, values in wanted.items()
        for key, value in values.items()
        if f"{section}.{key}" not in _CHANGEABLE and stored[section].get(key) != value
    ]
    if changed:
        raise ConfigError(
            "these settings are part of the run and cannot change on resuming",
            problems=changed,
            fix="leave them out, or start a new run under another --name",
        )
    return load_config(wanted)


def _datasets(
    config: RunConfig, train: Sequence[Case], val: Sequence[Case], watcher: Watcher
) -> tuple[PairDataset, PairDataset]:
    height, width = config.data.image_size
    cache = Path(config.data.cache) if config.data.cache else None
    total = len(train) + len(val)
    labels = labels_of(config.data)

    def arrays(cases: Sequence[Case], before: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        def progress(done: int, _: int) -> None:
            watcher.on_decode(before + done, total)

        return decode_pairs(cases, height, width, labels=labels, cache=cache, progress=progress, warn=watcher.on_notice)

    (photos, masks), (val_photos, val_masks) = arrays(train, 0), arrays(val, len(train))
    augment = augmentation(config.data, config.loop.seed)
    return PairDataset(photos, masks, augment), PairDataset(val_photos, val_masks)


def _tell_stop() -> None:
    # Standard error may be closed, full or gone.
    with contextlib.suppress(AttributeError, OSError, ValueError):
        sys.stderr.write("\nfinishing the step and saving; once more to stop at once\n")
