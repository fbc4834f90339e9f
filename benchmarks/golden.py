"""Digests of everything that the package computes, to show that a refactoring changed no result.

Pairs, trains two regimes with fixed seeds, resumes, evaluates, compares, predicts 20 photos in every format and exports
every precision, all through the command line, and writes one digest per result. Run it before and after a change, on
one machine, and compare:

    python benchmarks/golden.py run --root DATA --weights WEIGHTS --output before.json
    python benchmarks/golden.py run --root DATA --weights WEIGHTS --output after.json
    python benchmarks/golden.py compare before.json after.json

``DATA`` holds ``isic2016/`` and ``photos/``; ``WEIGHTS`` is a safetensors file of MobileNetV2's ImageNet weights.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnxruntime
from safetensors.numpy import load_file

TRAIN, TEST, PHOTOS = 64, 16, 20
SETTINGS = ("loop.batch_size=16", "loop.threads=1", "loop.seed=3", "data.manifest=m.csv")
REGIMES = {"frozen": ("optim.encoder_lr=0",), "finetuned": ("optim.encoder_lr=0.0001",)}
SCORES = ("dice", "iou", "accuracy", "sensitivity", "specificity", "soft_dice", "soft_iou")
HISTORY = ("epoch", "train_loss", "val_loss", "val_dice", "val_iou")
FORMATS = "png,nifti,rle,geojson,svg"
OVERLAYS = "contour,heat,focus,strip"
PATTERNS = ("*_segmentation.png", "*.nii.gz", "*.rle.json", "*.geojson", "*.svg", "*_probability.png", "*.jpg")
PRECISIONS = ("float32", "float16", "int8", "dynamic")
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
PREFIX = "ISBI2016_ISIC_Part1"


def lesionseg(*words: str, folder: Path) -> None:
    """Run one command in a folder; print its output where it fails."""
    program = [sys.executable, "-c", "from lesionseg.cli import main; main()", *words]
    done = subprocess.run(  # noqa: S603 - this package's own commands
        program, cwd=folder, env=os.environ | ENVIRONMENT, capture_output=True, text=True, check=False
    )
    print(f"{' '.join(words)[:110]}: exit {done.returncode}", flush=True)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)


def digest(pieces: Iterable[bytes]) -> str:
    found = hashlib.sha256()
    for piece in pieces:
        found.update(len(piece).to_bytes(8, "big") + piece)
    return found.hexdigest()[:16]


def weights(run: Path) -> str:
    """Digest of the newest checkpoint's tensors by name."""
    newest = max((run / "checkpoints").glob("epoch-*.model.safetensors"))
    tensors = load_file(newest)
    return digest(piece for name in sorted(tensors) for piece in (name.encode(), tensors[name].tobytes()))


def table(path: Path, columns: Iterable[str]) -> str:
    """Digest of some columns of a CSV, by name; columns that it lacks are left out."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return digest(f"{name}={row[name]}".encode() for row in rows for name in columns if name in row)


def files(folder: Path, pattern: str) -> str:
    """Digest of the names and bytes of the files of a kind."""
    found = sorted(folder.rglob(pattern))
    if not found:
        raise SystemExit(f"{folder} holds no {pattern}")
    return digest(
        piece for path in found for piece in (path.relative_to(folder).as_posix().encode(), path.read_bytes())
    )


def probabilities(model: Path) -> str:
    """Digest of an exported network's answer to fixed noise."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    shape = [side if isinstance(side, int) else 1 for side in given.shape]
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return digest(np.ascontiguousarray(answer).tobytes() for answer in session.run(None, {given.name: noise}))


def copy_data(root: Path, work: Path) -> None:
    """A small copy of ISIC 2016 and of the full-size photos."""
    for part, count in (("Training", TRAIN), ("Test", TEST)):
        photos, masks = (root / "isic2016" / f"{PREFIX}_{part}_{kind}" for kind in ("Data", "GroundTruth"))
        for source, target in ((photos, work / f"{part}_photos"), (masks, work / f"{part}_masks")):
            target.mkdir()
            for path in sorted(source.glob("ISIC_*"))[:count]:
                shutil.copy(path, target)
    (work / "photos").mkdir()
    for path in sorted((root / "photos").glob("*.*"))[:PHOTOS]:
        shutil.copy(path, work / "photos")


def measure(root: Path, encoder: Path, work: Path) -> dict[str, str]:
    """Every digest by the name of its result."""
    copy_data(root, work)
    found: dict[str, str] = {}
    train = ("--images", "Training_photos", "--masks", "Training_masks")
    test = ("--test-images", "Test_photos", "--test-masks", "Test_masks")
    lesionseg("data", "pair", *train, *test, "--output", "m.csv", folder=work)
    found["manifest"] = files(work, "m.csv")
    for name, rate in REGIMES.items():
        start = ("--config", "isic2016-frozen", *SETTINGS, *rate, f"model.encoder_weights={encoder}")
        lesionseg("train", "--name", name, *start, "loop.epochs=2", folder=work)
        lesionseg("train", "--name", f"{name}-resumed", *start, "loop.epochs=1", folder=work)
        lesionseg("train", "--name", f"{name}-resumed", "--resume", "loop.epochs=2", folder=work)
        for run in (name, f"{name}-resumed"):
            found[f"{run}: weights"] = weights(work / "runs" / run)
            found[f"{run}: history"] = table(work / "runs" / run / "history.csv", HISTORY)
    lesionseg("report", "--compare", ",".join(REGIMES), "--output", "report", folder=work)
    for name in REGIMES:
        scores = work / "runs" / name / "evaluation" / "test"
        found[f"{name}: scores"] = table(scores / "per_image.csv", ("case_id", *SCORES))
        found[f"{name}: probability maps"] = files(scores, "*.png")
    models = {"finetuned": work / "runs" / "finetuned", "lesionseg-base": Path("lesionseg-base")}
    for precision in PRECISIONS:
        path = work / f"finetuned-{precision}.onnx"
        drop = ("--max-drop", "100") if precision in ("int8", "dynamic") else ()
        lesionseg("export", "runs/finetuned", "--output", path.name, "--precision", precision, *drop, folder=work)
        found[f"{precision}: probabilities"] = probabilities(path)
        models[precision] = path
    for name, model in models.items():
        output = work / f"predicted-{name}"
        written = ("--save-probabilities", "--format", FORMATS, "--overlay", OVERLAYS)
        lesionseg("predict", "photos", "--model", str(model), "--output", output.name, *written, folder=work)
        for suffix in PATTERNS:
            if any(output.rglob(suffix)):
                found[f"{name}: {suffix}"] = files(output, suffix)
        found[f"{name}: measures"] = table(
            output / "predictions.csv", ("file", "lesion_pixels", "expected_dice", "review")
        )
    return found


def compare(before: Path, after: Path) -> int:
    """Print every result that differs; return the exit status."""
    old, new = (json.loads(path.read_text(encoding="utf-8")) for path in (before, after))
    differing = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    for name in differing:
        print(f"{name}: {old.get(name, '-')} -> {new.get(name, '-')}")
    print(f"{len(old)} results, {len(differing)} differ")
    return 1 if differing else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    run.add_argument("--root", type=Path, required=True)
    run.add_argument("--weights", type=Path, required=True)
    run.add_argument("--output", type=Path, required=True)
    both = commands.add_parser("compare")
    both.add_argument("before", type=Path)
    both.add_argument("after", type=Path)
    given = parser.parse_args()
    if given.command == "compare":
        raise SystemExit(compare(given.before, given.after))
    with tempfile.TemporaryDirectory() as work:
        found = measure(given.root.resolve(), given.weights.resolve(), Path(work))
    given.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"{len(found)} results -> {given.output}")


if __name__ == "__main__":
    main()
