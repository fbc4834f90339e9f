"""What a training holds while it runs, and how that goes into a checkpoint and comes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lesionseg.config import LoopConfig, RunConfig
from lesionseg.models import SegmentationModel
from lesionseg.records import Checkpoint
from lesionseg.training.checkpoint import optimizer_tensors, restore_optimizer
from lesionseg.training.features import features_of
from lesionseg.training.losses import Loss
from lesionseg.training.precision import Precision
from lesionseg.training.processes import SharedSampler
from lesionseg.training.teacher import Lesson
from lesionseg.training.trouble import Halving, require_finite

__all__ = ["Parts", "State", "forward", "make_average", "memory_format", "restore", "snapshot"]

_TRAINED = "trained."


@dataclass
class State:
    """Everything that changes while the loop runs, apart from the tensors."""

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    images: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Parts:
    """What a step works with."""

    config: RunConfig
    accelerator: Accelerator
    precision: Precision
    net: torch.nn.Module
    step_net: Callable[..., Any]
    optimizer: Any
    order: SharedSampler
    batches: Any
    loss_of: Loss
    lesson: Lesson | None
    names: Sequence[str]
    average: AveragedModel | None
    halving: Halving

    @property
    def model(self) -> SegmentationModel:
        """The network that is trained, without what Accelerate puts around it."""
        model: SegmentationModel = self.accelerator.unwrap_model(self.net)
        return model

    @property
    def kept(self) -> torch.nn.Module:
        """The network whose weights are validated and kept."""
        return self.model if self.average is None else self.average.module


def memory_format(loop: LoopConfig) -> torch.memory_format:
    """How pictures and weights lie in memory."""
    return torch.channels_last if loop.channels_last else torch.contiguous_format


def forward(parts: Parts, net: Callable[..., Any], batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Logits ``float N C H W`` and truth ``float N 1 H W``."""
    device = parts.accelerator.device
    layout = memory_format(parts.config.loop)
    known = features_of(batch, device, layout, parts.precision.dtype or torch.float32)
    with parts.precision.autocast():
        logits = net(known or batch["image"].to(device, non_blocking=True, memory_format=layout))
    return logits.float(), batch["mask"].to(device, non_blocking=True).float()


def make_average(model: SegmentationModel, decay: float, resume_from: Checkpoint | None) -> AveragedModel | None:
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


def snapshot(parts: Parts, state: State) -> Checkpoint:
    """The training as it stands.

    Raises:
        NonFiniteError: a weight is not finite.
    """
    tensors, groups = optimizer_tensors(parts.optimizer)
    weights = parts.kept.state_dict()
    require_finite(list(weights.values()), "a weight")
    if parts.average is not None:
        # What is trained is part of the optimiser's memory then; what is kept is the average.
        tensors |= {_TRAINED + name: value for name, value in parts.model.state_dict().items()}
    return Checkpoint(
        config=parts.config.model_dump(mode="json"),
        model_spec=parts.model.spec.to_json(),
        model_state=weights,
        optim_state=tensors,
        optim_groups=groups,
        scaler=parts.precision.scaler.state_dict(),
        epoch=state.epoch,
        step=state.step,
        best=dict(state.best),
        history=tuple(state.history),
        partial={"loss_sum": state.loss_sum, "images": state.images, "seconds": state.seconds},
    )


def restore(
    checkpoint: Checkpoint,
    model: SegmentationModel,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
) -> State:
    """Puts back what ``snapshot`` took, apart from the average."""
    trained = {k.removeprefix(_TRAINED): v for k, v in checkpoint.optim_state.items() if k.startswith(_TRAINED)}
    model.load_state_dict(trained or dict(checkpoint.model_state))
    slots = {k: v for k, v in checkpoint.optim_state.items() if not k.startswith(_TRAINED)}
    restore_optimizer(optimizer, slots, checkpoint.optim_groups)
    if scaler.is_enabled():
        scaler.load_state_dict(dict(checkpoint.scaler))
    return State(
        epoch=checkpoint.epoch,
        step=checkpoint.step,
        loss_sum=checkpoint.partial["loss_sum"],
        images=int(checkpoint.partial["images"]),
        seconds=checkpoint.partial["seconds"],
        history=[dict(row) for row in checkpoint.history],
        best=dict(checkpoint.best),
    )
