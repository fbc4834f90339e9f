"""What an audit can find: kinds, how grave they are, and what to do about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

__all__ = ["KINDS", "Finding", "Kind", "Severity", "found"]


class Severity(Enum):
    """How grave a finding is; the gravest first."""

    ERROR = "error"
    """Training or evaluation would be wrong or impossible."""
    WARNING = "warning"
    """Probably a mistake: look at it."""
    NOTE = "note"
    """Unusual, and often right."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of finding.

    Attributes:
        title: for people.
        severity: of its findings, unless the check knows better.
        fix: what to do about it.
    """

    title: str
    severity: Severity
    fix: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    Attributes:
        kind: a key of ``KINDS``.
        severity: how grave.
        case_ids: the cases it is about, at least one.
        message: what is the matter, in one sentence without a full stop.
        fix: what the user can do about it.
        strength: how clear the case is, among findings of this kind; orders them.
    """

    kind: str
    severity: Severity
    case_ids: tuple[str, ...]
    message: str
    fix: str
    strength: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS or not self.case_ids:
            raise ValueError(f"{self.kind}: a finding needs a known kind and at least one case")


_LOOK = "look at photo and mask together; leave the case out if they do not belong together"
KINDS: Mapping[str, Kind] = {
    "unreadable": Kind("Unreadable file", Severity.ERROR, "copy or download it again, or leave the case out"),
    "unpaired": Kind("Photo or mask without the other", Severity.ERROR, "add what is missing, or leave it out"),
    "id-collision": Kind("Several files for one id", Severity.ERROR, "keep one of them"),
    "changed": Kind("Not the recorded file", Severity.ERROR, "restore the file, or pair the folders again"),
    "split-leak": Kind(
        "One lesion in several splits",
        Severity.ERROR,
        "move them into one split, or split again: lesionseg data split --near-duplicates",
    ),
    "mask-orientation": Kind("Mask turned against its photo", Severity.ERROR, "turn the mask by a quarter"),
    "mask-size": Kind("Mask of another size than its photo", Severity.ERROR, "export the mask at the photo's size"),
    "inverted-mask": Kind("Inverted mask", Severity.ERROR, "swap lesion and skin in the mask"),
    "blank-photo": Kind("Photo of one colour", Severity.ERROR, "replace it or leave the case out"),
    "misfit": Kind("Mask that does not fit its photo", Severity.WARNING, _LOOK),
    "empty-mask": Kind(
        "Empty mask", Severity.WARNING, "keep it if the photo shows no lesion; else draw it or leave it out"
    ),
    "full-mask": Kind("Full mask", Severity.WARNING, "keep it if the lesion fills the photo; else leave it out"),
    "mask-hole": Kind("Mask with a hole", Severity.WARNING, "fill the hole if it is lesion"),
    "same-bytes": Kind(
        "Same file under several ids",
        Severity.WARNING,
        "keep one of them, or split with lesionseg data split --near-duplicates",
    ),
    "near-duplicate": Kind(
        "Photos of one lesion",
        Severity.WARNING,
        "keep them on one side of every split: lesionseg data split --near-duplicates",
    ),
    "grey-fringe": Kind("Mask with grey fringes", Severity.WARNING, "save the mask as PNG with 0 and 255 alone"),
    "odd-file": Kind(
        "File with a peculiarity", Severity.WARNING, "look at it; save it anew if it is not as it should be"
    ),
    "mask-pieces": Kind("Mask in several pieces", Severity.NOTE, "keep one piece, unless there are several lesions"),
    "photo-size": Kind("Photo of unusual size or shape", Severity.NOTE, "check that it is not a crop or a scan"),
    "lesion-size": Kind("Lesion of unusual size", Severity.NOTE, _LOOK),
    "photo-colour": Kind("Photo of unusual colour", Severity.NOTE, "check that it is a dermoscopy photo"),
}
"""Every kind by its name, the gravest first."""


def found(
    kind: str,
    case_ids: Sequence[str],
    message: str,
    severity: Severity | None = None,
    *,
    fix: str = "",
    strength: float = 0.0,
) -> Finding:
    """A finding with its kind's severity and advice, unless others are given."""
    known = KINDS[kind]
    return Finding(kind, severity or known.severity, tuple(case_ids), message, fix or known.fix, strength)
