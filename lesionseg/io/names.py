"""Names of runs: one rule for every command that makes a folder of a name."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import PureWindowsPath

from lesionseg.errors import RunError

__all__ = ["joined_name", "require_run_name"]

_LONGEST = 100
# File systems allow 255 bytes; what is made of a name is longer than the name.
_LONGEST_BYTES = 200
# No comma, which separates the names of 'report --compare'.
_ALLOWED = re.compile(r"\w[\w .=+()@-]*")
_DEVICES = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³])", re.IGNORECASE)
_FIX = (
    f"choose another --name: up to {_LONGEST} letters, digits, '.', '_', '=' and '-', which starts with a letter or "
    "digit and does not end in '.'"
)


def require_run_name(name: str) -> None:
    """Make sure that a run's name can be a folder's name on every system, and nothing but a name.

    Raises:
        RunError: it is empty, too long, leads to another folder, is reserved by Windows, or holds other characters.
    """
    if reason := _reason(name):
        raise RunError(f"{name[:_LONGEST]!r} cannot be a run's name: {reason}", fix=_FIX)


def _reason(name: str) -> str:
    if not name:
        return "it is empty"
    if len(name) > _LONGEST:
        return f"it has {len(name)} characters, over {_LONGEST}"
    if len(name.encode(errors="replace")) > _LONGEST_BYTES:
        return "it is too long"
    if name in (".", "..") or "/" in name or "\\" in name:
        return "it is a path"
    if not _ALLOWED.fullmatch(name):
        return "it holds or starts with a character that is not allowed"
    if name[-1] in ". ":
        return "it ends in a dot or a space"
    if _DEVICES.fullmatch(name.split(".")[0].rstrip()):
        return "it is the name of a device on Windows"
    return ""


def joined_name(prefix: str, names: Sequence[str]) -> str:
    """Return a folder's name made of several, which may be paths; what would be too long ends in a digest instead."""
    joined = "-".join((prefix, *(PureWindowsPath(name).name for name in names)))
    plain = re.sub(r"[^\w.=+()@-]", "_", joined).rstrip(".") or prefix
    if len(plain.encode()) <= _LONGEST_BYTES:
        return plain
    digest = hashlib.sha256("\0".join(names).encode(errors="replace")).hexdigest()[:8]
    return f"{plain.encode()[: _LONGEST_BYTES - 9].decode(errors='ignore')}-{digest}"
