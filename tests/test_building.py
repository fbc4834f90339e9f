"""The built page is found, built or missed, and never one of other sources."""

import shutil
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
    install, run = log.read_text().splitlines()
    assert install.startswith("install --ignore-scripts")
    assert "--no-package-lock" in install
    assert run == "run --silent build"
    assert [path.name for path in page_cache().iterdir()] == [version]


def test_what_npm_complains_of_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_npm(monkeypatch, tmp_path / "bin", "echo 'npm error code ENOTFOUND' >&2\nexit 7")
    with pytest.raises(ResourceError, match=r"npm ended with 7:\n  - npm error code ENOTFOUND\nFix: check the network"):
        find_page()
    assert not page_cache().exists()


def test_a_cache_that_cannot_be_written_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_npm(monkeypatch, tmp_path / "bin", 'if [ "$1" = run ]; then mkdir dist; fi')
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="XDG_CACHE_HOME"):
        find_page()
