"""``lesionseg models``: the table, JSON and the card."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lesionseg import RESEARCH_USE, cli, shipped_models
from lesionseg.errors import RunError


def told(*words: str) -> str:
    return CliRunner().invoke(cli.app, ["models", *words], catch_exceptions=False, env={"COLUMNS": "200"}).output


def test_the_table(shipped: Path) -> None:
    facts = json.loads((shipped / "model.json").read_text())
    text = told()
    assert max(map(len, text.splitlines())) <= 80, "fits a usual terminal"
    header, row = (line.split() for line in text.splitlines()[:2])
    assert header[:3] == ["Name", "Network", "Input"]
    assert row[:5] == ["lesionseg-base", "unet", "64", "x", "96"]
    assert f"{facts['scores']['means']['int8']['dice'][0]:.3f}" in row
    assert row[-2:] == ["4", "1.5"]


def test_json_is_all_that_is_known(shipped: Path) -> None:
    facts = json.loads((shipped / "model.json").read_text())
    assert json.loads(told("--json")) == json.loads(told("lesionseg-base", "--json")) == [facts]


def test_the_card_is_the_one_in_the_folder(shipped: Path) -> None:
    assert told("lesionseg-base", "--card") == (shipped / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert RESEARCH_USE in told(str(shipped), "--card")


def test_what_is_no_bundle(shipped: Path, exported: tuple[Path, Path]) -> None:
    with pytest.raises(RunError, match=r"one is no bundle\nFix: .*--format bundle"):
        told(str(exported[0]))
    with pytest.raises(RunError, match="did you mean lesionseg-base"):
        told("lesionseg-bass")


def test_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped_models, "_FOLDER", tmp_path)
    assert "ships no model" in told()
    assert json.loads(told("--json")) == []
