"""Rich's progress bars in a notebook: one text below the cell, drawn anew in place.

Rich's own way there needs ipywidgets, sets every line into a box of its own, and leaves no bar in a saved notebook.
"""

from __future__ import annotations

import io
import math
import time
from typing import Any

from rich.console import Console
from rich.progress import Progress, TaskID

__all__ = ["Cell", "CellProgress", "cell_console"]

_WIDTH = 110
_SECONDS = 0.2


class Cell(io.StringIO):
    """A file whose text, and a last line that changes, are shown below the notebook's running cell."""

    def __init__(self) -> None:
        super().__init__()
        self._handle: Any = None
        self._shown, self._at = "", -math.inf

    def flush(self) -> None:
        """Shows what was written."""
        self.show("")

    def show(self, last: str) -> None:
        """Shows what was written, and a last line."""
        text = (self.getvalue() + last).rstrip("\n")
        if text == self._shown:
            return
        from IPython.display import display

        self._shown, self._at = text, time.monotonic()
        if self._handle is None:
            self._handle = display({"text/plain": text}, raw=True, display_id=True)
        else:
            self._handle.update({"text/plain": text}, raw=True)

    @property
    def rests(self) -> bool:
        """Whether it was drawn so lately that the eye needs no more."""
        return time.monotonic() - self._at < _SECONDS


def cell_console() -> Console:
    """A console that writes below the notebook's running cell."""
    return Console(file=Cell(), width=_WIDTH, color_system=None, force_terminal=False, force_jupyter=False)


class CellProgress(Progress):
    """A progress whose console writes to a ``Cell``; drawn by those who report it, without a thread."""

    def update(self, task_id: TaskID, **fields: Any) -> None:
        """See ``rich.progress.Progress.update``."""
        super().update(task_id, **fields)
        cell = self.console.file
        if isinstance(cell, Cell) and not cell.rests:
            drawn = Console(file=io.StringIO(), width=_WIDTH, color_system=None, force_jupyter=False)
            drawn.print(self.get_renderable())
            cell.show(drawn.file.getvalue())  # type: ignore[attr-defined]
