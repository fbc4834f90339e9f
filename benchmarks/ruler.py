"""How often a ruler's scale is read on generated photos, how far off it is, and how often one is read that is not there."""

import sys
import time

import numpy as np

from lesionseg.data import artefacts, synthetic
from lesionseg.inference.ruler import find_scale

SEED, WIDTH, HEIGHT = 5, 1024, 768


def drawn(index: int) -> tuple[np.ndarray, np.ndarray, float | None, float | None]:
    """Photo, mask, and of its ruler the median and the spread of the tick distance in pixels."""
    spacings: list[tuple[float, float]] = []

    def record(shape: tuple[int, ...], rng: np.random.Generator) -> list:
        lines = kept(shape, rng)
        feet = np.array([ends[0] for ends, _ in lines])
        inside = ((feet > 0) & (feet < (shape[1], shape[0]))).all(axis=1)
        steps = np.hypot(*np.diff(feet, axis=0).T)[inside[1:] & inside[:-1]]
        if len(steps) > 1:
            spacings.append((float(np.median(steps)), float(np.ptp(steps))))
        return lines

    kept, artefacts.ruler_lines = artefacts.ruler_lines, record
    try:
        case = synthetic.generate(SEED, index, width=WIDTH, height=HEIGHT)
    finally:
        artefacts.ruler_lines = kept
    there = "ruler" in case.artefacts
    middle, spread = spacings[0] if spacings else (None, None)
    return case.pair.image, case.pair.mask, middle if there else None, spread if there else None


def main(count: int) -> None:
    errors, wrong, absent, rulers, seconds = [], 0, 0, 0, []
    for index in range(count):
        photo, mask, spacing, spread = drawn(index)
        start = time.perf_counter()
        found = find_scale(photo, mask)
        seconds.append(time.perf_counter() - start)
        if spacing is None:
            absent += 1
            wrong += found is not None
            if found:
                print(f"{index}: {found} where there is none")
            continue
        rulers += 1
        if found:
            errors.append(found.spacing / spacing - 1)
            print(f"{index}: {found.spacing:.2f} for {spacing:.2f} +- {spread / 2:.2f}, {found.ticks} ticks")
    print(f"{absent} photos without a ruler: {wrong} read; {rulers} with one: {len(errors)} read")
    if errors:
        print(f"error of the scale: mean {np.mean(np.abs(errors)):.2%}, largest {np.max(np.abs(errors)):.2%}")
    print(f"{np.median(seconds) * 1000:.0f} ms each, fastest {min(seconds) * 1000:.0f} ms")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
