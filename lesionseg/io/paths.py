"""Paths as users write them."""

from __future__ import annotations

import os
from pathlib import Path

from lesionseg.errors import ConfigError

__all__ = ["AnyPath", "as_path", "expand_home"]

AnyPath = str | Path
"""A path as people write it; ``~`` is the home folder."""


def expand_home(text: str) -> str:
    """Return a path with the home folder for a leading ``~`` or ``~user``.

    Shells expand it only at the start of a word, so not in ``--manifest=~/m.csv`` or ``data.cache=~/cache``. Where
    there is no such user or no home folder, the text stays as it is: a file may be called so.
    """
    # Path.expanduser raises where there is no such user.
    return os.path.expanduser(text)  # noqa: PTH111


def as_path(path: AnyPath) -> Path:
    """Return a ``Path`` of what may be a ``str``, with the home folder for ``~``.

    Raises:
        ConfigError: the text is empty or blank; pathlib would take it for the working folder.
    """
    if isinstance(path, str) and not path.strip():
        raise ConfigError("a path is empty", fix="pass a path; the working folder is '.'")
    return Path(expand_home(str(path)))
