"""Which pictures ``lesionseg.inference.plausibility`` takes for no dermoscopy, and its numbers fitted anew.

    python benchmarks/plausibility.py DATA [--fit] [--fit-on FOLDER] [--test-on FOLDER] [--list]

DATA holds ``isic2016/``, ``isic2018-extra/`` and ``photos/``. Fitted on every other dermoscopy photo and every other
source of other pictures; told of the rest. The two folders hold further pictures, one per source.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from plausibility_pictures import (
    EVERYDAY,
    GENERATED,
    MEDICAL,
    SIZE,
    as_photo,
    cast,
    changed,
    darker_skin,
    distant,
    folder,
    others,
    packaged,
)
from scipy.optimize import minimize

from lesionseg.data.images import decode_photo, fit_photo, read_bytes
from lesionseg.data.resizing import resize_photo
from lesionseg.data.synthetic import generate
from lesionseg.inference import plausibility
from lesionseg.inference.plausibility import TRAITS, describe, implausible

STRENGTH = 0.05
# Shares of the fitted half that may be above the limit: photos as they are, under a cast, with darker skin, generated.
ALLOWED = {"real": 0.006, "cast": 0.015, "darker": 0.015, "generated": 0.01}

Pictures = list[np.ndarray]


def dermoscopy(data: Path) -> dict[str, np.ndarray]:
    files = [*sorted(data.glob("isic*/*/*.jpg")), *sorted((data / "photos").glob("*.jpg"))]
    return {path.relative_to(data).as_posix(): fit_photo(decode_photo(read_bytes(path), path.name), *SIZE) for path in files}


def negatives(fit_on: Path | None, test_on: Path | None) -> tuple[dict[str, Pictures], dict[str, Pictures]]:
    """Kind -> pictures, for the fit and for the test; no source is in both."""
    everyday = list((packaged(EVERYDAY) | others()).values())
    sides = []
    for side, more in enumerate((fit_on, test_on)):
        rng = np.random.default_rng((5, side))
        known = everyday[side::2]
        kinds: dict[str, Pictures] = {"everyday": known}
        if more is not None:
            kinds["folder"] = list(folder(more).values())
        backgrounds = known + kinds.get("folder", [])
        for name, make in GENERATED.items():
            kinds[name] = [make(rng) for _ in range(60)]
        kinds["from a distance"] = [distant(rng, backgrounds) for _ in range(100)]
        kinds["parts and changes"] = [changed(photo, rng) for photo in backgrounds for _ in range(3)]
        sides.append(kinds)
    return sides[0], sides[1]


def positives(real: Pictures, side: int) -> dict[str, Pictures]:
    rng = np.random.default_rng((6, side))
    half = real[side::2]
    return {
        "real": half,
        "cast": [cast(photo, rng) for photo in half],
        "darker": [darker_skin(photo, rng) for photo in half],
        "generated": [generate(21 + side, i, height=SIZE[0], width=SIZE[1]).pair.image for i in range(300)],
    }


def fit(good: dict[str, Pictures], bad: dict[str, Pictures]) -> None:
    """A ridge logistic regression on steps and squared steps, both classes of equal weight; printed, and used."""
    values = {name: np.stack([describe(photo) for photo in photos]) for name, photos in good.items()}
    real = values["real"]
    middle = np.median(real, axis=0)
    step = (np.quantile(real, 0.95, axis=0) - np.quantile(real, 0.05, axis=0)) / 3.29 + 1e-3
    wrong = np.concatenate([[describe(photo) for photo in photos] for photos in bad.values()])
    right = np.concatenate(list(values.values()))
    steps = ((np.concatenate([right, wrong]) - middle) / step).clip(-6, 6)
    terms = np.concatenate([steps, steps**2 / 4], axis=1)
    sign = np.repeat([-1.0, 1.0], [len(right), len(wrong)])
    share = np.repeat([len(wrong), len(right)], [len(right), len(wrong)]) / len(right)

    def loss(line: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (terms @ line[1:] + line[0])
        slope = -sign * share / (1 + np.exp(np.clip(margin, -500, 500)))
        value = float(share @ np.logaddexp(0, -margin) + line[1:] @ line[1:] / (2 * STRENGTH))
        return value, np.concatenate([[slope.sum()], terms.T @ slope + line[1:] / STRENGTH])

    line = minimize(loss, np.zeros(terms.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 5000}).x
    count = len(TRAITS)
    weights, bends = line[1 : count + 1].round(3), (line[count + 1 :] / 4).round(4)
    numbers = zip(TRAITS, middle.round(4), step.round(4), weights, bends, strict=True)
    fitted = tuple(
        replace(trait, middle=float(m), step=float(s), weight=float(w), bend=float(b)) for trait, m, s, w, b in numbers
    )
    plausibility.TRAITS = fitted
    scores = {name: np.array([plausibility.score(photo) for photo in photos]) for name, photos in good.items()}
    plausibility.LIMIT = round(max(float(np.quantile(scores[k], 1 - part)) for k, part in ALLOWED.items()), 2)
    print(f"LIMIT = {plausibility.LIMIT}")
    for trait in fitted:
        numbers_of = ", ".join(f"{value:g}" for value in (trait.middle, trait.step, trait.weight, trait.bend))
        print(f'    Trait("{trait.name}", {numbers_of}, "{trait.low}", "{trait.high}"),')


def told(kinds: dict[str, Pictures], what: str) -> None:
    for name, photos in kinds.items():
        found = [implausible(photo) is not None for photo in photos]
        print(f"| {what} | {name} | {len(photos)} | {sum(found)} | {np.mean(found):.1%} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--fit-on", type=Path)
    parser.add_argument("--test-on", type=Path)
    parser.add_argument("--list", action="store_true", help="name each picture of the test half that is taken wrongly")
    words = parser.parse_args()
    named = dermoscopy(words.data)
    real = list(named.values())
    fit_bad, test_bad = negatives(words.fit_on, words.test_on)
    if words.fit:
        fit(positives(real, 0), fit_bad)
    held = positives(real, 1)
    for height, width in ((128, 160), (128, 128), (256, 256)):
        held[f"real at {height} x {width}"] = [resize_photo(photo, height, width) for photo in held["real"]]
    told(held, "dermoscopy")
    told(test_bad, "other")
    told({name: [as_photo(photo)] for name, photo in packaged(MEDICAL).items()}, "medical")
    if words.list:
        for name, photo in list(named.items())[1::2]:
            if reason := implausible(photo):
                print(f"{name}: {reason}")
        names = [*packaged(EVERYDAY), *others()][1::2]
        names += sorted(path.stem for path in words.test_on.iterdir()) if words.test_on else []
        for name, photo in zip(names, test_bad["everyday"] + test_bad.get("folder", []), strict=True):
            print(f"{name}: {implausible(photo)}")


if __name__ == "__main__":
    main()
