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
    cast,
    changed,
    compressed,
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

STRENGTH = 0.3
# Of what dermoscopy has none of, black and white: they should count by how much there is.
STEP_OF_NONE = 0.1
# Shares of the fitted half that may be above the limit: photos as they are, under a cast, with darker skin, generated.
ALLOWED = {"real": 0.006, "cast": 0.02, "darker": 0.02, "generated": 0.008}
COUNTS = {"page": 60, "screen": 60, "frame": 200, "noise": 60}
# How much a picture counts in the fit: parts of the same picture are many, sorts of text and noise few.
COUNT_AS = {
    "real": 2.0,
    "generated": 4.0,
    "everyday": 3.0,
    "frame": 2.0,
    "from a distance": 2.5,
    "screen": 0.5,
    "noise": 0.3,
    "parts and changes": 0.3,
}

Pictures = list[np.ndarray]
Values = dict[str, np.ndarray]


def dermoscopy(data: Path) -> dict[str, np.ndarray]:
    files = [*sorted(data.glob("isic*/*/*.jpg")), *sorted((data / "photos").glob("*.jpg"))]
    places = {path.relative_to(data).as_posix(): path for path in files}
    return {name: fit_photo(decode_photo(read_bytes(path), name), *SIZE) for name, path in places.items()}


def named_others(side: int, more: Path | None) -> dict[str, np.ndarray]:
    everyday = packaged(EVERYDAY) | others()
    return dict(list(everyday.items())[side::2]) | (folder(more) if more else {})


def negatives(side: int, more: Path | None) -> dict[str, Pictures]:
    """Kind -> pictures, for the fit (0) or the test (1); no source is in both."""
    own = list(named_others(side, None).values())
    kinds: dict[str, Pictures] = {"everyday": own}
    if more is not None:
        kinds["folder"] = list(folder(more).values())
    backgrounds = own + kinds.get("folder", [])
    for number, (name, make) in enumerate(GENERATED.items()):
        rng = np.random.default_rng((5, side, number))
        kinds[name] = [make(rng) for _ in range(COUNTS[name])]
    rng = np.random.default_rng((5, side, 9))
    kinds["from a distance"] = [distant(rng, backgrounds) for _ in range(100)]
    kinds["parts and changes"] = [changed(photo, rng) for photo in backgrounds for _ in range(3)]
    kinds["compressed"] = [compressed(photo, rng) for photo in backgrounds for _ in range(3)]
    return kinds


def positives(real: Pictures, side: int) -> dict[str, Pictures]:
    rng = np.random.default_rng((6, side))
    half = real[side::2]
    return {
        "real": half,
        "cast": [cast(photo, rng) for photo in half],
        "darker": [darker_skin(photo, rng) for photo in half],
        "compressed": [compressed(photo, rng) for photo in half],
        "generated": [generate(21 + side, i, height=SIZE[0], width=SIZE[1]).pair.image for i in range(600)],
    }


def described(kinds: dict[str, Pictures]) -> Values:
    return {name: np.stack([describe(photo) for photo in photos]) for name, photos in kinds.items()}


def _weights(kinds: Values) -> np.ndarray:
    weights = np.concatenate([np.full(len(values), COUNT_AS.get(name, 1.0)) for name, values in kinds.items()])
    return weights / weights.sum()


def fit(good: Values, bad: Values) -> None:
    """A ridge logistic regression on steps and squared steps, both classes of equal weight; printed, and used."""
    real = good["real"]
    middle = np.median(real, axis=0).round(4)
    step = (np.quantile(real, 0.95, axis=0) - np.quantile(real, 0.05, axis=0)) / 3.29
    step = np.where(step < STEP_OF_NONE / 2, STEP_OF_NONE, step).round(4)
    steps = ((np.concatenate([*good.values(), *bad.values()]) - middle) / step).clip(-6, 6)
    terms = np.concatenate([steps, steps**2 / 4], axis=1)
    weights = np.concatenate([_weights(good), _weights(bad)])
    sign = np.repeat([-1.0, 1.0], [sum(map(len, good.values())), sum(map(len, bad.values()))])
    ridge = 1 / STRENGTH / sum(map(len, bad.values()))

    def loss(line: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (terms @ line[1:] + line[0])
        slope = -sign * weights / (1 + np.exp(np.clip(margin, -500, 500)))
        value = float(weights @ np.logaddexp(0, -margin) + ridge * line[1:] @ line[1:] / 2)
        return value, np.concatenate([[slope.sum()], terms.T @ slope + ridge * line[1:]])

    count = len(TRAITS)
    # What is far from every dermoscopy photo must not speak for one.
    bounds = [(None, None)] * (count + 1) + [(0, None)] * count
    start = np.zeros(terms.shape[1] + 1)
    line = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 5000}).x
    numbers = zip(TRAITS, middle, step, line[1 : count + 1].round(3), (line[count + 1 :] / 4).round(4), strict=True)
    plausibility.TRAITS = tuple(
        replace(trait, middle=float(m), step=float(s), weight=float(w), bend=float(b)) for trait, m, s, w, b in numbers
    )
    limits = [float(np.quantile(scores(good[name]), 1 - part)) for name, part in ALLOWED.items()]
    plausibility.LIMIT = round(max(limits), 2)
    print(f"LIMIT = {plausibility.LIMIT}")
    for trait in plausibility.TRAITS:
        written = ", ".join(f"{value:g}" for value in (trait.middle, trait.step, trait.weight, trait.bend))
        print(f'    Trait("{trait.name}", {written}, "{trait.low}", "{trait.high}"),')


def scores(values: np.ndarray) -> np.ndarray:
    return np.array([plausibility.score_of(row) for row in values])


def told(kinds: Values, what: str) -> None:
    for name, values in kinds.items():
        found = scores(values) > plausibility.LIMIT
        print(f"| {what} | {name} | {len(found)} | {found.sum()} | {found.mean():.1%} |")


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
    if words.fit:
        fit(described(positives(real, 0)), described(negatives(0, words.fit_on)))
    held = positives(real, 1)
    for height, width in ((128, 160), (128, 128), (256, 256)):
        held[f"real at {height} x {width}"] = [resize_photo(photo, height, width) for photo in held["real"]]
    told(described(held), "dermoscopy")
    told(described(negatives(1, words.test_on)), "other")
    told(described({name: [photo] for name, photo in packaged(MEDICAL).items()}), "medical")
    if words.list:
        for name, photo in {**dict(list(named.items())[1::2]), **named_others(1, words.test_on)}.items():
            reason = implausible(photo)
            if (reason is None) == (name not in named):
                print(f"{name}: {reason}")


if __name__ == "__main__":
    main()
