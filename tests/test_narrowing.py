import copy

import pytest
import timm
import torch
from test_folding import close, shake
from torch import nn

from lesionseg.config import WIDTHS
from lesionseg.errors import WeightsError
from lesionseg.models.encoder import HEAD_TAPS, Encoder
from lesionseg.models.narrowing import narrowed
from lesionseg.models.weights import EncoderSpec

NARROW = WIDTHS[:-1]


@pytest.fixture(scope="module")
def wide() -> nn.Module:
    return shake(timm.create_model("mobilenetv2_100", pretrained=False, num_classes=0), 1)


def picture() -> torch.Tensor:
    return torch.randint(0, 256, (1, 3, 64, 64), generator=torch.Generator().manual_seed(0)).float()


@pytest.mark.long
@pytest.mark.parametrize("width", NARROW)
def test_wide_weights_fill_a_narrow_network(wide: nn.Module, width: float) -> None:
    state = wide.state_dict()
    encoder = Encoder(EncoderSpec(width=width), state)
    for key, value in encoder.net.state_dict().items():
        # Every number is one of the wide network's.
        assert bool(torch.isin(value, state[key]).all()), key
    assert encoder.net.conv_stem.out_channels < wide.conv_stem.out_channels
    assert encoder(picture())["head"].shape == (1, 1280, 2, 2)


@pytest.mark.parametrize("width", NARROW)
def test_weights_without_a_head_are_narrowed_too(wide: nn.Module, width: float) -> None:
    state = {key: value for key, value in wide.state_dict().items() if not key.startswith(("conv_head.", "bn2."))}
    taps = tuple(tap for tap in HEAD_TAPS if tap != "head")
    encoder = Encoder(EncoderSpec(width=width), state, taps=(*taps, "block17"))
    for key, value in encoder.net.state_dict().items():
        assert bool(torch.isin(value, state[key]).all()), key
    assert encoder.net.conv_stem.out_channels < wide.conv_stem.out_channels


@torch.no_grad()
def test_with_all_channels_kept_it_is_the_same_network(wide: nn.Module) -> None:
    state = wide.state_dict()
    made = narrowed(state, wide)
    assert made.keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in made.items())
    net = copy.deepcopy(wide)
    net.load_state_dict(made)
    assert torch.equal(net.forward_features(picture()), wide.forward_features(picture()))


def silence(net: nn.Module, narrow: nn.Module) -> dict[str, torch.Tensor]:
    """Lets only as many channels as another network has, drawn at random, do anything; which ones, by tap."""
    generator = torch.Generator().manual_seed(5)

    def keep(count: int, *norms: nn.BatchNorm2d) -> torch.Tensor:
        drawn = torch.randperm(norms[0].num_features, generator=generator)
        for norm in norms:
            norm.weight.data[drawn[count:]] = 0
            norm.bias.data[drawn[count:]] = 0
        return drawn[:count].sort().values

    first = narrow.blocks[0][0]
    keep(first.conv_dw.out_channels, net.blocks[0][0].bn1)
    kept = {"block1": keep(first.conv_pw.out_channels, net.blocks[0][0].bn2), "head": torch.arange(1280)}
    number = 1
    for stage, other in zip(net.blocks[1:], narrow.blocks[1:], strict=True):
        chosen = keep(other[0].conv_pwl.out_channels, *(block.bn3 for block in stage))
        for block, narrow_block in zip(stage, other, strict=True):
            keep(narrow_block.conv_dw.out_channels, block.bn2)
            number += 1
            kept[f"block{number}"] = chosen
    return kept


@pytest.mark.long
@pytest.mark.parametrize("width", NARROW)
@torch.no_grad()
def test_channels_that_do_nothing_are_the_ones_that_go(wide: nn.Module, width: float) -> None:
    net = copy.deepcopy(wide)
    kept = silence(net, timm.create_model(EncoderSpec(width=width).architecture, pretrained=False, num_classes=0))
    full = Encoder(EncoderSpec(), net.state_dict()).eval()(picture())
    slim = Encoder(EncoderSpec(width=width), net.state_dict()).eval()(picture())
    assert len(kept) == 18
    for tap, channels in kept.items():
        assert len(channels) == slim[tap].shape[1]
        assert close(slim[tap], full[tap][:, channels]), tap
    assert full["head"].std() > 1e-3


def test_the_strongest_channels_stay(wide: nn.Module) -> None:
    state = {key: value.clone() for key, value in wide.state_dict().items()}
    narrow = timm.create_model("mobilenetv2_050", pretrained=False, num_classes=0)
    # Of the last stage, whose 320 channels one BatchNorm scales and the head reads.
    state["blocks.6.0.bn3.weight"] = torch.arange(320) % 7 + 1.0
    state["conv_head.weight"] = torch.ones_like(state["conv_head.weight"])
    state["conv_head.weight"][:, 3] = 100
    state["blocks.6.0.bn3.bias"] = torch.arange(320.0)
    stayed = narrowed(state, narrow)["blocks.6.0.bn3.bias"].long()
    by_factor = torch.argsort(state["blocks.6.0.bn3.weight"], descending=True, stable=True)
    # The third, of a middling factor, is read most; it takes the place of the last that would have stayed.
    expected = {3, *[int(index) for index in by_factor if index != 3][:159]}
    assert set(stayed.tolist()) == expected
    assert stayed.tolist() == sorted(stayed.tolist())


@torch.no_grad()
def test_weights_of_the_narrow_width_are_taken_as_they_are(wide: nn.Module) -> None:
    spec = EncoderSpec(width=0.5)
    net = shake(timm.create_model("mobilenetv2_050", pretrained=False, num_classes=0), 3)
    again = Encoder(spec, net.state_dict(), taps=HEAD_TAPS).net.state_dict()
    assert all(torch.equal(value, again[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize("change", ["missing", "narrower", "flat"])
def test_weights_of_another_network_are_refused(wide: nn.Module, change: str) -> None:
    state = dict(wide.state_dict())
    if change == "missing":
        del state["blocks.3.1.bn2.weight"]
    elif change == "narrower":
        state["conv_stem.weight"] = state["conv_stem.weight"][:3]
    else:
        state["conv_stem.weight"] = state["conv_stem.weight"].flatten(1)
    with pytest.raises(WeightsError, match="does not hold MobileNetV2 features"):
        Encoder(EncoderSpec(width=0.5), state)
