"""Training with int8's rounding where int8 without it fails: coarser ways of rounding weights, before and after.

    python benchmarks/qat.py runs/frozen --root DATA/isic2016 --epochs 2

Mean Dice on the run's validation photos, computed by ONNX Runtime with the quantised graph.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from lesionseg.config import load_config
from lesionseg.evaluation.runs import load_info
from lesionseg.export.bundle import describe
from lesionseg.export.graph import ExportModule, prepare
from lesionseg.export.onnx import trace, with_metadata
from lesionseg.export.photos import mean_dice, read_photos, run_parts
from lesionseg.export.qat import fine_tune
from lesionseg.export.quantize import SHIPPED, Calibration, Ranges, Scheme, to_int8
from lesionseg.inference.onnx_predictor import OnnxPredictor
from lesionseg.inference.predictor import load_torch

SCHEMES = {
    "as exported": SHIPPED,
    "7-bit weights": Scheme(largest=64),
    "one scale per layer, every layer": Scheme(per_channel=False, first=0, last=0),
}


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("run", type=Path)
    words.add_argument("--manifest")
    words.add_argument("--root")
    words.add_argument("--epochs", type=int, default=2)
    words.add_argument("--schemes", nargs="+", choices=SCHEMES, default=list(SCHEMES))
    given = words.parse_args()
    trained = load_torch(given.run, device="cpu")
    config = load_config(dict(load_info(given.run)["config"]))
    size, labels = (trained.height, trained.width), trained.labels
    cases = run_parts(given.run, given.manifest, given.root)
    judging = read_photos(cases[1], labels, *size)
    photos = read_photos(cases[0][:: max(1, len(cases[0]) // 128)][:128], labels, *size).pixels
    texts = describe(given.run, trained, "int8").to_metadata()

    def quantised(module: ExportModule, scheme: Scheme, ranges: Ranges | None = None) -> float:
        graph = to_int8(trace(module, *size), Calibration(photos, ranges, scheme))
        return mean_dice(OnnxPredictor(with_metadata(graph, texts), Path("int8"), threads=1).infer, judging)

    print(f"float32: {mean_dice(trained.infer, judging):.4f} on {len(judging.truths)} photos", flush=True)
    for name in given.schemes:
        module = ExportModule(prepare(trained.model), labels)
        before = quantised(module, SCHEMES[name])
        started = time.perf_counter()
        tuned = fine_tune(module, config, cases, size, given.epochs, scheme=SCHEMES[name])
        seconds = (time.perf_counter() - started) / given.epochs
        after = quantised(module, SCHEMES[name], tuned.ranges)
        epochs = f"{given.epochs} epochs of {seconds:.0f} s"
        print(f"{name}: {before:.4f} without, {after:.4f} after {epochs}", flush=True)


if __name__ == "__main__":
    main()
