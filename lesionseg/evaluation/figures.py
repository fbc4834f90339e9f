"""The report's figures as PNG bytes: curves by epoch, a paired scatter, and sample panels.

Everything is drawn with matplotlib's object interface on Agg; the colours are those of Okabe and Ito
(https://jfly.uni-koeln.de/color/), which stay apart for colour-blind readers.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from lesionseg.data.images import read_image, read_mask, read_probability, resize_mask, resize_photo, resize_probability
from lesionseg.errors import ComparisonError, RunError
from lesionseg.evaluation.runs import RunResult, scores_of
from lesionseg.records import BoolMask, Case, Probability, RgbImage

Dashes = Literal["-", "--", ":"]

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["dice_scatter", "loss_curves", "overlap_curves", "pick_cases", "sample_panels"]

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
INK, GREY, RULE = "#1a1a1a", "#6b6b6b", "#d9d9d9"
EXTRA, MISSED = "#E69F00", "#56B4E9"

_DPI = 180
_PER_KIND = 2
_RUNS_PER_ROW = 3
_GAP = 0.06
# Panels are small; larger pictures would only swell the report.
_THUMBNAIL = 320
_NAME_LENGTH = 28

# Any: matplotlib's own type for this is a Literal of every key there is.
_STYLE: Any = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), INK),
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), GREY),
    **dict.fromkeys(("axes.linewidth", "xtick.major.width", "ytick.major.width"), 0.6),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon", "text.usetex"), False),
    **dict.fromkeys(("figure.facecolor", "savefig.facecolor", "axes.facecolor"), "white"),
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.5,
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "lines.linewidth": 1.4,
}


def _render(draw: Callable[[Figure], None], width: float, height: float) -> bytes:
    """PNG bytes of what ``draw`` puts on a figure of that many inches; the same bytes for the same input."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


@cache
def _glyphs() -> frozenset[int]:
    from matplotlib.font_manager import findfont, get_font

    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())


def _plain(name: str, limit: int = _NAME_LENGTH) -> str:
    """A name as matplotlib text: no mathematics, no missing glyphs, not too long."""
    known = "".join(c if c.isprintable() and ord(c) in _glyphs() else "?" for c in name)
    short = known if len(known) <= limit else known[: limit - 1] + "…"
    return short.replace("\\", "/").replace("$", r"\$")


def _colour(index: int) -> str:
    return PALETTE[index % len(PALETTE)]


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


def _legend(figure: Figure, results: Sequence[RunResult], styles: Mapping[str, Dashes]) -> None:
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=_colour(i), linewidth=2) for i in range(len(results))]
    lines += [Line2D([], [], color=GREY, linestyle=style) for style in styles.values()]
    # A leading underscore would hide a label.
    labels = [f" {_plain(result.name)}" for result in results] + list(styles)
    figure.legend(lines, labels, loc="outside upper center", ncols=min(4, len(lines)), handlelength=2.2)


def loss_curves(results: Sequence[RunResult]) -> bytes:
    """Training (dashed) and validation (solid) loss of every run by epoch.

    Args:
        results: runs whose ``history`` has at least one epoch.
    """

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for index, result in enumerate(results):
            _curve(axes, result, "train_loss", color=_colour(index), linestyle="--", alpha=0.75, linewidth=1.1)
            _curve(axes, result, "val_loss", color=_colour(index))
        values = np.concatenate([r.history[["train_loss", "val_loss"]].to_numpy(np.float64).ravel() for r in results])
        # One exploding epoch would flatten all others on a linear axis.
        if values.min() > 0 and values.max() > 20 * float(np.median(values)):
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=min(0.0, float(values.min())))
        _finish_epochs(axes, "Loss")
        _legend(figure, results, {"validation": "-", "training": "--"})

    return _render(draw, 7.2, 3.4)


def overlap_curves(results: Sequence[RunResult]) -> bytes:
    """Validation Dice and IoU of every run by epoch: thresholded (solid) and soft (dotted).

    Args:
        results: runs whose ``history`` has at least one epoch.
    """

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        for axes, column, label in ((left, "dice", "Dice"), (right, "iou", "IoU")):
            for index, result in enumerate(results):
                _curve(axes, result, f"val_soft_{column}", color=_colour(index), linestyle=":", linewidth=1.1)
                _curve(axes, result, f"val_{column}", color=_colour(index))
            _finish_epochs(axes, f"Validation {label}")
        right.tick_params(labelleft=True)
        # A little beyond 0 and 1, where the frame would hide a line.
        left.set_ylim(max(-0.02, left.get_ylim()[0]), min(1.02, left.get_ylim()[1]))
        _legend(figure, results, {"thresholded": "-", "soft": ":"})

    return _render(draw, 7.2, 3.2)


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
        axes.set_xlabel(f"Dice, {_plain(second.name)}")
        axes.set_ylabel(f"Dice, {_plain(first.name)}")
        wins, losses = int((above > right).sum()), int((above < right).sum())
        note: dict[str, Any] = {"transform": axes.transAxes, "color": GREY}
        axes.text(0.03, 0.97, f"{_plain(first.name)}\nhigher on {wins}", va="top", **note)
        axes.text(0.97, 0.03, f"{_plain(second.name)}\nhigher on {losses}", ha="right", **note)

    return _render(draw, 3.9, 3.9)


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


def sample_panels(results: Sequence[RunResult], cases: Sequence[Case]) -> bytes:
    """Photo, true mask, and for each run its probability map and its mask with the errors coloured.

    Args:
        results: the runs; more than three wrap into further rows.
        cases: one block of rows each, with photo and mask.

    Raises:
        ComparisonError: a case has no mask.
        ImageError: a picture cannot be decoded.
        RunError: a probability map has another size than the true mask.
    """
    chunks = [results[i : i + _RUNS_PER_ROW] for i in range(0, len(results), _RUNS_PER_ROW)]
    # A narrow column sets each run's pair of pictures apart.
    ratios = [1.0, 1.0] + [_GAP, 1.0, 1.0] * len(chunks[0])
    width = max(7.2, 1.4 * sum(ratios))
    loaded = [(case, *_load(case)) for case in cases]
    tallest = max(truth.shape[0] / truth.shape[1] for _, _, truth in loaded)
    height = (width / sum(ratios) - 0.08) * min(tallest, 1.5) + 0.26
    rows = len(loaded) * len(chunks)

    def draw(figure: Figure) -> None:
        figure.get_layout_engine().set(w_pad=0.025, h_pad=0.03, wspace=0.0, hspace=0.0)  # type: ignore[union-attr,call-arg]
        grid = figure.subplots(rows, len(ratios), squeeze=False, width_ratios=ratios)
        for axes in grid.flat:
            axes.set_axis_off()
        for block, (case, photo, truth) in enumerate(loaded):
            first = block * len(chunks)
            _show(grid[first, 0], photo, _plain(case.case_id, 20))
            _show(grid[first, 1], _colours(truth, truth), "true mask")
            for offset, chunk in enumerate(chunks):
                for index, result in enumerate(chunk):
                    _show_run(grid[first + offset, 3 + 3 * index :][:2], result, case, truth)
        _panel_legend(figure)

    return _render(draw, width, height * rows + 0.28)


def _load(case: Case) -> tuple[RgbImage, BoolMask]:
    if case.mask is None:
        raise ComparisonError(
            f"{case.case_id} has no mask to show", fix="use the manifest that the runs were scored with"
        )
    truth = read_mask(case.mask)
    height, width = _small(truth.shape)
    return resize_photo(read_image(case.image), height, width), truth


def _small(shape: tuple[int, ...]) -> tuple[int, int]:
    scale = min(1.0, _THUMBNAIL / max(shape))
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def _show(axes: Axes, picture: NDArray[Any], title: str, **look: Any) -> None:
    axes.imshow(picture, interpolation="nearest", **look)
    axes.set_title(title, fontsize=7, pad=2.5, loc="left")


def _show_run(pair: NDArray[Any], result: RunResult, case: Case, truth: BoolMask) -> None:
    path = result.probabilities / f"{case.case_id}.png"
    probability = read_probability(path)
    if probability.shape != truth.shape:
        raise RunError(
            f"{path} has the size {probability.shape}, its true mask {truth.shape}",
            fix="run 'lesionseg evaluate' again",
        )
    small: Probability = resize_probability(probability, *_small(truth.shape))
    _show(pair[0], small, _plain(result.name, 18), cmap="viridis", vmin=0, vmax=1)
    predicted: BoolMask = probability >= result.summary["threshold"]
    table = result.per_image
    dice = float(table.loc[table["case_id"] == case.case_id, "dice"].iloc[0])
    _show(pair[1], _colours(predicted, truth), f"Dice {dice:.3f}")


def _colours(predicted: BoolMask, truth: BoolMask) -> RgbImage:
    """``uint8 h w 3``: white where both are lesion, black where none is, a colour for each kind of error."""
    size = _small(truth.shape)
    predicted, truth = resize_mask(predicted, *size), resize_mask(truth, *size)
    picture = np.zeros((*size, 3), np.uint8)
    picture[predicted & truth] = 245
    picture[predicted & ~truth] = _rgb(EXTRA)
    picture[~predicted & truth] = _rgb(MISSED)
    return picture


def _rgb(colour: str) -> NDArray[np.uint8]:
    return np.frombuffer(bytes.fromhex(colour[1:]), np.uint8)


def _panel_legend(figure: Figure) -> None:
    from matplotlib.patches import Patch

    patches = [
        Patch(facecolor="#f5f5f5", edgecolor=GREY, linewidth=0.6, label="lesion, found"),
        Patch(facecolor=EXTRA, label="false positive"),
        Patch(facecolor=MISSED, label="false negative"),
        Patch(facecolor="#440154", label="probability 0"),
        Patch(facecolor="#21918c", label="0.5"),
        Patch(facecolor="#fde725", label="1"),
    ]
    figure.legend(handles=patches, loc="outside lower center", ncols=6, fontsize=7, handlelength=1.2, columnspacing=1.4)
