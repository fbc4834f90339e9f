"""``lesionseg app``: where it listens, and what is said of that."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lesionseg import cli
from lesionseg.app import address, building, server, site
from lesionseg.errors import LesionsegError

OTHERS = "others in this network can open the page"
INSECURE = "add --certificate and --key"


@pytest.mark.parametrize(
    ("words", "host", "told"),
    [
        ([], "127.0.0.1", []),
        (["--host", "192.0.2.20"], "192.0.2.20", [OTHERS, INSECURE]),
        (["--host", "192.0.2.20", "--certificate", "cert.pem", "--key", "key.pem"], "192.0.2.20", [OTHERS]),
    ],
    ids=str,
)
def test_other_addresses_are_asked_for_and_warned_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str], host: str, told: list[str]
) -> None:
    served: list[server.Address] = []

    def serve(found: site.Site, place: server.Address, tell: Callable[[str], None]) -> None:
        served.append(place)

    monkeypatch.setattr(building, "find_page", lambda report: tmp_path)
    monkeypatch.setattr(site, "make_site", lambda model, page: {})
    monkeypatch.setattr(address, "check_address", lambda found: found)
    monkeypatch.setattr(server, "serve", serve)
    result = CliRunner().invoke(cli.app, ["app", "--model", str(tmp_path / "any.onnx"), *words])
    assert result.exit_code == 0, result.output
    assert [place.host for place in served] == [host]
    assert [line for line in (OTHERS, INSECURE) if line in result.stderr] == told


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--host", ""], "these arguments are empty"),
        (["--host", "a b"], "--host 'a b' is no host name"),
        (["--host", "0.0.0.0"], "no name that a browser can ask for"),  # noqa: S104
        (["--name", "evil\nX"], r"--name 'evil\nX' is no host name"),
        (["--name", ""], "these arguments are empty"),
        (["--name", "localhost:9000"], "--name 'localhost:9000' holds a port"),
        (["--name", "0.0.0.0"], "--name 0.0.0.0 stands for every address"),  # noqa: S104
        (["--certificate", "nosuch.pem"], "nosuch.pem does not exist"),
        (["--build", "x" * 300], "cannot be written: File name too long"),
        (["--build", "new/" + "x" * 300], "cannot be made: File name too long"),
        (["--build", "taken"], "taken holds something else"),
        (["--build", "taken/below"], "taken/below cannot be written: "),
    ],
    ids=str,
)
def test_what_cannot_be_served_or_written_is_refused_before_the_page_is_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str], part: str
) -> None:
    def find_page(report: object) -> Path:
        raise AssertionError

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(building, "find_page", find_page)
    (tmp_path / "taken").write_text("mine")
    result = CliRunner().invoke(cli.app, ["app", "--port", "0", *words] if "--build" not in words else ["app", *words])
    assert isinstance(result.exception, LesionsegError), result.output
    assert part in result.exception.message
    assert result.exception.fix
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_read_only_is_refused_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(building, "find_page", None)
    (tmp_path / "shut").mkdir(mode=0o555)
    result = CliRunner().invoke(cli.app, ["app", "--build", str(tmp_path / "shut" / "page")])
    assert "is not writable" in str(result.exception)
