"""An exported model as LiteRT (TFLite) files for phones, and what each of them says and costs; docs/litert.md.

Runs in an environment of its own, without lesionseg:

    python benchmarks/litert.py model.pt2 model.onnx --calibrate TRAINING_PHOTOS --photos PHOTOS --output tflite/

Research use only. Not a medical device.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import litert_torch
import numpy as np
import onnxruntime
import torch
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import qtyping, recipe, recipe_manager
from ai_edge_quantizer.algorithm_manager import AlgorithmName
from ai_edge_quantizer.quantizer import Quantizer
from numpy.typing import NDArray
from PIL import Image

Infer = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
SUFFIXES = (".jpg", ".jpeg", ".png")


class First(torch.nn.Module):
    """The probability alone: one photo in, one map out."""

    def __init__(self, program: torch.nn.Module) -> None:
        super().__init__()
        self.program = program

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        return self.program(photos)[0]


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("program", type=Path, help="made with: lesionseg export RUN --format torch-export")
    words.add_argument("onnx", type=Path, help="made with: lesionseg export RUN")
    words.add_argument("--calibrate", type=Path, required=True, help="folder of training photos, for int8's ranges")
    words.add_argument("--photos", type=Path, required=True, help="folder of photos to compare on")
    words.add_argument("--output", type=Path, required=True, help="folder for the .tflite files")
    words.add_argument("--rounds", type=int, default=100, help="photos that each file is timed with")
    given = words.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    height, width, files = convert(given.program, given.calibrate, given.output)
    photos = read(given.photos, height, width)
    compare(given.onnx, files, photos, given.rounds)


def convert(program: Path, calibrate: Path, output: Path) -> tuple[int, int, list[Path]]:
    """Writes the float32 file and three smaller ones."""
    extra = {"lesionseg.json": ""}
    module = First(torch.export.load(program, extra_files=extra).module())
    info = json.loads(extra["lesionseg.json"])
    height, width = int(info["height"]), int(info["width"])
    name = program.stem.removesuffix("-float32")
    files = [output / f"{name}-float32.tflite"]
    litert_torch.convert(module, (torch.zeros(1, height, width, 3, dtype=torch.uint8),)).export(str(files[0]))
    photos = read(calibrate, height, width, limit=128)
    for precision, steps in recipes().items():
        made = Quantizer(str(files[0]), steps)
        found = made.calibrate({"serving_default": [{"args_0": photo[None]} for photo in photos]}, num_threads=1)
        files.append(output / f"{name}-{precision}.tflite")
        files[-1].write_bytes(made.quantize(found).quantized_model)
    return height, width, files


def recipes() -> dict[str, qtyping.ModelQuantizationRecipe]:
    half = recipe_manager.RecipeManager()
    half.add_weight_only_config(
        ".*", qtyping.TFLOperationName.ALL_SUPPORTED, num_bits=16, algorithm_key=AlgorithmName.FLOAT_CASTING
    )
    return {
        "float16": half.get_quantization_recipe(),
        "dynamic": recipe.dynamic_wi8_afp32(),
        "int8": recipe.static_wi8_ai8(),
    }


def read(folder: Path, height: int, width: int, limit: int | None = None) -> NDArray[np.uint8]:
    """``uint8 N height width 3``, resized as the exported file says; evenly chosen where there are too many."""
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)
    files = files[:: max(1, len(files) // limit)][:limit] if limit else files
    found = []
    for file in files:
        with Image.open(file) as image:
            image.draft("RGB", (width, height))
            found.append(np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)))
    return np.stack(found)


def on_onnx(file: Path) -> Infer:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda photo: session.run(["probability"], {"photos": photo})[0]


def on_litert(file: Path) -> Infer:
    runner = Interpreter(str(file), num_threads=1).get_signature_runner()
    (source,), (target,) = runner.get_input_details(), runner.get_output_details()
    details = runner.get_output_details()[target]
    if details["dtype"] == np.float32:
        return lambda photo: runner(**{source: photo})[target]
    # int8 files give integers, and say what they mean.
    scale, zero = details["quantization"]
    return lambda photo: scale * (runner(**{source: photo})[target].astype(np.float32) - zero)


def compare(onnx: Path, files: list[Path], photos: NDArray[np.uint8], rounds: int) -> None:
    """Prints a table; the models take turns, one photo each."""
    models = {file: on_onnx(file) if file.suffix == ".onnx" else on_litert(file) for file in (onnx, *files)}
    maps = {file: np.concatenate([infer(photo[None]) for photo in photos]) for file, infer in models.items()}
    taken: dict[Path, list[float]] = {file: [] for file in models}
    for number in range(rounds):
        photo = photos[number % len(photos)][None]
        for file, infer in models.items():
            started = time.perf_counter()
            infer(photo)
            taken[file].append(1000 * (time.perf_counter() - started))
    print("| file | MB | ms, fastest (quartile) | largest difference | mean difference | Dice of the masks, smallest |")
    print("|---|---|---|---|---|---|")
    for file, found in maps.items():
        apart, agreed = np.abs(found - maps[onnx]), dice(found >= 0.5, maps[onnx] >= 0.5)
        quick = np.sort(taken[file])
        print(
            f"| {file.name} | {file.stat().st_size / 1e6:.1f} | {quick[0]:.1f} ({quick[len(quick) // 4]:.1f}) "
            f"| {apart.max():.2g} | {apart.mean():.2g} | {agreed.mean():.4f}, {agreed.min():.4f} |"
        )


def dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Of each photo's two masks; 1 where both are empty."""
    both, total = (first & second).sum((1, 2)), first.sum((1, 2)) + second.sum((1, 2))
    return np.where(total == 0, 1.0, 2 * both / np.maximum(total, 1))


if __name__ == "__main__":
    main()
