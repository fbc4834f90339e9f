"""Scores of parts of the photos: by diagnosis and other labels, lesion size, skin tone, hair, ruler and source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from lesionseg.evaluation.columns import FURTHER, PER_IMAGE
from lesionseg.evaluation.runs import RunResult, scores_of, shared_groups
from lesionseg.evaluation.statistics import Comparison, bootstrap_mean, paired_difference

__all__ = ["FEW", "SKIN_TONES", "largest_differences", "skin_tone", "subgroup_table", "subgroups_of"]

FEW = 20
"""Photos below which a subgroup's figures are marked: its interval is wide and its bootstrap is not to be trusted."""

SKIN_TONES = {"very light": 55, "light": 41, "intermediate": 28, "tan": 10, "brown": -30, "dark": -180}
"""Class -> the angle in degrees above which it begins (Del Bino & Bernerd 2013, doi:10.1111/bjd.12529)."""

_MANY = 12
_SHOWN = 10
_OWN = {*PER_IMAGE, *FURTHER}
_QUARTERS = ("smallest", "second", "third", "largest")
# Two photos of one camera may differ by a pixel after scaling.
_SAME_ASPECT = 0.02

Groups = dict[str, dict[str, list[int]]]


def skin_tone(ita: float) -> str:
    """The class of ``SKIN_TONES`` that an angle in degrees falls into."""
    return next(name for name, above in SKIN_TONES.items() if ita > above)


def subgroups_of(results: Sequence[RunResult]) -> Groups:
    """Attribute -> subgroup -> positions of its photos in the order of the case ids.

    Attributes that do not divide the photos are left out, as are labels of more than twelve values. A photo whose
    attribute is unknown is in no subgroup of it.

    Args:
        results: runs of the same cases; those scored without photos know fewer attributes than others.
    """
    found = next((labels for result in results if (labels := _labels(result))), {})
    found["lesion size"] = _quarters(results[0].per_image["lesion_fraction"].to_numpy(np.float64))
    known = next((r for r in results if r.per_image["hair"].notna().any()), None)
    if known is not None:
        found |= _traits(known.per_image)
    divided: Groups = {}
    for attribute, values in found.items():
        members: dict[str, list[int]] = {}
        for index, value in enumerate(values):
            if value:
                members.setdefault(value, []).append(index)
        if len(members) > 1:
            divided[attribute] = {name: members[name] for name in sorted(members, key=_order)}
    return divided


def _labels(result: RunResult) -> dict[str, list[str]]:
    frame = result.per_image
    columns = {str(name): [str(cell) for cell in frame[name]] for name in frame if name not in _OWN}
    return {name: cells for name, cells in columns.items() if 1 < len(set(cells) - {""}) <= _MANY}


def _quarters(fraction: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> list[str]:
    ends = np.quantile(fraction, (0.25, 0.5, 0.75))
    names = [
        f"{name} quarter ({low:.1%} to {high:.1%})"
        for name, low, high in zip(_QUARTERS, (fraction.min(), *ends), (*ends, fraction.max()), strict=True)
    ]
    return [names[index] for index in np.searchsorted(ends, fraction)]


def _traits(frame: pd.DataFrame) -> dict[str, list[str]]:
    tones = [skin_tone(angle) if np.isfinite(angle) else "" for angle in frame["ita"]]
    shapes = [f"{round(value / _SAME_ASPECT) * _SAME_ASPECT:.2f} : 1" for value in frame["aspect"]]
    usual = Counter(shapes)
    found = {"skin tone (ITA)": tones}
    for name in ("hair", "ruler"):
        words = {0.0: f"no {name}", 1.0: name}
        found[name] = [words.get(value, "") for value in frame[name]]
    # Each of the collections that ISIC gathered has its camera, and each camera its format.
    found["photo format"] = [shape if usual[shape] >= FEW else "other" for shape in shapes]
    return found


def _order(name: str) -> tuple[int, str]:
    """Skin tones from light to dark and quarters from small to large; everything else by name."""
    ranked = [*SKIN_TONES, *_QUARTERS]
    first = name.partition(" quarter")[0]
    return (ranked.index(first), "") if first in ranked else (len(ranked), name)


def subgroup_table(results: Sequence[RunResult], dice: Sequence[Comparison]) -> pd.DataFrame:
    """One row per attribute, subgroup and run: ``n``, mean Dice with its 95 % interval, and whether ``few``.

    Where there are several runs, a row of the first pair of ``dice`` follows those: ``kind`` is then ``difference``
    and not ``mean``, ``run`` is ``a − b``, and ``dice`` the mean paired difference.
    """
    scores, clusters = scores_of(results, "dice"), shared_groups(results)
    rows = []
    for attribute, members in subgroups_of(results).items():
        for name, indices in members.items():
            own = [clusters[i] for i in indices] if clusters else None
            same = {"attribute": attribute, "subgroup": name, "n": len(indices), "few": len(indices) < FEW}
            for run, values in scores.items():
                mean, low, high = bootstrap_mean(values[indices], groups=own)
                rows.append({**same, "kind": "mean", "run": run, "dice": mean, "low": low, "high": high})
            if dice:
                a, b = dice[0].a, dice[0].b
                d = paired_difference(scores[a][indices], scores[b][indices], groups=own)
                found = {"dice": d.mean_difference, "low": d.low, "high": d.high}
                rows.append({**same, "kind": "difference", "run": f"{a} − {b}", **found})
    return pd.DataFrame(rows, columns=["attribute", "subgroup", "kind", "run", "n", "few", "dice", "low", "high"])


def largest_differences(results: Sequence[RunResult], dice: Sequence[Comparison], shown: int = _SHOWN) -> pd.DataFrame:
    """For each pair of runs, the photos on which their Dice differs most, the largest difference first."""
    scores = scores_of(results, "dice")
    ids = results[0].per_image["case_id"].tolist()
    rows = []
    for pair in dice:
        difference = scores[pair.a] - scores[pair.b]
        for i in np.argsort(-np.abs(difference), kind="stable")[:shown]:
            both = {"dice_a": float(scores[pair.a][i]), "dice_b": float(scores[pair.b][i])}
            if difference[i]:
                row = {"run_a": pair.a, "run_b": pair.b, "case_id": ids[i], **both}
                rows.append(row | {"difference": float(difference[i])})
    return pd.DataFrame(rows, columns=["run_a", "run_b", "case_id", "dice_a", "dice_b", "difference"])
