"""The page's files: those that the package carries, else built once with Node and kept.

Built when it is first wanted, and not while the package is installed: an installation must work without Node and
without npm's registry, and most users never open the page.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from lesionseg.errors import ConfigError, OutputError, ResourceError

__all__ = ["SOURCES", "VERSION_FILE", "build_page", "find_page", "page_cache", "page_version"]

SOURCES = Path(__file__).parent / "web"
"""What the page is built from; ``dist`` in it is a built page."""

VERSION_FILE = "version.txt"
"""In a built page: the sources that it was built from."""

_BUILT = "dist"
_LEFT_OUT = (_BUILT, "node_modules", "package-lock.json")

_PART = ".part-"

_ASKING, _WORKING = 60.0, 600.0
"""Seconds for the registry's first answer, and for each step after it."""
_LONGEST_BUILD = _ASKING + 2 * _WORKING

_FIX = (
    "check the network, the proxy ('npm config get proxy'), the registry ('npm config get registry') and that "
    "'node --version' says 20 or newer; then run the same command again"
)

Report = Callable[[str], None]


def page_version() -> str:
    """What tells one state of the sources from another: 16 hex digits."""
    paths = {path.relative_to(SOURCES).as_posix(): path for path in SOURCES.rglob("*") if path.is_file()}
    digest = hashlib.sha256()
    for name in sorted(paths):
        if name.split("/")[0] not in _LEFT_OUT:
            digest.update(name.encode() + b"\0" + hashlib.sha256(paths[name].read_bytes()).digest())
    return digest.hexdigest()[:16]


def page_cache() -> Path:
    """The folder that built pages are kept in, which need not exist.

    Raises:
        OutputError: neither the environment nor the system names a home folder.
    """
    variable, below = ("LOCALAPPDATA", "AppData/Local") if sys.platform == "win32" else ("XDG_CACHE_HOME", ".cache")
    try:
        home = os.environ.get(variable) or Path.home() / below
    except RuntimeError as error:
        # Containers run as users that have no entry in the list of users.
        raise OutputError(
            "this user has no home folder to keep the built page in", fix=f"set {variable} to a writable folder"
        ) from error
    return Path(home) / "lesionseg" / "app"


def find_page(report: Report = lambda line: None) -> Path:
    """The folder of a built page; builds it where there is none yet.

    Args:
        report: called with a line for each step of the building, which takes a minute.

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
    _find_npm()
    try:
        # Beside its place: a rename then makes it whole, and a cache that is read-only shows before npm has worked.
        kept.parent.mkdir(parents=True, exist_ok=True)
        _sweep(kept.parent)
        with tempfile.TemporaryDirectory(dir=kept.parent, prefix=_PART, ignore_cleanup_errors=True) as work:
            built = build_page(Path(work) / "page", report)
            shutil.rmtree(kept, ignore_errors=True)
            built.replace(kept)
    except OSError as error:
        raise OutputError(
            f"{kept} cannot be written: {error.strerror or error}", fix="set XDG_CACHE_HOME to a writable folder"
        ) from error
    return kept


def _sweep(folder: Path) -> None:
    """Remove what builds that were killed have left."""
    for left in folder.glob(f"{_PART}*"):
        if time.time() - left.stat().st_mtime > _LONGEST_BUILD:
            shutil.rmtree(left, ignore_errors=True)


def _version_of(folder: Path) -> str:
    try:
        return (folder / VERSION_FILE).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""


def _find_npm() -> str:
    npm = shutil.which("npm")
    if npm is None:
        raise ConfigError(
            "the page is not built yet, and building it takes Node.js",
            fix="install Node.js 20 or newer with npm and run the same command again; it is needed only this once",
        )
    return npm


def build_page(work: Path, report: Report = lambda line: None) -> Path:
    """Builds the page with npm, and leaves what npm fetched beside it.

    The registry is asked for one small file first: npm by itself may wait a quarter of an hour for one that does not
    answer, and slow connections need most of that for the packages.

    Args:
        work: a folder that does not exist yet; the sources are copied there.
        report: called with a line for each step.

    Returns:
        The folder of the built page.

    Raises:
        ConfigError: there is no Node.
        ResourceError: npm failed.
    """
    npm = _find_npm()
    shutil.copytree(SOURCES, work, ignore=shutil.ignore_patterns(*_LEFT_OUT))
    report(f"the page is built once, with npm: asking npm's registry (at most {_ASKING:.0f} s)")
    _run(_Step("npm's registry cannot be used", [npm, "view", "esbuild", "version", *_fetching(15)], _ASKING), work)
    report("fetching packages")
    words = [*("--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"), *_fetching(120)]
    # No package's own script runs; none of them needs to.
    _run(_Step("the page's packages could not be fetched", [npm, "install", *words], _WORKING), work)
    report("building the page")
    _run(_Step("the page could not be built", [npm, "run", "--silent", "build"], _WORKING), work)
    return work / _BUILT


def _fetching(seconds: int) -> list[str]:
    """npm's limits: for each file, with one more try."""
    return [
        f"--fetch-timeout={1000 * seconds}",
        *("--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=2000"),
    ]


@dataclass(frozen=True, slots=True)
class _Step:
    """A program to run: the message if it fails, its words, and its limit in seconds."""

    failure: str
    command: Sequence[str]
    limit: float


def _run(step: _Step, folder: Path) -> None:
    # A file and not a pipe: what npm has started may hold a pipe open after npm itself has ended.
    with tempfile.TemporaryFile(dir=folder) as log, _ending_on_sigterm():
        with subprocess.Popen(  # noqa: S603
            step.command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        ) as process:
            try:
                code = process.wait(step.limit)
            except BaseException as error:
                _end(process)
                if isinstance(error, subprocess.TimeoutExpired):
                    raise ResourceError(f"{step.failure}: npm took over {step.limit:.0f} seconds", fix=_FIX) from error
                raise
        if code:
            log.seek(0)
            lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
            raise ResourceError(f"{step.failure}: npm ended with {code}", problems=lines[:8], fix=_FIX)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program that runs, and what it has started."""
    with contextlib.suppress(OSError):
        if os.name == "nt":
            words = ["taskkill", "/F", "/T", "/PID", str(process.pid)]
            subprocess.run(words, capture_output=True, check=False)  # noqa: S603
        else:
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()


@contextlib.contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """Make SIGTERM an exception, so that npm ends with this process."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    try:
        previous = signal.signal(signal.SIGTERM, end)
    except ValueError:
        # Only the main thread may set handlers; elsewhere the caller decides.
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
