import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lesionseg.config import OptimConfig
from lesionseg.models import EncoderSpec, ModelSpec, SegmentationModel, build_model, count_parameters
from lesionseg.training.adabound import AdaBound
from lesionseg.training.optim import OPTIMIZERS, SCHEDULES, build_optimizer, learning_rates


@pytest.fixture(scope="module")
def model() -> SegmentationModel:
    return build_model(ModelSpec("unet", 0.4, 1, EncoderSpec()))


def test_each_part_has_its_rate(model: SegmentationModel) -> None:
    optimizer = build_optimizer(model, OptimConfig(encoder_lr=1e-4, decoder_lr=0.01))
    assert {group["name"]: group["lr"] for group in optimizer.param_groups} == {"encoder": 1e-4, "decoder": 0.01}
    assert isinstance(optimizer, torch.optim.Adam)


def test_frozen_encoder_is_not_optimised(model: SegmentationModel) -> None:
    optimizer = build_optimizer(model, OptimConfig(encoder_lr=0))
    held = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
    assert held == count_parameters(model)["decoder"] == 1_594_314


def test_every_name_builds_its_optimiser(model: SegmentationModel) -> None:
    kinds = {name: type(build_optimizer(model, OptimConfig(name=name, momentum=0.7))) for name in OPTIMIZERS}
    assert kinds == {
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "sgd": torch.optim.SGD,
        "adabound": AdaBound,
    }
    sgd = build_optimizer(model, OptimConfig(name="sgd", momentum=0.7))
    assert sgd.param_groups[0]["momentum"] == 0.7


def test_norms_and_biases_do_not_decay(model: SegmentationModel) -> None:
    optimizer = build_optimizer(model, OptimConfig(name="adamw", weight_decay=0.05))
    for group in optimizer.param_groups:
        assert {p.ndim > 1 for p in group["params"]} == {group["weight_decay"] == 0.05}
    held = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
    assert held == count_parameters(model)["total"]


def test_nothing_decays_where_nothing_is_asked_to(model: SegmentationModel) -> None:
    optimizer = build_optimizer(model, OptimConfig(name="adamw"))
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0}


def test_constant_rates_never_change() -> None:
    config = OptimConfig(encoder_lr=0.0, decoder_lr=0.5)
    assert learning_rates(config, 0, 10) == learning_rates(config, 9, 10) == {"decoder": 0.5}


def test_polynomial_by_hand() -> None:
    config = OptimConfig(encoder_lr=0.1, decoder_lr=1.0, schedule="polynomial", power=2)
    assert learning_rates(config, 5, 10) == {"encoder": pytest.approx(0.025), "decoder": pytest.approx(0.25)}


def test_cosine_by_hand() -> None:
    config = OptimConfig(encoder_lr=0, decoder_lr=1.0, schedule="cosine")
    assert learning_rates(config, 5, 20)["decoder"] == pytest.approx((1 + math.cos(math.pi / 4)) / 2)


def test_warmup_rises_to_the_rate_and_the_schedule_follows() -> None:
    config = OptimConfig(encoder_lr=0, decoder_lr=1.0, schedule="cosine", warmup=0.4)
    rates = [learning_rates(config, step, 10)["decoder"] for step in range(10)]
    assert rates[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert rates[4:] == sorted(rates[4:], reverse=True)


@given(
    st.sampled_from(list(SCHEDULES)), st.floats(0, 0.9), st.integers(1, 500), st.floats(0.1, 3), st.floats(1e-6, 1.0)
)
def test_rates_stay_positive_and_below_the_top(name: str, warmup: float, steps: int, power: float, rate: float) -> None:
    config = OptimConfig(encoder_lr=0, decoder_lr=rate, schedule=name, warmup=warmup, power=power)
    values = [learning_rates(config, step, steps)["decoder"] for step in range(steps)]
    assert all(0 < value <= rate * (1 + 1e-12) for value in values)
