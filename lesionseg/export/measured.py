"""What was measured of a model that ships after it was made, in Markdown: ``measured`` of its ``model.json``.

``benchmarks/cards.py`` measures and writes it; a bundle without it has no such sections.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lesionseg.shipped_models import INT8

__all__ = [
    "MEASURED",
    "changes_table",
    "failures",
    "is_current",
    "measured_sections",
    "options_table",
    "speed",
    "table",
]

MEASURED = "measured"
"""The key in ``model.json``."""

Facts = Mapping[str, Any]
Section = tuple[str, list[str]]


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """The lines of a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(str(cell).replace("|", " ") for cell in line) + " |" for line in lines]


def is_current(facts: Facts) -> bool:
    """Whether there are measurements, and they are of the file that the bundle holds."""
    return bool(facts.get(MEASURED, {}).get(INT8) == facts["files"][INT8]["sha256"])


def measured_sections(facts: Facts) -> list[Section]:
    """Title and lines of what there is."""
    if not is_current(facts):
        return []
    return [
        ("With options of predict", options_table([facts])),
        ("On photos that are changed", changes_table([facts])),
        ("Known failures", failures(facts, "../../../")),
    ]


def speed(facts: Facts) -> str:
    """How long a photo takes; empty where it was not measured."""
    if not is_current(facts):
        return ""
    found = facts[MEASURED]["speed"]
    return f"{found['ms']:.1f} ms of processor time for a photo at the input's size, one thread ({found['cpu']})"


def _apart(row: Facts) -> str:
    return f"{row['difference']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"


def _side_by_side(models: Sequence[Facts], rows: str, title: str, header: Sequence[str]) -> list[str]:
    """One row for each thing that was tried, with some columns for each model."""
    heads = [f"{facts['name']}: {name}" if len(models) > 1 else name for facts in models for name in header]
    lines = []
    for place, tried in enumerate(zip(*(facts[MEASURED][rows] for facts in models), strict=True)):
        cells = [tried[0][title]]
        for row in tried:
            # The first row is what the others differ from.
            cells += [f"{row['dice']:.3f}", f"{row['jaccard']:.3f}", _apart(row) if place else ""]
            cells += [f"{row['ms']:.1f}"] if "ms" in row else []
        lines.append(cells)
    return table(("", *heads), lines)


def options_table(models: Sequence[Facts]) -> list[str]:
    """What the options of ``predict`` gain and cost, models side by side."""
    first = models[0][MEASURED]
    said = f"{first['photos']} photos of the split {first['split']}; paired differences with 95 % bootstrap intervals."
    header = ("Dice", "IoU", "difference in Dice", "ms")
    return [said, "", *_side_by_side(models, "options", "option", header)]


def changes_table(models: Sequence[Facts]) -> list[str]:
    """What changes of the photos do to the masks, models side by side."""
    first = models[0][MEASURED]
    said = (
        f"The same {first['photos']} photos, changed as photos of other hospitals, cameras and skins differ "
        "(`benchmarks/robustness.py`). Darker skin is light skin under computed melanin, which replaces no photos of "
        "dark skin."
    )
    return [said, "", *_side_by_side(models, "changes", "change", ("Dice", "IoU", "difference in Dice"))]


def failures(facts: Facts, root: str = "") -> list[str]:
    """The picture of the worst masks on generated photos, and their numbers.

    Args:
        facts: ``model.json``, measured.
        root: the way from the card to the repository's folder, empty or ending in a slash.
    """
    found = facts[MEASURED]["failures"]
    rows = [
        (case["kind"], case["photos"], f"{case['mean']:.3f}", f"{100 * case['bad']:.0f} %", f"{case['dice']:.3f}")
        for case in found["cases"]
    ]
    header = ("generated photos", "photos", "mean Dice", f"under {found['limit']:g}", "worst")
    said = (
        f"The worst masks of the worst kinds among {found['searched']} generated photos (`lesionseg data synth`, "
        f"seed {found['seed']}), no photo twice. All of them have a mean Dice of {found['mean']:.3f}. "
        "Generated photos are stranger to the model than real ones: they show where it fails, not how often."
    )
    picture = f"![Generated photo, truth and mask, {facts['name']}]({root}{found['picture']})"
    return [said, "", picture, "", *table(header, rows)]
