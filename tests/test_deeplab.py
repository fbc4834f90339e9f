import pytest
import torch
from torch import nn

from lesionseg.models import EncoderSpec, ModelSpec, build_model
from lesionseg.models.deeplab import DeepLabDecoder


def test_output_stride_is_16() -> None:
    features = build_model(ModelSpec("deeplab", 0.1, 1, EncoderSpec())).encoder.eval()(torch.zeros(1, 3, 128, 96))
    assert {name: tuple(v.shape[1:]) for name, v in features.items()} == {
        "expand4": (144, 32, 24),
        "block17": (320, 8, 6),
    }


def test_a_last_batch_of_one_image_trains() -> None:
    model = build_model(ModelSpec("deeplab", 0.1, 1, EncoderSpec())).train()
    model(torch.rand(1, 3, 64, 64) * 255).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("rates", [(6, 12, 18), (2, 4)])
def test_rates_are_configurable(rates: tuple[int, ...]) -> None:
    decoder = DeepLabDecoder(0.1, 2, rates=rates).eval()
    dilations = {m.dilation[0] for m in decoder.branches.modules() if isinstance(m, nn.Conv2d) and m.dilation[0] > 1}
    assert dilations == set(rates)
    features = {"block17": torch.rand(1, 320, 4, 4), "expand4": torch.rand(1, 144, 16, 16)}
    assert decoder(features).shape == (1, 2, 64, 64)


def test_image_pooling_sees_the_whole_picture() -> None:
    decoder = DeepLabDecoder(0.0, 1).eval()
    features = {"block17": torch.rand(1, 320, 4, 4), "expand4": torch.rand(1, 144, 16, 16)}
    features["block17"].requires_grad_()
    (pooled,) = torch.autograd.grad(decoder.pooled(features["block17"]).sum(), features["block17"])
    assert (pooled.abs().sum(1) > 0).all()
