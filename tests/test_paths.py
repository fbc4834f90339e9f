"""``~`` in every path that a user writes, where the shell leaves it."""

from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from lesionseg import cli
from lesionseg.cli_options import Commands
from lesionseg.config import find_shipped, load_config
from lesionseg.data.manifest import read_manifest
from lesionseg.errors import ConfigError
from lesionseg.io.paths import as_path, expand_home


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    return folder


def test_the_home_folder(home: Path) -> None:
    assert as_path("~/a") == as_path(Path("~/a")) == home / "a"
    assert expand_home("~") == str(home)
    assert as_path("a/~/b") == Path("a/~/b")
    # No such user: a folder may be called so.
    assert as_path("~no-such-user/a") == Path("~no-such-user/a")
    with pytest.raises(ConfigError, match="a path is empty"):
        as_path(" ")


def test_every_path_of_a_config(home: Path) -> None:
    keys = ["data.manifest", "data.root", "data.cache", "model.encoder_weights", "model.start", "optim.teacher"]
    keys.append("loop.checkpoints")
    config = load_config({}, [f"{key}=~/x" for key in keys]).model_dump()
    for section, name in (key.split(".") for key in keys):
        assert config[section][name] == str(home / "x"), name
    assert load_config({"data": {"manifest": "isic2016"}}).data.manifest == "isic2016"


def test_files_that_are_named(home: Path, tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "m.csv").write_bytes(tiny.manifest.read_bytes())
    (home / "c.yaml").write_text("data: {manifest: ~/m.csv}")
    assert load_config("~/c.yaml").data.manifest == str(home / "m.csv")
    assert find_shipped("~/m.csv", "data_manifests", ".csv") == home / "m.csv"
    (home / "photos").symlink_to(read_manifest(tiny.manifest).root)
    assert len(read_manifest("~/m.csv", "~/photos").cases) == 14
    monkeypatch.setenv("LESIONSEG_DATA", "~/photos")
    assert len(read_manifest("~/m.csv").cases) == 14


def test_path_options_of_every_command(home: Path) -> None:
    app, got = Commands(), []

    @app.command()
    def only(
        place: Annotated[Path, typer.Argument()],
        one: Annotated[Path | None, typer.Option()] = None,
        several: Annotated[list[Path] | None, typer.Option()] = None,
        word: Annotated[str, typer.Option()] = "",
    ) -> None:
        got.extend([place, one, several, word])

    words = ["~/a", "--one=~/b", "--several=~/c", "--several", "d", "--word=~/e"]
    assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
    assert got == [home / "a", home / "b", [home / "c", Path("d")], "~/e"]


def test_the_command_line_has_such_commands_only(home: Path, tiny) -> None:
    for group in (cli.app, *(group.typer_instance for group in cli.app.registered_groups)):
        assert isinstance(group, Commands)
    (home / "m.csv").write_bytes(tiny.manifest.read_bytes())
    words = ["data", "split", "~/m.csv", f"--root={read_manifest(tiny.manifest).root}", "--output=~/s.csv"]
    result = CliRunner().invoke(cli.app, [*words, "--hold-out", "0.3"], catch_exceptions=False)
    assert (home / "s.csv").is_file(), result.output
