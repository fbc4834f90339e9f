"""How often a ruler's scale is read on generated photos, how far off it is, and how often there is none."""

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from rulers import STYLES, with_ruler

from lesionseg.data.synthetic import generate
from lesionseg.inference.ruler import find_scale

SEED, WIDTH, HEIGHT = 5, 1024, 768


def main(count: int) -> None:
    outcomes = defaultdict(list)
    names = ["none", *STYLES]
    for index in range(count):
        case = generate(SEED, index, width=WIDTH, height=HEIGHT)
        photo, rng = case.pair.image, np.random.default_rng((SEED, index))
        style = names[index % len(names)]
        # A ruler that the generator drew is bent and of no known scale.
        if style == "none" or "ruler" in case.artefacts:
            style, true = "none" if "ruler" not in case.artefacts else "of the generator", None
        else:
            # Fields of view of 10 to 28 mm.
            true = rng.uniform(10, 28) / WIDTH
            spacing = STYLES[style][0] / true
            ticks = int(rng.uniform(0.4, 0.8) * WIDTH / spacing)
            photo = with_ruler(photo, style, spacing, rng, ticks=ticks, dark=rng.uniform(0.3, 0.9))
        found = find_scale(photo, case.pair.mask)
        outcomes[style].append((found, true))
        if found and (true is None or abs(found.mm_per_pixel / true - 1) > 0.02):
            print(f"{index}, {style}: {found} for {true}")
    for style, pairs in outcomes.items():
        errors = [abs(found.mm_per_pixel / true - 1) for found, true in pairs if found and true]
        within = sum(error < 0.02 for error in errors)
        print(f"{style}: {len(pairs)} photos, {sum(found is not None for found, _ in pairs)} read", end="")
        print(f", {within} within 2 %, mean error {np.mean(errors):.2%}" if errors else "")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
