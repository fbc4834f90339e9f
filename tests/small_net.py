"""A network of a few hundred parameters with BatchNorm and dropout, and pictures for it: a training in milliseconds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lesionseg.config import RunConfig, load_config
from lesionseg.data.loader import PairDataset
from lesionseg.models import EncoderSpec, ModelSpec, SegmentationModel
from lesionseg.models.folding import fold_norms
from lesionseg.training.checkpoint import latest_checkpoint, load_checkpoint
from lesionseg.training.fit import FitResult, fit
from lesionseg.training.teacher import Teacher

SIZE = 32


class SmallEncoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.frozen = False

    def freeze(self) -> None:
        self.frozen = True
        self.requires_grad_(False)

    def train(self, mode: bool = True) -> "SmallEncoder":
        return super().train(mode and not self.frozen)

    def forward(self, image: Tensor) -> Tensor:
        return self.net(image.float() / 128 - 1)


def small_net(dropout: float = 0.3, *, norm: bool = True) -> SegmentationModel:
    """Always the same weights."""
    torch.manual_seed(3)
    last = nn.BatchNorm2d(4) if norm else nn.Identity()
    decoder = nn.Sequential(nn.Conv2d(6, 4, 3, padding=1), last, nn.Dropout2d(dropout), nn.Conv2d(4, 1, 1))
    encoder = SmallEncoder()
    if not norm:
        encoder.net[1] = nn.Identity()
    return SegmentationModel(ModelSpec("unet", dropout, 1, EncoderSpec()), encoder, decoder)  # type: ignore[arg-type]


def small_teacher(size: int = SIZE) -> Teacher:
    """A network of other weights than the student's, which expects pictures of some size."""
    torch.manual_seed(8)
    net = small_net()
    for value in net.parameters():
        nn.init.normal_(value, std=1.5)
    return Teacher(fold_norms(net), (size, size), "old", "0" * 64)


def small_pairs(count: int, seed: int = 0) -> PairDataset:
    """Bright squares on noise."""
    rng = np.random.default_rng(seed)
    photos = rng.integers(0, 120, (count, SIZE, SIZE, 3), np.uint8)
    masks = np.zeros((count, 1, SIZE, SIZE), np.uint8)
    for photo, mask in zip(photos, masks, strict=True):
        y, x = rng.integers(2, 14, 2)
        photo[y : y + 16, x : x + 16] += 100
        mask[0, y : y + 16, x : x + 16] = 1
    return PairDataset(photos, masks)


def small_config(*words: str) -> RunConfig:
    base = {
        "data": {"manifest": "none", "image_size": SIZE},
        "optim": {"encoder_lr": 0.001, "decoder_lr": 0.01},
        "loop": {"epochs": 2, "batch_size": 4, "device": "cpu", "threads": 1},
    }
    return load_config(base, words)


def small_fit(config: RunConfig, folder: Path, *, resume: bool = False, **options: Any) -> FitResult:
    """Ten training and three validation pictures."""
    model = options.pop("model", None) or small_net()
    resume_from = load_checkpoint(latest_checkpoint(folder)) if resume else None
    return fit(config, model, small_pairs(10), small_pairs(3, 1), folder, resume_from=resume_from, **options)


def tensors(folder: Path) -> dict[str, Tensor]:
    """Weights and optimiser state of the newest checkpoint."""
    checkpoint = load_checkpoint(latest_checkpoint(folder))
    return {**checkpoint.model_state, **checkpoint.optim_state}


def timeless(result: FitResult) -> list[dict[str, Any]]:
    """The history without what differs from run to run."""
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in result.history]


def same(first: Path, second: Path) -> bool:
    """Whether two runs' newest checkpoints hold the same tensors to the last bit."""
    a, b = tensors(first), tensors(second)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def after_steps(count: int) -> tuple[Callable[[object], None], Callable[[], bool]]:
    """``on_step`` and ``stop_requested`` of a training that is interrupted after so many steps."""
    seen: list[object] = []
    return seen.append, lambda: len(seen) == count
