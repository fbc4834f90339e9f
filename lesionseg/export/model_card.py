"""The card of a bundle, as Markdown: all of ``model.json`` that a reader has to know before using the model.

After Mitchell et al. 2019, "Model cards for model reporting", arXiv:1810.03993.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from lesionseg import RESEARCH_USE
from lesionseg.evaluation.cards import LIMITS, USE
from lesionseg.evaluation.subgroups import FEW, SKIN_TONES
from lesionseg.export.measured import measured_sections, speed, table
from lesionseg.tables import one_line

__all__ = ["ABOUT", "interval", "model_card", "skin_tones"]

ABOUT = {
    "summary": "What it is",
    "method": "How it was trained",
    "data": "Data",
    "data_licence": "Licence of the data",
    "encoder": "Origin of the encoder's first weights",
    "licence": "Licence of these weights",
    "limits": "Further limits",
    "citation": "Cite",
    "speed": "Speed",
}
"""What a person can say of a model -> its title in the card. All are text; nothing of it is checked."""

Facts = Mapping[str, Any]
_UNTOLD = "not told"
_TONES = "skin tone (ITA)"
# Of SKIN_TONES, from light to dark: those that most dermoscopy collections are made of.
_LIGHT = tuple(SKIN_TONES)[:2]


def model_card(facts: Facts) -> str:
    """Markdown of a bundle's ``model.json``."""
    sections = (
        ("What it is", _what(facts)),
        ("Use", [USE]),
        ("Scores", _scores(facts["scores"])),
        ("By subgroup", _subgroups(facts["scores"])),
        ("Skin tones", [skin_tones(facts["scores"])]),
        *measured_sections(facts),
        ("What to expect of a mask", [_quality(facts["quality"])]),
        ("Training and data", _training(facts)),
        ("Limits", [" ".join((LIMITS, _about(facts, "limits", "")))]),
        ("Licence", _licence(facts)),
        ("Files", _files(facts)),
    )
    lines = [f"# {facts['name']}", "", f"**{RESEARCH_USE}**"]
    for title, content in sections:
        lines += ["", f"## {title}", "", *content]
    # A bundle of somebody else's may hold any text.
    return "\n".join(one_line(line).rstrip() for line in lines) + "\n"


def _about(facts: Facts, key: str, otherwise: str = _UNTOLD) -> str:
    return " ".join(str(facts["about"].get(key, otherwise)).split())


def _what(facts: Facts) -> list[str]:
    height, width = facts["image_size"]
    cost = facts["cost"]
    told = [_about(facts, "summary")] if "summary" in facts["about"] else []
    rows = [
        ("network", f"{facts['spec']['name']} on MobileNetV2 (arXiv:1801.04381)"),
        ("input", f"RGB, {height} x {width} pixels (height x width)"),
        ("output", f"probability of lesion; lesion from {facts['threshold']:g} on"),
        ("parameters", f"{cost['parameters']:,}"),
        ("multiplications with addition", f"{cost['macs'] / 1e9:.2f} GMAC for a photo"),
        *([("speed", told_speed)] if (told_speed := _about(facts, "speed", speed(facts))) else []),
        ("int8", facts["checked"]),
    ]
    return [*(line for text in told for line in (text, "")), *table(("", ""), rows)]


def interval(values: Sequence[float]) -> str:
    """A mean with the ends of its interval."""
    mean, low, high = values
    return f"{mean:.3f} ({low:.3f}–{high:.3f})"


def _scores(scores: Facts | None) -> list[str]:
    if scores is None:
        return ["Not scored: its manifest has no test photos with masks."]
    means = scores["means"]
    names = list(next(iter(means.values())))
    rows = [(name.replace("_", " "), *(interval(form[name]) for form in means.values())) for name in names]
    said = (
        f"{scores['photos']} photos of the split {scores['split']}, none of which took part in the training, at their "
        f"own size, threshold {scores['threshold']:g}; means of per-image values with 95 % bootstrap intervals. "
        "`int8` is what `predict` runs."
    )
    return [said, "", *table(("", *means), rows)]


def _subgroups(scores: Facts | None) -> list[str]:
    if scores is None:
        return ["Not scored."]
    form = next(iter(scores["means"]))
    few = f"fewer than {FEW} photos, so the interval is not to be trusted"
    rows = []
    for attribute, members in groupby(scores["subgroups"], key=lambda row: row["attribute"]):
        for place, row in enumerate(members):
            values = interval((row["dice"], row["low"], row["high"]))
            count = f"{row['n']}" + (" *" if row["few"] else "")
            rows.append(("" if place else attribute, row["subgroup"], count, values))
    said = (
        "Traits of the photos (skin tone, hair, ruler) are estimated from their pixels by simple detectors; no labels."
    )
    return [said, "", *table(("", "", "photos", f"Dice ({form})"), rows), "", f"\\* {few}"]


def skin_tones(scores: Facts | None) -> str:
    """How many of the scored photos show darker skin, and which tones none shows."""
    found = {row["subgroup"]: row["n"] for row in (scores or {}).get("subgroups", ()) if row["attribute"] == _TONES}
    if not found:
        return "Not known: no test photos were scored, or all are of one tone. Do not rely on the masks on dark skin."
    darker = sum(count for tone, count in found.items() if tone not in _LIGHT)
    absent = [tone for tone in SKIN_TONES if tone not in found]
    return (
        f"{darker} of {sum(found.values())} scored photos show skin darker than '{_LIGHT[-1]}', by the angle that "
        f"their pixels give (ITA)"
        + (f"; none is {' or '.join(absent)}" if absent else "")
        + ". Where there are few photos or none, nothing is known of how good the masks are."
    )


def _quality(quality: Facts | None) -> str:
    if quality is None:
        return "Not calibrated: the table's `expected_dice` stays empty."
    return (
        f"`expected_dice` was calibrated on {quality['photos']} validation photos; under {quality['review_below']:g} a "
        "mask is marked for review. It holds for photos like those."
    )


def _training(facts: Facts) -> list[str]:
    training = facts["training"]
    config = training["config"]
    how = (
        f"{training['photos']} photos of {training['manifest']}; {training['validation']} more chose the state "
        f"({facts['checkpoint']})"
    )
    settings = (
        f"loss {config['optim']['loss']}, {config['optim'].get('name', '')} with rates "
        f"{config['optim']['encoder_lr']:g} (encoder) and {config['optim']['decoder_lr']:g} (decoder), "
        f"{config['loop']['epochs']} epochs"
    )
    encoder = facts["encoder"]
    rows = [
        ("photos", how),
        ("settings", settings),
        ("method", _about(facts, "method")),
        ("encoder began with", f"{encoder['source']} {encoder['sha256'][:16]}".strip()),
        ("origin of these", _about(facts, "encoder")),
        ("data", _about(facts, "data")),
        ("licence of the data", _about(facts, "data_licence")),
        ("manifest", f"SHA-256 {training['manifest_sha256']}"),
    ]
    return table(("", ""), rows)


def _licence(facts: Facts) -> list[str]:
    cite = [f"Cite: {_about(facts, 'citation')}"] if "citation" in facts["about"] else []
    return [_about(facts, "licence"), *(part for line in cite for part in ("", line))]


def _files(facts: Facts) -> list[str]:
    rows = [(f"`{name}`", f"{file['bytes'] / 1e6:.1f} MB", file["sha256"]) for name, file in facts["files"].items()]
    return table(("", "", "SHA-256"), rows)
