"""Matches photos with masks from separate folders by id, never by position."""

from __future__ import annotations

import csv
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lesionseg.data.images import IMAGE_SUFFIXES, decode_photo, read_bytes, read_mask
from lesionseg.errors import DataError, ImageError, PairingError
from lesionseg.records import Case

__all__ = ["Folders", "case_id_of", "list_pictures", "pair_folders", "read_labels"]

_MASK_SUFFIXES = (*IMAGE_SUFFIXES, ".nii", ".nii.gz")
_MASK_ENDING = re.compile(r"_(segmentation|mask)$", re.IGNORECASE)
# ISIC 2017's companion pictures, and what macOS and Windows leave in folders.
_NOT_DATA = re.compile(r"^(\.|thumbs\.db$|desktop\.ini$)|_superpixels\.", re.IGNORECASE)
_Match = tuple[str, str, Path, Path]
_DIAGNOSES = {"0": "benign", "0.0": "benign", "1": "malignant", "1.0": "malignant"}


@dataclass(frozen=True, slots=True)
class Folders:
    """Photos of one split, and their masks."""

    split: str
    images: Path
    masks: Path


def case_id_of(path: Path) -> str:
    """The id in a photo's or mask's file name: ``ISIC_0000000_Segmentation.png`` -> ``ISIC_0000000``."""
    name = path.name
    for suffix in (".nii.gz", path.suffix):
        if suffix and name.lower().endswith(suffix.lower()):
            name = name[: -len(suffix)]
            break
    return _MASK_ENDING.sub("", name) or name


def list_pictures(folder: Path, suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> list[Path]:
    """The pictures right in a folder, sorted by name; companion and system files are left out.

    Raises:
        PairingError: it is not a folder, cannot be read, or holds no picture.
    """
    try:
        files = sorted(
            path
            for path in folder.iterdir()
            if path.name.lower().endswith(suffixes) and not _NOT_DATA.search(path.name)
        )
    except OSError as error:
        raise PairingError(f"{folder} cannot be listed: {error.strerror}", fix="pass a readable folder") from error
    if not files:
        raise PairingError(f"{folder} holds no picture ({', '.join(suffixes)})", fix="pass the folder with the files")
    return files


def pair_folders(
    folders: Iterable[Folders], *, labels: Mapping[str, str] | None = None, groups: Mapping[str, str] | None = None
) -> list[Case]:
    """Pairs photos with masks by id, checks that each pair decodes and has one size, and sorts by split and id.

    Args:
        folders: one entry per split.
        labels: case id -> diagnosis.
        groups: case id -> group (patient, lesion or duplicate cluster).

    Raises:
        PairingError: listing every orphan, duplicate id, id in two splits, unreadable file and size mismatch.
    """
    problems: list[str] = []
    matched: list[_Match] = []
    split_of: dict[str, str] = {}
    for entry in folders:
        pairs, found = _match(entry)
        problems += found
        for case_id, image, mask in pairs:
            if case_id in split_of:
                problems.append(f"{case_id}: in the {split_of[case_id]} and in the {entry.split} folder")
            split_of[case_id] = entry.split
            matched.append((entry.split, case_id, image, mask))
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(lambda match: _describe(match, labels or {}, groups or {}), matched))
    problems += [problem for result in results if isinstance(result, list) for problem in result]
    if problems:
        raise PairingError(
            f"photos and masks do not match one to one ({len(problems)} problems)",
            problems=problems,
            fix="remove, rename or replace these files, then pair again",
        )
    cases = [result for result in results if isinstance(result, Case)]
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


def _match(entry: Folders) -> tuple[list[tuple[str, Path, Path]], list[str]]:
    problems: list[str] = []
    images_in, masks_in = list_pictures(entry.images), list_pictures(entry.masks, _MASK_SUFFIXES)
    if entry.images.resolve() == entry.masks.resolve():
        # One folder for both: masks are those that are named as masks.
        images_in = [path for path in images_in if not _MASK_ENDING.search(path.stem)]
        masks_in = [path for path in masks_in if path not in set(images_in)]
    images, masks = _by_id(images_in, "photo", problems), _by_id(masks_in, "mask", problems)
    problems += [f"{case_id}: no mask for {images[case_id]}" for case_id in sorted(images.keys() - masks.keys())]
    problems += [f"{case_id}: no photo for {masks[case_id]}" for case_id in sorted(masks.keys() - images.keys())]
    return [(key, images[key], masks[key]) for key in sorted(images.keys() & masks.keys())], problems


def _describe(match: _Match, labels: Mapping[str, str], groups: Mapping[str, str]) -> Case | list[str]:
    split, case_id, image, mask = match
    problems = []
    width = height = 0
    digest = ""
    try:
        data = read_bytes(image)
        photo = decode_photo(data, str(image))
        digest, width, height = hashlib.sha256(data).hexdigest(), photo.width, photo.height
    except ImageError as error:
        problems.append(f"{case_id}: {error.message}")
    try:
        size = read_mask(mask).shape[::-1]
        if not problems and size != (width, height):
            problems.append(f"{case_id}: the mask is {size[0]} x {size[1]}, the photo {width} x {height} ({mask})")
    except ImageError as error:
        problems.append(f"{case_id}: {error.message}")
    if problems:
        return problems
    return Case(
        case_id,
        image,
        mask,
        split=split,
        group=groups.get(case_id, case_id),
        labels={"diagnosis": labels.get(case_id, "")},
        width=width,
        height=height,
        sha256=digest,
    )


def read_labels(path: Path) -> dict[str, str]:
    """Two columns, case id and label, with or without a header; ISIC's 0 / 1 become benign / malignant.

    Raises:
        DataError: it cannot be read, a row has no second column, or an id comes twice with different labels.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file) if any(row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV: {error}", fix="pass a CSV with case id and label") from error
    labels: dict[str, str] = {}
    problems = []
    for number, row in enumerate(rows, start=1):
        if number == 1 and row[0].lower() in ("image_id", "image", "case_id", "isic_id", "id"):
            continue
        if len(row) < 2:
            problems.append(f"row {number}: {row[0]!r} has no label")
            continue
        label = _DIAGNOSES.get(row[1], row[1])
        if labels.setdefault(row[0], label) != label:
            problems.append(f"row {number}: {row[0]} is {label} here and {labels[row[0]]} above")
    if problems:
        raise DataError(f"{path} does not give one label per id", problems=problems, fix="correct these rows")
    return labels
