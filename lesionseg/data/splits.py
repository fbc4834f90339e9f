"""Splits that keep every group (patient, lesion, duplicate cluster) on one side."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lesionseg.data.columns import is_unknown, table_id
from lesionseg.data.label_tables import read_splits
from lesionseg.errors import DataError
from lesionseg.records import Case

if TYPE_CHECKING:
    from lesionseg.data.manifest import Manifest

__all__ = ["OFFICIAL", "Link", "clusters", "hold_out", "k_fold", "official_split", "training_parts"]

Link = str | tuple[str, str]
"""What ties cases together: the name of a column (``"patient_id"``), or the ids of two cases."""

OFFICIAL = ("isic2016", "isic2017", "isic2018")
"""Data sets with a published split; the lists that ship lie in ``data/official``."""

_LISTS = Path(__file__).parent / "official"


def hold_out(
    cases: Sequence[Case], fraction: float, seed: int, stratify: str | None = None
) -> tuple[list[Case], list[Case]]:
    """Splits cases into a part to keep and a part to hold out, whole groups at a time.

    Groups are shuffled and held out one after the other where that brings the held-out part nearer to its share; where
    none does, the smallest is held out. With ``stratify``, nearer means nearer to the share of every stratum, and then
    groups are moved where that mends the total.
    The result depends on the ids, the fraction and the seed alone, not on the order of the cases.

    Args:
        cases: at least two groups of them.
        fraction: the share of cases to hold out, in (0, 1).
        seed: of the shuffling.
        stratify: a column whose values are to be as frequent in both parts, for example ``diagnosis``.

    Returns:
        kept, held out; both in the order given, neither empty.

    Raises:
        DataError: there are fewer than two groups, or no case has the column.
    """
    sizes = Counter(case.group for case in cases)
    if len(sizes) < 2:
        raise DataError(
            f"{len(cases)} cases in {len(sizes)} group cannot be split",
            fix="give at least two groups, or a manifest with its own 'val' split",
        )
    if not 0 < fraction < 1:
        raise DataError(f"{fraction} of the cases cannot be held out", fix="give a fraction between 0 and 1")
    names = sorted(sizes)
    np.random.default_rng((seed, len(names))).shuffle(names)
    if stratify is None:
        held = _nearest(names, sizes, fraction * len(cases))
    else:
        held = _nearest_by_stratum(names, _strata(cases, stratify), fraction)
    held = held or {min(names, key=lambda name: sizes[name])}
    return [c for c in cases if c.group not in held], [c for c in cases if c.group in held]


def training_parts(manifest: Manifest, fraction: float, seed: int) -> tuple[Sequence[Case], Sequence[Case]]:
    """What a run trains with and what it is validated with: the manifest's ``val`` split, or else a held-out part.

    Raises:
        DataError: there is no ``train`` split, or it cannot be divided.
    """
    train = manifest.split("train")
    if any(case.split == "val" for case in manifest.cases):
        return train, manifest.split("val")
    return hold_out(train, fraction, seed)


def _nearest(names: Sequence[str], sizes: Mapping[str, int], want: float) -> set[str]:
    held: set[str] = set()
    count = 0
    for name in names:
        if len(held) < len(names) - 1 and abs(count + sizes[name] - want) < abs(count - want):
            held.add(name)
            count += sizes[name]
    return held


def _strata(cases: Sequence[Case], column: str) -> dict[str, Counter[str]]:
    """Group -> how many of its cases each value of the column has; a case without the column counts as empty."""
    known = sorted({name for case in cases for name in case.labels})
    if column not in known:
        raise DataError(
            f"no case has a column {column!r} to stratify by",
            fix=f"use one of: {', '.join(known) or '(there is none)'}; or do not stratify",
        )
    strata: dict[str, Counter[str]] = defaultdict(Counter)
    for case in cases:
        strata[case.group][case.labels.get(column, "")] += 1
    return strata


def _nearest_by_stratum(names: Sequence[str], strata: Mapping[str, Counter[str]], fraction: float) -> set[str]:
    missing: dict[str, float] = defaultdict(float)
    for counts in strata.values():
        for stratum, count in counts.items():
            missing[stratum] += fraction * count
    held: set[str] = set()

    def worsening(name: str, sign: int) -> float:
        # By how much the squared distance from the wanted counts grows if the group is held out (1) or kept (-1).
        return sum(count * (count - sign * 2 * missing[stratum]) for stratum, count in sorted(strata[name].items()))

    def move(name: str, sign: int) -> None:
        (held.add if sign > 0 else held.discard)(name)
        for stratum, count in strata[name].items():
            missing[stratum] -= sign * count

    for name in names:
        if len(held) < len(names) - 1 and worsening(name, 1) < 0:
            move(name, 1)
    # Every stratum was rounded by itself; many small ones can add up to far too few or too many.
    sign = 1 if sum(missing.values()) > 0 else -1
    while True:
        # A group is worth moving if it is smaller than twice what is missing; the margin is for sums like 0.1 + 0.2.
        below = 2 * sign * sum(missing.values()) - 1e-9
        able = [name for name in names if (name in held) == (sign < 0) and strata[name].total() < below]
        if not able or len(held) == (len(names) - 1 if sign > 0 else 1):
            return held
        move(min(able, key=lambda name: worsening(name, sign)), sign)


def k_fold(
    cases: Sequence[Case], folds: int, seed: int, stratify: str | None = "diagnosis"
) -> list[tuple[list[Case], list[Case]]]:
    """Splits cases into folds of about one size and one mixture, whole groups at a time.

    The largest groups are dealt first, each to the fold that has the smallest share of what the group consists of; the
    seed decides the order among groups of one size. The result depends on the ids, the number of folds and the seed
    alone, not on the order of the cases. Where no group holds two strata, the counts of a stratum differ between folds
    by at most the largest group of that stratum; where all groups are single cases, sizes too differ by at most one.

    Args:
        cases: at least as many groups of them as folds, every id once.
        folds: 2 or more.
        seed: of the shuffling.
        stratify: a column whose values are to be as frequent in all folds; None looks at the sizes alone.

    Returns:
        for every fold the rest and the fold itself, both in the order given, neither empty; every case is in exactly
        one fold.

    Raises:
        DataError: there are too few groups or folds, an id comes twice, or no case has the column.
    """
    _require_unique(cases)
    strata = {c.group: Counter[str]() for c in cases} if stratify is None else _strata(cases, stratify)
    if stratify is None:
        for case in cases:
            strata[case.group][""] += 1
    if folds < 2 or len(strata) < folds:
        raise DataError(
            f"{len(cases)} cases in {len(strata)} groups cannot be split into {folds} folds",
            fix=f"use 2 to {len(strata)} folds" if len(strata) > 1 else "give at least two groups",
        )
    names = sorted(strata)
    np.random.default_rng((seed, len(names))).shuffle(names)
    # Strata one after the other within a size: then what one leaves uneven the next evens out.
    names.sort(key=lambda name: (-strata[name].total(), sorted(strata[name].items())))
    totals: Counter[str] = sum(strata.values(), Counter())
    filled: list[Counter[str]] = [Counter() for _ in range(folds)]
    fold_of: dict[str, int] = {}
    for name in names:
        group = sorted(strata[name].items())
        shares = [sum(count * fold[key] / totals[key] for key, count in group) for fold in filled]
        fold_of[name] = min(range(folds), key=lambda f: (shares[f], filled[f].total()))
        filled[fold_of[name]] += strata[name]
    return [
        ([c for c in cases if fold_of[c.group] != fold], [c for c in cases if fold_of[c.group] == fold])
        for fold in range(folds)
    ]


def clusters(cases: Sequence[Case], *links: Link) -> list[Case]:
    """Merges groups that any link ties together: two photos of one patient and a near-duplicate of one are one group.

    Cases that already share a group stay together. An empty or unknown value of a column ties nothing.

    Args:
        cases: every id once.
        links: names of columns, and pairs of case ids; for example ``"patient_id", "lesion_id", *near_duplicates``.

    Returns:
        the cases in the order given, with one group per connected component, called as the first of its groups.

    Raises:
        DataError: listing every column that no case has, every id that is not among the cases, and repeated ids.
    """
    _require_unique(cases)
    group_of = {case.case_id: case.group for case in cases}
    columns = {"group"}.union(*(case.labels for case in cases))
    parent = {group: group for group in group_of.values()}
    problems: list[str] = []
    for link in links:
        if isinstance(link, str):
            if link not in columns:
                problems.append(f"no case has a column {link!r}")
            pairs = _same_value(cases, link)
        else:
            problems += [f"{case_id} is linked but not among the cases" for case_id in link if case_id not in group_of]
            pairs = [(group_of[link[0]], group_of[link[1]])] if group_of.keys() >= set(link) else []
        for one, other in pairs:
            first, second = sorted((_root(parent, one), _root(parent, other)))
            parent[second] = first
    if problems:
        raise DataError(
            "these links cannot be followed",
            problems=dict.fromkeys(problems),
            fix=f"link by ids of these cases, or by one of the columns {', '.join(sorted(columns))}",
        )
    return [replace(case, group=_root(parent, case.group)) for case in cases]


def _same_value(cases: Sequence[Case], column: str) -> list[tuple[str, str]]:
    """Pairs of groups with a case of one known value of the column each."""
    first: dict[str, str] = {}
    values = [(case.labels.get(column, "").strip(), case.group) for case in cases]
    return [(first.setdefault(value, group), group) for value, group in values if not is_unknown(value)]


def _root(parent: dict[str, str], group: str) -> str:
    while parent[group] != group:
        # Halving the path keeps long chains from costing a walk each.
        parent[group] = parent[parent[group]]
        group = parent[group]
    return group


def _require_unique(cases: Sequence[Case]) -> None:
    repeated = [case_id for case_id, count in Counter(case.case_id for case in cases).items() if count > 1]
    if repeated:
        raise DataError("case ids come more than once", problems=repeated, fix="give every case once")


def official_split(cases: Sequence[Case], name: str | Path) -> list[Case]:
    """Gives every case the split that the data set's authors published.

    Args:
        cases: of the data set, all or some of them.
        name: ``isic2016``, or a CSV with columns for the id and the ``split`` (train, val or test).

    Returns:
        the cases in the order given, with their official split.

    Raises:
        DataError: there is no such list, it is malformed, or it leaves cases out.
    """
    path = _find_list(name)
    splits = read_splits(path)
    # Ids in a table may have lost what looks like a file's ending.
    found = [splits.get(case.case_id, splits.get(table_id(case.case_id))) for case in cases]
    absent = [case.case_id for case, split in zip(cases, found, strict=True) if split is None]
    if absent:
        raise DataError(
            f"{len(absent)} of {len(cases)} cases are not in the official list {path.name}",
            problems=absent,
            fix="check that the cases belong to this data set, or leave these out",
        )
    return [replace(case, split=split) for case, split in zip(cases, found, strict=True) if split is not None]


def _find_list(name: str | Path) -> Path:
    shipped = {path.stem: path for path in sorted(_LISTS.glob("*.csv"))}
    if str(name) in shipped:
        return shipped[str(name)]
    if Path(name).suffix.lower() in (".csv", ".tsv", ".txt"):
        return Path(name)
    reason = "is not shipped with lesionseg" if str(name) in OFFICIAL else "is not known"
    raise DataError(
        f"the official split of {name} {reason}",
        fix=f"use {', '.join(shipped)}; or write the published ids into a CSV with the columns case_id and split, "
        "and give its path in place of the name",
    )
