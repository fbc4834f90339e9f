import copy

import pytest
import torch
from torch import nn

from lesionseg.models import Encoder, EncoderSpec, ModelSpec, build_model
from lesionseg.models.folding import fold_norms


def shake(module: nn.Module, seed: int) -> nn.Module:
    """Random weights and statistics, so that no BatchNorm is close to doing nothing."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        if name.endswith(("running_var", ".weight")) and value.ndim == 1:
            value.data.uniform_(0.5, 1.5, generator=generator)
        elif value.ndim == 1 and value.is_floating_point():
            value.data.uniform_(-0.5, 0.5, generator=generator)
    return module.eval()


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return bool((one - other).abs().max() <= 1e-4 * other.abs().max() + 1e-6)


@pytest.mark.long
@pytest.mark.parametrize("name", ["unet", "unet_shuffle", "pix2pix", "deeplab", "light"])
@torch.no_grad()
def test_the_function_stays(name: str) -> None:
    model = shake(build_model(ModelSpec(name, 0.4, 2, EncoderSpec())), 1)
    folded = fold_norms(model)
    image = torch.randint(0, 256, (2, 3, 64, 96), generator=torch.Generator().manual_seed(0)).float()
    assert close(folded(image), model(image))
    before = sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    left = sum(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    # Behind a pixel shuffle a BatchNorm meets no convolution.
    assert (before > 50, left) == (True, 5 if name == "unet_shuffle" else 0)


def test_convolutions_by_hand() -> None:
    conv, norm = nn.ConvTranspose2d(1, 2, 1), nn.BatchNorm2d(2, eps=0)
    conv.weight.data, conv.bias.data = torch.tensor([[[[2.0]], [[3.0]]]]), torch.tensor([1.0, -1.0])
    norm.running_mean.data, norm.running_var.data = torch.tensor([1.0, 0.0]), torch.tensor([4.0, 9.0])
    folded = fold_norms(nn.Sequential(conv, norm))
    # (2 x + 1 - 1) / 2 and (3 x - 1) / 3
    assert folded(torch.tensor([[[[5.0]]]])).flatten().tolist() == pytest.approx([5.0, 14 / 3])


def test_a_norm_without_statistics_is_refused() -> None:
    with pytest.raises(ValueError, match="running statistics"):
        fold_norms(nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, track_running_stats=False)))


@torch.no_grad()
def test_a_frozen_encoder_follows_its_weights() -> None:
    encoder = shake(Encoder(EncoderSpec()), 1)
    other = copy.deepcopy(shake(Encoder(EncoderSpec()), 2))
    image = torch.randint(0, 256, (1, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    plain = encoder(image)["head"]
    names = list(encoder.state_dict())
    encoder.freeze()
    assert close(encoder(image)["head"], plain)
    assert list(encoder.state_dict()) == names
    encoder.load_state_dict(other.state_dict())
    assert close(encoder(image)["head"], other(image)["head"])
    assert not close(encoder(image)["head"], plain)
    assert encoder.double()(image)["head"].dtype == torch.float64


def test_folding_twice_changes_nothing() -> None:
    once = fold_norms(shake(build_model(ModelSpec("light", 0.4, 1, EncoderSpec())), 1))
    image = torch.rand(1, 3, 64, 64) * 255
    assert torch.equal(fold_norms(once)(image), once(image))
