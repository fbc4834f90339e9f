"""The public functions that come before any training: what ``api`` offers of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lesionseg.api_parts import Progress, Warn, as_paths, counting, ignore
from lesionseg.io.paths import AnyPath, as_path

if TYPE_CHECKING:
    from lesionseg.data.audit import Audit
    from lesionseg.data.audit_report import AuditFiles
    from lesionseg.data.findings import Finding
    from lesionseg.data.manifest import Manifest
    from lesionseg.data.pairing import Folders
    from lesionseg.data.synthetic import DatasetFolders
    from lesionseg.records import BoolMask, Case, RgbImage

__all__ = ["audit", "pair", "read_image", "read_mask", "split", "synth"]


def pair(
    images: AnyPath,
    masks: AnyPath,
    output: AnyPath,
    *,
    test_images: AnyPath | None = None,
    test_masks: AnyPath | None = None,
    labels: Sequence[AnyPath] = (),
    groups: AnyPath | None = None,
    id_column: str | None = None,
    label_column: str | None = None,
    group_column: str | None = None,
    warn: Warn = ignore,
    overwrite: bool = False,
) -> Manifest:
    """Pairs photos and masks by id and writes a manifest.

    What was accepted and still is worth a look goes into ``<stem>.warnings.txt`` beside it.

    Args:
        images, masks: folders of the train split.
        output: the CSV to write.
        test_images, test_masks: folders of the test split.
        labels: CSVs with an id and a diagnosis per image, in columns found by name; one-hot columns, as in ISIC 2018,
            count as one.
        groups: a CSV with an id and a group (patient, lesion) per image.
        id_column, label_column, group_column: the columns of these tables, where their names leave it open.
        warn: told of each line of ``<stem>.warnings.txt``.
        overwrite: replace files that lesionseg did not write, or that were changed since; never an input.

    Raises:
        OutputError: listing every output that is an input, or a file of other origin.
        PairingError: listing every photo without mask, duplicate, unreadable file and size mismatch.
    """
    from lesionseg.data.label_tables import merge_labels, read_groups, read_labels
    from lesionseg.data.manifest import manifest_outputs, read_manifest, write_manifest
    from lesionseg.data.pairing import Folders, pair_folders
    from lesionseg.io.ownership import check_outputs
    from lesionseg.tables import one_line

    folders = [Folders("train", as_path(images), as_path(masks))]
    folders += _test_folders(**as_paths(images=test_images, masks=test_masks))
    # A single path is a sequence too, of letters.
    files = [labels] if isinstance(labels, str | Path) else labels
    label_tables = [as_path(path) for path in files]
    group_table = as_path(groups) if groups else None
    _require_tables(
        **{
            "label_column without labels": label_column and not label_tables,
            "group_column without groups": group_column and not groups,
            "id_column without labels or groups": id_column and not (label_tables or groups),
        }
    )
    manifest = as_path(output)
    written = manifest_outputs(manifest)
    noted = manifest.with_suffix(".warnings.txt")
    read = [*label_tables, *([group_table] if group_table else []), *_files_in(folders)]
    check_outputs([*written, noted], inputs=read, overwrite=overwrite)
    tables = [(path, read_labels(path, id_column=id_column, label_column=label_column)) for path in label_tables]
    diagnoses = merge_labels(tables)
    told: list[str] = []
    group_of = read_groups(group_table, id_column=id_column, group_column=group_column) if group_table else None
    try:
        cases = pair_folders(folders, labels=diagnoses, groups=group_of, warn=lambda line: told.append(one_line(line)))
    finally:
        for line in told:
            warn(line)
        _record(told, noted)
    root = write_manifest(cases, manifest)
    return read_manifest(manifest, root)


def _test_folders(images: Path | None, masks: Path | None) -> list[Folders]:
    from lesionseg.data.pairing import Folders
    from lesionseg.errors import ConfigError

    if (images is None) != (masks is None):
        raise ConfigError("test photos and test masks go together", fix="pass both folders, or neither")
    return [Folders("test", images, masks)] if images and masks else []


def _files_in(folders: Iterable[Folders]) -> list[Path]:
    """Everything in the folders that are paired; what is no folder is refused when it is read."""
    found: list[Path] = []
    for place in (place for pair in folders for place in (pair.images, pair.masks)):
        with suppress(OSError):
            found += place.iterdir()
    return found


def _require_tables(**without: object) -> None:
    """Refuse columns of tables that are not given."""
    from lesionseg.errors import ConfigError

    if odd := [text for text, is_so in without.items() if is_so]:
        raise ConfigError("columns are named of tables that are not given", problems=odd, fix="give the table as well")


def _record(warnings: Sequence[str], path: Path) -> None:
    from lesionseg.io.ownership import remove_own, write_output

    if warnings:
        write_output(path, "".join(f"{line}\n" for line in warnings).encode())
    else:
        # Those of an earlier pairing.
        remove_own(path)


def audit(
    manifest: AnyPath | None,
    output: AnyPath,
    *,
    images: AnyPath | None = None,
    masks: AnyPath | None = None,
    root: AnyPath | None = None,
    progress: Progress = None,
    overwrite: bool = False,
) -> tuple[Audit, AuditFiles]:
    """Finds broken files, wrong masks, photos that come twice and splits that leak, and writes a page and tables of it.

    Args:
        manifest: a CSV or the name of a shipped one; None for two folders that were not paired yet.
        output: the folder for ``audit.html``, ``findings.csv`` and ``fingerprint.json``.
        images, masks: these two folders.
        root: folder that the manifest's relative paths start from.
        progress: True shows it; a function is called with (done, total) after each case.
        overwrite: replace files that lesionseg did not write, or that were changed since; never an input.

    Raises:
        OutputError: listing every output that is an input, or a file of other origin.
        ConfigError: neither a manifest nor two folders are given, or both.
        LesionsegError: as the manifest, the folders and the output give cause.
    """
    from lesionseg.data.audit import audit as conclude
    from lesionseg.data.audit import examine_cases
    from lesionseg.data.audit_report import AuditFiles, write_audit
    from lesionseg.data.manifest import manifest_inputs
    from lesionseg.io.ownership import check_outputs

    cases, known, title = _audited(manifest, root, **as_paths(images=images, masks=masks))
    if manifest:
        read = list(manifest_inputs(as_path(manifest), cases))
    else:
        read = [file for case in cases for file in (case.image, case.mask) if file is not None]
    check_outputs(AuditFiles.of(as_path(output)).all(), inputs=read, overwrite=overwrite)
    with counting(progress, "examining") as counted:
        result = conclude(examine_cases(cases, counted), known)
    return result, write_audit(result, as_path(output), title)


def _audited(
    manifest: AnyPath | None, root: AnyPath | None, images: Path | None, masks: Path | None
) -> tuple[list[Case], list[Finding], str]:
    """The cases, what was found while they were gathered, and what they are called."""
    from lesionseg.data.audit import gather_folders
    from lesionseg.data.manifest import read_manifest
    from lesionseg.errors import ConfigError

    if manifest and not images and not masks:
        data = read_manifest(as_path(manifest), root)
        return list(data.cases), [], data.name
    if images and masks and not manifest and not root:
        return *gather_folders(images, masks), f"{images} with {masks}"
    raise ConfigError(
        "audit needs either a manifest or two folders",
        fix="write lesionseg data audit MANIFEST [--root DIR], or lesionseg data audit --images DIR --masks DIR",
    )


def split(
    manifest: AnyPath,
    output: AnyPath,
    *,
    official: str | None = None,
    folds: int | None = None,
    hold_out: float | None = None,
    links: Sequence[str] = (),
    near_duplicates: bool = False,
    stratify: str | None = None,
    seed: int = 0,
    root: AnyPath | None = None,
    overwrite: bool = False,
) -> dict[Path, Manifest]:
    """Splits a manifest's cases; no patient, lesion or near-duplicate ever stands on both sides, and test stays test.

    Args:
        manifest: a CSV or the name of a shipped one.
        output: the CSV to write; with folds, ``<stem>-fold1.csv`` and so on beside it.
        official: take a published split: ``isic2016``, or a CSV of case id and split.
        folds: number of folds for cross-validation.
        hold_out: share of the cases to hold out as ``val``. Exactly one of these three is given.
        links: columns whose equal values keep cases together, for example ``["patient_id"]``.
        near_duplicates: keep photos of one lesion together; looks at every photo.
        stratify: a column whose values are to be as frequent in every part.
        seed: of the shuffling.
        root: folder that the manifest's relative paths start from.
        overwrite: replace files that lesionseg did not write, or that were changed since; never an input.

    Returns:
        the manifests that were written, by their paths.

    Raises:
        ConfigError: none, or more than one, of the three ways is asked for.
        DataError: groups hold test cases and others (all are listed); there are too few groups; a column or list
            does not fit.
        OutputError: listing every output that is an input, or a file of other origin.
        LesionsegError: as the manifest and the output give cause.
    """
    from lesionseg.data.manifest import manifest_inputs, read_manifest
    from lesionseg.data.resplit import SplitOptions, split_manifest, split_outputs
    from lesionseg.io.ownership import check_outputs

    columns = (links,) if isinstance(links, str) else tuple(links)
    options = SplitOptions(official, folds, hold_out, columns, near_duplicates, stratify, seed)
    known, target = read_manifest(as_path(manifest), root), as_path(output)
    read = [*manifest_inputs(as_path(manifest), known.cases), *([Path(official)] if official else [])]
    check_outputs(split_outputs(target, options), inputs=read, overwrite=overwrite)
    paths = split_manifest(known, target, options)
    return {path: read_manifest(path) for path in paths}


def synth(
    output: AnyPath,
    *,
    train: int = 100,
    test: int = 20,
    seed: int = 0,
    size: tuple[int, int] = (256, 192),
    progress: Progress = None,
    overwrite: bool = False,
) -> DatasetFolders:
    """Generates dermoscopy photos with exact masks, and pairs them in ``manifest.csv`` where there are training photos.

    Args:
        output: the folder for ``train_images``, ``train_masks``, ``test_images``, ``test_masks`` and the manifest.
        train, test: how many photos.
        seed: 0 or more; photo k of a seed is always the same.
        size: width and height in pixels, 32 or more each.
        progress: True shows it; a function is called with (done, total) after each photo.
        overwrite: replace files that lesionseg did not write, or that were changed since.

    Returns:
        the four folders.

    Raises:
        ConfigError: a number is too small.
        ImageError: photos of this size would not be read.
        OutputError: the folder cannot be written to, or files of other origin are in the way.
    """
    from lesionseg.data.images import require_size
    from lesionseg.data.manifest import manifest_outputs
    from lesionseg.data.synthetic import dataset_outputs, write_dataset
    from lesionseg.errors import ConfigError
    from lesionseg.io.ownership import check_outputs

    if min(train, test, seed) < 0 or min(size) < 32:
        raise ConfigError(
            f"there are no {train} and {test} photos of {size[0]} x {size[1]} pixels with the seed {seed}",
            fix="use numbers from 0 up, and sides from 32 pixels up",
        )
    require_size(*size, "a photo of this size")
    folder = as_path(output)
    manifest = folder / "manifest.csv"
    listing = (*manifest_outputs(manifest), manifest.with_suffix(".warnings.txt")) if train else ()
    photos = [file for files in dataset_outputs(folder, train=train, test=test) for file in files]
    check_outputs([*photos, *listing], overwrite=overwrite)
    with counting(progress, "generating") as counted:
        made = write_dataset(folder, train=train, test=test, seed=seed, width=size[0], height=size[1], progress=counted)
    if train:
        tests = (made.test_images, made.test_masks) if test else (None, None)
        pair(
            made.train_images,
            made.train_masks,
            manifest,
            test_images=tests[0],
            test_masks=tests[1],
            overwrite=overwrite,
        )
    return made


def read_image(path: AnyPath) -> RgbImage:
    """A photo as ``uint8 H W 3``, RGB, upright, from any format that ``pair`` takes.

    Raises:
        ImageError: it cannot be read or decoded.
    """
    from lesionseg.data import images

    return images.read_image(as_path(path))


def read_mask(path: AnyPath) -> BoolMask:
    """A binary mask as ``bool H W``, True where there is lesion, from any format that ``pair`` takes.

    Raises:
        ImageError: it cannot be read or decoded, or its values are not those of a binary mask.
    """
    from lesionseg.data import images

    return images.read_mask(as_path(path))
