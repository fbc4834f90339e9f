"""``lesionseg app``: where it listens, and what is said of that."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lesionseg import cli
from lesionseg.app import server, site

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

    def serve(found: site.Site, address: server.Address, tell: Callable[[str], None]) -> None:
        served.append(address)

    monkeypatch.setattr(site, "make_site", lambda model: {})
    monkeypatch.setattr(server, "serve", serve)
    result = CliRunner().invoke(cli.app, ["app", "--model", str(tmp_path / "any.onnx"), *words])
    assert result.exit_code == 0, result.output
    assert [address.host for address in served] == [host]
    assert [line for line in (OTHERS, INSECURE) if line in result.stderr] == told
