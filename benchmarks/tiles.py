"""What looking closer does: masks made in overlapping tiles against those of the whole photo at once.

    python benchmarks/tiles.py MODEL --manifest isic2016 --root DATA/isic2016 --factors 1.5 2 3

Mean Dice on the test photos at their masks' own size, and how far the masks agree with those without tiles; with
``--photos DIR`` also that agreement on photos without masks.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from lesionseg.data.images import read_bytes
from lesionseg.data.manifest import read_manifest
from lesionseg.data.resizing import resize_probability
from lesionseg.evaluation.metrics import confusion, dice
from lesionseg.export.photos import read_photos
from lesionseg.inference.predictor import Predictor, load_predictor
from lesionseg.inference.stages import decode
from lesionseg.inference.tiles import Tiled
from lesionseg.records import THRESHOLD, BoolMask


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("model", type=Path)
    words.add_argument("--manifest", default="isic2016")
    words.add_argument("--root")
    words.add_argument("--photos", type=Path, help="more photos, without masks")
    words.add_argument("--factors", type=float, nargs="+", default=[1.5, 2, 3])
    given = words.parse_args()
    model = load_predictor(given.model, threads=1)
    ways: dict[str, Predictor] = {"whole": model, **{f"{factor:g}": Tiled(model, factor) for factor in given.factors}}
    cases = read_manifest(given.manifest, given.root).split("test")
    print("| tiles at | Dice | against whole photos | worst, best photo | agreement (Dice), smallest | ms per photo |")
    print("|---|---|---|---|---|---|")
    scores: dict[str, list[float]] = {}
    masks: dict[str, list[BoolMask]] = {}
    for name, way in ways.items():
        scores[name], masks[name], seconds = [], [], 0.0
        for case in cases:
            # One at a time: at several times the input's size they would fill the memory.
            photo = read_photos([case], model.labels, way.height, way.width)
            started = time.perf_counter()
            probability = way.infer(photo.pixels)[0]
            seconds += time.perf_counter() - started
            mask = resize_probability(probability, *photo.truths[0].shape) >= THRESHOLD
            masks[name].append(mask)
            scores[name].append(dice(confusion(case.case_id, mask, photo.truths[0])))
        change, agreed = np.subtract(scores[name], scores["whole"]), agreement(masks[name], masks["whole"])
        print(
            f"| {name} | {np.mean(scores[name]):.4f} | {np.mean(change):+.4f} "
            f"| {change.min():+.2f}, {change.max():+.2f} "
            f"| {agreed.mean():.4f}, {agreed.min():.4f} | {1000 * seconds / len(cases):.0f} |",
            flush=True,
        )
        if name != "whole":
            del masks[name]
    if given.photos:
        for name, way in ways.items():
            agreed = agreement(predicted(given.photos, way), predicted(given.photos, model))
            print(f"{name}: masks of {len(agreed)} photos agree to {agreed.mean():.4f}, smallest {agreed.min():.4f}")


def predicted(folder: Path, model: Predictor) -> list[BoolMask]:
    found = []
    for file in sorted(folder.glob("*.jpg")):
        decoded = decode(read_bytes(file), str(file), model.height, model.width)
        probability = model.infer(decoded.pixels[None])[0]
        # At one size, so that all of them can be compared.
        found.append(resize_probability(probability, 600, 800) >= THRESHOLD)
    return found


def agreement(first: list[BoolMask], second: list[BoolMask]) -> np.ndarray:
    return np.array([dice(confusion("photo", a, b)) for a, b in zip(first, second, strict=True)])


if __name__ == "__main__":
    main()
