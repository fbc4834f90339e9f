"""What the public functions share: paths as people write them, and progress as they want it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lesionseg.io.paths import AnyPath, as_path

__all__ = ["Counted", "Overrides", "Progress", "Warn", "as_paths", "as_words", "counting", "ignore", "plain"]

Counted = Callable[[int, int], None]
"""Is told (done, total)."""
Progress = Counted | bool | None
"""True shows a bar in the notebook or the terminal, a function is told (done, total), None and False are silent."""
Warn = Callable[[str], None]
"""Is told lines that a person should see."""
Overrides = Sequence[str] | Mapping[str, Any]
"""Settings by their dotted keys: ``["loop.epochs=20"]``, or ``{"loop.epochs": 20}``, whose values may be paths."""


def ignore(_: str) -> None:
    """Tells nobody."""


def as_paths(**paths: AnyPath | None) -> dict[str, Path | None]:
    """The same for several by their names."""
    return {name: None if path is None else as_path(path) for name, path in paths.items()}


def plain(value: Any) -> Any:
    """Nested settings with every path as text."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def as_words(overrides: Overrides) -> list[str]:
    """Overrides as ``key.subkey=value`` words."""
    if isinstance(overrides, Mapping):
        # JSON is YAML, and no character of a path means anything inside its quotes.
        return [f"{key}={json.dumps(value, default=str)}" for key, value in overrides.items()]
    return [overrides] if isinstance(overrides, str) else list(overrides)


@contextmanager
def counting(progress: Progress, what: str) -> Iterator[Counted | None]:
    """What a function is to tell its progress, or None."""
    if progress is None or progress is False:
        yield None
    elif progress is True:
        from lesionseg.console import counter, live_console

        with counter(live_console(), what) as counted:
            yield counted
    else:
        yield progress
