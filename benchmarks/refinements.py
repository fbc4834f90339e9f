"""What the options of ``lesionseg predict`` do to a model's masks, and what its own estimate of them is worth.

    python benchmarks/refinements.py lesionseg-base --manifest isic2016 --root DATA/isic2016

Each refinement alone and all together: mean Dice and IoU at the masks' own size, their paired differences with 95 %
bootstrap intervals, and milliseconds of processor time. Then the rank correlation of ``expected_dice`` with the true
Dice, and the Dice of what is kept when the tenth with the lowest estimate is sent to review.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from lesionseg import load
from lesionseg.data.manifest import read_manifest
from lesionseg.data.resizing import resize_probability
from lesionseg.evaluation.metrics import confusion, dice, jaccard
from lesionseg.evaluation.statistics import paired_difference
from lesionseg.export.photos import read_photos
from lesionseg.inference.predictor import Predictor
from lesionseg.inference.quality import certainty
from lesionseg.inference.refine import Refinement
from lesionseg.records import THRESHOLD, Case

WAYS = {
    "as it is": Refinement(),
    "--tta": Refinement(flips=True),
    "--largest-component": Refinement(largest=True),
    "--fill-holes": Refinement(holes=True),
    "all three": Refinement(flips=True, largest=True, holes=True),
}


@dataclass(slots=True)
class Way:
    """What came of one way: Dice and IoU of each photo, and milliseconds of processor time for one."""

    scores: list[tuple[float, float]]
    milliseconds: float


def measure(model: Predictor, cases: Sequence[Case]) -> tuple[dict[str, Way], list[float]]:
    """Every way of ``WAYS``, and how certain the model is of each photo."""
    photos = [read_photos([case], model.labels, model.height, model.width) for case in cases]
    found, sure = {}, []
    for name, refinement in WAYS.items():
        way, busy, scores = refinement.around(model), 0.0, []
        for photo in photos:
            started = time.process_time()
            small = way.infer(photo.pixels)[0]
            busy += time.process_time() - started
            truth = photo.truths[0]
            score = confusion("", resize_probability(small, *truth.shape) >= THRESHOLD, truth)
            scores.append((dice(score), jaccard(score)))
            if not refinement.flips | refinement.largest | refinement.holes:
                sure.append(certainty(small))
        found[name] = Way(scores, 1000 * busy / len(photos))
    return found, sure


def main() -> None:
    """See the module."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("model")
    words.add_argument("--manifest", default="isic2016")
    words.add_argument("--root")
    words.add_argument("--split", default="test")
    given = words.parse_args()
    model = load(given.model, threads=1)
    found, sure = measure(model, read_manifest(given.manifest, given.root).split(given.split))
    print("| | Dice | IoU | difference in Dice | in IoU | ms |\n|---|---|---|---|---|---|")
    for name, way in found.items():
        a, b = (np.array(found[key].scores) for key in (name, "as it is"))
        cells = [f"{a[:, 0].mean():.4f}", f"{a[:, 1].mean():.4f}"]
        for column in (0, 1):
            d = paired_difference(a[:, column], b[:, column])
            cells.append(f"{d.mean_difference:+.4f} ({d.low:+.4f} to {d.high:+.4f})")
        print(f"| {name} | {' | '.join(cells)} | {way.milliseconds:.1f} |")
    true = np.array(found["as it is"].scores)[:, 0]
    expected = np.array([model.quality.expected_dice(value) for value in sure]) if model.quality else np.array(sure)
    # Among equal estimates, as an isotonic line has them, the less certain go first.
    kept = np.lexsort((sure, expected))[round(0.1 * len(true)) :]
    sent = np.setdiff1d(np.arange(len(true)), kept)
    rho = spearmanr(sure, true).statistic
    print(f"rank correlation with true Dice: {rho:.3f}; mean expected {expected.mean():.4f}, true {true.mean():.4f}")
    print(f"a tenth to review: kept {true[kept].mean():.4f}, sent {true[sent].mean():.4f}")
    bad = true < 0.7
    print(f"{bad.sum()} masks under 0.7, of which {(bad[sent]).sum()} are in the tenth")


if __name__ == "__main__":
    main()
