"""Splits that keep every group (patient, lesion, duplicate cluster) on one side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from lesionseg.errors import DataError
from lesionseg.records import Case

__all__ = ["hold_out"]


def hold_out(cases: Sequence[Case], fraction: float, seed: int) -> tuple[list[Case], list[Case]]:
    """Splits cases into a part to keep and a part to hold out, whole groups at a time.

    Groups are shuffled and held out one after the other where that brings the held-out part nearer to its share; where
    none does, the smallest is held out.
    The result depends on the ids, the fraction and the seed alone, not on the order of the cases.

    Args:
        cases: at least two groups of them.
        fraction: the share of cases to hold out, in (0, 1).
        seed: of the shuffling.

    Returns:
        kept, held out; both in the order given, neither empty.

    Raises:
        DataError: there are fewer than two groups.
    """
    sizes = Counter(case.group for case in cases)
    if len(sizes) < 2:
        raise DataError(
            f"{len(cases)} cases in {len(sizes)} group cannot be split",
            fix="give at least two groups, or a manifest with its own 'val' split",
        )
    names = sorted(sizes)
    np.random.default_rng((seed, len(names))).shuffle(names)
    want = fraction * len(cases)
    held: set[str] = set()
    count = 0
    for name in names:
        if len(held) < len(names) - 1 and abs(count + sizes[name] - want) < abs(count - want):
            held.add(name)
            count += sizes[name]
    held = held or {min(names, key=lambda name: sizes[name])}
    return [c for c in cases if c.group not in held], [c for c in cases if c.group in held]
