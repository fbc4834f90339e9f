"""The training loop, top to bottom, on Hugging Face Accelerate."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lesionseg.config import RunConfig
from lesionseg.data.loader import PairDataset, make_loader
from lesionseg.models import SegmentationModel
from lesionseg.records import Checkpoint
from lesionseg.training.callbacks import Callback, best_epoch, loop_callbacks
from lesionseg.training.example import find_example
from lesionseg.training.features import FeatureDataset
from lesionseg.training.files import RunFiles
from lesionseg.training.losses import find_loss, trimmed
from lesionseg.training.optim import build_optimizer, learning_rates
from lesionseg.training.precision import compiled, open_accelerator, open_precision
from lesionseg.training.processes import SharedSampler, agreed, average, synchronise_norms
from lesionseg.training.state import Parts, State, forward, make_average, memory_format, restore
from lesionseg.training.teacher import Teacher, taught_by
from lesionseg.training.trouble import Halving, not_finite, plain_errors
from lesionseg.training.validation import validate
from lesionseg.training.watch import Progress, Row

__all__ = ["FitResult", "fit"]


@dataclass(frozen=True, slots=True)
class FitResult:
    """How a training ended: ``finished``, ``stopped`` (by a callback) or ``interrupted``, and why."""

    status: str
    reason: str
    history: tuple[dict[str, Any], ...]


@plain_errors()
def fit(
    config: RunConfig,
    model: SegmentationModel,
    train: PairDataset,
    validation: PairDataset,
    run: Path,
    *,
    resume_from: Checkpoint | None = None,
    teacher: Teacher | None = None,
    callbacks: Sequence[Callback] = (),
    on_step: Callable[[Progress], None] = lambda progress: None,
    on_epoch: Callable[[Row], None] = lambda row: None,
    on_notice: Callable[[str], None] = lambda notice: None,
    stop_requested: Callable[[], bool] = lambda: False,
    names: Sequence[str] = (),
    val_names: Sequence[str] = (),
) -> FitResult:
    """Trains a model and leaves ``history.csv`` and ``checkpoints/`` in the run folder.

    Every random number is a function of (seed, epoch, index) or (seed, step), so k epochs and a resume of n - k epochs
    give the same weights as n epochs, bit for bit on CPU at an equal number of threads. Several processes share each
    batch, so that its size stays; what differs from one process is dropout's choice and, but on CUDA, that BatchNorm
    sees each process's images by themselves and keeps the first one's statistics.

    Args:
        config: the run's settings.
        model: as built; its encoder is frozen here if the config says so.
        train, validation: decoded pairs at the training size.
        run: the run folder.
        resume_from: a checkpoint to go on from.
        teacher: what ``optim.teacher`` names, loaded; validation asks for the truth alone.
        callbacks: asked after each epoch, besides those of the config.
        on_step: told after each step.
        on_epoch: told of each finished epoch's history row, once it is saved.
        on_notice: told what the user should know and need not act on.
        stop_requested: asked after each step; True saves and ends the training as ``interrupted``.
        names, val_names: case ids of the pairs, for messages and for ``loop.example``.

    Raises:
        ConfigError: the device, the precision or the example is not there.
        NonFiniteError: the loss or the logits are not finite; the last checkpoint stays.
        OutputError: a checkpoint cannot be written; the one before stays.
        ResourceError: half a batch needs too much memory, or a data-loader worker was killed.
    """
    loop, optim = config.loop, config.optim
    accelerator = open_accelerator(loop)
    precision = open_precision(loop, accelerator.device)
    shares = {"rank": accelerator.process_index, "processes": accelerator.num_processes}
    stop = agreed(accelerator, stop_requested)
    if optim.frozen:
        model.encoder.freeze()
    synchronise_norms(accelerator, model)
    model.to(memory_format=memory_format(loop))
    optimizer = build_optimizer(model, optim)
    state = State() if resume_from is None else restore(resume_from, model, optimizer, precision.scaler)
    order = SharedSampler(len(train), loop.batch_size, loop.seed, **shares)
    val_order = SharedSampler(len(validation), loop.batch_size, **shares)
    net, optimizer = accelerator.prepare(model, optimizer)
    if loop.cache_features:
        on_notice(f"computing the frozen encoder's features of {len(train) + len(validation)} pictures once")
        train, validation = (FeatureDataset(part, model.encoder) for part in (train, validation))
    val_batches = make_loader(validation, val_order, 0)
    parts = Parts(
        config=config,
        accelerator=accelerator,
        precision=precision,
        net=net,
        step_net=compiled(net, loop, accelerator.device),
        optimizer=optimizer,
        order=order,
        batches=make_loader(train, order, config.data.workers),
        loss_of=trimmed(find_loss(optim.loss, model.spec.classes, optim.class_weights), optim.trim),
        lesson=taught_by(teacher, config, precision, memory_format(loop)) if teacher else None,
        names=names,
        average=make_average(model, optim.ema, resume_from),
        halving=Halving(on_notice, allowed=accelerator.num_processes == 1),
    )
    files = RunFiles(run, parts, find_example(loop.example, run, validation, val_names))
    with closing(parts.batches):
        files.begin(state, resume_from)
        while state.epoch < loop.epochs:
            if reason := _stop_reason(state, [*loop_callbacks(loop), *callbacks]):
                return FitResult("stopped", reason, tuple(state.history))
            _train_epoch(parts, state, on_step, stop)
            if state.step < len(order):
                files.save(state)
                return FitResult("interrupted", f"in epoch {state.epoch + 1}", tuple(state.history))
            _end_epoch(state, parts, validate(parts, val_batches, val_order))
            files.save(state)
            on_epoch(state.history[-1])
            if stop() and state.epoch < loop.epochs:
                return FitResult("interrupted", f"after epoch {state.epoch}", tuple(state.history))
        return FitResult("finished", f"{state.epoch} epochs", tuple(state.history))


def _train_epoch(parts: Parts, state: State, on_step: Callable[[Progress], None], stop: Callable[[], bool]) -> None:
    """Trains from where the state stands to the epoch's end, or to the step after which a stop is requested."""
    config, order, optimizer, scaler = parts.config, parts.order, parts.optimizer, parts.precision.scaler
    order.epoch, order.start = state.epoch, state.step
    parts.net.train()
    started, before = time.perf_counter(), state.seconds
    for batch in parts.batches:
        _set_rates(optimizer, config, state.epoch * len(order) + state.step, config.loop.epochs * len(order))
        value = average(parts.accelerator, parts.halving(partial(_gradients, parts, state, batch)))
        if not math.isfinite(value):
            called = [parts.names[i] if i < len(parts.names) else f"item {i}" for i in batch["index"].tolist()]
            images = batch["image"].to(parts.accelerator.device)
            raise not_finite(parts.model, images, called, state.epoch + 1, state.step + 1)
        if config.optim.clip_norm is not None:
            scaler.unscale_(optimizer)
            parts.accelerator.clip_grad_norm_(parts.net.parameters(), config.optim.clip_norm)
        scaler.step(optimizer)
        scaler.update()
        if parts.average is not None:
            parts.average.update_parameters(parts.model)
        state.images += order.images(state.step)
        state.loss_sum += value * order.images(state.step)
        state.step += 1
        state.seconds = before + time.perf_counter() - started
        on_step(_progress(state, config, len(order), value))
        if stop():
            return


def _gradients(parts: Parts, state: State, batch: dict[str, Tensor], pieces: int) -> float:
    """Leaves the gradients of a batch in the parameters, taken in pieces, and gives its loss."""
    order, accelerator = parts.order, parts.accelerator
    step = state.epoch * len(order) + state.step
    # One fresh generator state per step: resuming inside an epoch needs no saved random state.
    seed = np.random.default_rng((parts.config.loop.seed, step, accelerator.process_index)).integers(2**63)
    torch.manual_seed(int(seed))
    parts.optimizer.zero_grad(set_to_none=True)
    own, total = order.own(state.step), 0.0
    for indices in torch.arange(len(batch["index"])).chunk(pieces):
        piece = {key: value[indices] for key, value in batch.items()} if pieces > 1 else batch
        # Gradients are averaged over the processes, whatever each one's part of the batch.
        weight = min(own, len(indices)) * accelerator.num_processes / order.images(state.step)
        loss = _loss(parts, piece) * weight
        total += loss.item()
        accelerator.backward(parts.precision.scaler.scale(loss))
    return total


def _loss(parts: Parts, batch: dict[str, Tensor]) -> Tensor:
    logits, truth = forward(parts, parts.step_net, batch)
    loss = parts.loss_of(logits, truth)
    if parts.lesson is None:
        return loss
    share = parts.config.optim.teacher_weight
    return (1 - share) * loss + share * parts.lesson(logits, batch["image"])


def _progress(state: State, config: RunConfig, steps: int, loss: float) -> Progress:
    return Progress(state.epoch + 1, config.loop.epochs, state.step, steps, loss, state.images / state.seconds)


def _stop_reason(state: State, callbacks: Sequence[Callback]) -> str:
    if not state.history or state.step:
        return ""
    return "; ".join(reason for callback in callbacks if (reason := callback(state.history)))


def _set_rates(optimizer: torch.optim.Optimizer, config: RunConfig, step: int, steps: int) -> None:
    rates = learning_rates(config.optim, step, steps)
    for group in optimizer.param_groups:
        group["lr"] = rates[group["name"]]


def _end_epoch(state: State, parts: Parts, measures: dict[str, float]) -> None:
    config, steps = parts.config, len(parts.order)
    state.epoch += 1
    rates = learning_rates(config.optim, state.epoch * steps - 1, config.loop.epochs * steps)
    row = {
        "epoch": state.epoch,
        "train_loss": state.loss_sum / state.images,
        **measures,
        "encoder_lr": rates.get("encoder", 0.0),
        "decoder_lr": rates["decoder"],
        "seconds": round(state.seconds, 3),
        "images_per_second": round(state.images / state.seconds, 2),
    }
    state.history.append(row)
    metric = config.loop.best_metric
    best = best_epoch(state.history, metric)
    state.best = {"metric": metric, "value": state.history[best - 1][metric], "epoch": best}
    state.step, state.loss_sum, state.images, state.seconds = 0, 0.0, 0, 0.0
