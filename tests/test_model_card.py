"""The card of a bundle."""

import json
from pathlib import Path
from typing import Any

import pytest

from lesionseg import RESEARCH_USE
from lesionseg.export.model_card import ABOUT, model_card


@pytest.fixture
def facts(shipped: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((shipped / "model.json").read_text())
    return found


def section(card: str, title: str) -> str:
    return card.partition(f"\n## {title}\n")[2].partition("\n## ")[0].strip()


def test_it_tells_what_a_reader_has_to_know(facts: dict[str, Any]) -> None:
    card = model_card(facts)
    assert card.startswith(f"# lesionseg-base\n\n**{RESEARCH_USE}**\n")
    assert "it says nothing of what the lesion is" in section(card, "Use")
    low, high = facts["scores"]["means"]["int8"]["dice"][1:]
    assert f"({low:.3f}–{high:.3f})" in section(card, "Scores")
    assert "4 photos of the split test, none of which took part" in section(card, "Scores")
    assert "lesion size" in section(card, "By subgroup")
    assert "3 validation photos" in section(card, "What to expect of a mask")
    assert "Generated photos." in section(card, "Training and data")
    assert "| licence of the data | not told |" in section(card, "Training and data")
    assert section(card, "Licence") == "Apache-2.0"
    assert all(file["sha256"] in section(card, "Files") for file in facts["files"].values())


def test_skin_tones_are_counted_and_what_is_absent_is_named(facts: dict[str, Any]) -> None:
    row = {"attribute": "skin tone (ITA)", "few": False, "dice": 0.9, "low": 0.8, "high": 0.95}
    facts["scores"]["subgroups"] = [
        {**row, "subgroup": "very light", "n": 90},
        {**row, "subgroup": "tan", "n": 10, "few": True},
    ]
    tones = section(model_card(facts), "Skin tones")
    assert "10 of 100 scored photos show skin darker than 'light'" in tones
    assert "none is light or intermediate or brown or dark" in tones
    assert "| skin tone (ITA) | very light | 90 | 0.900 (0.800–0.950) |" in model_card(facts)
    assert "|  | tan | 10 * | 0.900" in model_card(facts)


def test_what_is_not_known_is_said(facts: dict[str, Any]) -> None:
    card = model_card({**facts, "scores": None, "quality": None, "about": {}})
    assert "Not scored" in section(card, "Scores")
    assert "Not known" in section(card, "Skin tones")
    assert "Not calibrated" in section(card, "What to expect of a mask")
    assert section(card, "Licence") == "not told"


def test_all_that_a_person_says_is_in_it(facts: dict[str, Any]) -> None:
    facts["about"] = {key: f"said of {key} |\nand more" for key in ABOUT}
    card = model_card(facts)
    assert [key for key in ABOUT if f"said of {key}" not in card] == []
    assert "said of data   and more" in card, "one cell"
