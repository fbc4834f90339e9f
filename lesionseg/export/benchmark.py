"""How good, how fast and how large: a run and what was exported from it, in one table.

Latencies are taken in turns, one photo of each model after the other, so that whatever else the machine does falls on
all of them alike.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesionseg.data.resizing import resize_probability
from lesionseg.errors import ConfigError, RunError
from lesionseg.evaluation.class_metrics import class_confusion, mean_iou
from lesionseg.evaluation.metrics import accuracy, confusion, dice, jaccard
from lesionseg.export.photos import ScoredPhotos, generated_photos, read_photos
from lesionseg.helper import count_cores
from lesionseg.inference.predictor import ExportedPredictor, Predictor, TorchPredictor, load_predictor
from lesionseg.io.ownership import write_output
from lesionseg.records import THRESHOLD, Case
from lesionseg.shipped_models import INT8, find_model, is_bundle
from lesionseg.tables import encode_table, one_line

__all__ = ["COLUMNS", "Benchmark", "benchmark"]

COLUMNS = (
    *("model", "precision", "size", "accuracy", "mean_iou", "iou", "dice", "dice_change"),
    *("ms_1_thread", "ms_all_threads", "speedup", "megabytes", "peak_megabytes", "gmac"),
)
"""Of the table. Scores are at the masks' own size: ``accuracy``, ``iou`` and ``dice`` are means over the photos,
``mean_iou`` is that of skin and lesion over all pixels. ``dice_change`` is in hundredths; it and ``speedup`` (one
thread) compare with the first row."""

Row = dict[str, Any]
_WARM_UP = 3
_LOAD = """
from lesionseg.helper import end_with_input
end_with_input()
import sys
from pathlib import Path
import numpy as np
from lesionseg.inference.predictor import load_predictor
model = load_predictor(Path(sys.argv[1]), device="cpu", threads=1)
model.infer(np.zeros((1, model.height, model.width, 3), np.uint8))
status = Path("/proc/self/status")
if status.exists():
    # Of this program alone: getrusage goes on with the peak of the process that started it.
    peak = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) * 1024
else:
    import resource
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
sys.stdout.write(str(peak))
"""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Rows with ``COLUMNS``, and where they were written; scores are missing where there were no photos with masks."""

    rows: tuple[Mapping[str, Any], ...]
    table: Path


def benchmark(
    models: Sequence[Path],
    output: Path,
    *,
    cases: Sequence[Case] = (),
    rounds: int = 50,
    progress: Callable[[int, int], None] | None = None,
) -> Benchmark:
    """Scores and times models against the first of them.

    Args:
        models: run folders, exported files, bundles and names of models that ship; name a run first to compare with
            float32 torch.
        output: folder for ``benchmark.csv`` and ``benchmark.md``.
        cases: photos with masks to score on; none leaves the scores out.
        rounds: photos that each model is timed with, at each number of threads.
        progress: called with (done, total) while the models are scored and timed.

    Raises:
        ConfigError: there is no model or no round.
        DataError: listing every case that cannot be read.
        RunError: a run or file is missing or damaged.
        OutputError: the table cannot be written.
    """
    if not models or rounds < 1:
        raise ConfigError("there is nothing to measure", fix="name a run or an exported file, and at least one round")
    tell = progress or (lambda done, total: None)
    models = [find_model(path) for path in models]
    steps = len(models) + 2
    loaded = [_load(path, 1) for path in models]
    rows: list[Row] = []
    for index, (path, model) in enumerate(zip(models, loaded, strict=True)):
        rows.append(_describe(path, model) | _score(model, cases))
        tell(index + 1, steps)
    for number, (column, threads) in enumerate((("ms_1_thread", 1), ("ms_all_threads", count_cores()))):
        for row, milliseconds in zip(rows, _time(models, loaded, threads, rounds), strict=True):
            row[column] = milliseconds
        tell(len(models) + 1 + number, steps)
    for row in rows:
        row["speedup"] = rows[0]["ms_1_thread"] / row["ms_1_thread"]
        if cases:
            row["dice_change"] = 100 * (row["dice"] - rows[0]["dice"])
    write_output(output / "benchmark.csv", encode_table(COLUMNS, rows))
    write_output(output / "benchmark.md", _markdown(rows).encode())
    return Benchmark(tuple(rows), output / "benchmark.csv")


def _load(path: Path, threads: int) -> Predictor:
    return load_predictor(path, device="cpu", threads=threads)


def _describe(path: Path, model: Predictor) -> Row:
    if isinstance(model, ExportedPredictor):
        macs, precision = model.info.macs, model.info.precision
        file = path / INT8 if is_bundle(path) else path
        # OpenVINO's weights lie in a file of their own.
        weights = file.with_suffix(".bin") if file.suffix == ".xml" else None
        size = file.stat().st_size + (weights.stat().st_size if weights else 0)
        precision += " OpenVINO" if weights else ""
    else:
        assert isinstance(model, TorchPredictor)  # noqa: S101 - there is no third kind
        from lesionseg.export.graph import count_macs

        macs = count_macs(model.model, model.height, model.width)
        size = sum(value.numel() * value.element_size() for value in model.model.state_dict().values())
        precision = "float32 torch"
    return {
        "model": model.name,
        "precision": precision,
        "size": f"{model.height} x {model.width}",
        "megabytes": size / 1e6,
        "peak_megabytes": _peak(path) / 1e6,
        "gmac": macs / 1e9,
    }


def _peak(path: Path) -> int:
    """Bytes of memory that a process of its own needs to load a model and to predict one photo."""
    reader, writer = os.pipe()
    try:
        # The end of the pipe that stays open here is closed however this process ends, and the other one ends with it.
        done = subprocess.run(  # noqa: S603 - this interpreter, with a program of this file
            [sys.executable, "-c", _LOAD, str(path)], stdin=reader, capture_output=True, text=True, check=False
        )
    finally:
        os.close(reader)
        os.close(writer)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise RunError(
            f"{path} cannot be run in a process of its own: {reason[0]}", fix="check the memory that is free"
        )
    return int(done.stdout)


def _score(model: Predictor, cases: Sequence[Case]) -> Row:
    if not cases:
        return {}
    found = [_score_one(model, part) for part in _read_in_parts(model, cases)]
    scores = [score for part, _ in found for score in part]
    counts = sum(part for _, part in found)
    return {
        "accuracy": statistics.fmean(map(accuracy, scores)),
        "iou": statistics.fmean(map(jaccard, scores)),
        "dice": statistics.fmean(map(dice, scores)),
        "mean_iou": mean_iou(np.asarray(counts)),
    }


def _read_in_parts(model: Predictor, cases: Sequence[Case], size: int = 64) -> Any:
    # Full-size masks of a whole test split would fill the memory.
    for start in range(0, len(cases), size):
        yield read_photos(cases[start : start + size], model.labels, model.height, model.width)


def _score_one(model: Predictor, photos: ScoredPhotos) -> tuple[list[Any], NDArray[np.int64]]:
    scores, counts = [], np.zeros((2, 2), np.int64)
    for pixels, truth in zip(photos.pixels, photos.truths, strict=True):
        mask = resize_probability(model.infer(pixels[None])[0], *truth.shape) >= THRESHOLD
        scores.append(confusion("photo", mask, truth))
        counts += class_confusion(mask.astype(np.uint8), truth.astype(np.uint8), 2)
    return scores, counts


def _time(paths: Sequence[Path], models: Sequence[Predictor], threads: int, rounds: int) -> list[float]:
    """The median of each model's milliseconds for one photo."""
    import torch

    before = torch.get_num_threads()
    runners = [m if isinstance(m, TorchPredictor) else _load(p, threads) for p, m in zip(paths, models, strict=True)]
    photos = [generated_photos(1, model.height, model.width) for model in runners]
    taken: list[list[float]] = [[] for _ in runners]
    torch.set_num_threads(threads)
    try:
        for number in range(_WARM_UP + rounds):
            for model, photo, times in zip(runners, photos, taken, strict=True):
                started = time.perf_counter()
                model.infer(photo)
                if number >= _WARM_UP:
                    times.append(1000 * (time.perf_counter() - started))
    finally:
        torch.set_num_threads(before)
    return [statistics.median(times) for times in taken]


def _markdown(rows: Sequence[Row]) -> str:
    def cell(value: object) -> str:
        return f"{value:.4g}" if isinstance(value, float) else one_line(str(value)).replace("|", " ")

    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(cell(row.get(name, "")) for name in COLUMNS) + " |" for row in rows]
    return "\n".join(lines) + "\n"
