"""The page's files: those that the package carries, else built once with Node and kept.

Built when it is first wanted, and not while the package is installed: an installation must work without Node and
without npm's registry, and most users never open the page.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from lesionseg.errors import ConfigError, OutputError, ResourceError

__all__ = ["SOURCES", "VERSION_FILE", "build_page", "find_page", "page_cache", "page_version"]

SOURCES = Path(__file__).parent / "web"
"""What the page is built from; ``dist`` in it is a built page."""

VERSION_FILE = "version.txt"
"""In a built page: the sources that it was built from."""

_BUILT = "dist"
_LEFT_OUT = (_BUILT, "node_modules", "package-lock.json")

_MINUTES = 10


def page_version() -> str:
    """What tells one state of the sources from another: 16 hex digits."""
    paths = {path.relative_to(SOURCES).as_posix(): path for path in SOURCES.rglob("*") if path.is_file()}
    digest = hashlib.sha256()
    for name in sorted(paths):
        if name.split("/")[0] not in _LEFT_OUT:
            digest.update(name.encode() + b"\0" + hashlib.sha256(paths[name].read_bytes()).digest())
    return digest.hexdigest()[:16]


def page_cache() -> Path:
    """The folder that built pages are kept in, which need not exist."""
    if sys.platform == "win32":
        home = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    else:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "lesionseg" / "app"


def find_page() -> Path:
    """The folder of a built page; builds it where there is none yet.

    Raises:
        ConfigError: there is neither a built page nor Node.
        OutputError: it cannot be kept.
        ResourceError: npm failed, for example without a network.
    """
    version = page_version()
    kept = page_cache() / version
    for folder in (SOURCES / _BUILT, kept):
        if _version_of(folder) == version:
            return folder
    with tempfile.TemporaryDirectory(prefix="lesionseg-app-") as work:
        built = build_page(Path(work) / "page")
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=kept.parent, prefix=".part-") as part:
                shutil.copytree(built, Path(part) / version)
                shutil.rmtree(kept, ignore_errors=True)
                (Path(part) / version).replace(kept)
        except OSError as error:
            raise OutputError(
                f"{kept} cannot be written: {error.strerror}", fix="set XDG_CACHE_HOME to a writable folder"
            ) from error
    return kept


def _version_of(folder: Path) -> str:
    try:
        return (folder / VERSION_FILE).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""


def build_page(work: Path) -> Path:
    """Builds the page with npm, and leaves what npm fetched beside it.

    Args:
        work: a folder that does not exist yet; the sources are copied there.

    Returns:
        The folder of the built page.

    Raises:
        ConfigError: there is no Node.
        ResourceError: npm failed.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise ConfigError(
            "the page is not built yet, and building it takes Node.js",
            fix="install Node.js 20 or newer with npm and run the same command again; it is needed only this once",
        )
    shutil.copytree(SOURCES, work, ignore=shutil.ignore_patterns(*_LEFT_OUT))
    # No package's own script runs; none of them needs to.
    _run([npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"], work)
    _run([npm, "run", "--silent", "build"], work)
    return work / _BUILT


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60 * _MINUTES)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise ResourceError(f"npm took over {_MINUTES} minutes", fix="check the network and try again") from error
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise ResourceError(
            f"the page could not be built: npm ended with {done.returncode}",
            problems=lines[-8:],
            fix="check the network, and that 'node --version' says 20 or newer",
        )
