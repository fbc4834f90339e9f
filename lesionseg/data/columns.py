"""Which column of a table holds what: by its name, and by the caller's choice where names leave it open."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from lesionseg.data.files import IMAGE_SUFFIXES
from lesionseg.errors import DataError
from lesionseg.io.tables import Row, Table, column_key

__all__ = [
    "DIAGNOSES",
    "GROUPS",
    "IDS",
    "SPLITS",
    "Candidate",
    "Kind",
    "choose",
    "find_ids",
    "has_header",
    "is_unknown",
    "table_id",
]

# What tables write where a patient or lesion is not known; linking these would make one group of strangers.
_UNKNOWN = frozenset({"", "-", "?", "n/a", "na", "nan", "none", "null", "unknown"})
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Kind:
    """What a column can hold.

    Attributes:
        what: how messages call it.
        names: of columns that hold it, as ``column_key`` writes them.
        option: the command-line option that names such a column; empty where there is none.
    """

    what: str
    names: tuple[str, ...]
    option: str = ""

    @property
    def remedy(self) -> str:
        """How to say which column is meant."""
        rename = f"name its column {self.names[0]}"
        return f"choose it with {self.option} NAME, or {rename}" if self.option else rename


IDS = Kind(
    "image id",
    (
        *("case_id", "image", "image_id", "image_name", "image_file", "isic_id", "id", "img", "img_id"),
        *("file", "file_name", "filename", "photo", "photo_id"),
    ),
    "--id-column",
)
DIAGNOSES = Kind(
    "diagnosis",
    (
        *("diagnosis", "dx", "label", "class", "target", "benign_malignant", "malignant", "is_malignant", "diagnostic"),
        *(f"diagnosis_{level}" for level in range(1, 6)),
    ),
    "--label-column",
)
GROUPS = Kind(
    "group",
    ("group", "group_id", "patient", "patient_id", "lesion", "lesion_id", "subject", "subject_id"),
    "--group-column",
)
SPLITS = Kind("split", ("split", "set", "subset", "partition"))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A column, or several that together are one, and its value in each row; None where a row is too short."""

    names: tuple[str, ...]
    values: tuple[str | None, ...]

    @property
    def label(self) -> str:
        """Its names and first values, for messages."""
        distinct = list(dict.fromkeys(value for value in self.values if value))
        shown = ", ".join(distinct[:_SHOWN]) + (", ..." if len(distinct) > _SHOWN else "")
        return f"{', '.join(self.names)} ({shown})"


def is_unknown(value: str) -> bool:
    """Whether a cell says that a patient or lesion is not known."""
    return value.strip().lower() in _UNKNOWN


def table_id(cell: str) -> str:
    """The case id in a table's cell, which may hold a file name: ``photos/ISIC_0000000.jpg`` -> ``ISIC_0000000``."""
    name = re.split(r"[/\\]", cell)[-1] or cell
    for suffix in IMAGE_SUFFIXES:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            name = name[: -len(suffix)]
            break
    # One letter with an accent has two spellings, and file systems disagree on which they keep.
    return unicodedata.normalize("NFC", name)


def has_header(first: Row, kinds: Sequence[Kind], chosen: Sequence[str | None]) -> bool:
    """Whether a table's first row names columns: known ones, or one that the caller has chosen."""
    keys = {column_key(cell) for cell in first.cells}
    wanted = {column_key(name) for name in chosen if name} | {name for kind in kinds for name in kind.names}
    return not keys.isdisjoint(wanted)


def find_ids(table: Table, chosen: str | None = None) -> tuple[str | None, ...]:
    """The case id of each row.

    Args:
        table: any table.
        chosen: the name of the column; None finds it among the names of ``IDS``.

    Raises:
        DataError: there is no such column, or several that differ.
    """
    found = [
        Candidate((name,), tuple(None if cell is None else table_id(cell) for cell in table.column(index)))
        for index, name in enumerate(table.header)
        if column_key(name) in IDS.names or chosen
    ]
    return choose(table, IDS, found, chosen).values


def choose(table: Table, kind: Kind, candidates: Sequence[Candidate], chosen: str | None = None) -> Candidate:
    """The one column that holds what is asked for.

    Columns that hold the same in every row count as one. Columns without any known value do not count, unless chosen.

    Raises:
        DataError: there is no such column, or several that differ; all are listed.
    """
    named = _named(candidates, chosen) if chosen else _with_values(candidates)
    if not named:
        columns = ", ".join(table.header) or "nothing"
        known = f"known names: {', '.join(kind.names)}"
        missing = f"no column {chosen!r}" if chosen else f"no column with a name that is known for the {kind.what}"
        raise DataError(f"{table.where} has {missing}", problems=[f"its columns: {columns}", known], fix=kind.remedy)
    if any(one.values != named[0].values for one in named):
        raise DataError(
            f"{table.where} has {len(named)} columns that may hold the {kind.what}",
            problems=[one.label for one in named],
            fix=kind.remedy if not chosen else "give its columns different names",
        )
    return named[0]


def _named(candidates: Sequence[Candidate], name: str) -> list[Candidate]:
    """The candidates of that very name, or else those whose names differ only in case and underscores."""
    same = [one for one in candidates if name in one.names]
    return same or [one for one in candidates if column_key(name) in map(column_key, one.names)]


def _with_values(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates with a known value; where nothing is known, the first one."""
    known = [one for one in candidates if any(value and not is_unknown(value) for value in one.values)]
    return known or list(candidates[:1])
