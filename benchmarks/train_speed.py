"""Training speed against the loop that most people write, as ratios measured side by side in one run.

    LESIONSEG_DATA=DATA python benchmarks/train_speed.py --weights WEIGHTS.safetensors

The plain loop decodes and resizes with Pillow in every epoch, computes in fp32 with channels first, keeps a frozen
encoder inside autograd and uses Adam as it comes. Both train the same network at the same batch size on the same
photos. Rounds alternate between the ways; the fastest of each counts. Steps alone: no validation, no checkpoints.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's usual name
from PIL import Image

from lesionseg.config import RunConfig, load_config
from lesionseg.data.loader import PairDataset, decode_pairs
from lesionseg.data.manifest import read_manifest
from lesionseg.data.transforms import augmentation
from lesionseg.models import ModelSpec, SegmentationModel, build_model, load_encoder_weights
from lesionseg.records import Case
from lesionseg.training.fit import fit

WAYS = {
    "frozen": {
        "fp32": [],
        "bf16": ["loop.precision=bf16"],
        "fp32, features kept": ["loop.cache_features=true"],
        "bf16, features kept": ["loop.precision=bf16", "loop.cache_features=true"],
        "fp32, features kept, compiled": ["loop.cache_features=true", "loop.compile=true"],
    },
    "fine-tuned": {"fp32": [], "bf16": ["loop.precision=bf16"], "fp32, compiled": ["loop.compile=true"]},
}
RATES = {"frozen": 0.0, "fine-tuned": 1e-4}


def make_model(weights: str) -> SegmentationModel:
    torch.manual_seed(0)
    loaded = load_encoder_weights(weights)
    return build_model(ModelSpec("unet", 0.4, 1, loaded.spec), loaded)


def plain_batch(cases: Sequence[Case], size: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Decoded and resized anew, flipped by chance, channels first."""
    photos, masks = [], []
    for case in cases:
        photo = np.asarray(Image.open(case.image).convert("RGB").resize((size, size), Image.Resampling.BILINEAR))
        mask = (
            np.asarray(Image.open(case.mask or case.image).convert("L").resize((size, size), Image.Resampling.NEAREST))
            > 127
        )
        for axis in (0, 1):
            if rng.random() < 0.5:
                photo, mask = np.flip(photo, axis), np.flip(mask, axis)
        photos.append(photo.transpose(2, 0, 1).copy())
        masks.append(mask[None].astype(np.float32))
    return torch.from_numpy(np.stack(photos)).float(), torch.from_numpy(np.stack(masks))


def plain_round(model: SegmentationModel, cases: Sequence[Case], size: int, batch: int, frozen: bool) -> float:
    """Images per second of one epoch."""
    groups = [
        {"params": list(model.encoder.parameters()), "lr": 0.0 if frozen else 1e-4},
        {"params": list(model.decoder.parameters()), "lr": 0.01},
    ]
    optimizer = torch.optim.Adam(groups, fused=False)
    model.train()
    rng = np.random.default_rng(0)
    started = time.perf_counter()
    for start in range(0, len(cases), batch):
        image, mask = plain_batch(cases[start : start + batch], size, rng)
        loss = F.binary_cross_entropy_with_logits(model(image), mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return len(cases) / (time.perf_counter() - started)


def own_round(config: RunConfig, make: Callable[[], SegmentationModel], pairs: PairDataset, folder: Path) -> float:
    """Images per second of the last of two epochs, as the history tells."""
    tiny = PairDataset(pairs.photos[:1], pairs.masks[:1])
    result = fit(config, make(), pairs, tiny, folder)
    return max(float(row["images_per_second"]) for row in result.history)


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--manifest", default="isic2016")
    parser.add_argument("--root")
    parser.add_argument("--photos", type=int, default=180)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=45)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--regime", choices=list(WAYS), action="append")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cases = read_manifest(options.manifest, options.root).split("train")[: options.photos]
    photos, masks = decode_pairs(cases, options.size, options.size)
    print(
        f"{len(cases)} photos, {options.size} px, batch {options.batch}, {options.threads} threads, "
        f"{options.rounds} rounds\n"
    )
    print("| encoder | way | images/s | ratio |\n|---|---|---|---|")
    for regime in options.regime or WAYS:
        ways = WAYS[regime]
        speeds: dict[str, list[float]] = {"plain loop": []} | {way: [] for way in ways}
        for _ in range(options.rounds):
            model = make_model(options.weights)
            speeds["plain loop"].append(
                plain_round(model, cases, options.size, options.batch, frozen=regime == "frozen")
            )
            for way, words in ways.items():
                base = {
                    "data": {"manifest": options.manifest, "image_size": options.size},
                    "optim": {"encoder_lr": RATES[regime]},
                    "loop": {"epochs": 2, "batch_size": options.batch, "device": "cpu"},
                }
                config = load_config(base, words)
                pairs = PairDataset(photos, masks, augmentation(config.data, 0))
                with TemporaryDirectory() as folder:
                    speeds[way].append(own_round(config, lambda: make_model(options.weights), pairs, Path(folder)))
        plain = max(speeds["plain loop"])
        for way, found in speeds.items():
            print(f"| {regime} | {way} | {max(found):.0f} | {max(found) / plain:.1f} |", flush=True)


if __name__ == "__main__":
    main()
