"""Which files of a folder are photos, by their names and, where these do not tell, by their first bytes."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from typing import NamedTuple

from lesionseg.data.containers import FORMATS, HEAD_BYTES, describe
from lesionseg.data.files import IMAGE_SUFFIXES, is_companion

__all__ = ["COMPANION", "OTHER", "Skipped", "ending_of", "read_head", "reason_to_skip"]

COMPANION = "a companion or system file"
OTHER = "not a photo"

_ENDING = re.compile(r"\.(?=[0-9]*[a-z])[0-9a-z]{1,12}", re.IGNORECASE)
_RAW = frozenset(
    [
        ".3fr",
        ".arw",
        ".cr2",
        ".cr3",
        ".crw",
        ".dng",
        ".erf",
        ".iiq",
        ".kdc",
        ".mef",
        ".mos",
        ".mrw",
        ".nef",
        ".nrw",
        ".orf",
        ".pef",
        ".raf",
        ".raw",
        ".rw2",
        ".rwl",
        ".sr2",
        ".srf",
        ".srw",
        ".x3f",
    ]
)
_UNFINISHED = frozenset((".crdownload", ".download", ".opdownload", ".part", ".partial", ".tmp"))
# They are told from photos by their names alone: archives have a file of metadata beside each of half a million photos.
_NO_PHOTO = frozenset(
    [
        ".bat",
        ".cfg",
        ".css",
        ".csv",
        ".db",
        ".doc",
        ".docx",
        ".gz",
        ".htm",
        ".html",
        ".ini",
        ".ipynb",
        ".js",
        ".json",
        ".jsonl",
        ".log",
        ".md",
        ".mp4",
        ".npy",
        ".npz",
        ".onnx",
        ".pdf",
        ".ppt",
        ".pptx",
        ".pt",
        ".py",
        ".pyc",
        ".rtf",
        ".safetensors",
        ".sh",
        ".sql",
        ".svg",
        ".tar",
        ".tgz",
        ".toml",
        ".tsv",
        ".txt",
        ".xls",
        ".xlsx",
        ".xml",
        ".yaml",
        ".yml",
        ".zip",
    ]
)
_PICTURES = ("HEIC", "AVIF", "DICOM", "GIF", "JPEG 2000", "JPEG XL", "Photoshop", "BigTIFF")


class Skipped(NamedTuple):
    """A file that is left out.

    Attributes:
        name: relative to the source.
        reason: why.
    """

    name: str
    reason: str

    @property
    def is_picture(self) -> bool:
        """Whether the file is a picture by its name or bytes, and somebody may miss it."""
        return self.reason not in (COMPANION, OTHER)

    @property
    def is_other(self) -> bool:
        """Whether the file is neither a picture nor a companion or system file."""
        return self.reason == OTHER


def ending_of(name: str) -> str:
    """Return the ending of a file's name with its dot, as written; '' for none, also where the last part is a number.

    Exports of picture archives are named by numbers: in ``1.2.840.113619.2``, nothing is an ending.
    """
    start = name.rfind(".")
    return name[start:] if start > name.rfind("/") + 1 and _ENDING.fullmatch(name, start) else ""


def reason_to_skip(name: str, head: Callable[[], bytes | None]) -> str:
    """Return why a file is left out; '' for a photo.

    Args:
        name: of the file, without its folder.
        head: returns its first ``HEAD_BYTES`` bytes, None where it is no regular file; called only where the name does
            not tell.
    """
    if is_companion(name):
        return COMPANION
    ending = ending_of(name).lower()
    if ending in IMAGE_SUFFIXES:
        return ""
    if ending in _RAW:
        return "a raw file of a camera: convert it to JPEG or PNG"
    if ending in _NO_PHOTO:
        return OTHER
    return _reason_by_content(ending, head())


def _reason_by_content(ending: str, head: bytes | None) -> str:
    if head is None:
        return "not a regular file"
    kind = describe(head)
    if kind in FORMATS and not ending:
        return ""
    if ending in _UNFINISHED:
        return f"an unfinished download: if it is complete, rename it without {ending}"
    if kind in FORMATS:
        return f"{kind} data under the ending {ending}: give it the ending of its format"
    return f"{kind} data: convert it to JPEG or PNG" if kind in _PICTURES else OTHER


def read_head(path: str) -> bytes | None:
    """Return a file's first ``HEAD_BYTES`` bytes; None where it is no regular file, or cannot be read."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError):
        return None
    try:
        return os.read(handle, HEAD_BYTES) if stat.S_ISREG(os.fstat(handle).st_mode) else None
    except OSError:
        return None
    finally:
        os.close(handle)
