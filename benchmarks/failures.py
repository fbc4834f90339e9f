"""Where a model fails on generated photos: the worst kinds of photo, and the worst mask of each, as a picture.

    python benchmarks/failures.py lesionseg-base [--photos 2000] [--output docs/images]

No photo of a person is in it.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lesionseg import load
from lesionseg.data.artefacts import LUMA
from lesionseg.data.resizing import resize_mask, resize_photo
from lesionseg.data.synthetic import SyntheticCase, generate
from lesionseg.evaluation.metrics import confusion, dice
from lesionseg.inference.predictor import Predictor
from lesionseg.io.writing import write_atomic
from lesionseg.records import THRESHOLD

SEED, PHOTOS, LIMIT, SHOWN = 11, 1500, 0.7, 6
HEIGHT, WIDTH, LINE = 108, 144, 18
FAINT = 12.0


def contrast(case: SyntheticCase) -> float:
    """How much darker than its surroundings the lesion is, in levels."""
    bright, mask = case.pair.image @ LUMA, case.pair.mask
    return float(np.median(bright[~mask]) - np.median(bright[mask]))


KINDS: dict[str, Callable[[SyntheticCase], bool]] = {
    "lesion over 60 % of the frame": lambda case: case.lesion_fraction > 0.6,
    "lesion under 4 % of the frame": lambda case: case.lesion_fraction < 0.04,
    "hardly any contrast": lambda case: abs(contrast(case)) < FAINT,
    "lesion brighter than the skin": lambda case: contrast(case) <= -FAINT,
    "dark skin (types V and VI)": lambda case: case.skin_type >= 5,
    "hair": lambda case: "hair" in case.artefacts,
    "ruler": lambda case: "ruler" in case.artefacts,
    "bubbles": lambda case: "bubbles" in case.artefacts,
    "sticker": lambda case: "sticker" in case.artefacts,
    "ink": lambda case: "ink" in case.artefacts,
    "black corners": lambda case: "vignette" in case.artefacts,
    "none of these": lambda case: not case.artefacts and case.skin_type < 5 and contrast(case) > 3 * FAINT,
}


def search(model: Predictor, photos: int = PHOTOS) -> dict[str, Any]:
    """Facts for the card: the mean of all, and the kinds, the worst first, with the worst photo of each."""
    found: dict[str, list[tuple[float, int]]] = {kind: [] for kind in KINDS}
    scores = []
    for index in range(photos):
        case = generate(SEED, index)
        score = dice(confusion("", model.predict(case.pair.image).mask(THRESHOLD), case.pair.mask))
        scores.append(score)
        for kind, belongs in KINDS.items():
            if belongs(case):
                found[kind].append((score, index))
    cases = []
    for kind, own in found.items():
        values = np.array([score for score, _ in own])
        told = {"kind": kind, "photos": len(own), "mean": float(values.mean()), "bad": float((values < LIMIT).mean())}
        cases.append(told)
    cases.sort(key=lambda case: case["mean"])
    used: set[int] = set()
    for case in cases:
        # One photo may be of several kinds: each shows another one.
        case["dice"], case["index"] = min(pair for pair in found[case["kind"]] if pair[1] not in used)
        used.add(case["index"])
    rounded = [{key: round(v, 4) if isinstance(v, float) else v for key, v in case.items()} for case in cases]
    return {
        "seed": SEED,
        "searched": photos,
        "limit": LIMIT,
        "mean": round(float(np.mean(scores)), 4),
        "cases": rounded,
    }


def draw(model: Predictor, facts: dict[str, Any]) -> bytes:
    """PNG of the worst kinds: generated photo, true mask, the model's mask."""
    tiles = []
    for case in facts["cases"][:SHOWN]:
        pair = generate(facts["seed"], case["index"]).pair
        masks = pair.mask, model.predict(pair.image).mask(THRESHOLD)
        pictures = [resize_photo(pair.image, HEIGHT, WIDTH)]
        pictures += [np.repeat(resize_mask(m, HEIGHT, WIDTH)[..., None] * np.uint8(255), 3, axis=2) for m in masks]
        strip = np.full((HEIGHT + LINE, 3 * WIDTH + 12, 3), 255, np.uint8)
        for place, picture in enumerate(pictures):
            strip[LINE:, place * (WIDTH + 2) : place * (WIDTH + 2) + WIDTH] = picture
        sheet = Image.fromarray(strip)
        text = f"{case['kind']}: Dice {case['dice']:.2f} (photo, truth, mask)"
        ImageDraw.Draw(sheet).text((1, 1), text, (0, 0, 0), ImageFont.load_default(12))
        tiles.append(np.asarray(sheet))
    tiles += [np.full_like(tiles[0], 255)] * (len(tiles) % 2)
    sheet = Image.fromarray(np.vstack([np.hstack(tiles[i : i + 2]) for i in range(0, len(tiles), 2)]))
    file = io.BytesIO()
    # 256 colours are enough, and a third of the bytes.
    sheet.quantize(256, dither=Image.Dither.NONE).save(file, "png", optimize=True)
    return file.getvalue()


def picture_of(name: str) -> str:
    return f"docs/images/failures-{name}.png"


def main() -> None:
    """See the module."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("model")
    words.add_argument("--photos", type=int, default=PHOTOS)
    words.add_argument("--output", type=Path, default=Path())
    given = words.parse_args()
    model = load(given.model, threads=1)
    facts = search(model, given.photos)
    write_atomic(given.output / Path(picture_of(model.name)).name, draw(model, facts))
    print(f"{facts['searched']} photos, mean Dice {facts['mean']:.3f}")
    for case in facts["cases"]:
        print(f"{case['kind']}: {case['photos']}, mean {case['mean']:.3f}, worst {case['dice']:.3f} ({case['index']})")


if __name__ == "__main__":
    main()
