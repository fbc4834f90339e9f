"""An audit on paper: one self-contained HTML page with thumbnails, a CSV of the findings, the fingerprint as JSON."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lesionseg import RESEARCH_USE
from lesionseg.data.audit import QUANTILES, Audit, Fingerprint
from lesionseg.data.examine import same_shape
from lesionseg.data.findings import KINDS, Finding, Severity
from lesionseg.data.images import (
    decode_photo,
    encode_jpeg,
    read_bytes,
    read_mask,
    resize_mask,
    resize_photo,
)
from lesionseg.errors import ImageError, OutputError
from lesionseg.io.ownership import write_output
from lesionseg.pages import render_template
from lesionseg.records import BoolMask, Case, RgbImage
from lesionseg.tables import encode_table

__all__ = ["AuditFiles", "fingerprint_rows", "summary", "thumbnail", "write_audit"]

_WIDTH, _HEIGHT = 216, 162
_OUTLINE, _HALO = (0, 230, 118), (0, 0, 0)
# Of each kind so many findings are shown, and of each finding so many photos; the CSV has all.
_SHOWN, _PHOTOS = 60, 6
_QUANTILE_NAMES = ("least", "5th percentile", "25th", "median", "75th", "95th", "most")


@dataclass(frozen=True, slots=True)
class AuditFiles:
    """What ``write_audit`` wrote: the page, the findings and the fingerprint."""

    html: Path
    table: Path
    fingerprint: Path

    @classmethod
    def of(cls, output: Path) -> AuditFiles:
        """Return the files of an audit in the folder ``output``."""
        return cls(output / "audit.html", output / "findings.csv", output / "fingerprint.json")

    def all(self) -> tuple[Path, ...]:
        """Return every file."""
        return (self.html, self.table, self.fingerprint)


def write_audit(audit: Audit, output: Path, title: str) -> AuditFiles:
    """Writes ``audit.html``, ``findings.csv`` and ``fingerprint.json`` into a folder; earlier ones are replaced.

    Args:
        audit: what was found.
        output: the folder; made where it is missing.
        title: what was audited, for people.

    Raises:
        OutputError: the folder cannot be written to.
    """
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output} is a file, not a folder", fix="name a folder for the audit")
    files = AuditFiles.of(output)
    page = _html(audit, title)
    write_output(files.table, encode_table(["severity", "kind", "cases", "message", "fix"], map(_row, audit.findings)))
    write_output(files.fingerprint, (json.dumps(_plain(audit.fingerprint), indent=2) + "\n").encode())
    # Last, so that the page is never newer than the table it names.
    write_output(files.html, page.encode(errors="backslashreplace"))
    return files


def summary(audit: Audit) -> str:
    """The answer in one sentence."""
    cases = f"{audit.fingerprint.cases:,} cases"
    if not audit.findings:
        return f"Nothing was found in {cases}."
    counts = [(audit.count(severity), severity.value) for severity in Severity]
    told = [f"{count:,} {name}{'s' * (count > 1)}" for count, name in counts if count]
    listed = " and ".join(filter(None, [", ".join(told[:-1]), told[-1]]))
    return f"{listed} in {cases}."


def fingerprint_rows(fingerprint: Fingerprint) -> list[tuple[str, str]]:
    """The fingerprint as names and values, for people."""
    rows = [
        ("Cases", f"{fingerprint.cases:,} with {fingerprint.photos:,} readable photos, {fingerprint.masks:,} masks")
    ]
    for name, counts in (("Splits", fingerprint.splits), ("Diagnoses", fingerprint.diagnoses)):
        if counts:
            rows.append((name, ", ".join(f"{count:,} {value}" for value, count in counts.items())))
    if fingerprint.sizes:
        sizes = [f"{width} x {height} ({count:,})" for (width, height), count in fingerprint.sizes.items()]
        rows.append(("Sizes in pixels", ", ".join(sizes[:4]) + (f" and {len(sizes) - 4} others" if sizes[4:] else "")))
        rows.append(("Mean of R, G, B", ", ".join(f"{value:.4f}" for value in fingerprint.mean)))
        rows.append(("Standard deviation", ", ".join(f"{value:.4f}" for value in fingerprint.std)))
    if fingerprint.lesion:
        shares = zip(_QUANTILE_NAMES, fingerprint.lesion, strict=True)
        rows.append(("Lesion, share of photo", ", ".join(f"{name} {share:.1%}" for name, share in shares)))
    return [*rows, ("Digest", fingerprint.digest)]


def thumbnail(case: Case) -> RgbImage | None:
    """The photo with the border of its mask drawn in, ``uint8 H W 3`` of at most 162 x 216; None if it is unreadable.

    A mask that is unreadable or has another shape than the photo is not drawn.
    """
    try:
        photo = decode_photo(read_bytes(case.image), str(case.image), at_least=(_HEIGHT, _WIDTH))
    except ImageError:
        return None
    scale = min(_WIDTH / photo.width, _HEIGHT / photo.height)
    height, width = max(2, round(photo.height * scale)), max(2, round(photo.width * scale))
    small = resize_photo(photo.pixels, height, width)
    try:
        mask = read_mask(case.mask) if case.mask else None
    except ImageError:
        mask = None
    if mask is None or not same_shape(photo, mask):
        return small
    return _outlined(small, resize_mask(mask, height, width))


def _outlined(photo: RgbImage, mask: BoolMask) -> RgbImage:
    from scipy.ndimage import binary_dilation, binary_erosion

    # A dark line beside the bright one is seen on any skin.
    inner = mask & ~binary_erosion(mask, border_value=0)
    outer = binary_dilation(mask) & ~mask
    result = photo.copy()
    result[outer], result[inner] = _HALO, _OUTLINE
    return result


def _row(finding: Finding) -> dict[str, object]:
    cells = {"severity": finding.severity.value, "kind": finding.kind, "cases": " ".join(finding.case_ids)}
    return {**cells, "message": finding.message, "fix": finding.fix}


def _plain(fingerprint: Fingerprint) -> dict[str, Any]:
    return {
        "cases": fingerprint.cases,
        "photos": fingerprint.photos,
        "masks": fingerprint.masks,
        "splits": dict(fingerprint.splits),
        "diagnoses": dict(fingerprint.diagnoses),
        "sizes": [
            {"width": width, "height": height, "photos": count} for (width, height), count in fingerprint.sizes.items()
        ],
        "lesion_fraction": {f"{q:g}": share for q, share in zip(QUANTILES, fingerprint.lesion, strict=False)},
        "mean": list(fingerprint.mean),
        "std": list(fingerprint.std),
        "digest": fingerprint.digest,
    }


def _groups(audit: Audit) -> list[dict[str, Any]]:
    """Findings by kind and severity, the gravest first, each group with as many as are shown."""
    groups: dict[tuple[Severity, str], list[Finding]] = {}
    for finding in audit.findings:
        groups.setdefault((finding.severity, finding.kind), []).append(finding)
    return [
        {"kind": KINDS[kind], "name": kind, "severity": severity.value, "count": len(all_), "findings": all_[:_SHOWN]}
        for (severity, kind), all_ in groups.items()
    ]


def _pictures(cases: Mapping[str, Case], groups: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Case id -> thumbnail as a data URI, for the cases that are shown and can be decoded."""
    shown = {case_id for group in groups for finding in group["findings"] for case_id in finding.case_ids[:_PHOTOS]}
    wanted = [cases[case_id] for case_id in sorted(shown & cases.keys())]
    with ThreadPoolExecutor() as pool:
        return {case.case_id: uri for case, uri in zip(wanted, pool.map(_uri, wanted), strict=True) if uri}


def _uri(case: Case) -> str:
    pixels = thumbnail(case)
    if pixels is None:
        return ""
    return "data:image/jpeg;base64," + base64.b64encode(encode_jpeg(np.ascontiguousarray(pixels), 85)).decode("ascii")


def _html(audit: Audit, title: str) -> str:
    groups = _groups(audit)
    cases = {case.case_id: case for case in audit.cases}
    return render_template(
        Path(__file__).parent / "templates" / "audit.html",
        research_use=RESEARCH_USE,
        title=title,
        answer=summary(audit),
        groups=groups,
        cases=cases,
        pictures=_pictures(cases, groups),
        photos=_PHOTOS,
        fingerprint=fingerprint_rows(audit.fingerprint),
    )
