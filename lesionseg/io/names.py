"""Names of runs: one rule for every command that makes a folder of a name."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath

from lesionseg.errors import RunError

__all__ = ["joined_name", "name_of", "require_run_name"]

_LONGEST = 100
# Also safe in shells, tables and the comma-separated names of 'report --compare'.
_ALLOWED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=-]*")
_OTHERS = re.compile(r"[^A-Za-z0-9._=-]+")
_DEVICES = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³])", re.IGNORECASE)
_FIX = (
    f"choose another --name: up to {_LONGEST} of the letters a to z, digits, '.', '_', '=' and '-'; it starts with a "
    "letter or digit and does not end in '.'"
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
    if name in (".", "..") or "/" in name or "\\" in name:
        return "it is a path"
    if name[-1] in ". ":
        return "it ends in a dot or a space"
    if not _ALLOWED.fullmatch(name):
        return "it holds or starts with a character that is not allowed"
    if _DEVICES.fullmatch(name.split(".")[0].rstrip()):
        return "it is the name of a device on Windows"
    return ""


def joined_name(prefix: str, names: Sequence[str]) -> str:
    """Return a folder's name made of several, which may be paths; what would be too long ends in a digest instead."""
    plain = _plain("-".join((prefix, *(PureWindowsPath(name).name for name in names))))
    if len(plain) <= _LONGEST:
        return plain
    digest = hashlib.sha256("\0".join(names).encode(errors="replace")).hexdigest()[:8]
    return f"{plain[: _LONGEST - 9]}-{digest}"


def name_of(folder: Path) -> str:
    """Return a run's name that is made of a folder's."""
    name = _plain(folder.resolve().name)[:_LONGEST].rstrip(".") or "predictions"
    return name if not _reason(name) else f"predictions-{name}"[:_LONGEST]


def _plain(text: str) -> str:
    return _OTHERS.sub("_", text).rstrip(".")
