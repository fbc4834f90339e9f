"""Manifests: one CSV row per case, with paths relative to a root folder."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from lesionseg.config import find_shipped, is_file
from lesionseg.errors import ManifestError, OutputError
from lesionseg.io.ownership import write_output
from lesionseg.io.paths import as_path
from lesionseg.io.reading import MAX_TABLE_BYTES, decode_text, read_regular, read_text
from lesionseg.io.tables import parse_table
from lesionseg.records import Case

__all__ = [
    "COLUMNS",
    "Manifest",
    "common_root",
    "manifest_inputs",
    "manifest_outputs",
    "read_manifest",
    "write_manifest",
]

COLUMNS = ("case_id", "image", "mask", "split", "group", "diagnosis", "width", "height", "sha256")
_REQUIRED = ("case_id", "image", "mask", "split")
# As Windows writes them; other names may hold colons.
_DRIVE = re.compile(r"[A-Za-z]:")
_FIXED = frozenset(COLUMNS) - {"diagnosis"}
# The longest path there is.
_MAX_ROOT = 2**16


@dataclass(frozen=True, slots=True)
class Manifest:
    """Cases with absolute paths, and where they come from.

    Attributes:
        name: the file's stem.
        sha256: hex digest of the CSV's bytes.
        root: the folder its relative paths start from.
        cases: in the file's order.
    """

    name: str
    sha256: str
    root: Path
    cases: tuple[Case, ...]

    def split(self, name: str) -> tuple[Case, ...]:
        """The cases of one split.

        Raises:
            ManifestError: there is none.
        """
        cases = tuple(case for case in self.cases if case.split == name)
        if not cases:
            known = ", ".join(sorted({case.split or "(none)" for case in self.cases}))
            raise ManifestError(f"manifest {self.name} has no {name!r} split", fix=f"use one of: {known}")
        return cases


def common_root(cases: Iterable[Case]) -> Path:
    """The deepest folder that holds every photo and mask."""
    files = [_absolute(path) for case in cases for path in (case.image, case.mask) if path is not None]
    return Path(os.path.commonpath([path.parent for path in files]))


def _absolute(path: Path) -> Path:
    # Without "..", which would end in the CSV and be refused there.
    return Path(os.path.normpath(path.absolute()))


def manifest_outputs(path: Path) -> tuple[Path, Path]:
    """Return the files that ``write_manifest`` writes: the CSV and ``<stem>.root``.

    Raises:
        OutputError: the path has no file name.
    """
    if not path.name:
        raise OutputError(f"{path} is a folder", fix="name the CSV file to write with --output")
    return path, path.with_suffix(".root")


def manifest_inputs(source: str | Path, cases: Iterable[Case]) -> Iterator[Path]:
    """Yield every file that is read with a manifest: the CSV, ``<stem>.root``, and the cases' photos and masks.

    Args:
        source: as in ``read_manifest``.
        cases: as ``read_manifest`` found them.
    """
    path = find_shipped(source, "data_manifests", ".csv")
    yield from (path, path.with_suffix(".root"))
    for case in cases:
        yield from (file for file in (case.image, case.mask) if file is not None)


def write_manifest(cases: Sequence[Case], path: Path, root: Path | None = None) -> Path:
    """Writes the CSV, and beside it ``<stem>.root``, which remembers where the files are on this machine.

    Paths in the CSV are relative to the root, so that the CSV can be shared; the ``.root`` file is not for sharing.

    Args:
        cases: at least one.
        path: the CSV to write.
        root: the folder that paths become relative to; by default the deepest one that holds all files.

    Returns:
        the root.

    Raises:
        ManifestError: there is no case, or a file lies outside the root.
        OutputError: it cannot be written.
    """
    files = [path for case in cases for path in (case.image, case.mask) if path is not None]
    odd = [str(file) for file in files if "\\" in file.name]
    if odd:
        raise ManifestError(f"{path}: names with a backslash are paths elsewhere", problems=odd, fix="rename the files")
    if not cases:
        raise ManifestError(f"{path}: a manifest needs at least one case", fix="pair folders that hold photos")
    base = _absolute(root or common_root(cases))
    outside = [
        str(p) for c in cases for p in (c.image, c.mask) if p is not None and not _absolute(p).is_relative_to(base)
    ]
    if outside:
        raise ManifestError(f"files outside the root {base}", problems=outside, fix="pass a root that holds them all")
    text = io.StringIO()
    extra = sorted({name for case in cases for name in case.labels} - set(COLUMNS))
    writer = csv.DictWriter(text, [*COLUMNS, *extra], lineterminator="\n", restval="")
    writer.writeheader()
    for case in cases:
        writer.writerow(
            {
                **case.labels,
                "case_id": case.case_id,
                "image": _cell(case.image, base),
                "mask": _cell(case.mask, base) if case.mask else "",
                "split": case.split,
                "group": case.group,
                "width": case.width or "",
                "height": case.height or "",
                "sha256": case.sha256,
            }
        )
    try:
        data = text.getvalue().encode()
    except UnicodeEncodeError as error:
        raise ManifestError(
            f"{path}: the name {error.object[error.start - 20 : error.end + 20]!a} is not UTF-8", fix="rename the file"
        ) from error
    table, memory = manifest_outputs(path)
    write_output(table, data)
    write_output(memory, f"{os.path.relpath(base, path.absolute().parent)}\n".encode())
    return base


def _cell(path: Path, base: Path) -> str:
    text = _absolute(path).relative_to(base).as_posix()
    # Spaces around cells do not count when they are read.
    return f"./{text}" if text[0].isspace() else text


def read_manifest(source: str | Path, root: str | Path | None = None) -> Manifest:
    """Reads a manifest CSV and finds its files.

    The root is ``root`` where given; else the first of these that holds the first case's photo: the folder remembered
    in ``<stem>.root``, ``$LESIONSEG_DATA``, ``$LESIONSEG_DATA/<stem>``, the manifest's folder, the working folder.

    Args:
        source: a path, or the bare name of a shipped manifest.
        root: folder that relative paths start from.

    Raises:
        ConfigError: there is no such manifest.
        ManifestError: listing every malformed row, repeated id, escaping path and missing file.
    """
    path = find_shipped(source, "data_manifests", ".csv")
    data = read_regular(path, limit=MAX_TABLE_BYTES, error=ManifestError)
    cases, problems = _parse(decode_text(data, str(path), error=ManifestError), path)
    if not problems and not cases:
        raise ManifestError(f"{path}: there is no row below the header", fix="pair photos and masks again")
    if problems:
        raise ManifestError(f"{path} is not a usable manifest", problems=problems, fix="correct these rows")
    base = _find_root(path, cases[0], root)
    found = tuple(
        replace(case, image=base / case.image, mask=base / case.mask if case.mask else None) for case in cases
    )
    missing = [str(p) for case in found for p in (case.image, case.mask) if p is not None and not is_file(p)]
    if missing:
        raise ManifestError(
            f"{path}: {len(missing)} files are not below {base}",
            problems=missing,
            fix="copy them there, or set data.root",
        )
    return Manifest(path.stem, hashlib.sha256(data).hexdigest(), base, found)


def _parse(text: str, path: Path) -> tuple[list[Case], list[str]]:
    table = parse_table(text, str(path), error=ManifestError)
    _check_columns(table.header, path)
    cases, problems = [], []
    for row in table.rows:
        try:
            cases.append(_case(table.header, row.cells))
        except ValueError as error:
            problems.append(f"line {row.line}: {error}")
    repeated = [case_id for case_id, count in Counter(case.case_id for case in cases).items() if count > 1]
    return cases, problems + [f"{case_id}: more than one row" for case_id in repeated]


def _check_columns(header: Sequence[str], path: Path) -> None:
    found = ", ".join(header) or "nothing"
    wrong = [f"no column {name!r} (found: {found})" for name in _REQUIRED if name not in header]
    wrong += [f"more than one column {name!r}" for name, count in Counter(header).items() if count > 1]
    if wrong:
        raise ManifestError(
            f"{path} does not have the columns of a manifest",
            problems=wrong,
            fix=f"name its columns {', '.join(_REQUIRED)}, each once, or make it with 'lesionseg data pair'",
        )


def _case(header: Sequence[str], row: Sequence[str]) -> Case:
    if len(row) != len(header):
        raise ValueError(f"it has {len(row)} cells, the header {len(header)}")
    cells = dict(zip(header, row, strict=True))
    return Case(
        case_id=cells["case_id"],
        image=_inside(cells["image"], "image"),
        mask=_inside(cells["mask"], "mask") if cells["mask"] else None,
        split=_split(cells["split"]),
        group=cells.get("group", ""),
        labels={name: cell for name, cell in cells.items() if name not in _FIXED},
        width=_count(cells.get("width", ""), "width"),
        height=_count(cells.get("height", ""), "height"),
        sha256=cells.get("sha256", "").lower(),
    )


def _split(cell: str) -> str:
    # "Test" would otherwise be a split of its own, from which photos could get into the training.
    return cell.lower() if cell.lower() in ("train", "val", "test") else cell


def _inside(cell: str, column: str) -> Path:
    pure = PurePosixPath(cell.replace("\\", "/"))
    if not pure.parts or pure.is_absolute() or ".." in pure.parts or _DRIVE.match(pure.parts[0]):
        raise ValueError(f"{column} {cell!r} is not a path below the root")
    return Path(pure)


def _count(cell: str, column: str) -> int:
    if cell and not cell.isdecimal():
        raise ValueError(f"{column} {cell!r} is not a number of pixels")
    return int(cell or 0)


def _find_root(path: Path, first: Case, root: str | Path | None) -> Path:
    if root is not None:
        candidates = [as_path(root)]
    else:
        candidates = []
        memory = path.with_suffix(".root")
        if memory.is_file():
            candidates.append(path.parent / read_text(memory, limit=_MAX_ROOT, error=ManifestError).strip())
        if os.environ.get("LESIONSEG_DATA"):
            data = as_path(os.environ["LESIONSEG_DATA"])
            candidates += [data, data / path.stem]
        candidates += [path.parent, Path()]
    for folder in candidates:
        if is_file(folder / first.image):
            return Path(os.path.normpath(folder.absolute()))
    raise ManifestError(
        f"{path}: its photos were not found, looking for {first.image} below",
        problems=[str(folder.absolute()) for folder in candidates],
        fix="say where they are with --root FOLDER (train: data.root=FOLDER) or with the variable LESIONSEG_DATA",
    )
