"""Tables of diagnoses, groups and splits by image, as data sets publish them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from lesionseg.data.columns import (
    DIAGNOSES,
    GROUPS,
    IDS,
    SPLITS,
    Candidate,
    choose,
    find_ids,
    has_header,
)
from lesionseg.errors import DataError
from lesionseg.io.tables import Row, Table, column_key, read_rows

__all__ = ["merge_labels", "read_groups", "read_labels", "read_splits"]

_BINARY = {"0": "benign", "1": "malignant", "benign": "benign", "malignant": "malignant"}
_TRUTH = {"false": "benign", "true": "malignant"}
_FLAGS = {"0": False, "1": True}
# Columns of one-hot tables: ISIC 2017 to 2019, MILK10k, and diagnoses written out.
_CLASSES = frozenset(
    (
        *("mel", "nv", "bcc", "ak", "akiec", "bkl", "df", "vasc", "scc", "sccka", "unk", "inf", "ben_oth", "mal_oth"),
        *("melanoma", "nevus", "naevus", "seborrheic_keratosis", "basal_cell_carcinoma", "squamous_cell_carcinoma"),
        *("actinic_keratosis", "benign_keratosis", "dermatofibroma", "vascular_lesion", "benign", "malignant"),
    )
)
# The published table of ISIC 2017 leaves out the third class: a row without any 1 is a nevus.
_ISIC_2017 = {"melanoma", "seborrheic_keratosis"}
_ONE_LABEL, _CORRECT = "does not give one value per id", "correct these rows"


def read_labels(path: Path, *, id_column: str | None = None, label_column: str | None = None) -> dict[str, str]:
    """Case id -> diagnosis; ids without a diagnosis are left out.

    Columns are found by name. A column that holds nothing but 0 and 1, or benign and malignant, gives ``benign`` and
    ``malignant``. One-hot columns, as in ISIC 2017 to 2019, give the name of the column. A table of two columns without
    header is read where the second one holds only 0 and 1, or benign and malignant, as in ISIC 2016.

    Args:
        path: a CSV; commas, semicolons or tabs, UTF-8 or UTF-16.
        id_column: the column with the ids, which may be file names.
        label_column: the column with the diagnoses; any one of one-hot columns stands for all of them.

    Raises:
        DataError: it cannot be read; a column is missing, or several differ; a row is malformed; or an id comes twice
            with different diagnoses.
    """
    rows = read_rows(path, fix="pass a CSV with an id and a diagnosis per image")
    if _is_isic_2016(rows):
        rows = [Row(0, ("case_id", "diagnosis")), *rows]
    table = _with_header(rows, path, (id_column, label_column))
    ids = find_ids(table, id_column)
    found = choose(table, DIAGNOSES, list(_diagnoses(table, label_column)), label_column)
    return _by_id(table, ids, found)


def read_groups(path: Path, *, id_column: str | None = None, group_column: str | None = None) -> dict[str, str]:
    """Case id -> patient, lesion or other group; ids without a group are left out.

    Args:
        path: as in ``read_labels``.
        id_column: the column with the ids.
        group_column: the column with the groups.

    Raises:
        DataError: as in ``read_labels``.
    """
    rows = read_rows(path, fix="pass a CSV with an id and a group per image")
    table = _with_header(rows, path, (id_column, group_column))
    ids = find_ids(table, id_column)
    columns = _columns(table, GROUPS.names, group_column)
    return _by_id(table, ids, choose(table, GROUPS, columns, group_column))


def read_splits(path: Path) -> dict[str, str]:
    """Case id -> ``train``, ``val`` or ``test``, from a table with columns for the id and the split.

    Raises:
        DataError: as in ``read_labels``, or a row holds another split.
    """
    table = _with_header(read_rows(path, fix="pass a CSV with the columns case_id and split"), path, ())
    ids = find_ids(table)
    found = choose(table, SPLITS, _columns(table, SPLITS.names, None))
    problems = [
        f"row {row.line}: needs a case_id and train, val or test, has {case_id or ''!r} and {split or ''!r}"
        for row, case_id, split in zip(table.rows, ids, found.values, strict=True)
        if not case_id or split not in ("train", "val", "test")
    ]
    if problems:
        raise DataError(f"{path} is not a list of splits", problems=problems, fix=_CORRECT)
    return _by_id(table, ids, found)


def _is_isic_2016(rows: Sequence[Row]) -> bool:
    """Whether these are ids with 0 and 1, or benign and malignant, below no header."""
    return bool(rows) and all(len(row.cells) == 2 and row.cells[0] and _plain(row.cells[1]) in _BINARY for row in rows)


def _with_header(rows: list[Row], path: Path, chosen: Sequence[str | None]) -> Table:
    if rows and not has_header(rows[0], (IDS, DIAGNOSES, GROUPS, SPLITS), chosen):
        raise DataError(
            f"{path} has no header with a known column",
            problems=[f"its first row: {', '.join(rows[0].cells)}"],
            fix=f"name the columns in its first row: {IDS.names[0]}, and {DIAGNOSES.names[0]}, {GROUPS.names[0]} or "
            f"{SPLITS.names[0]}",
        )
    table = Table.of_rows(rows, str(path))
    if not table.rows:
        raise DataError(f"{path} has no row below its header", fix="pass the table with its rows")
    if problems := table.misfits():
        raise DataError(f"{path} has rows that are longer than its header", problems=problems, fix=_CORRECT)
    return table


def _columns(table: Table, names: Iterable[str], chosen: str | None) -> list[Candidate]:
    known = set(names)
    return [
        Candidate((name,), table.column(index))
        for index, name in enumerate(table.header)
        if column_key(name) in known or chosen
    ]


def _diagnoses(table: Table, chosen: str | None) -> Iterable[Candidate]:
    """The columns that may hold the diagnosis, one-hot columns together as one."""
    classes = _class_columns(table.header)
    members = {column_key(table.header[index]) for index in classes}
    for column in _columns(table, DIAGNOSES.names, chosen):
        if column_key(column.names[0]) not in members:
            yield Candidate(column.names, _as_one_class(column) or _as_diagnoses(column.values))
    # Reading one-hot columns may fail; a column that was chosen beside them does not depend on it.
    if members and (not chosen or column_key(chosen) in members):
        yield Candidate(tuple(table.header[index] for index in classes), _one_hot(table, classes))


def _class_columns(header: Sequence[str]) -> list[int]:
    """The places of one-hot columns: two or more that are named after classes."""
    found = [index for index, name in enumerate(header) if column_key(name) in _CLASSES]
    return found if len(found) > 1 else []


def _plain(cell: str) -> str:
    """A cell in lower case; 0 and 1 without decimals, which spreadsheets write with a comma as well."""
    try:
        value = float(cell.replace(",", "."))
    except ValueError:
        return cell.casefold()
    return str(int(value)) if value in (0, 1) else cell


def _as_diagnoses(values: tuple[str | None, ...]) -> tuple[str | None, ...]:
    """Benign and malignant where a column holds only two values; else the cells as they are."""
    known = {_plain(value) for value in values if value}
    for names in (_BINARY, _TRUTH):
        if known <= names.keys():
            return tuple(value and names[_plain(value)] for value in values)
    return values


def _as_one_class(column: Candidate) -> tuple[str | None, ...] | None:
    """The one class of a table that has no other, where its column holds 0 and 1; else None."""
    (name,) = column.names
    is_class = column_key(name) in _CLASSES and column_key(name) != "malignant"
    if not is_class or not {_plain(value) for value in column.values if value} <= _FLAGS.keys():
        return None
    return tuple(value and (name if _FLAGS[_plain(value)] else f"not {name}") for value in column.values)


def _one_hot(table: Table, classes: Sequence[int]) -> tuple[str | None, ...]:
    names = [table.header[index] for index in classes]
    rest = "nevus" if {column_key(name) for name in names} == _ISIC_2017 else None
    problems: list[str] = []
    values: list[str | None] = []
    for row in table.rows:
        cells = [row.cells[index] if index < len(row.cells) else "" for index in classes]
        value, problem = _class_of(dict(zip(names, cells, strict=True)), rest)
        values.append(value)
        if problem:
            problems.append(f"row {row.line}: {problem}")
    if problems:
        raise DataError(f"{table.where} does not give one class per row", problems=problems, fix=_CORRECT)
    return tuple(values)


def _class_of(cells: dict[str, str], rest: str | None) -> tuple[str | None, str]:
    """The class whose cell is 1, or ``rest`` where none is; and what is wrong with the cells, if anything."""
    odd = [f"{name} is {cell!r}" for name, cell in cells.items() if _plain(cell) not in _FLAGS]
    if odd:
        return None, f"{', '.join(odd)}, where a class has 0 or 1"
    found = [name for name, cell in cells.items() if _FLAGS[_plain(cell)]] or ([rest] if rest else [])
    if len(found) == 1:
        return found[0], ""
    return None, f"{' and '.join(found) or 'no class'} of {', '.join(cells)} is 1, not one"


def _by_id(table: Table, ids: Sequence[str | None], found: Candidate) -> dict[str, str]:
    values: dict[str, str] = {}
    problems = []
    for row, case_id, value in zip(table.rows, ids, found.values, strict=True):
        if not case_id:
            problems.append(f"row {row.line}: no id")
        elif value is None:
            problems.append(f"row {row.line}: {case_id!r} has no {found.names[0]}")
        elif values.setdefault(case_id, value) != value:
            problems.append(f"row {row.line}: {case_id} is {value} here and {values[case_id]} above")
    if problems:
        raise DataError(f"{table.where} {_ONE_LABEL}", problems=problems, fix=_CORRECT)
    return {case_id: value for case_id, value in values.items() if value}


def merge_labels(tables: Iterable[tuple[Path, Mapping[str, str]]]) -> dict[str, str]:
    """The diagnoses of several tables together.

    Raises:
        DataError: two of them differ on a case; all are listed.
    """
    merged: dict[str, str] = {}
    problems = []
    for path, labels in tables:
        for case_id, label in labels.items():
            if merged.setdefault(case_id, label) != label:
                problems.append(f"{case_id}: {label} in {path}, {merged[case_id]} before")
    if problems:
        raise DataError("the label tables contradict each other", problems=problems, fix=_CORRECT)
    return merged
