"""Figures of distributions: violins of Dice, calibration and threshold curves, subgroups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lesionseg.evaluation.drawing import GREY, RULE, colour, plain, render
from lesionseg.evaluation.runs import RunResult, scores_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["calibration_curves", "dice_violins", "subgroup_forest"]


def dice_violins(results: Sequence[RunResult]) -> bytes:
    """The Dice of all photos of each run: its density, the middle half (bar), the median (dot) and the mean (line)."""
    scores = scores_of(results, "dice")

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for index, values in enumerate(scores.values()):
            _violin(axes, index, values)
            low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
            axes.vlines(index, low, high, color=colour(index), linewidth=5, zorder=3)
            axes.scatter([index], [middle], s=16, color="white", zorder=4, linewidths=0)
            axes.hlines(values.mean(), index - 0.22, index + 0.22, color=colour(index), linewidth=1, zorder=3)
        axes.set_xticks(range(len(scores)), [plain(name) for name in scores])
        axes.set_ylabel("Dice of each photo")
        axes.set_xlim(-0.6, len(scores) - 0.4)
        axes.set_ylim(bottom=max(-0.02, min(values.min() for values in scores.values()) - 0.03), top=1.02)

    return render(draw, min(7.2, 1.6 + 1.4 * len(results)), 3.2)


def _violin(axes: Axes, place: int, values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> None:
    from scipy.stats import gaussian_kde

    if values.size < 3 or np.ptp(values) < 1e-9:
        return
    # The estimate is cut at the scores themselves: no photo has a Dice above 1.
    at = np.linspace(values.min(), values.max(), 200)
    density = gaussian_kde(values)(at)
    width = 0.4 * density / density.max()
    axes.fill_betweenx(at, place - width, place + width, color=colour(place), alpha=0.3, linewidth=0)


def calibration_curves(results: Sequence[RunResult]) -> bytes:
    """Left: how often pixels of each probability are lesion. Right: mean Dice by threshold, the one in use marked.

    Args:
        results: runs with ``calibration`` and ``thresholds``.
    """
    # One for all of them: runs of others cannot be compared.
    used = float(results[0].summary["threshold"])
    # The same colour as in the figures that hold all runs.
    known = [(i, r.name, r.calibration, r.thresholds) for i, r in enumerate(results)]

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        left.plot([0, 1], [0, 1], color=GREY, linewidth=0.8)
        for index, name, bins, curve in known:
            if bins is None or curve is None:
                continue
            look = {"color": colour(index), "label": f" {plain(name)}"}
            left.plot(bins["mean_probability"], bins["lesion_share"], marker="o", markersize=3, **look)
            right.plot(curve["threshold"], curve["dice"], **look)
        left.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="Predicted probability", ylabel="Part that is lesion")
        right.axvline(used, color=GREY, linewidth=0.8, linestyle="--")
        right.set(xlim=(0, 1), xlabel="Threshold", ylabel="Mean Dice")
        right.text(used + 0.01, 0.02, f"{used:g}, in use", color=GREY, transform=right.get_xaxis_transform())
        handles, labels = right.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=min(4, len(labels)))

    return render(draw, 7.2, 3.4)


def subgroup_forest(table: pd.DataFrame) -> bytes:
    """Mean Dice with its 95 % interval in every subgroup, a colour for each run; few photos are drawn hollow.

    Args:
        table: what ``subgroup_table`` gave, with at least one row.
    """
    means = table[table["kind"] == "mean"]
    runs = list(dict.fromkeys(means["run"]))
    keys = list(dict.fromkeys(zip(means["attribute"], means["subgroup"], means["n"], strict=True)))
    attributes = list(dict.fromkeys(attribute for attribute, _, _ in keys))
    # Half a line apart, with a heading before each attribute.
    places = {key: i + 1.3 * (attributes.index(key[0]) + 1) for i, key in enumerate(keys)}

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for index, run in enumerate(runs):
            shift = (index - (len(runs) - 1) / 2) * min(0.22, 0.7 / len(runs))
            for d in means[means["run"] == run].to_dict("records"):
                y = places[(d["attribute"], d["subgroup"], d["n"])] + shift
                axes.hlines(y, d["low"], d["high"], color=colour(index), linewidth=1.2)
                face = "white" if d["few"] else colour(index)
                axes.scatter([d["dice"]], [y], s=14, facecolor=face, edgecolor=colour(index), linewidths=1, zorder=3)
            axes.plot([], [], color=colour(index), marker="o", markersize=4, label=f" {plain(run)}")
        names = [f"{plain(name, 44)}  ({n})" for _, name, n in places]
        axes.set_yticks(list(places.values()), names)
        for attribute in attributes:
            first = min(y for key, y in places.items() if key[0] == attribute)
            axes.text(0.0, first - 0.75, plain(attribute, 44), transform=axes.get_yaxis_transform(), weight="bold")
            axes.axhline(first - 1.25, color=RULE, linewidth=0.5)
        axes.set_ylim(max(places.values()) + 0.7, -0.2)
        axes.set_xlabel("Mean Dice, 95 % interval")
        axes.grid(visible=True, axis="x")
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=min(4, len(runs)))

    return render(draw, 7.2, 0.7 + 0.2 * (max(places.values()) + 1))
