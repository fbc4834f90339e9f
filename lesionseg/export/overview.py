"""One short card of all models that ship: ``MODEL_CARD.md`` of the repository."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lesionseg import RESEARCH_USE
from lesionseg.evaluation.cards import LIMITS, USE
from lesionseg.export.measured import changes_table, failures, is_current, options_table, table
from lesionseg.export.model_card import interval, skin_tones
from lesionseg.shipped_models import INT8

__all__ = ["overview"]

_SHOWN = {"dice": "Dice", "iou": "IoU", "thresholded_iou": "thresholded IoU"}

Facts = Mapping[str, Any]


def overview(models: Sequence[Facts]) -> str:
    """Markdown for a reader who chooses a model.

    Args:
        models: ``model.json`` of each, scored, the default first.
    """
    measured = [facts for facts in models if is_current(facts)]
    sections = [
        ("The models", _models(models)),
        ("Use", [USE]),
        ("Scores", _scores(models)),
        ("Skin tones", [f"{facts['name']}: {skin_tones(facts['scores'])}  " for facts in models]),
        ("Data and licence", _origins(models)),
    ]
    if measured:
        shown = [line for facts in measured for line in (f"### {facts['name']}", "", *failures(facts), "")]
        sections[4:4] = [
            ("With options of predict", options_table(measured)),
            ("On photos that are changed", changes_table(measured)),
            ("Known failures", shown[:-1]),
        ]
    sections.append(("Limits", [LIMITS]))
    lines = ["# Models that ship with lesionseg", "", f"**{RESEARCH_USE}**"]
    for title, content in sections:
        lines += ["", f"## {title}", "", *content]
    return "\n".join(lines) + "\n"


def _models(models: Sequence[Facts]) -> list[str]:
    rows = [
        (
            f"[{facts['name']}](lesionseg/shipped_models/{facts['name']}/MODEL_CARD.md)",
            facts["about"].get("summary", ""),
            " x ".join(map(str, facts["image_size"])),
            f"{facts['cost']['parameters']:,}",
            f"{facts['cost']['macs'] / 1e9:.2f}",
            f"{facts['files'][INT8]['bytes'] / 1e6:.1f} MB",
        )
        for facts in models
    ]
    said = (
        "Each name leads to the model's own card, with training, subgroups and digests; `model.json` beside it has the "
        "same for programs, and so has `lesionseg models --json`."
    )
    return [*table(("", "", "input", "parameters", "GMAC", "int8 file"), rows), "", said]


def _scores(models: Sequence[Facts]) -> list[str]:
    rows = []
    for facts in models:
        scores: Facts = facts["scores"]
        form, means = next(iter(scores["means"].items()))
        rows.append((facts["name"], form, scores["photos"], *(interval(means[key]) for key in _SHOWN)))
    said = (
        "Test photos, none of which took part in the training, at their own size, threshold 0.5; means of per-image "
        "values with 95 % bootstrap intervals. int8 is what `predict` runs."
    )
    return [said, "", *table(("", "", "photos", *_SHOWN.values()), rows)]


def _origins(models: Sequence[Facts]) -> list[str]:
    rows = [(facts["name"], *(facts["about"].get(key, "not told") for key in _TOLD)) for facts in models]
    return table(("", *_TOLD.values()), rows)


_TOLD = {
    "data": "data",
    "data_licence": "licence of the data",
    "encoder": "origin of the encoder",
    "licence": "licence of the weights",
    "citation": "cite",
}
