"""Matches photos with masks from separate folders by id, never by position."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from lesionseg.data.case_ids import MASK_NAMES, case_id_of, drop_lesion_ending, masks_among
from lesionseg.data.columns import is_unknown, table_id
from lesionseg.data.files import is_companion
from lesionseg.data.images import IMAGE_SUFFIXES, decode_mask, decode_photo, read_bytes
from lesionseg.errors import ImageError, PairingError
from lesionseg.io.ownership import RECORD
from lesionseg.records import Case

__all__ = ["Folders", "list_pictures", "pair_folders"]

_MASK_SUFFIXES = (*IMAGE_SUFFIXES, ".nii", ".nii.gz")
_Warn = Callable[[str], None]
_SHOWN = 8
_EXAMPLES = 2
# How many folders are searched for pictures that are not where they should be.
_SEARCHED = 1000


@dataclass(frozen=True, slots=True)
class Folders:
    """Photos of one split, and their masks."""

    split: str
    images: Path
    masks: Path


@dataclass(frozen=True, slots=True)
class _Match:
    split: str
    case_id: str
    image: Path
    mask: Path


@dataclass(frozen=True, slots=True)
class _Findings:
    """What came of one match: a case, or the reasons why it is none; and what to look at."""

    case: Case | None
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def _ignore(_: str) -> None:
    pass


def list_pictures(
    folder: Path,
    suffixes: tuple[str, ...] = IMAGE_SUFFIXES,
    warn: Callable[[str], None] = _ignore,
    *,
    ours: tuple[str, ...] = (),
) -> list[Path]:
    """The pictures right in a folder, sorted by name; companion and system files are left out.

    Args:
        folder: where to look.
        suffixes: how their names end, in lower case.
        warn: told of each companion or system file that was left out.
        ours: how the names of those begin that are no surprise and not told.

    Raises:
        PairingError: it is not a folder, cannot be read, or holds no picture.
    """
    try:
        found = sorted(folder.iterdir())
    except OSError as error:
        raise PairingError(f"{folder} cannot be listed: {error.strerror}", fix="pass a readable folder") from error
    for path in found:
        if is_companion(path.name) and not path.name.startswith((RECORD, *ours)):
            warn(f"{path} left out: a companion or system file")
        elif _holds_pictures(path, suffixes):
            warn(f"{path} left out: a folder within the folder, which holds pictures of its own")
    files = [p for p in found if p.name.lower().endswith(suffixes) and not is_companion(p.name)]
    if not files:
        below = _find_below(folder, suffixes)
        raise PairingError(
            f"{folder} holds no picture ({', '.join(suffixes)})",
            problems=[f"{below} is in a folder below it, and these are not searched"] if below else (),
            fix="copy the photos into one folder and the masks into another"
            if below
            else "pass the folder with the files",
        )
    return files


def _find_below(folder: Path, suffixes: tuple[str, ...]) -> Path | None:
    for place, _, names in islice(os.walk(folder), _SEARCHED):
        for name in sorted(names):
            if name.lower().endswith(suffixes) and not is_companion(name):
                return Path(place, name)
    return None


def _holds_pictures(path: Path, suffixes: tuple[str, ...]) -> bool:
    try:
        return path.is_dir() and any(inner.name.lower().endswith(suffixes) for inner in path.iterdir())
    except OSError:
        return False


def pair_folders(
    folders: Iterable[Folders],
    *,
    labels: Mapping[str, str] | None = None,
    groups: Mapping[str, str] | None = None,
    warn: Callable[[str], None] = _ignore,
) -> list[Case]:
    """Pairs photos with masks by id, checks that each pair decodes and has one size, and sorts by split and id.

    Args:
        folders: one entry per split.
        labels: case id -> diagnosis.
        groups: case id -> group (patient, lesion or duplicate cluster).
        warn: told, in one line each, of what was accepted and still is worth a look: files left out, masks, labels and
            groups without photo and the other way round, the same photo under two ids, and odd photos and masks.

    Raises:
        PairingError: listing every photo without mask, duplicate id, id or photo in two splits, unreadable file and
            size mismatch.
    """
    problems: list[str] = []
    matched: list[_Match] = []
    split_of: dict[str, str] = {}
    for entry in folders:
        for match in _match(entry, problems, warn):
            if match.case_id in split_of:
                problems.append(f"{match.case_id}: in the {split_of[match.case_id]} and in the {entry.split} folder")
            split_of[match.case_id] = entry.split
            matched.append(match)
    label_of = _by_case("label", labels or {}, split_of, problems, warn)
    group_of = _by_case("group", groups or {}, split_of, problems, warn)
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(lambda match: _describe(match, label_of, group_of), matched))
    problems += [problem for result in results for problem in result.problems]
    cases = [result.case for result in results if result.case]
    problems += _find_copies(cases, warn)
    for result in results:
        for line in result.warnings:
            warn(line)
    if problems:
        raise PairingError(
            f"photos and masks do not match one to one ({len(problems)} problems)",
            problems=problems,
            fix=f"remove, rename or replace these files, then pair again; {MASK_NAMES}",
        )
    order = {"train": 0, "val": 1, "test": 2}
    return sorted(cases, key=lambda case: (order.get(case.split, 3), case.split, case.case_id))


def _by_id(files: Iterable[Path], kind: str, problems: list[str]) -> dict[str, Path]:
    found: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        found[case_id_of(path)].append(path)
    for case_id, paths in found.items():
        if len(paths) > 1:
            problems.append(f"{case_id}: {len(paths)} {kind}s: {', '.join(path.name for path in paths)}")
    # On file systems and in ids alike, names that differ only in case are an accident waiting to happen.
    folded: dict[str, str] = {}
    for case_id in found:
        other = folded.setdefault(case_id.casefold(), case_id)
        if other != case_id:
            problems.append(f"{case_id} and {other}: {kind} ids that differ only in upper and lower case")
    return {case_id: paths[0] for case_id, paths in found.items()}


def _match(entry: Folders, problems: list[str], warn: _Warn) -> list[_Match]:
    images_in = list_pictures(entry.images, warn=warn)
    masks_in = list_pictures(entry.masks, _MASK_SUFFIXES, warn)
    if entry.images.resolve() == entry.masks.resolve():
        # One folder for both: masks are those that are named as masks.
        named = masks_among(masks_in)
        images_in = [path for path in images_in if path not in named]
        masks_in = [path for path in masks_in if path in named]
    images = _by_id(images_in, "photo", problems)
    masks = drop_lesion_ending(_by_id(masks_in, "mask", problems), images.keys())
    problems += [f"{case_id}: no mask for {images[case_id]}" for case_id in sorted(images.keys() - masks.keys())]
    for case_id in sorted(masks.keys() - images.keys()):
        warn(f"{case_id}: no photo for {masks[case_id]}, which was left out")
    return [
        _Match(entry.split, case_id, images[case_id], masks[case_id])
        for case_id in sorted(images.keys() & masks.keys())
    ]


def _describe(match: _Match, labels: Mapping[str, str], groups: Mapping[str, str]) -> _Findings:
    case_id = match.case_id
    problems, warnings = [], []
    size = None
    try:
        mask = decode_mask(read_bytes(match.mask), str(match.mask))
        size = mask.values.shape
        warnings += [f"{case_id}: {match.mask}: {line}" for line in mask.warnings]
    except ImageError as error:
        problems.append(f"{case_id}: {error.message}")
    try:
        data = read_bytes(match.image)
        photo = decode_photo(data, str(match.image), like=size)
    except ImageError as error:
        return _Findings(None, (f"{case_id}: {error.message}", *problems), tuple(warnings))
    warnings += [f"{case_id}: {match.image}: {line}" for line in photo.warnings]
    if size is not None and size != (photo.height, photo.width):
        told = f"the mask is {size[1]} x {size[0]}, the photo {photo.width} x {photo.height}"
        problems.append(f"{case_id}: {told} ({match.mask})")
    if problems:
        return _Findings(None, tuple(problems), tuple(warnings))
    case = Case(
        case_id,
        match.image,
        match.mask,
        split=match.split,
        # A patient who is not known is not the same as another.
        group=case_id if is_unknown(groups.get(case_id, "")) else groups[case_id],
        labels={"diagnosis": labels.get(case_id, "")},
        width=photo.width,
        height=photo.height,
        sha256=hashlib.sha256(data).hexdigest(),
    )
    return _Findings(case, warnings=tuple(warnings))


def _find_copies(cases: Iterable[Case], warn: _Warn) -> list[str]:
    """Photos that are the same, byte for byte: told of within a split, a problem across splits."""
    same: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        same[case.sha256].append(case)
    problems = []
    for copies in same.values():
        # An id in two splits is a problem of its own.
        if len({case.case_id for case in copies}) < 2:
            continue
        told = " and ".join(f"{case.case_id} ({case.split})" for case in copies)
        if len({case.split for case in copies}) > 1:
            problems.append(f"{told}: the same photo, byte for byte, in more than one split")
        else:
            warn(f"{told}: the same photo, byte for byte")
    return problems


def _by_case(
    what: str, known: Mapping[str, str], ids: Collection[str], problems: list[str], warn: _Warn
) -> dict[str, str]:
    """The values of a table by the photos' own ids; ids in a table may have lost what looks like a file's ending."""
    key_of = {case_id: case_id if case_id in known else table_id(case_id) for case_id in ids}
    found = {case_id: known[key] for case_id, key in key_of.items() if key in known}
    if known and (found or not ids):
        used = set(key_of.values())
        _tell(f"{what}s have no photo", known, used, warn)
        _tell(f"photos have no {what}", ids, found, warn)
    elif known:
        shown = f"{_some(known)} in the table, {_some(ids)} here"
        problems.append(f"none of the {len(known)} ids with a {what} is that of a photo: {shown}")
    return found


def _some(ids: Iterable[str]) -> str:
    return ", ".join([*list(ids)[:_EXAMPLES], "..."])


def _tell(which: str, ids: Iterable[str], known: Collection[str], warn: _Warn) -> None:
    unknown = [case_id for case_id in ids if case_id not in known]
    if unknown:
        shown = ", ".join(unknown[:_SHOWN]) + (", ..." if len(unknown) > _SHOWN else "")
        warn(f"{len(unknown)} {which}: {shown}")
