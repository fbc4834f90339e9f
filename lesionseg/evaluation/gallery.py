"""Small pictures of every case for the page: photo, true mask, and each run's probability and errors in one strip."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lesionseg.data.images import read_image, read_probability, resize_mask, resize_photo, resize_probability
from lesionseg.data.labels import Labels
from lesionseg.evaluation.panels import error_colours
from lesionseg.evaluation.runs import RunResult, scores_of, truths_of
from lesionseg.helper import MANY, Crew, count_cores
from lesionseg.records import BoolMask, Case

__all__ = ["Strip", "begun_strips", "draw_strips"]

_WIDTH, _GAP = 112, 3
_RUNS = 4
# About a kilobyte each; the page is to stay under 5 MB.
_PANELS = 2200
_QUALITY = 62
_LOW, _MIDDLE, _HIGH = (np.array(c, np.float32) for c in ((68, 1, 84), (33, 145, 140), (253, 231, 37)))


@dataclass(frozen=True, slots=True)
class Strip:
    """One case.

    Attributes:
        case_id: the case.
        dice: of each run, in the runs' order.
        uri: the strip as a data URI.
    """

    case_id: str
    dice: tuple[float, ...]
    uri: str


@contextmanager
def begun_strips(results: Sequence[RunResult], cases: Mapping[str, Case]) -> Iterator[Callable[[], list[Strip]]]:
    """Begins to draw many strips in another process, while this one goes on; what is yielded waits for them.

    Arguments and errors are those of ``draw_strips``.
    """
    if len(cases) < MANY or count_cores() == 1:
        yield partial(draw_strips, results, cases)
        return
    crew = Crew(_strip, 1)
    try:
        with ThreadPoolExecutor(1) as pool:
            yield pool.submit(draw_strips, results, cases, crew).result
    finally:
        crew.close()


def draw_strips(
    results: Sequence[RunResult], cases: Mapping[str, Case], draw: Callable[..., str] | None = None
) -> list[Strip]:
    """A strip for each case, the lowest mean Dice first; of very many only the worst, and a choice of the rest.

    Args:
        results: the runs; more than four have scores but no pictures here.
        cases: every scored case, with photo and mask.
        draw: draws one strip; by default here.

    Raises:
        ImageError: a photo, mask or probability map cannot be decoded.
    """
    scores = np.array(list(scores_of(results, "dice").values()))
    ids = results[0].per_image["case_id"].tolist()
    order = np.argsort(scores.mean(axis=0), kind="stable")
    shown = [(result.probabilities, float(result.summary["threshold"])) for result in results[:_RUNS]]
    truths = truths_of(results)
    return [
        Strip(ids[i], tuple(float(value) for value in scores[:, i]), (draw or _strip)(cases[ids[i]], shown, truths))
        for i in _choose(order, _PANELS // (2 + 2 * len(shown)))
    ]


def _choose(order: NDArray[np.intp], room: int) -> NDArray[np.intp]:
    if len(order) <= room:
        return order
    worst, rest = order[: room // 2], order[room // 2 :]
    return np.concatenate((worst, rest[np.linspace(0, len(rest) - 1, room - len(worst)).astype(int)]))


def _strip(case: Case, shown: Sequence[tuple[Path, float]], truths: Labels) -> str:
    """A data URI; ``shown`` has each run's folder of probability maps and its threshold."""
    truth = truths.read_lesion(case.mask)[0] if case.mask else np.zeros((1, 1), bool)
    size = max(1, round(_WIDTH * truth.shape[0] / truth.shape[1])), _WIDTH
    small = resize_mask(truth, *size)
    panels = [resize_photo(read_image(case.image), *size), error_colours(small, small)]
    for folder, threshold in shown:
        probability = resize_probability(read_probability(folder / f"{case.case_id}.png"), *size)
        predicted: BoolMask = probability >= threshold
        panels += [_heat(probability), error_colours(predicted, small)]
    gap = np.full((size[0], _GAP, 3), 255, np.uint8)
    joined = np.concatenate([part for panel in panels for part in (panel, gap)][:-1], axis=1)
    buffer = io.BytesIO()
    Image.fromarray(joined).save(buffer, "WEBP", quality=_QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _heat(probability: NDArray[np.float32]) -> NDArray[np.uint8]:
    """From dark blue through green to yellow, as the large panels have it."""
    p = probability[..., None]
    low, high = _LOW + 2 * p * (_MIDDLE - _LOW), _MIDDLE + (2 * p - 1) * (_HIGH - _MIDDLE)
    return np.where(p < 0.5, low, high).round().astype(np.uint8)
