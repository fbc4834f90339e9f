"""Ids in the names of photos and masks."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

__all__ = ["MASK_NAMES", "case_id_of", "drop_lesion_ending", "masks_among"]

_MASK_ENDING = re.compile(r"_(segmentation|mask)$", re.IGNORECASE)
# PH2 names its masks so; as photos of lesions are named so as well, it counts only where there is such a photo.
_LESION_ENDING = re.compile(r"_lesion$", re.IGNORECASE)
MASK_NAMES = "the mask of ID.jpg is called ID, ID_mask, ID_segmentation or ID_lesion, in any format that is read"
"""How masks have to be called, for messages."""


def case_id_of(path: Path) -> str:
    """The id in a photo's or mask's file name: ``ISIC_0000000_Segmentation.png`` -> ``ISIC_0000000``."""
    name = path.name
    for suffix in (".nii.gz", path.suffix):
        if suffix and name.lower().endswith(suffix.lower()):
            name = name[: -len(suffix)]
            break
    # One letter with an accent has two spellings, and file systems disagree on which they keep.
    return unicodedata.normalize("NFC", _MASK_ENDING.sub("", name) or name)


def masks_among(files: Iterable[Path]) -> set[Path]:
    """The masks in a folder that holds photos as well, by their names."""
    plain = {path for path in files if not _MASK_ENDING.search(path.stem)}
    masks = set(files) - plain
    masked = {case_id_of(path) for path in masks}
    ids = {case_id_of(path) for path in plain}
    # A photo called x_lesion has a mask of its own, x_lesion_mask.
    return masks | {
        path
        for path in plain
        if (case_id := case_id_of(path)) not in masked and _LESION_ENDING.sub("", case_id) in ids - {case_id}
    }


def drop_lesion_ending(masks: Mapping[str, Path], photos: Collection[str]) -> dict[str, Path]:
    """Masks by id, with ``_lesion`` dropped from the ids that only then are those of photos."""

    def key(case_id: str) -> str:
        bare = _LESION_ENDING.sub("", case_id)
        return bare if case_id not in photos and bare in photos and bare not in masks else case_id

    return {key(case_id): path for case_id, path in masks.items()}
