"""Paired differences on the same photos: bootstrap intervals, Wilcoxon test, effect size, Holm correction."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "DRAWS",
    "Comparison",
    "PairedDifference",
    "bootstrap_mean",
    "compare_all",
    "holm",
    "paired_difference",
]

DRAWS = 10_000
"""Bootstrap resamples; the interval's ends then move by about 1 % of its width from seed to seed."""

_LEVEL = 0.95
# Indices drawn at once: 16 MB of int64, whatever the number of photos.
_CHUNK = 2_000_000
# Scores are fractions of pixel counts; below this, differences are rounding and must count as ties.
_DECIMALS = 12

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """How two runs differ on the same photos.

    Attributes:
        n: photos.
        mean_difference: mean of ``a - b``.
        low, high: its 95 % percentile bootstrap interval.
        p_value: two-sided Wilcoxon signed-rank test of ``a - b``, in [0, 1].
        wins, ties, losses: photos on which ``a`` is higher than, equal to and lower than ``b``.
        effect_size: matched-pairs rank-biserial correlation, in [-1, 1] (Kerby 2014, doi:10.2466/11.IT.3.1): the part
            of the signed ranks in favour of ``a`` less the part in favour of ``b``; 0 without any difference.
    """

    n: int
    mean_difference: float
    low: float
    high: float
    p_value: float
    wins: int
    ties: int
    losses: int
    effect_size: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """The difference ``a - b`` of two named runs, and its p-value corrected for the number of pairs."""

    a: str
    b: str
    difference: PairedDifference
    p_holm: float


def bootstrap_mean(
    values: ArrayLike, *, draws: int = DRAWS, seed: int = 0, groups: Sequence[str] | None = None
) -> tuple[float, float, float]:
    """Mean and its 95 % percentile bootstrap interval (Efron and Tibshirani, 1993, chapter 13).

    Args:
        values: n finite numbers, one per photo.
        draws: number of resamples.
        seed: of the resampling; the result is a pure function of the arguments.
        groups: one name per value. Photos of one patient or lesion are not independent, so whole groups are drawn
            instead of photos, which widens the interval. With one value or one group it has no width.

    Returns:
        ``(mean, low, high)``.

    Raises:
        ValueError: no values, values that are not finite, or another number of groups than of values.
    """
    array = _vector(values)
    sums, counts = _by_group(array, groups)
    low, high = _interval(sums, counts, draws, seed)
    return float(array.mean()), low, high


def paired_difference(
    a: ArrayLike, b: ArrayLike, *, draws: int = DRAWS, seed: int = 0, groups: Sequence[str] | None = None
) -> PairedDifference:
    """Compares two runs photo by photo.

    Args:
        a, b: n finite scores each, in the same order of photos.
        draws, seed, groups: as in ``bootstrap_mean``. With groups the test is made on the mean difference of each
            group, so that its observations are independent; wins, ties and losses still count photos.

    Raises:
        ValueError: nothing to compare, different lengths, or values that are not finite.
    """
    left, right = _vector(a), _vector(b)
    if left.shape != right.shape:
        raise ValueError(f"cannot pair {left.size} scores with {right.size}")
    difference = np.round(left - right, _DECIMALS)
    sums, counts = _by_group(difference, groups)
    low, high = _interval(sums, counts, draws, seed)
    independent = np.round(sums / counts, _DECIMALS)
    return PairedDifference(
        n=difference.size,
        mean_difference=float(difference.mean()),
        low=low,
        high=high,
        p_value=_signed_rank(independent),
        wins=int((difference > 0).sum()),
        ties=int((difference == 0).sum()),
        losses=int((difference < 0).sum()),
        effect_size=_rank_biserial(independent),
    )


def compare_all(
    scores: Mapping[str, ArrayLike], *, draws: int = DRAWS, seed: int = 0, groups: Sequence[str] | None = None
) -> list[Comparison]:
    """Every pair of runs, the earlier one minus the later one, with Holm-corrected p-values.

    Args:
        scores: run name -> n scores, all in the same order of photos.
        draws, seed, groups: as in ``paired_difference``.

    Returns:
        One comparison per pair, none for a single run.
    """
    pairs = list(itertools.combinations(scores, 2))
    found = [paired_difference(scores[a], scores[b], draws=draws, seed=seed, groups=groups) for a, b in pairs]
    corrected = holm([difference.p_value for difference in found])
    return [Comparison(a, b, d, p) for (a, b), d, p in zip(pairs, found, corrected, strict=True)]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Scandinavian Journal of Statistics 6, 1979), in the order given.

    Raises:
        ValueError: a p-value is not in [0, 1].
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"p-values must be in [0, 1], got {list(p_values)}")
    corrected = [0.0] * len(p_values)
    reached = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        # A smaller p-value never ends up with the larger corrected one.
        reached = max(reached, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = reached
    return corrected


def _vector(values: ArrayLike) -> Values:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"need one score per photo and at least one photo, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{int((~np.isfinite(array)).sum())} of {array.size} scores are not finite")
    return array


def _by_group(values: Values, groups: Sequence[str] | None) -> tuple[Values, Values]:
    """Sum and size of each group; without groups every value is its own."""
    if groups is None:
        return values, np.ones_like(values)
    if len(groups) != values.size:
        raise ValueError(f"{len(groups)} groups for {values.size} scores")
    _, index = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    return np.bincount(index, weights=values).astype(np.float64), np.bincount(index).astype(np.float64)


def _interval(sums: Values, counts: Values, draws: int, seed: int) -> tuple[float, float]:
    if draws < 1:
        raise ValueError(f"need at least one draw, got {draws}")
    rng = np.random.default_rng(seed)
    means = np.empty(draws)
    # Groups of one photo each add up to as many photos as are drawn.
    alone = bool((counts == 1).all())
    step = max(1, _CHUNK // sums.size)
    for start in range(0, draws, step):
        stop = min(start + step, draws)
        drawn = rng.integers(0, sums.size, size=(stop - start, sums.size))
        sizes = sums.size if alone else counts[drawn].sum(axis=1)
        means[start:stop] = sums[drawn].sum(axis=1) / sizes
    low, high = np.quantile(means, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return float(low), float(high)


def _signed_rank(differences: Values) -> float:
    """Two-sided p-value; zero differences carry no sign and are left out, as Wilcoxon (1945) did."""
    from scipy.stats import wilcoxon

    signed = differences[differences != 0]
    if signed.size == 0:
        return 1.0
    return min(1.0, float(wilcoxon(signed).pvalue))


def _rank_biserial(differences: Values) -> float:
    from scipy.stats import rankdata

    signed = differences[differences != 0]
    if signed.size == 0:
        return 0.0
    ranks = rankdata(np.abs(signed))
    return float((ranks * np.sign(signed)).sum() / ranks.sum())
