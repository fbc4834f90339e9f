"""Optimisers with parameter groups for the encoder and the decoder, and schedules as pure functions of the step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from lesionseg.config import OptimConfig
from lesionseg.models import SegmentationModel
from lesionseg.training.adabound import AdaBound

__all__ = ["OPTIMIZERS", "SCHEDULES", "build_optimizer", "learning_rates"]

OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]], OptimConfig], torch.optim.Optimizer]] = {
    "adam": lambda groups, config: torch.optim.Adam(groups, fused=True),
    "adamw": lambda groups, config: torch.optim.AdamW(groups, weight_decay=0, fused=True),
    "sgd": lambda groups, config: torch.optim.SGD(groups, momentum=config.momentum, fused=True),
    "adabound": lambda groups, config: AdaBound(groups),
}
"""Adam: arXiv:1412.6980; AdamW: arXiv:1711.05101; AdaBound: arXiv:1902.09843.
torch's fused forms pass over memory once."""

SCHEDULES: dict[str, Callable[[float, OptimConfig], float]] = {
    "constant": lambda done, config: 1.0,
    "polynomial": lambda done, config: (1 - done) ** config.power,
    "cosine": lambda done, config: (1 + math.cos(math.pi * done)) / 2,
}
"""From the finished part of the run after warm-up, in [0, 1), to a factor. Polynomial: arXiv:1606.00915; cosine:
arXiv:1608.03983 without restarts."""


def learning_rates(config: OptimConfig, step: int, steps: int) -> dict[str, float]:
    """The learning rate of each part, a pure function of the step, so that resuming needs no scheduler state.

    Args:
        config: the optimiser's settings.
        step: counted from 0.
        steps: of the whole run.

    Returns:
        ``encoder`` and ``decoder`` -> rate; a frozen encoder is left out.
    """
    rising = round(config.warmup * steps)
    if step < rising:
        factor = (step + 1) / rising
    else:
        factor = SCHEDULES[config.schedule]((step - rising) / max(1, steps - rising), config)
    rates = {"encoder": config.encoder_lr, "decoder": config.decoder_lr}
    return {name: rate * factor for name, rate in rates.items() if rate > 0}


def build_optimizer(model: SegmentationModel, config: OptimConfig) -> torch.optim.Optimizer:
    """The optimiser over the trainable parts; each group is named after its part.

    With weight decay, a part has a second group for norms and biases, which decay would only harm. AdamW's own default
    is not used.
    """
    parts: dict[str, nn.Module] = {"encoder": model.encoder, "decoder": model.decoder}
    rates = {"encoder": config.encoder_lr, "decoder": config.decoder_lr}
    groups: list[dict[str, Any]] = []
    for name, rate in rates.items():
        if rate == 0:
            continue
        parameters = list(parts[name].parameters())
        if not config.weight_decay:
            groups.append({"name": name, "params": parameters, "lr": rate})
            continue
        weights = [p for p in parameters if p.ndim > 1]
        others = [p for p in parameters if p.ndim <= 1]
        groups.append({"name": name, "params": weights, "lr": rate, "weight_decay": config.weight_decay})
        groups.append({"name": name, "params": others, "lr": rate, "weight_decay": 0.0})
    return OPTIMIZERS[config.name](groups, config)
