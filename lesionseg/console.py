"""What a terminal, or a notebook, shows while work goes on: progress bars, one line per epoch, tables."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from lesionseg.cells import Cell, CellProgress, cell_console
from lesionseg.shipped_models import INT8, WEIGHTS
from lesionseg.streams import lenient
from lesionseg.tables import one_line
from lesionseg.training.launch import is_first_process

if TYPE_CHECKING:
    from lesionseg.data.audit import Audit
    from lesionseg.data.catalogue import Dataset
    from lesionseg.export.benchmark import Benchmark
    from lesionseg.training import watch
    from lesionseg.training.watch import Watcher

__all__ = [
    "audit_summary",
    "benchmark_table",
    "byte_counter",
    "catalogue_table",
    "counter",
    "epoch_line",
    "live_console",
    "models_table",
    "training_bar",
]

_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}
_NAMED = 3


def live_console() -> Console:
    """Where progress goes that is asked for in Python: the terminal, or the notebook's cell."""
    # Of several training processes, the first speaks.
    quiet = not is_first_process()
    if Console().is_jupyter:
        return cell_console()
    # A reader of standard output that goes away ends no work.
    return Console(quiet=quiet, file=lenient(sys.stdout))


def _progress(*columns: ProgressColumn, console: Console) -> Progress:
    return (
        CellProgress(*columns, console=console)
        if isinstance(console.file, Cell)
        else Progress(*columns, console=console)
    )


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
    with _progress(*columns, console=console) as progress:
        task = progress.add_task(escape(one_line(what)), total=None, visible=False)
        yield lambda done, total: progress.update(task, completed=done, total=total, visible=True)


@contextmanager
def byte_counter(console: Console) -> Iterator[Callable[[str, int, int | None], None]]:
    """A bar per file for (name, bytes done, bytes in all or None)."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        DownloadColumn(),
        TransferSpeedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with _progress(*columns, console=console) as progress:
        tasks: dict[str, TaskID] = {}

        def on_bytes(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(one_line(name), total=total)
            progress.update(tasks[name], completed=done, total=total)

        yield on_bytes


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
    name = one_line(name)
    with _progress(*columns, console=console) as progress:
        task = progress.add_task(f"{escape(name)}: reading", total=None, numbers="", visible=False)
        epochs, dice = 0, ""

        def on_decode(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, numbers=f"{done}/{total} pairs", visible=True)

        def on_step(now: watch.Progress) -> None:
            nonlocal epochs
            epochs = now.epochs
            progress.update(
                task,
                description=f"{escape(name)}: epoch {now.epoch}/{now.epochs}",
                completed=(now.epoch - 1) * now.steps + now.step,
                total=now.epochs * now.steps,
                numbers=f"loss {now.loss:.3f}{dice}  {now.images_per_second:.0f} images/s",
            )

        def on_epoch(row: Mapping[str, Any]) -> None:
            nonlocal dice
            dice = f"  Dice {row['val_dice']:.3f}"
            console.print(epoch_line(name, row, epochs), highlight=False, soft_wrap=True, markup=False)

        def on_notice(notice: str) -> None:
            console.print(one_line(f"{name}: {notice}"), highlight=False, soft_wrap=True, markup=False)

        yield Watcher(on_decode=on_decode, on_step=on_step, on_epoch=on_epoch, on_start=on_start, on_notice=on_notice)


def epoch_line(name: str, row: Mapping[str, Any], epochs: int) -> str:
    """One finished epoch in words and numbers."""
    return (
        f"{name}: epoch {row['epoch']:>{len(str(epochs))}}/{epochs}  train loss {row['train_loss']:.4f}  "
        f"val loss {row['val_loss']:.4f}  val Dice {row['val_dice']:.4f}  val IoU {row['val_iou']:.4f}  "
        f"{row['images_per_second']:.0f} images/s"
    )


def audit_summary(audit: Audit) -> RenderableType:
    """The answer, a row for each kind of finding with its first cases, and the fingerprint."""
    from lesionseg.data.audit_report import fingerprint_rows, summary
    from lesionseg.data.findings import KINDS

    kinds: dict[tuple[str, str], list[tuple[str, ...]]] = {}
    for finding in audit.findings:
        kinds.setdefault((finding.severity.value, finding.kind), []).append(finding.case_ids)
    findings = Table("", "Finding", "", "First cases", box=None, pad_edge=False, header_style="dim")
    findings.columns[2].justify = "right"
    findings.columns[0].no_wrap = findings.columns[1].no_wrap = True
    for (severity, kind), cases in kinds.items():
        named = ", ".join(" = ".join(case_ids[:_NAMED]) for case_ids in cases[:_NAMED])
        more = ", ..." if len(cases) > _NAMED else ""
        findings.add_row(Text(severity, _STYLES[severity]), KINDS[kind].title, f"{len(cases):,}", _plain(named + more))
    facts = Table(box=None, pad_edge=False, show_header=False)
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in fingerprint_rows(audit.fingerprint):
        facts.add_row(name, _plain(value))
    shown: list[RenderableType] = [findings, ""] if kinds else []
    return Group(Text(summary(audit), "bold"), "", *shown, facts)


def benchmark_table(found: Benchmark) -> RenderableType:
    """A column for each model, a row for each measure."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    for _ in found.rows:
        table.add_column(overflow="fold")
    for key in found.rows[0]:
        values = (row[key] for row in found.rows)
        table.add_row(key.replace("_", " "), *(_plain(f"{v:.4g}" if isinstance(v, float) else str(v)) for v in values))
    return table


def models_table(models: Iterable[Mapping[str, Any]]) -> RenderableType:
    """A row for each model that ships: name, input, cost, files, and scores with their photos."""
    columns = ("Name", "Network", "Input", "Weights", "GMAC", "MB", "Dice", "IoU", "Photos", "Speed")
    # One space between columns: a usual terminal is 80 wide.
    table = Table(*columns, box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for column in table.columns[:-1]:
        column.no_wrap = True
    for facts in models:
        height, width = facts["image_size"]
        files = "/".join(f"{facts['files'][name]['bytes'] / 1e6:.1f}" for name in (INT8, WEIGHTS))
        scores: Mapping[str, Any] = facts["scores"] or {}
        means: Mapping[str, list[float]] = next(iter(scores["means"].values())) if scores else {}
        table.add_row(
            Text(one_line(facts["name"]), "bold"),
            _plain(str(facts["spec"]["name"])),
            f"{height} x {width}",
            f"{facts['cost']['parameters'] / 1e6:.1f} M",
            f"{facts['cost']['macs'] / 1e9:.2f}",
            files,
            *(f"{means[name][0]:.3f}" if means else "" for name in ("dice", "iou")),
            str(scores.get("photos", "")),
            _plain(_speed(facts)),
        )
    if not table.rows:
        return Text("This copy of lesionseg ships no model; 'lesionseg train' makes one of your own photos.")
    said = "MB: int8 (which predict runs and was scored) / float16. More: --card"
    return Group(table, Text(said, "dim"))


def _speed(facts: Mapping[str, Any]) -> str:
    measured = facts.get("measured", {}).get("speed")
    return str(facts["about"].get("speed", f"{measured['ms']:.1f} ms" if measured else ""))


def catalogue_table(datasets: Iterable[Dataset]) -> RenderableType:
    """A row for each data set that can be downloaded: name, what it is, size, licence."""
    table = Table("Name", "What", "Download", "Licence", box=None, pad_edge=False, header_style="dim")
    table.columns[0].no_wrap = table.columns[2].no_wrap = True
    for dataset in datasets:
        table.add_row(Text(dataset.name, "bold"), dataset.title, _download_size(dataset), dataset.licence)
    return table


def _download_size(dataset: Dataset) -> str:
    sizes = [file.size for file in dataset.files]
    known = sum(size for size in sizes if size is not None) / 1e9
    if not sizes:
        return "on request"
    if None not in sizes:
        return f"{known:.1f} GB"
    # A table of a few kilobytes says nothing of the archives beside it.
    return f"over {known:.1f} GB" if known >= 0.1 else "not known"


def _plain(text: str) -> Text:
    # Text does not read names as markup; control characters could steer the terminal.
    return Text("".join(c if c.isprintable() else "\ufffd" for c in text))
