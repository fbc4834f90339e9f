"""CPU time of each form and measurement of a photo, beside decoding and inference."""

import io
import sys
import time
from pathlib import Path

from PIL import Image

import lesionseg.inference.stages as stages
from lesionseg.inference.measurements import Measuring, measure_photo
from lesionseg.inference.predictor import load_predictor

SIZES = ((1022, 767), (3000, 2000), (6000, 4000))
ROUNDS = 5


def fastest(work, rounds: int = ROUNDS) -> float:
    """CPU milliseconds of the fastest of several rounds."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times) * 1000


def main(photo: Path, model: Path) -> None:
    predictor = load_predictor(model)
    rows: dict[str, list[float]] = {}
    for width, height in SIZES:
        buffer = io.BytesIO()
        with Image.open(photo) as picture:
            picture.convert("RGB").resize((width, height), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=92)
        data = buffer.getvalue()
        decoded = stages.decode(data, photo.name, predictor.height, predictor.width)
        small = stages.infer(decoded, predictor)
        work = {
            "decode and infer": lambda decoded=decoded, data=data: stages.infer(
                stages.decode(data, "x", predictor.height, predictor.width), predictor
            ),
            "threshold at the photo's size": lambda decoded=decoded, small=small: (
                stages.Rendering(decoded, small, 0.5).mask
            ),
            "shape (always measured)": lambda decoded=decoded, small=small: measure_photo(
                decoded, small, 0.5, Measuring()
            ),
            "--mm-per-pixel": lambda decoded=decoded, small=small: measure_photo(
                decoded, small, 0.5, Measuring(mm_per_pixel=0.02)
            ),
            "--measure": lambda decoded=decoded, small=small: measure_photo(decoded, small, 0.5, Measuring(more=True)),
        }
        for kind, ending in stages.ENDINGS.items():

            def write(ending: str = ending, decoded=decoded, small=small) -> None:
                made = stages.Rendering(decoded, small, 0.5)
                stages.OUTPUTS[ending](made)

            work[kind] = write
        for name, one in work.items():
            rows.setdefault(name, []).append(fastest(one))
    print("| | " + " | ".join(f"{width} x {height}" for width, height in SIZES) + " |")
    print("|---|" + "---|" * len(SIZES))
    for name, values in rows.items():
        print(f"| {name} | " + " | ".join(f"{value:.1f}" for value in values) + " |")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
