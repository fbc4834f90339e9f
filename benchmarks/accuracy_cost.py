"""Accuracy beside cost: the models that ship, and what ``docs/accuracy-cost.csv`` keeps of other trainings.

    python benchmarks/accuracy_cost.py [--output docs/images/accuracy-cost.png]

IoU of the 339 test photos, at their own size, over billions of multiplications a photo; circles grow with the
parameters. ``smp_unet.py`` and ``lesionseg evaluate`` give what the file keeps. Prints the same as a table, with the
ratios to the first model that ships.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lesionseg.evaluation.drawing import GREY, PALETTE, render
from lesionseg.io.writing import write_atomic
from lesionseg.shipped_models import describe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OTHERS = Path(__file__).parents[1] / "docs" / "accuracy-cost.csv"
WINNER = 0.843
"""Jaccard index of the winner of ISIC 2016's first part, on all 379 test photos."""


@dataclass(frozen=True, slots=True)
class Point:
    name: str
    shipped: bool
    parameters: int
    macs: int
    size: tuple[int, int]
    dice: float
    iou: float


def shipped_points() -> list[Point]:
    """Of the files that ``predict`` runs."""
    points = []
    for facts in describe():
        means, cost, (height, width) = facts["scores"]["means"]["int8"], facts["cost"], facts["image_size"]
        scores = means["dice"][0], means["iou"][0]
        points.append(Point(facts["name"], True, cost["parameters"], cost["macs"], (height, width), *scores))
    return points


def other_points(path: Path = OTHERS) -> list[Point]:
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Point(
                f"{row['model']}, {row['recipe']}",
                False,
                int(row["parameters"]),
                int(row["macs"]),
                (int(row["height"]), int(row["width"])),
                float(row["dice"]),
                float(row["iou"]),
            )
            for row in csv.DictReader(file)
        ]


def draw(figure: Figure, points: list[Point]) -> None:
    axes = figure.subplots()
    axes.axhline(WINNER, color=GREY, linewidth=0.8, linestyle="--")
    words = "winner of ISIC 2016, published, on all 379 photos"
    axes.annotate(words, (0.05, WINNER), (4, 3), textcoords="offset points", color=GREY, fontsize=7.5)
    for point in points:
        colour = PALETTE[0] if point.shipped else PALETTE[1] if "smp" in point.name else GREY
        axes.scatter(point.macs / 1e9, point.iou, s=point.parameters / 2e4, color=colour, alpha=0.75, linewidths=0)
        height, width = point.size
        label = f"{point.name}\n{height} x {width}, {point.parameters / 1e6:.2f} M"
        place, side = ((11, 0), "left") if point.shipped else ((0, -23), "center")
        axes.annotate(label, (point.macs / 1e9, point.iou), place, textcoords="offset points", ha=side, va="center",
                      fontsize=8)  # fmt: skip
    axes.set(xscale="log", xlim=(0.05, 1.8), ylim=(0.84, 0.872))
    axes.set(xlabel="billion multiplications with addition a photo", ylabel="IoU, 339 test photos")
    ticks = (0.05, 0.1, 0.2, 0.5, 1)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()


def table(points: list[Point]) -> str:
    lines = ["| | parameters | GMAC | input | Dice | IoU | multiplications / base |", "|---|---|---|---|---|---|---|"]
    lines += [
        f"| {p.name} | {p.parameters / 1e6:.2f} million | {p.macs / 1e9:.2f} | {p.size[0]} x {p.size[1]} "
        f"| {p.dice:.4f} | {p.iou:.4f} | {p.macs / points[0].macs:.2f} |"
        for p in points
    ]
    return "\n".join(lines)


def main() -> None:
    """See the module."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--output", type=Path, default=OTHERS.parent / "images" / "accuracy-cost.png")
    given = words.parse_args()
    points = [*shipped_points(), *other_points()]
    write_atomic(given.output, render(lambda figure: draw(figure, points), 6.4, 3.6))
    print(table(points))


if __name__ == "__main__":
    main()
