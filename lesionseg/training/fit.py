"""The training loop, top to bottom, on Hugging Face Accelerate."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lesionseg.config import RunConfig
from lesionseg.data.images import write_atomic
from lesionseg.data.loader import EpochSampler, PairDataset, make_loader
from lesionseg.errors import NonFiniteError
from lesionseg.models import SegmentationModel
from lesionseg.records import THRESHOLD, Checkpoint
from lesionseg.tables import encode_table
from lesionseg.training.callbacks import Callback, best_epoch, loop_callbacks
from lesionseg.training.checkpoint import FOLDER, optimizer_tensors, restore_optimizer, save_checkpoint
from lesionseg.training.losses import Loss, find_loss
from lesionseg.training.optim import build_optimizer, learning_rates
from lesionseg.training.watch import Progress, Row

__all__ = ["FitResult", "fit"]

_TRAINED = "trained."
_MEASURES = ("val_loss", "val_dice", "val_iou", "val_soft_dice", "val_soft_iou", "val_accuracy")


@dataclass(frozen=True, slots=True)
class FitResult:
    """How a training ended: ``finished``, ``stopped`` (by a callback) or ``interrupted``, and why."""

    status: str
    reason: str
    history: tuple[dict[str, Any], ...]


@dataclass
class _State:
    """Everything that changes while the loop runs, apart from the tensors."""

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    images: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Parts:
    """What a step works with."""

    config: RunConfig
    accelerator: Accelerator
    net: torch.nn.Module
    optimizer: Any
    order: EpochSampler
    batches: Any
    loss_of: Loss
    names: Sequence[str]
    average: AveragedModel | None

    @property
    def kept(self) -> torch.nn.Module:
        """The network whose weights are validated and kept."""
        return self.net if self.average is None else self.average.module


def fit(
    config: RunConfig,
    model: SegmentationModel,
    train: PairDataset,
    validation: PairDataset,
    run: Path,
    *,
    resume_from: Checkpoint | None = None,
    callbacks: Sequence[Callback] = (),
    on_step: Callable[[Progress], None] = lambda progress: None,
    on_epoch: Callable[[Row], None] = lambda row: None,
    stop_requested: Callable[[], bool] = lambda: False,
    names: Sequence[str] = (),
) -> FitResult:
    """Trains a model and leaves ``history.csv`` and ``checkpoints/`` in the run folder.

    Every random number is a function of (seed, epoch, index) or (seed, step), so k epochs and a resume of n - k epochs
    give the same weights as n epochs, bit for bit on CPU at an equal number of threads.

    Args:
        config: the run's settings.
        model: as built; its encoder is frozen here if the config says so.
        train, validation: decoded pairs at the training size.
        run: the run folder.
        resume_from: a checkpoint to go on from.
        callbacks: asked after each epoch, besides those of the config.
        on_step: told after each step.
        on_epoch: told of each finished epoch's history row, once it is saved.
        stop_requested: asked after each step; True saves and ends the training as ``interrupted``.
        names: case ids of the training pairs, for messages.

    Raises:
        NonFiniteError: the loss or the logits are not finite; the last checkpoint stays.
        OutputError: a checkpoint cannot be written.
    """
    accelerator = Accelerator(cpu=config.loop.device == "cpu")
    if config.optim.frozen:
        model.encoder.freeze()
    model.to(memory_format=torch.channels_last)
    optimizer = build_optimizer(model, config.optim)
    state = _State() if resume_from is None else _restore(resume_from, model, optimizer)
    loop = config.loop
    order = EpochSampler(len(train), loop.batch_size, loop.seed)
    batches = make_loader(train, order, config.data.workers)
    val_batches = make_loader(validation, EpochSampler(len(validation), loop.batch_size), 0)
    net, optimizer, batches, val_batches = accelerator.prepare(model, optimizer, batches, val_batches)
    average = _average(model, config.optim.ema, resume_from)
    parts = _Parts(
        config,
        accelerator,
        net,
        optimizer,
        order,
        batches,
        find_loss(config.optim.loss, model.spec.classes),
        names,
        average,
    )

    def save(*, is_best: bool) -> None:
        if accelerator.is_main_process:
            snapshot = _snapshot(parts, accelerator.unwrap_model(net), state)
            save_checkpoint(snapshot, run / FOLDER, is_best=is_best, keep=loop.keep_checkpoints)
            write_atomic(
                run / "history.csv", encode_table(list(state.history[0]) if state.history else [], state.history)
            )

    while state.epoch < loop.epochs:
        if reason := _stop_reason(state, [*loop_callbacks(loop), *callbacks]):
            return FitResult("stopped", reason, tuple(state.history))
        _train_epoch(parts, state, on_step, stop_requested)
        if state.step < len(order):
            save(is_best=False)
            return FitResult("interrupted", f"in epoch {state.epoch + 1}", tuple(state.history))
        _end_epoch(state, parts, _validate(parts, val_batches))
        save(is_best=state.best["epoch"] == state.epoch)
        on_epoch(state.history[-1])
        if stop_requested() and state.epoch < loop.epochs:
            return FitResult("interrupted", f"after epoch {state.epoch}", tuple(state.history))
    return FitResult("finished", f"{state.epoch} epochs", tuple(state.history))


def _train_epoch(
    parts: _Parts, state: _State, on_step: Callable[[Progress], None], stop_requested: Callable[[], bool]
) -> None:
    """Trains from where the state stands to the epoch's end, or to the step after which a stop is requested."""
    config, order, optimizer = parts.config, parts.order, parts.optimizer
    order.epoch, order.start = state.epoch, state.step
    parts.net.train()
    started, before = time.perf_counter(), state.seconds
    for batch in parts.batches:
        step = state.epoch * len(order) + state.step
        _set_rates(optimizer, config, step, config.loop.epochs * len(order))
        # One fresh generator state per step: resuming inside an epoch needs no saved random state.
        torch.manual_seed(int(np.random.default_rng((config.loop.seed, step)).integers(2**63)))
        loss = parts.loss_of(*_forward(parts.net, batch))
        value = loss.item()
        if not math.isfinite(value):
            raise _not_finite(parts, batch, state)
        optimizer.zero_grad(set_to_none=True)
        parts.accelerator.backward(loss)
        if config.optim.clip_norm is not None:
            parts.accelerator.clip_grad_norm_(parts.net.parameters(), config.optim.clip_norm)
        optimizer.step()
        if parts.average is not None:
            parts.average.update_parameters(parts.accelerator.unwrap_model(parts.net))
        state.step += 1
        state.images += len(batch["index"])
        state.loss_sum += value * len(batch["index"])
        state.seconds = before + time.perf_counter() - started
        on_step(_progress(state, config, len(order), value))
        if stop_requested():
            return


def _forward(net: torch.nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Logits and truth, both ``float N 1 H W``."""
    return net(batch["image"].contiguous(memory_format=torch.channels_last)), batch["mask"].float()


def _progress(state: _State, config: RunConfig, steps: int, loss: float) -> Progress:
    return Progress(state.epoch + 1, config.loop.epochs, state.step, steps, loss, state.images / state.seconds)


def _stop_reason(state: _State, callbacks: Sequence[Callback]) -> str:
    if not state.history or state.step:
        return ""
    return "; ".join(reason for callback in callbacks if (reason := callback(state.history)))


def _set_rates(optimizer: torch.optim.Optimizer, config: RunConfig, step: int, steps: int) -> None:
    rates = learning_rates(config.optim, step, steps)
    for group in optimizer.param_groups:
        group["lr"] = rates[group["name"]]


def _end_epoch(state: _State, parts: _Parts, measures: dict[str, float]) -> None:
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


@torch.inference_mode()
def _validate(parts: _Parts, batches: Iterable[dict[str, Tensor]]) -> dict[str, float]:
    """Means of per-image values over the validation part, at the training size."""
    net = parts.kept.eval()
    rows = []
    for batch in batches:
        logits, truth = _forward(net, batch)
        losses = torch.stack([parts.loss_of(logits[i : i + 1], truth[i : i + 1]) for i in range(len(truth))])
        values = torch.cat((losses[:, None], _overlaps(logits, truth)), dim=1)
        rows.append(parts.accelerator.gather_for_metrics(values))
    means = torch.cat(rows).double().mean(dim=0)
    return dict(zip(_MEASURES, means.tolist(), strict=True))


def _overlaps(logits: Tensor, truth: Tensor) -> Tensor:
    """``N 5``: Dice, IoU, soft Dice, soft IoU (means over classes; both empty -> 1), pixel accuracy; per image."""
    if logits.shape[1] == 1:
        soft, target = logits.sigmoid(), truth
        hard = (soft >= THRESHOLD).float()
    else:
        soft, target = logits.softmax(1), _one_hot(truth[:, 0].long(), logits)
        hard = _one_hot(logits.argmax(1), logits)
    columns = []
    for prediction in (hard, soft):
        inter = (prediction * target).flatten(2).sum(2)
        total = prediction.flatten(2).sum(2) + target.flatten(2).sum(2)
        empty = total == 0
        columns.append(torch.where(empty, 1.0, 2 * inter / total).mean(1))
        columns.append(torch.where(empty, 1.0, inter / (total - inter)).mean(1))
    columns.append((hard == target).all(1).flatten(1).float().mean(1))
    return torch.stack(columns, dim=1)


def _one_hot(indices: Tensor, like: Tensor) -> Tensor:
    return torch.zeros_like(like).scatter_(1, indices[:, None], 1.0)


def _not_finite(parts: _Parts, batch: dict[str, Tensor], state: _State) -> NonFiniteError:
    """Finds the pictures whose logits are not finite by themselves; if none are, the weights are at fault."""
    model = parts.accelerator.unwrap_model(parts.net).eval()
    indices = batch["index"].tolist()
    with torch.no_grad():
        bad = [i for i, image in zip(indices, batch["image"], strict=True) if not model(image[None]).isfinite().all()]
    called = [parts.names[i] if i < len(parts.names) else f"item {i}" for i in (bad or indices)]
    where = "these pictures" if bad and len(bad) < len(indices) else "a batch with these pictures"
    return NonFiniteError(
        f"epoch {state.epoch + 1}, step {state.step + 1}: the loss is not finite on {where}",
        problems=called,
        fix="look at these files; if they are fine, lower the learning rates; --resume goes on from the last one saved",
    )


def _average(model: SegmentationModel, decay: float, resume_from: Checkpoint | None) -> AveragedModel | None:
    """The exponential moving average of parameters and BatchNorm statistics."""
    if not decay:
        return None
    average = AveragedModel(
        model,
        multi_avg_fn=get_ema_multi_avg_fn(decay),  # type: ignore[no-untyped-call]
        use_buffers=True,
    )
    if resume_from is not None:
        average.module.load_state_dict(dict(resume_from.model_state))
        average.n_averaged.fill_(1)
    return average


def _snapshot(parts: _Parts, model: SegmentationModel, state: _State) -> Checkpoint:
    tensors, groups = optimizer_tensors(parts.optimizer)
    if parts.average is not None:
        # What is trained is part of the optimiser's memory then; what is kept is the average.
        tensors |= {_TRAINED + name: value for name, value in model.state_dict().items()}
    return Checkpoint(
        config=parts.config.model_dump(mode="json"),
        model_spec=model.spec.to_json(),
        model_state=parts.accelerator.unwrap_model(parts.kept).state_dict(),
        optim_state=tensors,
        optim_groups=groups,
        epoch=state.epoch,
        step=state.step,
        best=dict(state.best),
        history=tuple(state.history),
        partial={"loss_sum": state.loss_sum, "images": state.images, "seconds": state.seconds},
    )


def _restore(checkpoint: Checkpoint, model: SegmentationModel, optimizer: torch.optim.Optimizer) -> _State:
    trained = {k.removeprefix(_TRAINED): v for k, v in checkpoint.optim_state.items() if k.startswith(_TRAINED)}
    model.load_state_dict(trained or dict(checkpoint.model_state))
    slots = {k: v for k, v in checkpoint.optim_state.items() if not k.startswith(_TRAINED)}
    restore_optimizer(optimizer, slots, checkpoint.optim_groups)
    return _State(
        epoch=checkpoint.epoch,
        step=checkpoint.step,
        loss_sum=checkpoint.partial["loss_sum"],
        images=int(checkpoint.partial["images"]),
        seconds=checkpoint.partial["seconds"],
        history=[dict(row) for row in checkpoint.history],
        best=dict(checkpoint.best),
    )
