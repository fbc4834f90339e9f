"""The built page is found, built or missed, and never one of other sources."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lesionseg.app import building
from lesionseg.app.building import SOURCES, VERSION_FILE, find_page, page_cache, page_version
from lesionseg.errors import ConfigError, OutputError, ResourceError


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A copy of the sources, without a built page, and an empty cache."""
    sources = tmp_path / "web"
    shutil.copytree(SOURCES, sources, ignore=shutil.ignore_patterns("node_modules", "dist"))
    monkeypatch.setattr(building, "SOURCES", sources)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return sources


def write_page(folder: Path, version: str) -> Path:
    folder.mkdir(parents=True)
    (folder / VERSION_FILE).write_text(version)
    return folder


def fake_npm(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    folder.mkdir()
    npm = folder / "npm"
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_the_version_is_that_of_the_sources(elsewhere: Path) -> None:
    before = page_version()
    for name in ("dist/x.js", "node_modules/a/b.js", "package-lock.json"):
        (elsewhere / name).parent.mkdir(parents=True, exist_ok=True)
        (elsewhere / name).write_text("1")
    assert page_version() == before
    (elsewhere / "src" / "more.js").write_text("1")
    assert page_version() != before


def test_a_page_that_the_package_carries_is_taken(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    write_page(elsewhere / "dist", page_version())
    assert find_page() == elsewhere / "dist"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no users without a name")
def test_a_user_without_a_home_folder_gets_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name)
    # No list of users has it.
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 7)
    with pytest.raises(OutputError, match="no home folder") as caught:
        find_page()
    assert caught.value.fix == "set XDG_CACHE_HOME to a writable folder"


def test_a_kept_page_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    kept = write_page(page_cache() / page_version(), page_version())
    assert find_page() == kept


def test_a_page_of_other_sources_is_not_taken(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    write_page(elsewhere / "dist", "0123456789abcdef")
    write_page(page_cache() / page_version(), "0123456789abcdef")
    with pytest.raises(ConfigError, match="building it takes Node"):
        find_page()


def test_without_node_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match=r"Fix: install Node.js 20 or newer with npm and run the same command again"):
        find_page()


def test_it_is_built_once_and_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    version = page_version()
    log = tmp_path / "log"
    fake_npm(
        monkeypatch,
        tmp_path / "bin",
        f'echo "$*" >> {log}\nif [ "$1" = run ]; then mkdir dist && printf {version} > dist/version.txt; fi',
    )
    folder = find_page()
    assert folder == page_cache() / version
    assert find_page() == folder
    view, install, run = log.read_text().splitlines()
    assert view.startswith("view esbuild version")
    for words in (view, install):
        assert "--fetch-retries=1" in words
        assert "--fetch-timeout=" in words
    assert install.startswith("install --ignore-scripts")
    assert "--no-package-lock" in install
    assert run == "run --silent build"
    assert [path.name for path in page_cache().iterdir()] == [version]


def test_what_npm_complains_of_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_npm(monkeypatch, tmp_path / "bin", "echo 'npm error code ENOTFOUND' >&2\nexit 7")
    with pytest.raises(ResourceError, match=r"npm ended with 7:\n  - npm error code ENOTFOUND\nFix: check the network"):
        find_page()
    assert list(page_cache().iterdir()) == []


def test_every_step_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_npm(monkeypatch, tmp_path / "bin", 'if [ "$1" = run ]; then mkdir dist; fi')
    lines: list[str] = []
    find_page(lines.append)
    assert [line.split()[0] for line in lines] == ["the", "fetching", "building"]


def test_a_registry_that_never_answers_is_told_and_npm_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(building, "_ASKING", 1.0)
    # The shell is npm here; what it starts holds its output open.
    fake_npm(monkeypatch, tmp_path / "bin", f"sleep 60 &\necho $! > {tmp_path / 'pid'}\nwait")
    started = time.monotonic()
    with pytest.raises(
        ResourceError, match=r"registry cannot be used: npm took over 1 seconds\nFix: check the network"
    ):
        find_page()
    assert time.monotonic() - started < 20
    assert not is_alive(int((tmp_path / "pid").read_text()))
    assert list(page_cache().iterdir()) == []


def is_alive(pid: int) -> bool:
    for _ in range(50):
        state = Path(f"/proc/{pid}/stat")
        try:
            # One that has ended stays as a zombie where nobody asks for it.
            if state.read_text().rpartition(")")[2].split()[0] == "Z":
                return False
        except OSError:
            return False
        time.sleep(0.1)
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_npm_ends_with_the_program(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: signal.Signals
) -> None:
    fake_npm(
        monkeypatch,
        tmp_path / "bin",
        f"sleep 60 &\necho $! > {tmp_path / 'new'}; mv {tmp_path / 'new'} {tmp_path / 'pid'}\nwait",
    )
    code = (
        "from pathlib import Path; from lesionseg.app import building; "
        f"building.SOURCES = Path({str(elsewhere)!r}); building.find_page()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) as process:
        while not (tmp_path / "pid").exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(number)
        process.communicate(timeout=20)
    assert process.returncode == (-number if number == signal.SIGINT else 143)
    assert not is_alive(int((tmp_path / "pid").read_text()))
    assert list(page_cache().iterdir()) == []


def test_what_killed_builds_have_left_is_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_npm(monkeypatch, tmp_path / "bin", 'if [ "$1" = run ]; then mkdir dist; fi')
    for name, age in (("old", 10_000), ("new", 0)):
        left = page_cache() / f".part-{name}" / "page"
        left.mkdir(parents=True)
        os.utime(left.parent, (time.time() - age, time.time() - age))
    find_page()
    assert sorted(path.name for path in page_cache().iterdir()) == [".part-new", page_version()]


def test_a_cache_that_cannot_be_written_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_npm(monkeypatch, tmp_path / "bin", 'if [ "$1" = run ]; then mkdir dist; fi')
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="XDG_CACHE_HOME"):
        find_page()
