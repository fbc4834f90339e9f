"""Palette-coded trimaps made of binary masks: skin, border and lesion in one file, as Pascal VOC keeps its classes."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from PIL import Image

from lesionseg.data.classes import ClassMask, trimap
from lesionseg.data.images import read_mask
from lesionseg.data.manifest import Manifest, manifest_outputs, write_manifest
from lesionseg.errors import DataError
from lesionseg.io.ownership import check_outputs, write_output
from lesionseg.records import Case

__all__ = ["TRIMAP_CLASSES", "encode_classes_png", "write_trimaps"]

TRIMAP_CLASSES = {"skin": "#000000", "border": "#e0e0c0", "lesion": "#800000"}
"""For ``data.classes``: the colours of the palette, VOC's for background, void and the first class."""


def encode_classes_png(mask: ClassMask, colours: tuple[str, ...] = tuple(TRIMAP_CLASSES.values())) -> bytes:
    """Class indices ``uint8 H W`` to a palette PNG; index k has the k-th of ``colours``."""
    picture = Image.fromarray(mask)
    picture.putpalette(b"".join(bytes.fromhex(colour[1:]) for colour in colours))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def write_trimaps(
    manifest: Manifest,
    output: Path,
    band: float,
    *,
    inputs: Iterable[Path] = (),
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Writes ``<case_id>_trimap.png`` for every case, at its mask's own size, and ``manifest.csv``, which lists them.

    Args:
        manifest: cases with binary masks.
        output: the folder to write to.
        band: pixels of border to each side of the outline, at the mask's own size.
        inputs: files that are read beside the cases' photos and masks, and are no place to write to.
        overwrite: replace files that lesionseg did not write, or that were changed since.
        progress: called with (done, total).

    Returns:
        the manifest; train with it and ``data.classes`` set to ``TRIMAP_CLASSES``.

    Raises:
        DataError: a case has no mask, or an id that cannot name a file.
        ImageError: a mask cannot be read.
        OutputError: the folder cannot be written to, or files of other origin are in the way.
    """
    bare = [case.case_id for case in manifest.cases if case.mask is None]
    if bare:
        raise DataError("these cases have no mask", problems=bare, fix="take their rows out of the manifest")

    odd = [case.case_id for case in manifest.cases if Path(case.case_id).name != case.case_id]
    if odd:
        raise DataError("these case ids cannot name a file", problems=odd, fix="correct them in the manifest")

    listing = output / "manifest.csv"
    photos = [file for case in manifest.cases for file in (case.image, case.mask) if file is not None]
    check_outputs(
        [*(_trimap_file(output, case) for case in manifest.cases), *manifest_outputs(listing)],
        inputs=[*inputs, *photos],
        overwrite=overwrite,
    )

    def make(case: Case, mask: Path) -> Case:
        path = _trimap_file(output, case)
        write_output(path, encode_classes_png(trimap(read_mask(mask), band)))
        return replace(case, mask=path)

    cases = []
    masks = [case.mask for case in manifest.cases if case.mask is not None]
    with ThreadPoolExecutor() as pool:
        for done, case in enumerate(pool.map(make, manifest.cases, masks), start=1):
            cases.append(case)
            if progress:
                progress(done, len(manifest.cases))
    write_manifest(cases, listing)
    return listing


def _trimap_file(output: Path, case: Case) -> Path:
    return output / f"{case.case_id}_trimap.png"
