import torch

from lesionseg.config import OptimConfig
from lesionseg.models import EncoderSpec, ModelSpec, build_model, count_parameters
from lesionseg.training.optim import build_optimizer, learning_rates


def test_each_part_has_its_rate() -> None:
    model = build_model(ModelSpec("unet", 0.4, 1, EncoderSpec()))
    optimizer = build_optimizer(model, OptimConfig(encoder_lr=1e-4, decoder_lr=0.01))
    assert {group["name"]: group["lr"] for group in optimizer.param_groups} == {"encoder": 1e-4, "decoder": 0.01}
    assert isinstance(optimizer, torch.optim.Adam)


def test_frozen_encoder_is_not_optimised() -> None:
    model = build_model(ModelSpec("unet", 0.4, 1, EncoderSpec()))
    model.encoder.freeze()
    optimizer = build_optimizer(model, OptimConfig(encoder_lr=0))
    held = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
    assert held == count_parameters(model)["trainable"] == 1_594_314


def test_rates_are_a_function_of_the_step() -> None:
    config = OptimConfig(encoder_lr=0.0, decoder_lr=0.5)
    assert learning_rates(config, 0) == learning_rates(config, 10**6) == {"decoder": 0.5}
