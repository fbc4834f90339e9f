"""What a training tells while it goes on; without torch, so that a command line can set it up at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Progress", "Row", "Watcher"]

Row = Mapping[str, Any]
"""One line of ``history.csv``."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a training stands."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    images_per_second: float


@dataclass(frozen=True, slots=True)
class Watcher:
    """What a caller wants to be told: ``run.json``, decoding as (done, total), steps, epochs' rows, notices."""

    on_decode: Callable[[int, int], None] = lambda done, total: None
    on_step: Callable[[Progress], None] = lambda progress: None
    on_epoch: Callable[[Row], None] = lambda row: None
    on_start: Callable[[dict[str, Any]], None] = lambda info: None
    on_notice: Callable[[str], None] = lambda notice: None
