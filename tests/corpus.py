"""Every kind of bad and odd file, each with what is to become of it.

D: decoded right and without a word. R: refused, naming file, reason and fix. W: accepted with a warning that names what
is odd. S: skipped and recorded, while the others go on.

Rows write their own files and say how they are read, so that tests and ``benchmarks/bad_input.py`` walk one table.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pictures import put

from lesionseg.data.images import decode_mask, decode_photo, read_bytes


@dataclass(frozen=True)
class Found:
    """What came of a row that was not refused."""

    result: Any
    warnings: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """One kind of input.

    Attributes:
        title: what is special about it.
        outcome: D, R, W or S.
        kind: ``photo`` or ``mask`` for a single file, which other libraries can read too; else what reads it.
        make: writes it into a folder, and returns what ``run`` wants.
        run: reads it with lesionseg.
        says: a pattern that the error, the warning or the record matches.
        right: whether what came out is right; asked of all that are not refused.
        names: what an error has to name.
    """

    title: str
    outcome: str
    kind: str
    make: Callable[[Path], Path]
    run: Callable[[Path], Found]
    says: str = ""
    right: Callable[[Any], bool] = lambda result: True
    names: str = ""


def _run_photo(path: Path) -> Found:
    photo = decode_photo(read_bytes(path), str(path))
    return Found(photo.pixels, photo.warnings)


def _run_mask(path: Path) -> Found:
    mask = decode_mask(read_bytes(path), str(path))
    return Found(mask.values, mask.warnings)


def near(expected: np.ndarray, tolerance: float) -> Callable[[Any], bool]:
    """Same shape and, in its mean, at most so many grey levels away."""

    def right(result: Any) -> bool:
        same = result.shape == expected.shape and result.dtype == expected.dtype
        return bool(same and np.abs(result.astype(float) - expected).mean() <= tolerance)

    return right


Data = bytes | Callable[[], bytes]
Files = Mapping[str, bytes]


def files_in(files: Files) -> Callable[[Path], Path]:
    """Writes files into a folder, and gives the folder."""

    def make(folder: Path) -> Path:
        for name, data in files.items():
            put(folder / name, data)
        return folder

    return make


def _single(kind: str, run: Callable[[Path], Found]) -> Callable[..., Row]:
    def row(
        title: str,
        outcome: str,
        name: str,
        data: Data | None = None,
        *,
        says: str = "",
        expect: np.ndarray | None = None,
        tolerance: float = 0,
        place: Callable[[Path], object] | None = None,
    ) -> Row:
        def make(folder: Path) -> Path:
            if place is not None:
                place(folder / name)
            else:
                put(folder / name, data() if callable(data) else data or b"")
            return folder / name

        right = near(expect, tolerance) if expect is not None else lambda result: True
        return Row(title, outcome, kind, make, run, says, right, name)

    return row


photo_row = _single("photo", _run_photo)
mask_row = _single("mask", _run_mask)
