"""JSON and CSV files of a run, with every fault named instead of raised."""

from __future__ import annotations

import io
import math
import os
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lesionseg.errors import DataError, RunError
from lesionseg.io import reading
from lesionseg.io.schema import Record, problems_of
from lesionseg.tables import delimiter_of

__all__ = ["is_a", "read_json", "read_table", "require_readable", "shorten"]


def read_json(path: Path, model: type[Record], problems: list[str]) -> dict[str, Any]:
    """A JSON object that is of a model; what is wrong with it becomes ``problems``."""
    try:
        tree = reading.read_json(path)
    except DataError as error:
        problems.append(error.message)
        return {}
    problems += [f"{path}: {problem}" for problem in problems_of(model, tree)]
    return tree if isinstance(tree, dict) else {}


def is_a(value: object, kinds: tuple[type, ...]) -> bool:
    """Whether a JSON value is finite and of one of these types; a boolean is no number."""
    if isinstance(value, bool):
        return False
    return isinstance(value, kinds) and not (isinstance(value, float) and not math.isfinite(value))


def read_table(
    path: Path, numbers: Sequence[str], problems: list[str], key: str = "", maybe: Sequence[str] = ()
) -> pd.DataFrame:
    """A CSV whose ``numbers`` columns are finite floats, and ``maybe`` ones too or NaN where there is none.

    Every other column stays text ('0012' and 'NA' survive).
    """
    try:
        with warnings.catch_warnings():
            # Pandas only warns of rows that are longer than the header, and drops their ends.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            text = reading.read_text(path, limit=reading.MAX_TABLE_BYTES)
            options: dict[str, Any] = {"keep_default_na": False, "index_col": False}
            frame: pd.DataFrame = pd.read_csv(io.StringIO(text), sep=delimiter_of(text), dtype=str, **options)
            frame = frame.fillna("")
    except DataError as error:
        problems.append(error.message)
        return pd.DataFrame()
    except (pd.errors.ParserError, pd.errors.EmptyDataError, pd.errors.ParserWarning) as error:
        problems.append(f"{path}: not a valid CSV ({error})")
        return pd.DataFrame()
    missing = [name for name in ([key] if key else []) + list(numbers) if name not in frame]
    if missing or frame.empty:
        problems.append(f"{path}: lacks the columns {', '.join(missing)}" if missing else f"{path}: has no rows")
        return pd.DataFrame()
    for name in numbers:
        values = np.array([_number(cell) for cell in frame[name]])
        wrong = np.flatnonzero(~np.isfinite(values))
        if wrong.size:
            problems.append(f"{path}: {name} is not a finite number in {shorten([f'row {i + 2}' for i in wrong])}")
        frame[name] = values
    for name in maybe:
        frame[name] = np.array([_number(cell) for cell in frame[name]]) if name in frame else np.nan
    return frame


def _number(cell: object) -> float:
    try:
        return float(str(cell))
    except ValueError:
        return math.nan


def shorten(names: Iterable[str], limit: int = 5) -> str:
    """``3: A, B, C`` or ``12: A, B, C, D, E and 7 more``."""
    listed = list(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return f"{len(listed)}: {', '.join(listed[:limit])}{more}"


def require_readable(paths: Iterable[Path]) -> None:
    """Make sure that this user may read files and folders; those that do not exist are passed over.

    Raises:
        RunError: naming those that the user may not read.
    """
    refused = [str(path) for path in paths if os.access(path, os.F_OK) and not os.access(path, _needed(path))]
    if refused:
        raise RunError(
            "permission denied for files of a run",
            problems=refused,
            fix="give this user read permission for them, and execute permission for folders",
        )


def _needed(path: Path) -> int:
    return os.R_OK | os.X_OK if path.is_dir() else os.R_OK
