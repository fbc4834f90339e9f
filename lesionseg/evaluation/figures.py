"""The report's figures of numbers, as PNG bytes: curves by epoch, and a paired scatter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lesionseg.evaluation.drawing import GREY, PALETTE, colour, plain, render
from lesionseg.evaluation.runs import RunResult, scores_of

Dashes = Literal["-", "--", ":"]

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["dice_scatter", "loss_curves", "overlap_curves", "pick_cases"]

_PER_KIND = 2


def _curve(axes: Axes, result: RunResult, column: str, **look: Any) -> None:
    # A run of one epoch is a single point, which a line alone would not show.
    marker = "o" if len(result.history) <= 5 else ""
    axes.plot(result.history["epoch"], result.history[column], marker=marker, markersize=3, **look)


def _finish_epochs(axes: Axes, label: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("Epoch")
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10, steps=[1, 2, 5, 10]))
    axes.margins(x=0.02)


def _trained(results: Sequence[RunResult]) -> list[tuple[int, RunResult]]:
    """Those with a history, and their places: a run has one colour in every figure."""
    return [(place, result) for place, result in enumerate(results) if result.trained]


def _legend(figure: Figure, trained: Sequence[tuple[int, RunResult]], styles: Mapping[str, Dashes]) -> None:
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=colour(place), linewidth=2) for place, _ in trained]
    lines += [Line2D([], [], color=GREY, linestyle=style) for style in styles.values()]
    # A leading underscore would hide a label.
    labels = [f" {plain(result.name)}" for _, result in trained] + list(styles)
    figure.legend(lines, labels, loc="outside upper center", ncols=min(4, len(lines)), handlelength=2.2)


def loss_curves(results: Sequence[RunResult]) -> bytes:
    """Training (dashed) and validation (solid) loss of every run by epoch.

    Args:
        results: runs, of which at least one was trained; others have no curve.
    """
    trained = _trained(results)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for index, result in trained:
            _curve(axes, result, "train_loss", color=colour(index), linestyle="--", alpha=0.75, linewidth=1.1)
            _curve(axes, result, "val_loss", color=colour(index))
        values = np.concatenate(
            [r.history[["train_loss", "val_loss"]].to_numpy(np.float64).ravel() for _, r in trained]
        )
        # One exploding epoch would flatten all others on a linear axis.
        if values.min() > 0 and values.max() > 20 * float(np.median(values)):
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=min(0.0, float(values.min())))
        _finish_epochs(axes, "Loss")
        _legend(figure, trained, {"validation": "-", "training": "--"})

    return render(draw, 7.2, 3.4)


def overlap_curves(results: Sequence[RunResult]) -> bytes:
    """Validation Dice and IoU of every run by epoch: thresholded (solid) and soft (dotted).

    Args:
        results: runs, of which at least one was trained; others have no curve.
    """
    trained = _trained(results)

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        for axes, column, label in ((left, "dice", "Dice"), (right, "iou", "IoU")):
            for index, result in trained:
                _curve(axes, result, f"val_soft_{column}", color=colour(index), linestyle=":", linewidth=1.1)
                _curve(axes, result, f"val_{column}", color=colour(index))
            _finish_epochs(axes, f"Validation {label}")
        right.tick_params(labelleft=True)
        # A little beyond 0 and 1, where the frame would hide a line.
        left.set_ylim(max(-0.02, left.get_ylim()[0]), min(1.02, left.get_ylim()[1]))
        _legend(figure, trained, {"thresholded": "-", "soft": ":"})

    return render(draw, 7.2, 3.2)


def dice_scatter(first: RunResult, second: RunResult) -> bytes:
    """Dice of each photo in two runs against each other, with the line on which both are equal.

    Args:
        first: the run on the vertical axis.
        second: the run on the horizontal axis, scored on the same cases.
    """
    scores = scores_of((first, second), "dice")
    above, right = scores[first.name], scores[second.name]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        floor = max(0.0, float(np.floor(min(above.min(), right.min()) * 10) / 10))
        low, high = floor - 0.02, 1.02
        axes.plot([low, high], [low, high], color=GREY, linewidth=0.8, zorder=1)
        axes.scatter(right, above, s=14, color=PALETTE[0], alpha=0.45, linewidths=0, zorder=2)
        axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
        axes.grid(visible=True, axis="both")
        axes.set_xlabel(f"Dice, {plain(second.name)}")
        axes.set_ylabel(f"Dice, {plain(first.name)}")
        wins, losses = int((above > right).sum()), int((above < right).sum())
        note: dict[str, Any] = {"transform": axes.transAxes, "color": GREY}
        axes.text(0.03, 0.97, f"{plain(first.name)}\nhigher on {wins}", va="top", **note)
        axes.text(0.97, 0.03, f"{plain(second.name)}\nhigher on {losses}", ha="right", **note)

    return render(draw, 3.9, 3.9)


def pick_cases(results: Sequence[RunResult]) -> dict[str, list[str]]:
    """The cases to show: two each with the best, the median and the worst Dice, averaged over the runs.

    Returns:
        ``{"best": [...], "median": [...], "worst": [...]}``; with fewer than six cases the later ones have fewer or
        none, so that no case is shown twice.
    """
    mean = np.mean(list(scores_of(results, "dice").values()), axis=0)
    ids = sorted(results[0].per_image["case_id"])
    ranked = [ids[i] for i in np.argsort(-mean, kind="stable")]
    middle = max(0, (len(ranked) - _PER_KIND) // 2)
    wanted = {
        "best": ranked[:_PER_KIND],
        "worst": ranked[::-1][:_PER_KIND],
        "median": ranked[middle : middle + _PER_KIND],
    }
    shown: set[str] = set()
    picked = {}
    for kind, candidates in wanted.items():
        picked[kind] = [case_id for case_id in candidates if case_id not in shown]
        shown |= set(candidates)
    return {kind: picked[kind] for kind in ("best", "median", "worst")}
