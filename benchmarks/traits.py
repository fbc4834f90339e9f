"""How well hair, ruler and skin tone are found on generated photos, where the truth is known."""

import time

import numpy as np
from scipy.stats import spearmanr

from lesionseg.data.synthetic import generate
from lesionseg.evaluation.traits import photo_traits

SEED, COUNT = 7, 250


def main() -> None:
    cases = [generate(SEED, index) for index in range(COUNT)]
    start = time.perf_counter()
    found = [photo_traits(case.pair.image, case.pair.mask) for case in cases]
    print(f"{COUNT} photos of 256 x 192: {(time.perf_counter() - start) / COUNT * 1000:.1f} ms each")
    for name in ("hair", "ruler"):
        there = np.array([name in case.artefacts for case in cases])
        seen = np.array([getattr(traits, name) for traits in found])
        print(f"{name}: found in {seen[there].mean():.0%} of {there.sum()} with it,", end=" ")
        print(f"in {seen[~there].mean():.0%} of {(~there).sum()} without")
    pairs = zip(found, cases, strict=True)
    known = [(traits.ita, case.skin_type) for traits, case in pairs if traits.ita is not None]
    # The generated cameras balance white on the skin itself, as real ones do, which hides much of its tone.
    print(f"skin tone: rank correlation with the Fitzpatrick type {spearmanr(*zip(*known, strict=True)).statistic:.2f}")


if __name__ == "__main__":
    main()
