"""Photos beside their true mask, and beside what each run says of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lesionseg.data.images import read_image, read_probability, resize_mask, resize_photo, resize_probability
from lesionseg.data.labels import Labels
from lesionseg.errors import ComparisonError, RunError
from lesionseg.evaluation.drawing import GREY, plain, render
from lesionseg.evaluation.runs import RunResult, truths_of
from lesionseg.records import BoolMask, Case, Probability, RgbImage

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["EXTRA", "MISSED", "error_colours", "sample_panels"]

EXTRA, MISSED = "#E69F00", "#56B4E9"
"""Colours of false positive and false negative pixels."""

_RUNS_PER_ROW = 3
_GAP = 0.06
# Panels are small; larger pictures would only swell the report.
_THUMBNAIL = 320


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
    truths = truths_of(results)
    loaded = [(case, *_load(case, truths)) for case in cases]
    tallest = max(truth.shape[0] / truth.shape[1] for _, _, truth in loaded)
    height = (width / sum(ratios) - 0.08) * min(tallest, 1.5) + 0.26
    rows = len(loaded) * len(chunks)

    def draw(figure: Figure) -> None:
        figure.get_layout_engine().set(w_pad=0.025, h_pad=0.03, wspace=0.0, hspace=0.0)  # type: ignore[union-attr,call-arg]
        grid = figure.subplots(rows, len(ratios), squeeze=False, width_ratios=ratios)
        for axes in grid.flat:
            axes.set_axis_off()
            # Off, they are still laid out: ticks that nobody sees take half of a figure's time.
            axes.xaxis.set_visible(False)
            axes.yaxis.set_visible(False)
        for block, (case, photo, truth) in enumerate(loaded):
            first = block * len(chunks)
            _show(grid[first, 0], photo, plain(case.case_id, 20))
            _show(grid[first, 1], _colours(truth, truth), "true mask")
            for offset, chunk in enumerate(chunks):
                for index, result in enumerate(chunk):
                    _show_run(grid[first + offset, 3 + 3 * index :][:2], result, case, truth)
        _panel_legend(figure)

    return render(draw, width, height * rows + 0.28)


def _load(case: Case, truths: Labels) -> tuple[RgbImage, BoolMask]:
    if case.mask is None:
        raise ComparisonError(
            f"{case.case_id} has no mask to show", fix="use the manifest that the runs were scored with"
        )
    truth, _ = truths.read_lesion(case.mask)
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
    if result.summary.get("size", "own") != "own":
        # Scored at the model's size, where the masks were brought to.
        truth = resize_mask(truth, *result.summary["size"])
    if probability.shape != truth.shape:
        raise RunError(
            f"{path} has the size {probability.shape}, its true mask {truth.shape}",
            fix="run 'lesionseg evaluate' again",
        )
    small: Probability = resize_probability(probability, *_small(truth.shape))
    _show(pair[0], small, plain(result.name, 18), cmap="viridis", vmin=0, vmax=1)
    predicted: BoolMask = probability >= result.summary["threshold"]
    table = result.per_image
    dice = float(table.loc[table["case_id"] == case.case_id, "dice"].iloc[0])
    _show(pair[1], _colours(predicted, truth), f"Dice {dice:.3f}")


def _colours(predicted: BoolMask, truth: BoolMask) -> RgbImage:
    size = _small(truth.shape)
    return error_colours(resize_mask(predicted, *size), resize_mask(truth, *size))


def error_colours(predicted: BoolMask, truth: BoolMask) -> RgbImage:
    """``uint8 H W 3``: white where both are lesion, black where none is, a colour for each kind of error."""
    picture = np.zeros((*truth.shape, 3), np.uint8)
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
