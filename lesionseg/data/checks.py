"""The audit's checks of single cases: whether each file is readable, the recorded one, and a photo or mask at all."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lesionseg.data.contrast import Contrast
from lesionseg.data.examine import Examination, MaskFacts, PhotoFacts
from lesionseg.data.findings import Finding, found

__all__ = ["check_case"]

# Standard deviation of the brightest channel, of 1: the noise of a covered lens stays below.
_BLANK = 0.008
# Of 2,294 ISIC pairs 13 masks touch more than half of the border; all are darker inside.
_MOSTLY, _NEARLY_ALL = 0.5, 0.9
_HOLE = 0.02
_PIECE = 0.01
# By so many units of colour difference the photo's own spot must surpass the mask. Of 2,294 ISIC pairs 4 do; of masks
# that were put on another photo two in three of those that miss the lesion.
_MISFIT = 3.0
_SLIVER = 0.07


def check_case(look: Examination) -> list[Finding]:
    """What one case's own files give cause for."""
    findings = [found("unreadable", [look.case.case_id], failure.message, fix=failure.fix) for failure in look.failures]
    findings += _check_record(look)
    if look.photo is not None:
        findings += _check_photo(look.case.case_id, look.photo)
    if look.mask is not None:
        findings += _check_mask(look.case.case_id, look.mask)
    if look.photo is not None and look.mask is not None:
        findings += _check_sizes(look.case.case_id, look.photo, look.mask)
    return findings


def _check_record(look: Examination) -> Iterator[Finding]:
    known = look.case.sha256
    if known and look.photo_sha256 and known != look.photo_sha256:
        told = f"its SHA-256 is {look.photo_sha256[:12]}..., the manifest says {known[:12]}..."
        yield found("changed", [look.case.case_id], f"{look.case.image} is not the file that was paired: {told}")


def _check_photo(case_id: str, photo: PhotoFacts) -> Iterator[Finding]:
    if float(np.sqrt(np.maximum(photo.square - photo.mean**2, 0)).max()) < _BLANK:
        yield found("blank-photo", [case_id], "all pixels of the photo have nearly one colour")
    for line in photo.warnings:
        yield found("odd-file", [case_id], f"photo: {line}")


def _check_mask(case_id: str, mask: MaskFacts) -> list[Finding]:
    findings = list(_check_content(case_id, mask))
    if mask.fringe:
        told = f"{mask.fringe:.2%} of the mask's pixels are neither lesion nor skin and were split at the middle"
        findings.append(found("grey-fringe", [case_id], told))
    # What the decoder says of content and fringes is told above, with the photo beside it.
    explained = (mask.border > _NEARLY_ALL or mask.fraction == 0) + (mask.fringe > 0)
    if len(mask.warnings) > explained:
        findings.append(found("odd-file", [case_id], f"mask: {'; '.join(mask.warnings)}"))
    return findings


def _check_content(case_id: str, mask: MaskFacts) -> Iterator[Finding]:
    if mask.fraction in (0, 1):
        kind, told = ("full-mask", "every pixel is lesion") if mask.fraction else ("empty-mask", "no pixel is lesion")
        yield found(kind, [case_id], told)
        return
    lighter = None if mask.contrast is None else mask.contrast.lighter
    if mask.border > (_NEARLY_ALL if lighter is None else _MOSTLY) and (lighter is None or lighter > 0):
        brighter = "" if lighter is None else ", which is brighter than the rest"
        told = f"{mask.border:.0%} of the photo's border is lesion{brighter}"
        yield found("inverted-mask", [case_id], told)
        return
    if mask.hole > _HOLE:
        yield found("mask-hole", [case_id], f"the lesion encloses skin of {mask.hole:.0%} of its area")
    large = [area for area in mask.areas if area >= _PIECE]
    if len(large) > 1:
        shares = ", ".join(f"{area:.0%}" for area in large)
        yield found("mask-pieces", [case_id], f"the lesion is in {len(large)} pieces, of {shares} of its area")
    if mask.contrast is not None and _misfit(mask.contrast) > _MISFIT:
        told = "misses" if mask.contrast.missed > _MOSTLY else "is far larger than"
        contrast = f"colour difference {mask.contrast.spot:.0f}, of the mask {mask.contrast.mask:.0f}"
        message = f"the mask {told} the most conspicuous spot of the photo ({contrast})"
        yield found("misfit", [case_id], message, strength=_misfit(mask.contrast))


def _misfit(contrast: Contrast) -> float:
    return contrast.spot * (1.0 if contrast.overlap < _SLIVER else contrast.missed) - contrast.mask


def _check_sizes(case_id: str, photo: PhotoFacts, mask: MaskFacts) -> Iterator[Finding]:
    size, other = (photo.width, photo.height), (mask.width, mask.height)
    if size == other:
        return
    told = f"the photo is {size[0]} x {size[1]}, the mask {other[0]} x {other[1]}"
    yield found("mask-orientation" if size == other[::-1] else "mask-size", [case_id], told)
