"""The report's tables for a rich console."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from lesionseg import RESEARCH_USE
from lesionseg.evaluation.comparable import check_comparable
from lesionseg.evaluation.comparison import compare_runs, final_table, paired_table
from lesionseg.evaluation.rows import (
    Row,
    answer,
    class_rows,
    epoch_rows,
    final_rows,
    outline_rows,
    paired_rows,
    published_rows,
    subgroup_rows,
)
from lesionseg.evaluation.runs import RunResult, epoch_table
from lesionseg.evaluation.subgroups import FEW, subgroup_table

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

__all__ = ["render_terminal"]

# As many columns as a terminal of 80 to 100 characters holds.
_TERMINAL_RUNS = 4
_WORD = 10
_SUBGROUP = ("Attribute", "Subgroup", "n")


def render_terminal(results: Sequence[RunResult]) -> RenderableType:
    """The answer, the final table (a column per run) and the epoch table, for a rich console.

    Raises:
        ComparisonError: the runs cannot stand in one table.
    """
    from rich.console import Group

    check_comparable(results)
    table, comparisons = final_table(results), compare_runs(results)
    parts: list[RenderableType] = [_printable(answer(results, comparisons["dice"]))]
    parts += _turned("\nFinal scores", final_rows(table) + published_rows(results))
    parts += _turned("\nOutlines and calibration", outline_rows(table))
    parts += _listed("\nPaired differences", paired_rows(paired_table(comparisons)), words=2)
    parts += _listed("\nBy class", class_rows(results), words=1)
    groups = [_short(row) for row in subgroup_rows(subgroup_table(results, comparisons["dice"]))]
    parts += _listed(f"\nDice by subgroup (* fewer than {FEW} photos)", groups, words=2)
    epochs = epoch_rows(epoch_table(results))
    parts += _listed("\nBy epoch, on the validation part", epochs, words=2)
    return Group(*parts, _printable(RESEARCH_USE))


def _short(row: Row) -> Row:
    """Without the intervals, where there are several runs: a terminal is not wide enough for all of them."""
    several = len(row) > len(_SUBGROUP) + 1
    return {key: value.partition("\n")[0] if several and key not in _SUBGROUP else value for key, value in row.items()}


def _turned(title: str, rows: Sequence[Row]) -> list[RenderableType]:
    """A column for each run, as its scores are many."""
    grids = []
    for start in range(0, len(rows), _TERMINAL_RUNS):
        shown = rows[start : start + _TERMINAL_RUNS]
        measures = [[name, *(row[name].replace("–", " – ").strip() for row in shown)] for name in list(shown[0])[1:]]
        grids.append(_grid(title, ["", *(row["Run"] for row in shown)], measures, words=1))
    return grids


def _listed(title: str, rows: Sequence[Row], words: int) -> list[RenderableType]:
    return [_grid(title, list(rows[0]), [list(row.values()) for row in rows], words)] if rows else []


def _printable(text: str) -> Text:
    from rich.text import Text

    # Text does not read names as markup; control characters could steer the terminal.
    return Text("".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text.replace("\u00ad", "")))


def _grid(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], words: int) -> RenderableType:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(header):
        # A column too narrow for a word of its heading would break it.
        widest = min(max(map(len, name.split()), default=0), _WORD)
        justify: Literal["left", "right"] = "left" if index < words else "right"
        table.add_column(_printable(name), justify=justify, overflow="fold", no_wrap=index == 0, min_width=widest)
    for row in rows:
        table.add_row(*(_printable(cell) for cell in row))
    return table
