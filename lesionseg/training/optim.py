"""Optimisers with one parameter group for the encoder and one for the decoder."""

from __future__ import annotations

import torch

from lesionseg.config import OptimConfig
from lesionseg.models import SegmentationModel

__all__ = ["build_optimizer", "learning_rates"]


def learning_rates(config: OptimConfig, step: int) -> dict[str, float]:
    """The learning rate of each group, a pure function of the global step so that resuming needs no scheduler state.

    A frozen encoder has no group.
    """
    del step  # constant schedule
    rates = {"encoder": config.encoder_lr, "decoder": config.decoder_lr}
    return {name: rate for name, rate in rates.items() if rate > 0}


def build_optimizer(model: SegmentationModel, config: OptimConfig) -> torch.optim.Optimizer:
    """Adam (arXiv:1412.6980) over the trainable parts, groups named ``encoder`` and ``decoder``."""
    parts = {"encoder": model.encoder, "decoder": model.decoder}
    groups = [
        {"name": name, "params": list(parts[name].parameters()), "lr": rate}
        for name, rate in learning_rates(config, 0).items()
    ]
    return torch.optim.Adam(groups)
