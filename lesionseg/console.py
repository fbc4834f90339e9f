"""What the terminal shows while work goes on: progress bars, one line per epoch, tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from lesionseg.training import watch
    from lesionseg.training.watch import Watcher

__all__ = ["counter", "epoch_line", "training_bar"]


@contextmanager
def counter(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar for (done, total)."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(what, total=None, visible=False)
        yield lambda done, total: progress.update(task, completed=done, total=total, visible=True)


@contextmanager
def training_bar(console: Console, name: str, on_start: Callable[[dict[str, Any]], None]) -> Iterator[Watcher]:
    """A bar for a training, and one line for every finished epoch."""
    from lesionseg.training.watch import Watcher

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[numbers]}"),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(f"{name}: reading", total=None, numbers="", visible=False)
        epochs, dice = 0, ""

        def on_decode(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, numbers=f"{done}/{total} pairs", visible=True)

        def on_step(now: watch.Progress) -> None:
            nonlocal epochs
            epochs = now.epochs
            progress.update(
                task,
                description=f"{name}: epoch {now.epoch}/{now.epochs}",
                completed=(now.epoch - 1) * now.steps + now.step,
                total=now.epochs * now.steps,
                numbers=f"loss {now.loss:.3f}{dice}  {now.images_per_second:.0f} images/s",
            )

        def on_epoch(row: Mapping[str, Any]) -> None:
            nonlocal dice
            dice = f"  Dice {row['val_dice']:.3f}"
            console.print(epoch_line(name, row, epochs), highlight=False, soft_wrap=True)

        yield Watcher(on_decode=on_decode, on_step=on_step, on_epoch=on_epoch, on_start=on_start)


def epoch_line(name: str, row: Mapping[str, Any], epochs: int) -> str:
    """One finished epoch in words and numbers."""
    return (
        f"{name}: epoch {row['epoch']:>{len(str(epochs))}}/{epochs}  train loss {row['train_loss']:.4f}  "
        f"val loss {row['val_loss']:.4f}  val Dice {row['val_dice']:.4f}  val IoU {row['val_iou']:.4f}  "
        f"{row['images_per_second']:.0f} images/s"
    )
