"""Time and memory of the comparison of two runs of many made-up cases: ``python benchmarks/report_size.py 10000``."""

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from lesionseg.evaluation.columns import COUNTS, FURTHER, SCORES
from lesionseg.evaluation.report import write_report
from lesionseg.evaluation.runs import HISTORY, RunResult


def make(name: str, count: int, seed: int) -> RunResult:
    """Scores of another tool, which has no training and no maps to draw."""
    rng = np.random.default_rng(seed)
    columns = {score: rng.beta(12, 2, count) for score in SCORES}
    columns |= {further: rng.random(count) for further in FURTHER}
    frame = pd.DataFrame({"case_id": [f"case-{i:06d}" for i in range(count)], **columns})
    frame = frame.assign(**dict.fromkeys(COUNTS, 100.0), lesion_fraction=np.linspace(0.01, 0.9, count))
    frame["hair"], frame["group"] = np.arange(count) % 2.0, [f"p{i // 3}" for i in range(count)]
    summary = {"split": "test", "n": count, "threshold": 0.5, "empty_mask_policy": "", "manifest_sha256": "f"}
    summary |= {"means": dict.fromkeys(SCORES, 0.9), "checkpoint": ""}
    info = {"name": name, "created": "", "predictions": "made up"}
    return RunResult(name, Path(name), info, pd.DataFrame(columns=list(HISTORY)), frame, summary, Path())


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    runs = [make("first", count, 0), make("second", count, 1)]
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        files = write_report(runs, {}, Path(folder), formats=["html", "md", "latex"])
        page = files.html.stat().st_size if files.html else 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{count} cases: {time.perf_counter() - start:.1f} s, peak {peak:.0f} MB, page {page / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
