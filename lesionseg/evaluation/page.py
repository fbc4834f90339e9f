"""The report as one HTML page that needs no other file: tables, figures, a scatter to hover over, panels to sort."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lesionseg import RESEARCH_USE
from lesionseg.evaluation import rows
from lesionseg.evaluation.cards import data_card, model_cards
from lesionseg.evaluation.gallery import Strip
from lesionseg.evaluation.metrics import JACCARD_THRESHOLD
from lesionseg.evaluation.runs import RunResult, scores_of, shared_groups
from lesionseg.evaluation.statistics import DRAWS, Comparison
from lesionseg.evaluation.subgroups import FEW
from lesionseg.pages import render_template

__all__ = ["Figure", "Page", "render_page"]

_FOLDER = Path(__file__).parent / "templates"
# Of the scatter, in its own units.
_SIDE, _LEFT, _TOP = 400.0, 46.0, 10.0


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture of the report, and its name beside the page."""

    file: str
    title: str
    caption: str
    png: bytes

    @property
    def uri(self) -> str:
        """The picture as a data URI."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """What the page shows; the tables by their files' names."""

    results: Sequence[RunResult]
    strips: Sequence[Strip]
    tables: Mapping[str, pd.DataFrame]
    figures: Sequence[Figure]
    answer: str
    dice: Sequence[Comparison]


def render_page(page: Page) -> str:
    """The HTML text. Scripts are allowed by their hash alone, and every name is escaped."""
    script = (_FOLDER / "report.js").read_text(encoding="utf-8").strip()
    final = page.tables["final_table.csv"]
    return render_template(
        _FOLDER / "report.html",
        research_use=RESEARCH_USE,
        answer=page.answer,
        results=page.results,
        final=rows.final_rows(final),
        outlines=rows.outline_rows(final),
        published=rows.published_rows(page.results),
        epochs=rows.epoch_rows(page.tables["epochs.csv"]),
        by_class=rows.class_rows(page.results),
        parameters=rows.parameter_rows(page.results),
        paired=rows.paired_rows(page.tables["paired.csv"]),
        subgroups=rows.subgroup_rows(page.tables["subgroups.csv"]),
        differences=rows.difference_rows(page.tables["largest_differences.csv"]),
        provenance=rows.provenance(page.results),
        models=model_cards(page.results),
        data=data_card(page.results),
        figures={figure.file: figure for figure in page.figures},
        tables=list(page.tables),
        summary=page.results[0].summary,
        size=rows.size_of(page.results[0]),
        draws=DRAWS,
        few=FEW,
        jaccard_threshold=JACCARD_THRESHOLD,
        grouped=shared_groups(page.results) is not None,
        strips=page.strips,
        places={strip.case_id: index for index, strip in enumerate(page.strips)},
        scatter=_scatter(page) if page.dice else None,
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
    )


def _scatter(page: Page) -> dict[str, Any]:
    """Places of the points and ticks of Dice against Dice, in units of the drawing."""
    a, b = page.dice[0].a, page.dice[0].b
    scores = scores_of(page.results, "dice")
    above, right = scores[a], scores[b]
    floor = int(10 * min(above.min(), right.min())) / 10
    low, high = floor - 0.02, 1.02

    def along(value: float) -> float:
        return round((value - low) / (high - low) * _SIDE, 2)

    ids = page.results[0].per_image["case_id"].tolist()
    points = [
        {"id": i, "x": _LEFT + along(x), "y": round(_TOP + _SIDE - along(y), 2), "a": f"{y:.4f}", "b": f"{x:.4f}"}
        for i, x, y in zip(ids, right.tolist(), above.tolist(), strict=True)
    ]
    step = 0.1 if floor >= 0.5 else 0.2
    values = [round(1 - step * k, 1) for k in range(int((1 - floor) / step + 1e-9) + 1)]
    ticks = [{"at": along(value), "text": f"{value:.1f}"} for value in values]
    return {"a": a, "b": b, "points": points, "ticks": ticks, "side": _SIDE, "left": _LEFT, "top": _TOP}
