"""The scale of a ruler that lies in a photo, where it can be read without doubt.

Dermatoscopes show rulers with ticks every 0.1, 0.5 or 1 millimetre, mostly without figures. What a tick means is told
by the longer ones among them, every second or every fifth. No scale is given where that cannot be told.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy import fft

from lesionseg.records import BoolMask, RgbImage

__all__ = ["RULER_SIDE", "Ruler", "find_scale"]

RULER_SIDE = 1024
"""Longest side in pixels at which photos are searched."""

# Of the search: directions over half a turn, pixels across a strip and along one of its cells, and between ticks.
_ANGLES, _STRIP, _CELL = 120, 12, 2
_NEAREST, _FARTHEST = 8.0, 80.0
# Strips that are looked at, and how far apart in degrees and pixels they are at least.
_TRIED, _TURN_APART, _APART = 6, 4.0, 24.0
# Levels by which a mark is darker than what lies around, at least, and in deviations of the photo's grain.
_CONTRAST, _OVER_GRAIN = 6.0, 2.5
# Grey level of the frame around a round field of view.
_BLACK = 60
# Below this sum of squares a strip holds too few marks to judge.
_FEW_MARKS = 200
# A ruler has this many ticks in a row; none is off its place by more than a part of the distance.
_TICKS, _OFF = 11, 0.15
# Of the marks between the first and the last tick, this part at least are ticks: else every other one was missed.
_OF_ALL = 0.8
# How many ticks there are from one long tick to the next -> what a tick may mean, in millimetres.
_MEANING = {2: (0.5,), 5: (0.1, 1.0)}
# What a dermatoscope sees along a photo's longest side, in millimetres.
_FIELD = (7.0, 35.0)
_LONGER, _CONSISTENT = 1.2, 0.9

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ruler:
    """A ruler that was read.

    Attributes:
        mm_per_pixel: of the photo that was searched.
        spacing: pixels between neighbouring ticks.
        ticks: how many follow each other.
        tick_mm: millimetres between neighbouring ticks.
    """

    mm_per_pixel: float
    spacing: float
    ticks: int
    tick_mm: float


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    """Ticks in a row: places along it and lengths, one of each per tick."""

    places: Values
    lengths: Values
    spacing: float


def find_scale(photo: RgbImage, lesion: BoolMask | None = None) -> Ruler | None:
    """Reads the ruler in a photo.

    Dark marks are searched, in every direction, for strips in which they come at one distance; at least eleven in a
    row at even distances, with a long one regularly among them, make a ruler.

    Args:
        photo: ``uint8 H W 3``, RGB, its longest side about ``RULER_SIDE``.
        lesion: ``bool H W``, where not to look.

    Returns:
        None where no ruler is found, or what its ticks mean cannot be told.
    """
    rows, columns = np.nonzero(_marks(photo, lesion))
    # Turned about the middle, a strip stays about where it is.
    points = np.stack((columns - photo.shape[1] / 2, rows - photo.shape[0] / 2), axis=1)
    for angle, middle in _strips(points):
        row = _row_of_ticks(points, angle, middle)
        ruler = _read(row, max(photo.shape[:2])) if row else None
        if ruler:
            return ruler
    return None


def _marks(photo: RgbImage, lesion: BoolMask | None) -> BoolMask:
    """Pixels that are darker than their surroundings."""
    grey = Image.fromarray(photo).convert("L")
    around = grey.filter(ImageFilter.BoxBlur(max(photo.shape) / 100))
    darker = np.asarray(around, np.float32) - np.asarray(grey, np.float32)
    grain = float(np.median(np.abs(darker))) * 1.4826
    marks: BoolMask = (darker > max(_CONTRAST, _OVER_GRAIN * grain)) & (np.asarray(around) > _BLACK)
    return marks if lesion is None else marks & ~lesion


def _turned(points: Values, angle: float) -> tuple[Values, Values]:
    """Along and across a direction, in pixels."""
    return points @ (np.cos(angle), np.sin(angle)), points @ (-np.sin(angle), np.cos(angle))


def _strips(points: Values) -> Iterator[tuple[float, float]]:
    """Direction in radians and middle of the strips in which marks repeat themselves most, the best first."""
    if len(points) < _TICKS * 4:
        return
    best = [
        (score, degrees, middle)
        for degrees in np.arange(_ANGLES) * (180 / _ANGLES)
        for score, middle in _best_strips(*_turned(points, np.radians(degrees)))
    ]
    tried: list[tuple[float, float]] = []
    for _, degrees, middle in sorted(best, reverse=True):
        if len(tried) < _TRIED and not any(_is_same(degrees, middle, *other) for other in tried):
            tried.append((degrees, middle))
            yield float(np.radians(degrees)), middle


def _is_same(degrees: float, middle: float, other_degrees: float, other_middle: float) -> bool:
    turn = degrees - other_degrees
    # Half a turn further it is the same strip, seen from the other side.
    if abs(turn) > 90:
        turn, other_middle = turn - np.copysign(180, turn), -other_middle
    return abs(turn) < _TURN_APART and abs(middle - other_middle) < _APART


def _best_strips(along: Values, across: Values) -> list[tuple[float, float]]:
    """Score and middle of the two best strips of one direction."""
    step, top = _STRIP / 2, across.min()
    cell = ((along - along.min()) / _CELL).astype(np.int64)
    half = ((across - top) / step).astype(np.int64)
    count, length = int(half.max()) + 2, int(cell.max()) + 1
    table = np.bincount(half * length + cell, minlength=count * length).reshape(count, length)
    # Strips overlap by half, so that a row of ticks lies well in one of them.
    strips = (table[:-1] + table[1:]).astype(np.float32)
    scores = _repetition(strips)
    return [(float(scores[i]), float(top + (i + 1) * step)) for i in np.argsort(-scores)[:2]]


def _repetition(strips: NDArray[np.float32]) -> NDArray[np.float32]:
    """About how many marks of each row come at one distance: the highest peak of its spectrum that has harmonics.

    Of marks at random, a spectrum has the same expected height everywhere, which the peak is measured by; wide marks
    have no harmonics.
    """
    length = 1 << int(strips.shape[1] - 1).bit_length()
    spectrum = fft.rfft(strips - strips.mean(axis=1, keepdims=True), length, axis=1)
    power = spectrum.real**2 + spectrum.imag**2
    # A harmonic may lie beside its place, which is a whole number of steps.
    wide = np.maximum(power[:, 1:-1], np.maximum(power[:, :-2], power[:, 2:]))
    base = np.arange(int(length * _CELL / _FARTHEST), int(length * _CELL / _NEAREST) + 1)
    peaks = power[:, base]
    for harmonic in (2, 3):
        places = base[harmonic * base - 1 < wide.shape[1]] * harmonic - 1
        peaks[:, : len(places)] = np.minimum(peaks[:, : len(places)], wide[:, places])
    scores: NDArray[np.float32] = peaks.max(axis=1) / ((strips**2).sum(axis=1) + _FEW_MARKS)
    return scores


def _row_of_ticks(points: Values, angle: float, middle: float) -> _Row | None:
    """The longest row of ticks along a strip, its direction made exact first."""
    near = np.abs(_turned(points, angle)[1] - middle) < _STRIP / 2
    rows = []
    for turn in angle + np.radians((-1.0, -0.5, 0.0, 0.5, 1.0)):
        along, across = _turned(points, turn)
        at = float(np.median(across[near]))
        rows += [_row_in_strip(along, across, at + shift) for shift in (-_STRIP / 2, 0.0, _STRIP / 2)]
    return max((row for row in rows if row), key=lambda row: len(row.places), default=None)


def _row_in_strip(along: Values, across: Values, middle: float) -> _Row | None:
    inside = np.abs(across - middle) < _STRIP / 2
    if inside.sum() < 3 * _TICKS:
        return None
    start = float(along[inside].min())
    profile = np.bincount((along[inside] - start).astype(np.int64)).astype(np.float64)
    places = _peaks(profile)
    chain = _longest_chain(places)
    if len(chain) < _TICKS or len(chain) < _OF_ALL * _between(places, chain):
        return None
    number = np.arange(len(chain))
    spacing, first = np.polyfit(number, chain, 1)
    if np.abs(chain - (first + spacing * number)).max() > 2 * _OFF * spacing:
        return None
    places = chain + start + 0.5
    return _Row(places, _lengths(along, across, places, middle, 0.3 * spacing), float(spacing))


def _between(places: Values, chain: Values) -> int:
    return int(((places >= chain[0]) & (places <= chain[-1])).sum())


def _peaks(profile: Values) -> Values:
    """Middles of the runs in which a profile is high, in its cells."""
    smooth = np.convolve(profile, (0.25, 0.5, 0.25), "same")
    filled = smooth[smooth > 0.5]
    if filled.size == 0:
        return filled
    high = smooth > max(1.0, 0.4 * float(np.quantile(filled, 0.9)))
    edges = np.flatnonzero(np.diff(np.concatenate(([False], high, [False]))))
    weights, moments = np.cumsum(np.append(0, smooth)), np.cumsum(np.append(0, smooth * np.arange(smooth.size)))
    first, last = edges[::2], edges[1::2]
    middles: Values = (moments[last] - moments[first]) / (weights[last] - weights[first])
    return middles


def _longest_chain(places: Values) -> Values:
    """The longest sequence of places at one distance; it may change little by little, as under a lens."""
    best = places[:0]
    for start in range(len(places) - 1):
        for second in range(start + 1, min(start + 4, len(places))):
            chain = _follow(places, start, second)
            if len(chain) > len(best):
                best = chain
    return best


def _follow(places: Values, start: int, second: int) -> Values:
    step = places[second] - places[start]
    chain = [places[start], places[second]]
    if not _NEAREST / 2 <= step <= _FARTHEST:
        return np.array(chain[:0])
    while True:
        nearest = places[int(np.abs(places - (chain[-1] + step)).argmin())]
        if abs(nearest - chain[-1] - step) > _OFF * step:
            return np.array(chain)
        step = 0.7 * step + 0.3 * (nearest - chain[-1])
        chain.append(nearest)


def _lengths(along: Values, across: Values, places: Values, middle: float, reach: float) -> Values:
    """How far each tick's marks go on to both sides of the strip's middle, without a gap."""
    lengths = []
    for place in places:
        rows = np.unique((across[np.abs(along - place) < reach] - middle).round())
        rows = rows[np.abs(rows) < _FARTHEST]
        gaps = np.flatnonzero(np.diff(rows) > 3)
        pieces = np.split(rows, gaps + 1)
        lengths.append(max((float(np.ptp(piece)) + 1 for piece in pieces if _is_near(piece)), default=0.0))
    return np.array(lengths)


def _is_near(piece: Values) -> bool:
    return bool(piece.size and piece.min() <= _STRIP / 2 and piece.max() >= -_STRIP / 2)


def _read(row: _Row, longest_side: int) -> Ruler | None:
    """What a row's ticks mean, if its long ones and the photo's size leave one answer."""
    answers = [
        Ruler(tick / row.spacing, row.spacing, len(row.places), tick)
        for period, meanings in _MEANING.items()
        if _has_long_ticks(row.lengths, period)
        for tick in meanings
        if _FIELD[0] <= longest_side * tick / row.spacing <= _FIELD[1]
    ]
    return answers[0] if len(answers) == 1 else None


def _has_long_ticks(lengths: Values, period: int) -> bool:
    """Whether every ``period``-th tick, and no other, is a long one."""
    phase = np.arange(len(lengths)) % period
    for first in range(period):
        long, short = lengths[phase == first], lengths[phase != first]
        low, high = float(np.median(short)), float(np.median(long))
        limit = (low + high) / 2
        right = int((long > limit).sum() + (short < limit).sum())
        # Both kinds must hold by themselves: most ticks are short ones where every fifth is long.
        sure = (long > limit).mean() >= _CONSISTENT and right >= _CONSISTENT * len(lengths)
        if high > _LONGER * low and sure:
            return True
    return False
