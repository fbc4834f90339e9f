"""A folder of photos to masks: ``lesionseg predict`` and the script that most people write, side by side in one run.

    python benchmarks/folder.py PHOTOS RUN int8.onnx float32.onnx

The script: segmentation_models.pytorch's Unet with a MobileNetV2 encoder (no weights: speed does not depend on them),
Pillow decoding in full, resizing, PyTorch on all cores, the probability interpolated to the photo's size, thresholded,
and saved as an 8-bit PNG by Pillow. It wants ``pip install segmentation-models-pytorch``, which nothing else here does.

So that both write the same masks, and neither is favoured by easier ones, the script's network runs for its time alone
and the probabilities that it goes on with are those of RUN, prepared beforehand. Every way is a process of its own;
rounds alternate, and the fastest of each counts. RUN is the trained run that the .onnx files were exported from, or one
of them. Dice is that of the masks with those of RUN after full decoding.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image


def peak_memory() -> float:
    """Of this process, in megabytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


def own(photos: Path, model: Path, output: Path) -> dict[str, Any]:
    """Seconds of a whole run by ``lesionseg predict``, without the program's start but with that of its helpers."""
    from lesionseg import api

    api.load(model, threads=1)
    started, busy = time.perf_counter(), sum(os.times()[:4])
    result = api.predict(photos, model, output)
    seconds, busy = time.perf_counter() - started, sum(os.times()[:4]) - busy
    # The largest helper's peak for each of them: at least what they take together.
    helpers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6 * len(os.sched_getaffinity(0))
    return {"photos": result.done, "seconds": seconds, "busy": busy, "helpers": helpers}


def script(photos: Path, maps: Path, output: Path, batch: int, size: tuple[int, int]) -> dict[str, Any]:
    """The same by the script."""
    import segmentation_models_pytorch as smp
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    height, width = size
    model = smp.Unet("mobilenet_v2", encoder_weights=None, classes=1).eval()
    files = sorted(photos.iterdir())
    output.mkdir(parents=True)
    started, busy = time.perf_counter(), time.process_time()
    with torch.inference_mode():
        for start in range(0, len(files), batch):
            inputs, sizes, known = [], [], []
            for file in files[start : start + batch]:
                picture = Image.open(file).convert("RGB")
                sizes.append(picture.size)
                small = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
                inputs.append(torch.from_numpy(small.copy()).permute(2, 0, 1).float() / 255)
                known.append(torch.from_numpy(np.load(maps / f"{file.stem.split('-')[-1]}.npy")))
            model(torch.stack(inputs)).sigmoid()
            for file, (wide, high), one in zip(files[start : start + batch], sizes, known, strict=True):
                large = torch.nn.functional.interpolate(
                    one[None, None], size=(high, wide), mode="bilinear", align_corners=False
                )
                mask = (large[0, 0] >= 0.5).numpy().astype(np.uint8) * 255
                Image.fromarray(mask).save(output / f"{file.stem}_segmentation.png")
    return {"photos": len(files), "seconds": time.perf_counter() - started, "busy": time.process_time() - busy}


STAGES = ("read", "decode", "infer", "encode", "measure", "write", "record")


def stages(photos: Path, model: Path) -> dict[str, float]:
    """Milliseconds of each stage alone, one photo at a time on one core; the fastest of five.

    ``decode`` includes the hash of the photo; ``record`` is the hash of the mask and a line of the journal.
    """
    from lesionseg import api
    from lesionseg.data.files import read_bytes
    from lesionseg.inference.journal import Journal
    from lesionseg.inference.measurements import Measuring, measure_photo
    from lesionseg.inference.stages import decode, encode, infer
    from lesionseg.io.writing import write_whole

    predictor = api.load(model, threads=1)
    ending = "_segmentation.png"
    total = dict.fromkeys(STAGES, 0.0)
    files = sorted(photos.iterdir())
    with TemporaryDirectory(dir=photos.parent) as folder:
        journal = Journal(Path(folder), [file.name for file in files])

        def record(index: int, mask: bytes, cells: Mapping[str, str]) -> None:
            digest = hashlib.sha256(mask).hexdigest()
            journal.add(index, {"file": files[index].name, "status": "ok", "mask_sha256": digest, **cells})

        for index, file in enumerate(files):
            best = dict.fromkeys(total, float("inf"))

            def timed(stage: str, work: Callable[[], Any], best: dict[str, float] = best) -> Any:
                started = time.perf_counter()
                result = work()
                best[stage] = min(best[stage], time.perf_counter() - started)
                return result

            for _ in range(5):
                data = timed("read", lambda file=file: read_bytes(file))
                decoded = timed("decode", lambda data=data: decode(data, "x", predictor.height, predictor.width))
                small = timed("infer", lambda decoded=decoded: infer(decoded, predictor))
                made = timed("encode", lambda decoded=decoded, small=small: encode(decoded, small, 0.5, [ending]))
                mask = made.files[ending]
                cells = timed(
                    "measure", lambda decoded=decoded, small=small: measure_photo(decoded, small, 0.5, Measuring())
                )
                timed("write", lambda mask=mask: write_whole(Path(folder, "x.png"), mask, Path(folder)))
                timed("record", lambda index=index, mask=mask, cells=cells: record(index, mask, cells))
            total = {stage: total[stage] + best[stage] for stage in total}
        journal.close()
    return {stage: 1000 * seconds / len(files) for stage, seconds in total.items()}


def prepare(photos: Path, run: Path, maps: Path) -> dict[str, Any]:
    """The probabilities by torch in float32 of photos that are decoded in full."""
    from lesionseg import api
    from lesionseg.data.images import decode_photo, fit_photo, read_bytes

    predictor = api.load(run)
    maps.mkdir()
    for file in sorted(photos.iterdir()):
        small = fit_photo(decode_photo(read_bytes(file), file.name), predictor.height, predictor.width)
        np.save(maps / f"{file.stem.split('-')[-1]}.npy", predictor.infer(small[None])[0])
    return {"size": [predictor.height, predictor.width]}


def agreement(photos: Path, maps: Path, masks: Path) -> list[float]:
    """Dice of each mask with that of full decoding and torch."""
    from lesionseg.data.images import read_mask, resize_probability

    found = []
    for file in sorted(photos.iterdir()):
        mask = read_mask(masks / f"{file.stem}_segmentation.png")
        whole = resize_probability(np.load(maps / f"{file.stem.split('-')[-1]}.npy"), *mask.shape) >= 0.5
        both = int(mask.sum() + whole.sum())
        found.append(2 * int((mask & whole).sum()) / both if both else 1.0)
    return found


def alone(*words: object) -> dict[str, Any]:
    """What a process of its own tells, with its peak memory."""
    command = [sys.executable, __file__, "--child", *map(str, words)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def child(kind: str, *words: str) -> None:
    """The other side of ``alone``."""
    paths = [Path(word) for word in words[:3]]
    if kind == "own":
        told = own(*paths)
    elif kind == "script":
        height, width = map(int, words[4:6])
        told = script(*paths, batch=int(words[3]), size=(height, width))
    elif kind == "stages":
        told = dict(stages(*paths))
    else:
        told = prepare(*paths)
    print(json.dumps({**told, "peak": peak_memory() + told.get("helpers", 0)}))


def main() -> None:
    """Measures and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--copies", type=int, default=5, help="how often each photo is in the folder")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 8], help="of the script")
    parser.add_argument("--work", type=Path, help="a folder on a local disk")
    options = parser.parse_args()
    with TemporaryDirectory(dir=options.work) as folder:
        measure(options, Path(folder))


def measure(options: argparse.Namespace, home: Path) -> None:
    """All of it, in a folder of its own."""
    once, many, maps = home / "once", home / "many", home / "maps"
    once.mkdir()
    many.mkdir()
    for file in sorted(options.photos.iterdir()):
        shutil.copy(file, once / file.name)
        for copy in range(options.copies):
            shutil.copy(file, many / f"copy{copy}-{file.name}")
    size = alone("prepare", once, options.run, maps)["size"]
    cores = len(os.sched_getaffinity(0))
    print(f"{len(list(many.iterdir()))} photos, {size[0]} x {size[1]} px, {cores} cores, {options.rounds} rounds\n")
    ways: dict[str, tuple[object, ...]] = {
        f"script, batch {batch}": ("script", many, maps, "OUT", batch, *size) for batch in options.batches
    }
    ways |= {f"lesionseg, {model.name}": ("own", many, model, "OUT") for model in options.models}
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    for number in range(options.rounds):
        for way, words in ways.items():
            output = home / f"{way}-{number}"
            told = alone(*(output if word == "OUT" else word for word in words))
            found[way].append(told)
            print(
                f"round {number + 1}, {way}: {told['photos'] / told['seconds']:.1f} photos/s, "
                f"{1000 * told['busy'] / told['photos']:.1f} ms of processor time per photo",
                file=sys.stderr,
                flush=True,
            )
            if number:
                shutil.rmtree(output)
    report(found, home, many, maps)
    print(
        "\nms for one photo, each stage alone on one core; efficiency: their sum over cores x time of the whole run\n"
    )
    print(f"| model | {' | '.join(STAGES)} | sum | efficiency |\n|{'---|' * (len(STAGES) + 3)}")
    for model in options.models:
        told = alone("stages", once, model)
        parts = [told[stage] for stage in STAGES]
        best = min(found[f"lesionseg, {model.name}"], key=lambda one: one["seconds"])
        efficiency = sum(parts) / 1000 * best["photos"] / (cores * best["seconds"])
        numbers = " | ".join(f"{part:.2f}" for part in [*parts, sum(parts)])
        print(f"| {model.name} | {numbers} | {efficiency:.2f} |", flush=True)


def report(found: dict[str, list[dict[str, Any]]], home: Path, photos: Path, maps: Path) -> None:
    """The table of the ways."""
    best = {way: min(told, key=lambda one: one["seconds"]) for way, told in found.items()}
    rates = {way: one["photos"] / one["seconds"] for way, one in best.items()}
    plain = max(rate for way, rate in rates.items() if way.startswith("script"))
    print("| way | photos/s | against the script at its best | CPU ms per photo | peak MB | mean Dice | smallest |")
    print("|---|---|---|---|---|---|---|")
    for way, one in best.items():
        scores = agreement(photos, maps, home / f"{way}-0")
        busy = 1000 * one["busy"] / one["photos"]
        peak = max(told["peak"] for told in found[way])
        numbers = f"{rates[way]:.1f} | {rates[way] / plain:.1f} | {busy:.1f} | {peak:.0f}"
        print(f"| {way} | {numbers} | {np.mean(scores):.4f} | {min(scores):.4f} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        main()
