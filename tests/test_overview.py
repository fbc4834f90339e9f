"""The card of all models that ship, what was measured of them, and that both are those of the shipped files."""

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lesionseg import RESEARCH_USE, console, shipped_models
from lesionseg.export.measured import MEASURED, is_current, measured_sections, speed
from lesionseg.export.model_card import model_card
from lesionseg.export.overview import overview
from lesionseg.shipped_models import INT8, describe

ROOT = Path(__file__).parents[1]


def row(name: str, title: str, difference: float, **more: float) -> dict[str, Any]:
    ends = {"low": difference - 0.01, "high": difference + 0.01}
    return {title: name, "dice": 0.9 + difference, "jaccard": 0.8, "difference": difference, **ends, **more}


@pytest.fixture
def facts(shipped: Path) -> dict[str, Any]:
    """Of the stand-in, with invented measurements."""
    found: dict[str, Any] = json.loads((shipped / "model.json").read_text())
    case = {"kind": "ink", "photos": 3, "mean": 0.5, "bad": 0.4, "dice": 0.125, "index": 9}
    measured = {
        INT8: found["files"][INT8]["sha256"],
        "photos": 4,
        "split": "test",
        "speed": {"ms": 7.25, "threads": 1, "cpu": "A processor"},
        "options": [row("as it is", "option", 0.0, ms=7.25), row("--tta", "option", 0.02, ms=29)],
        "changes": [row("unchanged", "change", 0.0), row("dark skin", "change", -0.05)],
        "failures": {
            "picture": "docs/images/failures-x.png",
            "searched": 20,
            "seed": 3,
            "limit": 0.7,
            "mean": 0.8,
            "cases": [case],
        },
    }
    return {**found, MEASURED: measured}


def test_what_was_measured_is_in_the_card(facts: dict[str, Any]) -> None:
    card = model_card(facts)
    assert "| as it is | 0.900 | 0.800 |  | 7.2 |" in card
    assert "| --tta | 0.920 | 0.800 | +0.020 (+0.010 to +0.030) | 29.0 |" in card
    assert "| dark skin | 0.850 | 0.800 | -0.050 (-0.060 to -0.040) |" in card
    assert "(../../../docs/images/failures-x.png)" in card
    assert "| ink | 3 | 0.500 | 40 % | 0.125 |" in card
    assert card.index("## Known failures") < card.index("## Training and data")


def test_measurements_of_another_file_are_not_shown(facts: dict[str, Any]) -> None:
    facts[MEASURED][INT8] = "0" * 64
    assert not is_current(facts)
    assert measured_sections(facts) == []
    assert speed(facts) == ""
    assert "Known failures" not in model_card(facts)
    assert "Known failures" not in overview([facts])


def test_speed_is_the_measured_one_unless_a_person_told_it(facts: dict[str, Any]) -> None:
    assert "| speed | 1.5 |" in model_card(facts)
    facts["about"] = {}
    assert (
        "| speed | 7.2 ms of processor time for a photo at the input's size, one thread (A processor) |"
        in model_card(facts)
    )
    shown = Console(width=100)
    with shown.capture() as printed:
        shown.print(console.models_table([facts]))
    assert "7.2 ms" in printed.get()


def test_models_stand_side_by_side(facts: dict[str, Any]) -> None:
    other = json.loads(json.dumps({**facts, "name": "small"}))
    other[MEASURED]["changes"][1]["dice"] = 0.7
    card = overview([facts, other])
    assert card.startswith(f"# Models that ship with lesionseg\n\n**{RESEARCH_USE}**\n")
    assert "| lesionseg-base: Dice | lesionseg-base: IoU | lesionseg-base: difference in Dice | small: Dice |" in card
    assert "| dark skin | 0.850 | 0.800 | -0.050 (-0.060 to -0.040) | 0.700 |" in card
    assert "[small](lesionseg/shipped_models/small/MODEL_CARD.md)" in card
    assert "(docs/images/failures-x.png)" in card
    assert card.count("### ") == 2


# --- those that ship --------------------------------------------------------------------------------------------------

RENEW = "run: python benchmarks/cards.py --root DATA/isic2016 (--text, if the models are the same)"


def test_the_cards_are_those_of_the_shipped_models() -> None:
    found = describe()
    assert (ROOT / "MODEL_CARD.md").read_text(encoding="utf-8") == overview(found), RENEW
    for facts in found:
        folder = shipped_models.find_model(facts["name"])
        assert (folder / "MODEL_CARD.md").read_text(encoding="utf-8") == model_card(facts), RENEW


def test_what_was_measured_is_of_the_shipped_files() -> None:
    assert [facts["name"] for facts in describe() if not is_current(facts)] == [], RENEW


def test_the_pictures_are_there_and_small() -> None:
    for facts in describe():
        picture = ROOT / facts[MEASURED]["failures"]["picture"]
        assert picture.read_bytes().startswith(b"\x89PNG"), RENEW
        assert picture.stat().st_size < 300_000
