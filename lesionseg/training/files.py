"""What a training leaves in its run folder; with several processes, the first one writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lesionseg.io.writing import write_atomic
from lesionseg.records import Checkpoint
from lesionseg.tables import encode_table
from lesionseg.training.checkpoint import checkpoint_folder, place_checkpoints, save_checkpoint, tidy_checkpoints
from lesionseg.training.example import Example
from lesionseg.training.state import Parts, State, snapshot

__all__ = ["RunFiles"]


@dataclass(frozen=True)
class RunFiles:
    """``checkpoints/``, ``history.csv`` and ``example.png`` of a run; other processes wait until they are written.

    Every method may raise an OutputError.
    """

    run: Path
    parts: Parts
    example: Example | None

    def begin(self, state: State, resume_from: Checkpoint | None) -> None:
        """Prepares the folder of a new run, or finishes what a kill between two of a save's files left undone."""
        loop = self.parts.config.loop
        if self.parts.accelerator.is_main_process:
            if resume_from is None:
                place_checkpoints(self.run, loop.checkpoints)
            else:
                tidy_checkpoints(self.run, resume_from, keep=loop.keep_checkpoints)
                self._write_history(state)
            self._draw(state)
        self.parts.accelerator.wait_for_everyone()

    def save(self, state: State) -> None:
        """Writes the training as it stands, at an epoch's end or inside one."""
        if self.parts.accelerator.is_main_process:
            is_best = not state.step and state.best["epoch"] == state.epoch
            keep = self.parts.config.loop.keep_checkpoints
            save_checkpoint(snapshot(self.parts, state), checkpoint_folder(self.run), is_best=is_best, keep=keep)
            self._write_history(state)
            self._draw(state)
        self.parts.accelerator.wait_for_everyone()

    def _write_history(self, state: State) -> None:
        columns = list(state.history[0]) if state.history else []
        write_atomic(self.run / "history.csv", encode_table(columns, state.history))

    def _draw(self, state: State) -> None:
        if self.example is not None and not state.step:
            self.example.draw(self.parts, state.epoch)
