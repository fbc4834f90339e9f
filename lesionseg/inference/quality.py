"""How good a mask probably is, and why it should be looked at, from the probability alone.

The certainty of a probability map is the Dice that its mask would have if every pixel's probability were right.
Networks are surer than they should be, so it is calibrated: an isotonic regression on validation photos makes an
expected Dice of it, as is done for probabilities of classes (Zadrozny and Elkan 2002, doi:10.1145/775047.775151).
Reverse classification accuracy (Valindria et al. 2017, arXiv:1702.03407) answers the same question with far more work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesionseg.records import THRESHOLD, BoolMask, Probability

__all__ = [
    "FEWEST",
    "OPINION_COLUMNS",
    "REVIEW_BELOW",
    "Opinion",
    "Quality",
    "certainty",
    "fit_quality",
    "frame_contact",
    "look",
    "piece_sizes",
]

REVIEW_BELOW = 0.8
"""Expected Dice under which a mask is to be looked at, unless the model says otherwise."""

FEWEST = 20
"""Photos that a calibration needs."""

OPINION_COLUMNS = ("expected_dice", "review", "reasons")
"""Of ``predictions.csv``; the page's table has them too."""

_OTHER_PIECES = 0.05
_CONTACT = 0.3
Values = NDArray[np.float64]


def certainty(probability: Probability, threshold: float = THRESHOLD) -> float:
    """The expected overlap of a mask with a truth that is drawn from the probability: 2 sum(p m) / (sum(p) + sum(m)).

    Args:
        probability: ``float32 h w`` in [0, 1], at any size.
        threshold: lesion where the probability is at least this.

    Returns:
        in [0, 1]; 0 where nothing is found.
    """
    mask = probability >= threshold
    found = int(np.count_nonzero(mask))
    if not found:
        return 0.0
    inside = float(probability.sum(where=mask, dtype=np.float64))
    return min(1.0, 2 * inside / (float(probability.sum(dtype=np.float64)) + found))


def frame_contact(mask: BoolMask) -> float:
    """The part of the photo's border that is lesion, in [0, 1].

    Args:
        mask: ``bool h w``.
    """
    return float(np.concatenate((mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1])).mean())


def piece_sizes(mask: BoolMask) -> list[int]:
    """Pixels of each piece of a mask, in no order; pixels that touch at a corner are of one.

    Runs of pixels are joined from row to row: a lesion has a few hundred of them. Loading scipy for its labels would
    take a fifth of a second, which is half of what predicting one photo takes.

    Args:
        mask: ``bool h w``.
    """
    # One column of skin to each side, so that no run goes on in the next row.
    steps = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))).ravel())
    starts, ends = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    # The same runs one row up, where they touch those above them.
    row = mask.shape[1] + 2
    first = np.searchsorted(ends, starts - row).tolist()
    last = np.searchsorted(starts, ends - row, side="right").tolist()
    parents = list(range(len(starts)))

    def root(run: int) -> int:
        while parents[run] != run:
            parents[run] = parents[parents[run]]
            run = parents[run]
        return run

    for run, (low, high) in enumerate(zip(first, last, strict=True)):
        for above in range(low, high):
            parents[root(above)] = root(run)
    sizes: Counter[int] = Counter()
    for run, length in enumerate((ends - starts).tolist()):
        sizes[root(run)] += length
    return list(sizes.values())


@dataclass(frozen=True, slots=True)
class Opinion:
    """Of one mask.

    Attributes:
        expected_dice: in [0, 1]; None where the model was never calibrated.
        review: whether somebody should look at it.
        reasons: why, in words; empty where there is nothing to say.
    """

    expected_dice: float | None
    review: bool
    reasons: tuple[str, ...]

    def cells(self) -> dict[str, str]:
        """Cells of ``OPINION_COLUMNS``: a number of four digits or nothing, ``yes`` or ``no``, words."""
        expected = "" if self.expected_dice is None else repr(round(self.expected_dice, 4))
        values = (expected, "yes" if self.review else "no", "; ".join(self.reasons))
        return dict(zip(OPINION_COLUMNS, values, strict=True))


@dataclass(frozen=True, slots=True)
class Quality:
    """The calibration of one model.

    Attributes:
        certainties, dice: ends of the pieces of a rising line, ``certainty`` to expected Dice, both in [0, 1].
        review_below: expected Dice under which a mask is to be looked at.
        photos: that it was fitted on.

    Raises:
        ValueError: the line does not rise, leaves [0, 1] or has less than two ends.
    """

    certainties: tuple[float, ...]
    dice: tuple[float, ...]
    review_below: float = REVIEW_BELOW
    photos: int = 0

    def __post_init__(self) -> None:
        line = np.array([self.certainties, self.dice], np.float64)
        # Written so that NaN fails, too.
        inside = line.shape[1] >= 2 and line.min() >= 0 and line.max() <= 1
        if not (inside and (np.diff(line) >= 0).all()):
            raise ValueError("the ends of the line must rise within [0, 1]")

    def expected_dice(self, value: float) -> float:
        """The Dice to be expected of a mask of this ``certainty``, in [0, 1]."""
        return float(np.interp(value, self.certainties, self.dice))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "certainties": list(self.certainties),
            "dice": list(self.dice),
            "review_below": self.review_below,
            "photos": self.photos,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Quality:
        """The inverse of ``to_json``."""
        ends = {name: tuple(map(float, values[name])) for name in ("certainties", "dice")}
        return cls(**ends, review_below=float(values["review_below"]), photos=int(values["photos"]))


def fit_quality(certainties: Sequence[float], dice: Sequence[float], review_below: float = REVIEW_BELOW) -> Quality:
    """Calibrates on photos whose truth is known.

    Args:
        certainties: of each photo's mask.
        dice: of each photo's mask, at the photo's own size.
        review_below: as in ``Quality``.

    Raises:
        ValueError: there are fewer than 20 photos, or the two differ in length.
    """
    if len(certainties) != len(dice) or len(dice) < FEWEST:
        raise ValueError(f"{len(certainties)} certainties and {len(dice)} values of Dice: at least {FEWEST} of each")
    from scipy.optimize import isotonic_regression

    order = np.argsort(certainties, kind="stable")
    x, y = np.asarray(certainties, np.float64)[order], np.asarray(dice, np.float64)[order]
    steps = isotonic_regression(y).x
    # Between the middles of the steps the line is straight: photos a hair apart should not differ by a whole step.
    ends = [(float(x[steps == level].mean()), float(level)) for level in np.unique(steps)]
    certain, level = ends[0]
    # Less certain than any of them: no more than the certainty itself, and nothing where there is no lesion.
    low = [(0.0, 0.0)] * (certain > 0) + [(level, level)] * (0 < level < certain)
    line = [*low, *ends, (1.0, ends[-1][1])]
    return Quality(
        tuple(round(a, 4) for a, _ in line), tuple(round(b, 4) for _, b in line), review_below, photos=len(x)
    )


def look(
    probability: Probability, quality: Quality | None, threshold: float = THRESHOLD, known: Sequence[str] = ()
) -> Opinion:
    """Judges one mask.

    Args:
        probability: ``float32 h w`` in [0, 1], as the model gives it.
        quality: the model's calibration; without it, only the mask's shape is judged.
        threshold: lesion where the probability is at least this.
        known: reasons that the photo itself gives, in words; they come first.
    """
    mask = probability >= threshold
    if not mask.any():
        return Opinion(None if quality is None else quality.expected_dice(0.0), True, (*known, "no lesion found"))
    reasons = list(known)
    expected = None if quality is None else quality.expected_dice(certainty(probability, threshold))
    if quality is not None and expected is not None and expected < quality.review_below:
        reasons.append("the outline is uncertain")
    sizes = piece_sizes(mask)
    if 1 - max(sizes) / sum(sizes) > _OTHER_PIECES:
        reasons.append(f"{len(sizes)} pieces")
    if (contact := frame_contact(mask)) > _CONTACT:
        reasons.append(f"cut by the frame along {contact:.0%} of it")
    return Opinion(expected, bool(reasons), tuple(reasons))
