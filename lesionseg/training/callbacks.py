"""What may happen after an epoch. A callback is a function from the history to a reason to stop, or None.

Callbacks read nothing but the history, which is part of the checkpoint, so a resumed run stops where an unbroken one
does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lesionseg.config import LoopConfig

__all__ = ["Callback", "History", "best_epoch", "early_stopping", "is_better", "loop_callbacks", "stop_at"]

History = Sequence[Mapping[str, Any]]
Callback = Callable[[History], str | None]


def is_better(metric: str, value: float, than: float) -> bool:
    """Whether a value of a metric is better than another: lower for losses, higher for the rest."""
    return value < than if metric.endswith("loss") else value > than


def best_epoch(history: History, metric: str) -> int:
    """The first epoch, counted from 1, at which a metric was at its best."""
    best = 0
    for number, row in enumerate(history):
        if is_better(metric, row[metric], history[best][metric]):
            best = number
    return best + 1


def stop_at(targets: Mapping[str, float]) -> Callback:
    """Stops once any metric reaches its target."""

    def check(history: History) -> str | None:
        for metric, target in targets.items():
            value = history[-1][metric]
            if value == target or is_better(metric, value, target):
                return f"{metric} reached {value:.4f} (target {target})"
        return None

    return check


def early_stopping(metric: str, patience: int) -> Callback:
    """Stops after ``patience`` epochs without a better metric."""

    def check(history: History) -> str | None:
        best = best_epoch(history, metric)
        waited = len(history) - best
        return f"{metric} has not improved for {waited} epochs (best: epoch {best})" if waited >= patience else None

    return check


def loop_callbacks(config: LoopConfig) -> list[Callback]:
    """The callbacks that a config asks for."""
    callbacks: list[Callback] = []
    if config.stop_at:
        callbacks.append(stop_at({str(metric): target for metric, target in config.stop_at.items()}))
    if config.patience is not None:
        callbacks.append(early_stopping(config.best_metric, config.patience))
    return callbacks
