"""A manifest in, manifests with another split out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lesionseg.data.duplicates import duplicate_groups
from lesionseg.data.manifest import Manifest, manifest_outputs, write_manifest
from lesionseg.data.splits import clusters, hold_out, k_fold, official_split
from lesionseg.errors import ConfigError, DataError
from lesionseg.records import Case

__all__ = ["SplitOptions", "split_manifest", "split_outputs"]

_HELD_BACK = "test"
_MOST_FOLDS = 10_000


@dataclass(frozen=True, slots=True)
class SplitOptions:
    """How to split; exactly one of the first three.

    Attributes:
        official: a data set whose published split is taken, or a CSV of case_id and split.
        folds: number of folds for cross-validation.
        fraction: share of the cases to hold out as ``val``.
        links: columns whose equal values keep cases together, for example ``("patient_id", "lesion_id")``.
        near_duplicates: keep near-duplicate photos together; looks at every photo.
        stratify: a column whose values are to be as frequent in every part; None looks at sizes alone.
        seed: of the shuffling.

    Raises:
        ConfigError: none, or more than one, of the three ways is asked for, or an official split with what would
            change it.
    """

    official: str | None = None
    folds: int | None = None
    fraction: float | None = None
    links: Sequence[str] = ()
    near_duplicates: bool = False
    stratify: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        ways = [name for name in ("official", "folds", "fraction") if getattr(self, name) is not None]
        if len(ways) != 1:
            asked = " and ".join(ways) or "nothing"
            raise ConfigError(f"{asked} is asked for", fix="give one: an official split, folds, or a fraction")
        if self.folds is not None and self.folds > _MOST_FOLDS:
            raise ConfigError(f"there are no {self.folds} folds", fix=f"use at most {_MOST_FOLDS}")
        if self.official is not None and (self.links or self.near_duplicates or self.stratify):
            raise ConfigError(
                "an official split is taken as it is: it is neither linked, stratified nor kept from near-duplicates",
                fix="leave these options out, or give folds or a fraction; 'lesionseg data audit' finds what leaks",
            )


def split_outputs(output: Path, options: SplitOptions) -> list[Path]:
    """Return every file that ``split_manifest`` writes."""
    manifest_outputs(output)
    tables = [output] if options.folds is None else [_fold(output, number + 1) for number in range(options.folds)]
    return [file for table in tables for file in manifest_outputs(table)]


def _fold(output: Path, number: int) -> Path:
    return output.with_stem(f"{output.stem}-fold{number}")


def split_manifest(manifest: Manifest, output: Path, options: SplitOptions) -> list[Path]:
    """Splits a manifest's cases; cases that are ``test`` already stay so, and never share a group with the others.

    Args:
        manifest: the cases.
        output: the CSV to write; with folds, ``<stem>-fold1.csv`` and so on beside it.
        options: how to split.

    Returns:
        the manifests that were written.

    Raises:
        DataError: groups hold test cases and others (all are listed); there are too few groups; a column or list
            does not fit.
        OutputError: a manifest cannot be written.
    """
    cases = list(manifest.cases)
    if options.official is not None:
        return [_write(official_split(cases, options.official), output, manifest)]
    links: list[str | tuple[str, str]] = list(options.links)
    if options.near_duplicates:
        links += _pairs(duplicate_groups(cases))
    grouped = clusters(cases, *links)
    _refuse_straddling(grouped)
    test = [case for case in grouped if case.split == _HELD_BACK]
    rest = [case for case in grouped if case.split != _HELD_BACK]
    if options.fraction is not None:
        kept, held = hold_out(rest, options.fraction, options.seed, options.stratify)
        return [_write([*_as(kept, "train"), *_as(held, "val"), *test], output, manifest)]
    folds = k_fold(rest, options.folds or 0, options.seed, options.stratify)
    return [
        _write([*_as(kept, "train"), *_as(held, "val"), *test], _fold(output, number), manifest)
        for number, (kept, held) in enumerate(folds, start=1)
    ]


def _pairs(group_of: dict[str, str]) -> list[tuple[str, str]]:
    first: dict[str, str] = {}
    return [(first.setdefault(group, case_id), case_id) for case_id, group in group_of.items()]


def _refuse_straddling(cases: Sequence[Case]) -> None:
    groups: dict[str, dict[bool, list[str]]] = {}
    for case in cases:
        groups.setdefault(case.group, {}).setdefault(case.split == _HELD_BACK, []).append(case.case_id)
    problems = [
        f"{', '.join(sides[True])} (test) with {', '.join(sides[False])}"
        for sides in groups.values()
        if len(sides) == 2
    ]
    if problems:
        raise DataError(
            "these cases belong together, but only some of them are test",
            problems=problems,
            fix="take one side of each line out of the manifest, then split again",
        )


def _as(cases: Sequence[Case], split: str) -> list[Case]:
    return [replace(case, split=split) for case in cases]


def _write(cases: Sequence[Case], path: Path, manifest: Manifest) -> Path:
    write_manifest(cases, path, manifest.root)
    return path
