"""segmentation_models.pytorch's Unet on MobileNetV2, trained by lesionseg's loop with the settings of a config, and
scored on the test split, to stand beside what that loop makes of lesionseg's own network.

    python benchmarks/smp_unet.py CONFIG.yaml --output runs/smp [key.subkey=value ...]

Encoder, encoder weights, data, augmentation, loss, optimiser and scoring are the same; the decoder is theirs. It wants
``pip install segmentation-models-pytorch``, which nothing else here does. The encoder's weights must be a file.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import segmentation_models_pytorch as smp
import timm
import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn

from lesionseg.config import load_config
from lesionseg.data.loader import PairDataset, decode_pairs
from lesionseg.data.manifest import read_manifest
from lesionseg.data.splits import training_parts
from lesionseg.data.transforms import augmentation
from lesionseg.inference.predictor import TorchPredictor
from lesionseg.inference.scoring import score_run
from lesionseg.models import ModelSpec, SegmentationModel, load_encoder_weights
from lesionseg.models.weights import ARCHITECTURE, EncoderSpec, EncoderWeights
from lesionseg.training.checkpoint import best_checkpoint, load_checkpoint
from lesionseg.training.fit import fit


class SmpEncoder(nn.Module):
    """Theirs, with the weights and the normalisation of a weights file."""

    def __init__(self, encoder: nn.Module, weights: EncoderWeights) -> None:
        super().__init__()
        spec = weights.spec
        self.net = encoder
        # Both name their layers in their own way and have them in one order.
        order = timm.create_model(ARCHITECTURE, num_classes=0).state_dict()
        known, own = {name: (weights.state or {})[name] for name in order}, encoder.state_dict()
        for (name, there), (other, here) in zip(own.items(), known.items(), strict=True):
            if there.shape != here.shape:
                raise SystemExit(f"{name} and {other} differ in shape")
        encoder.load_state_dict(dict(zip(own, known.values(), strict=True)))
        use_settings_of(encoder, spec)
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1) * 255)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Tap -> features."""
        x = (image.to(self.mean.dtype) - self.mean) / self.std
        return {str(index): features for index, features in enumerate(self.net(x))}


def use_settings_of(encoder: nn.Module, spec: EncoderSpec) -> None:
    """The padding and epsilon that the weights were trained with, for which theirs has no option."""
    for module in list(encoder.modules()):
        if isinstance(module, nn.BatchNorm2d):
            module.eps = spec.bn_eps
        for name, conv in module.named_children():
            if isinstance(conv, nn.Conv2d) and conv.stride == (2, 2) and spec.pad_type == "same":
                same = Conv2dSame(
                    conv.in_channels, conv.out_channels, conv.kernel_size, 2, groups=conv.groups, bias=False
                )
                same.load_state_dict(conv.state_dict())
                setattr(module, name, same)


class SmpDecoder(nn.Module):
    """Theirs, with its head."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.decoder, self.head = model.decoder, model.segmentation_head

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        """Logits."""
        logits: Tensor = self.head(self.decoder(list(features.values())))
        return logits


def build(weights: EncoderWeights) -> SegmentationModel:
    """Theirs, in the two parts that the loop knows."""
    model = smp.Unet("mobilenet_v2", encoder_weights=None, classes=1)
    return SegmentationModel(
        ModelSpec("smp", 0.0, 1, weights.spec), SmpEncoder(model.encoder, weights), SmpDecoder(model)
    )


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("words", nargs="*")
    arguments = parser.parse_args()
    config, run = load_config(arguments.config, arguments.words), arguments.output
    if config.loop.threads:
        torch.set_num_threads(config.loop.threads)
    manifest = read_manifest(config.data.manifest, config.data.root)
    parts = training_parts(manifest, config.data.validation_fraction, config.loop.seed)
    height, width = config.data.image_size
    train, validation = (decode_pairs(cases, height, width) for cases in parts)
    torch.manual_seed(config.loop.seed)
    model = build(load_encoder_weights(config.model.encoder_weights))
    size = sum(p.numel() for p in model.parameters())
    print(f"{size:,} parameters", flush=True)
    run.mkdir(parents=True, exist_ok=True)
    fit(
        config,
        model,
        PairDataset(*train, augmentation(config.data, config.loop.seed)),
        PairDataset(*validation),
        run,
        on_epoch=lambda row: print({k: round(v, 4) for k, v in row.items()}, flush=True),
    )
    state = load_checkpoint(best_checkpoint(run))
    model.load_state_dict(dict(state.model_state))
    predictor = TorchPredictor(
        model,
        name=run.name,
        checkpoint=f"epoch-{state.epoch:04d}",
        sha256="",
        size=(height, width),
        device=torch.device("cpu"),
    )
    cases = [case for case in manifest.cases if case.split == "test"]
    place = score_run(run, cases, split="test", manifest_sha256=manifest.sha256, predictor=predictor)
    means = json.loads((place / "summary.json").read_text(encoding="utf-8"))["means"]
    print({name: round(value, 4) for name, value in means.items()})


if __name__ == "__main__":
    main()
