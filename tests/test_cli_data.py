"""``lesionseg data audit`` and ``download``, as a user sees them: exit codes, messages, files."""

import functools
import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from lesionseg import cli
from lesionseg.cli_parts import PARTIAL
from lesionseg.data import catalogue
from lesionseg.data.catalogue import Dataset, RemoteFile
from lesionseg.data.synthetic import DatasetFolders, generate, write_dataset
from lesionseg.errors import ConfigError, DownloadError
from lesionseg.io.ownership import RECORD


def run(*words: str | Path) -> Any:
    """A refusal stays an exception here; ``main`` prints it."""
    return CliRunner().invoke(cli.app, ["data", *map(str, words)], env={"COLUMNS": "120"})


# --- audit ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitting(tmp_path_factory: pytest.TempPathFactory) -> DatasetFolders:
    """Four generated photos whose lesions are dark, so that nothing is to be found."""
    folders = write_dataset(tmp_path_factory.mktemp("fitting"), train=0, test=0)
    for index in range(4):
        mask = generate(9, index).pair.mask
        skin = np.random.default_rng(index).normal((214, 170, 150), 3, (*mask.shape, 3))
        skin[mask] -= (100, 100, 100)
        Image.fromarray(skin.clip(0, 255).astype(np.uint8)).save(folders.train_images / f"p{index}.jpg", quality=95)
        Image.fromarray(mask.astype(np.uint8) * 255).save(folders.train_masks / f"p{index}_mask.png")
    return folders


def test_a_clean_set_exits_0(fitting: DatasetFolders, tmp_path: Path) -> None:
    result = run("audit", "--images", fitting.train_images, "--masks", fitting.train_masks, "--output", tmp_path / "a")
    assert result.exit_code == 0, result.output
    assert "Nothing was found in 4 cases." in result.output
    assert "4/4" in result.output
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        RECORD,
        "audit.html",
        "findings.csv",
        "fingerprint.json",
    ]


def test_findings_exit_3_and_are_named(fitting: DatasetFolders, tmp_path: Path) -> None:
    for index in range(4):
        (tmp_path / f"p{index}.jpg").write_bytes((fitting.train_images / f"p{index}.jpg").read_bytes())
    (tmp_path / "p1.jpg").write_bytes(b"<html>")
    (tmp_path / "orphan.jpg").write_bytes((fitting.train_images / "p2.jpg").read_bytes())
    result = run("audit", "--images", tmp_path, "--masks", fitting.train_masks, "--output", tmp_path / "a")
    assert result.exit_code == PARTIAL == 3
    for words in ("2 errors and 1 warning in 5 cases.", "Unreadable file", "orphan = p2", str(tmp_path / "a")):
        assert words in result.output
    assert (tmp_path / "a" / "findings.csv").read_text().count("\n") == 4


def test_a_manifest(tiny: Any, tmp_path: Path) -> None:
    result = run("audit", tiny.manifest, "--output", tmp_path / "a")
    assert result.exit_code in (0, PARTIAL)
    assert "10 train, 4 test" in result.output
    assert "Data audit, tiny" in (tmp_path / "a" / "audit.html").read_text()


@pytest.mark.parametrize("words", [(), ("isic2016", "--images", "a"), ("--images", "a"), ("m.csv", "--masks", "b")])
def test_one_source_is_needed(words: tuple[str, ...]) -> None:
    result = run("audit", *words)
    assert isinstance(result.exception, ConfigError)
    assert "either a manifest or two folders" in str(result.exception)


# --- download ---------------------------------------------------------------------------------------------------------


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_args: object) -> None:
        """Keeps the test's output clean."""


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dataset]:
    """A catalogue with one data set, on a server on this machine."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        bundle.writestr("a.txt", bytes(2**21))
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "toy.zip").write_bytes(buffer.getvalue())
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path / "www")) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/toy.zip"
        file = RemoteFile("toy.zip", (url,), "toy", sha256=hashlib.sha256(buffer.getvalue()).hexdigest())
        toy = Dataset("toy", "A [toy]", "CC0-1.0", "Nobody et al.", "https://example.org", (file,))
        monkeypatch.setattr(catalogue, "CATALOGUE", (toy,))
        yield toy
        server.shutdown()
        thread.join()


def test_without_a_name_all_are_listed() -> None:
    result = run("download")
    assert result.exit_code == 0
    for words in ("isic2016", "ph2", "CC0-1.0", "on request", "2.8 GB", "over 11.4 GB"):
        assert words in result.output


@pytest.mark.usefixtures("served")
def test_a_download_tells_licence_citation_and_where_it_is(tmp_path: Path) -> None:
    result = run("download", "toy", "--output", tmp_path / "out")
    assert result.exit_code == 0, result.output
    for words in ("A [toy]", "licence: CC0-1.0", "cite: Nobody et al.", "toy.zip", f"{tmp_path}/out/toy: verified"):
        assert words in result.output
    assert (tmp_path / "out" / "toy" / "a.txt").stat().st_size == 2**21
    again = run("download", "toy", "--output", tmp_path / "out", "--offline")
    assert again.exit_code == 0, again.output


@pytest.mark.usefixtures("served")
def test_what_is_too_large_says_how_to_allow_it(tmp_path: Path) -> None:
    result = run("download", "toy", "--output", tmp_path / "out", "--max-gib", "0.001")
    assert isinstance(result.exception, DownloadError)
    assert "--max-gib" in result.exception.fix
    assert not (tmp_path / "out" / "toy").exists()


@pytest.mark.usefixtures("served")
def test_offline_without_files_lists_what_is_missing(tmp_path: Path) -> None:
    result = run("download", "toy", "--output", tmp_path / "out", "--offline")
    assert isinstance(result.exception, DownloadError)
    assert "toy.zip: http://127.0.0.1" in str(result.exception)


def test_unknown_and_closed_sets_are_refused(tmp_path: Path) -> None:
    for name, words in (("isic1999", "use one of: isic2016"), ("ph2", "on request")):
        result = run("download", name, "--output", tmp_path)
        assert isinstance(result.exception, DownloadError)
        assert words in str(result.exception)
