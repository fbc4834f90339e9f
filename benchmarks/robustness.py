"""How well masks hold where photos are changed as other hospitals, cameras and skins change them.

    python benchmarks/robustness.py lesionseg-base lesionseg-lite --root DATA/isic2016 [--photos 50] [--output FOLDER]

Every photo of the split as it is and after each change of ``robustness_changes.py``, drawn from (change, photo) alone;
mean Dice and Jaccard index at the photo's own size, and the paired difference in Dice to the unchanged photos with its
95 % bootstrap interval. Writes ``robustness.csv`` and ``robustness.md``; ``--pictures`` also a sheet of the changes.
"""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from robustness_changes import CHANGES, UNCHANGED

from lesionseg import load
from lesionseg.data.images import read_image
from lesionseg.data.manifest import read_manifest
from lesionseg.evaluation.metrics import confusion, dice, jaccard
from lesionseg.evaluation.statistics import paired_difference
from lesionseg.inference.predictor import Predictor
from lesionseg.io.writing import write_atomic
from lesionseg.records import THRESHOLD, Case

COLUMNS = ("model", "sha256", "change", "photos", "dice", "jaccard", "difference", "low", "high")


def spaced(cases: Sequence[Case], count: int | None) -> tuple[Case, ...]:
    """So many of them, evenly spaced; all without a number."""
    places = np.linspace(0, len(cases) - 1, min(count or len(cases), len(cases))).round().astype(int)
    return tuple(cases[place] for place in places)


def changed(name: str, photo: np.ndarray, mask: np.ndarray, index: int) -> tuple[np.ndarray, np.ndarray]:
    """One photo after one change, always the same."""
    return CHANGES[name](photo, mask, np.random.default_rng((list(CHANGES).index(name), index)))


def score_changes(models: Sequence[Predictor], cases: Sequence[Case]) -> np.ndarray:
    """Dice and Jaccard index, ``float64 models changes photos 2``."""
    scores = np.empty((len(models), len(CHANGES), len(cases), 2))
    for place, case in enumerate(cases):
        photo, truth = read_image(case.image), models[0].labels.lesion(models[0].labels.read(case.mask))
        for row, name in enumerate(CHANGES):
            seen, wanted = changed(name, photo, truth, place)
            for column, model in enumerate(models):
                found = confusion(case.case_id, model.predict(seen).mask(THRESHOLD), wanted)
                scores[column, row, place] = dice(found), jaccard(found)
    return scores


def table(model: Predictor, scores: np.ndarray) -> list[dict[str, Any]]:
    """Rows of ``COLUMNS`` of one model's scores, ``float64 changes photos 2``."""
    plain = scores[list(CHANGES).index(UNCHANGED), :, 0]
    rows = []
    for name, found in zip(CHANGES, scores, strict=True):
        apart = paired_difference(found[:, 0], plain)
        numbers = {
            "dice": found[:, 0].mean(),
            "jaccard": found[:, 1].mean(),
            "difference": apart.mean_difference,
            "low": apart.low,
            "high": apart.high,
        }
        told = {"model": model.name, "sha256": model.sha256, "change": name, "photos": len(found)}
        rows.append(told | {key: round(float(value), 4) for key, value in numbers.items()})
    return rows


def as_markdown(rows: Sequence[dict[str, Any]]) -> str:
    lines = []
    for name in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == name]
        lines += [
            f"{name}, {own[0]['photos']} photos:",
            "",
            "| | Dice | Jaccard | difference in Dice |",
            "|---|---|---|---|",
        ]
        for row in own:
            apart = f"{row['difference']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"
            lines.append(
                f"| {row['change']} | {row['dice']:.3f} | {row['jaccard']:.3f} | "
                f"{'' if row['change'] == UNCHANGED else apart} |"
            )
        lines.append("")
    return "\n".join(lines)


def write(rows: Sequence[dict[str, Any]], folder: Path) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(folder / "robustness.csv", text.getvalue().encode())
    write_atomic(folder / "robustness.md", as_markdown(rows).encode())


def sheet(case: Case, truth: np.ndarray, path: Path) -> None:
    """All changes of one photo, the truth's outline in them."""
    from lesionseg.data.resizing import resize_mask, resize_photo
    from lesionseg.inference.overlay import draw_outline

    tiles = []
    for name in CHANGES:
        photo, mask = changed(name, read_image(case.image), truth, 0)
        tiles.append(draw_outline(resize_photo(photo, 192, 256), resize_mask(mask, 192, 256)))
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % 6)
    Image.fromarray(np.vstack([np.hstack(tiles[i : i + 6]) for i in range(0, len(tiles), 6)])).save(path)


def main() -> None:
    """See the module."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("models", nargs="+")
    words.add_argument("--manifest", default="isic2016")
    words.add_argument("--root")
    words.add_argument("--split", default="test")
    words.add_argument("--photos", type=int, help="only so many, evenly spaced")
    words.add_argument("--output", type=Path, default=Path())
    words.add_argument("--pictures", type=int, metavar="PLACE", help="also write changes.png of one photo")
    given = words.parse_args()
    cases = spaced(read_manifest(given.manifest, given.root).split(given.split), given.photos)
    models = [load(name, threads=1) for name in given.models]
    if given.pictures is not None:
        case = cases[given.pictures]
        sheet(case, models[0].labels.lesion(models[0].labels.read(case.mask)), given.output / "changes.png")
    scores = score_changes(models, cases)
    rows = [row for model, own in zip(models, scores, strict=True) for row in table(model, own)]
    write(rows, given.output)
    print(as_markdown(rows))


if __name__ == "__main__":
    main()
