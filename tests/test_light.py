import pytest
import torch
from torch import nn

from lesionseg.errors import ConfigError
from lesionseg.export.graph import count_macs
from lesionseg.models import EncoderSpec, ModelSpec, build_model, count_parameters
from lesionseg.models.light import STEPS, LightDecoder

CHANNELS = {"block17": 320, "block13": 96, "block6": 32, "block3": 24, "block1": 16}


def features(height: int, width: int, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(2, channels, height // stride, width // stride, generator=generator)
        for (name, channels), stride in zip(CHANNELS.items(), (32, 16, 8, 4, 2), strict=True)
    }


def made(encoder: float, decoder: float) -> ModelSpec:
    return ModelSpec("light", 0.1, 1, EncoderSpec(width=encoder), decoder_width=decoder)


def test_it_is_light() -> None:
    model = build_model(ModelSpec("light", 0.1, 1, EncoderSpec()))
    assert count_parameters(model)["total"] == 2_352_052
    assert "head" not in model.encoder.taps


def test_logits_have_the_inputs_size() -> None:
    assert LightDecoder(0.1, 3, channels=CHANNELS).eval()(features(64, 96)).shape == (2, 3, 64, 96)


def test_every_resolution_and_the_whole_picture_have_a_say() -> None:
    decoder = LightDecoder(0.0, channels=CHANNELS).eval()
    taps = features(64, 64)
    before = decoder(taps)
    for name in taps:
        changed = {**taps, name: taps[name].flip(0)}
        assert not torch.allclose(decoder(changed), before)
    # A change in one corner of the deepest features reaches the opposite corner only through the whole picture's mean.
    far = {**features(512, 512)}
    corner = far["block17"].clone()
    corner[..., 0, 0] += 100
    moved = (decoder({**far, "block17": corner}) - decoder(far)).abs()
    assert moved[..., -1, -1].min() > 0
    nn.init.zeros_(decoder.pooled[1].weight)
    still = (decoder({**far, "block17": corner}) - decoder(far)).abs()
    assert still[..., -1, -1].max() == 0


def test_a_last_batch_of_one_image_trains() -> None:
    model = build_model(ModelSpec("light", 0.1, 1, EncoderSpec())).train()
    model(torch.rand(1, 3, 64, 64) * 255).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_at_width_1_it_is_what_it_was() -> None:
    decoder = LightDecoder(0.0, channels=CHANNELS)
    shapes = {name: tuple(value.shape) for name, value in decoder.state_dict().items() if name.endswith("weight")}
    assert shapes["context.0.weight"] == (128, 320, 1, 1)
    for number, (step, inputs) in enumerate(zip(STEPS, (128, 96, 64, 40), strict=True)):
        assert shapes[f"joins.{number}.deep.weight"] == (step.width, inputs, 1, 1)
        assert shapes[f"joins.{number}.skip.weight"] == (step.width, CHANNELS[step.skip], 1, 1)
        assert shapes[f"joins.{number}.refine.0.0.weight"] == (step.width, step.width, 3, 3)
    assert shapes["head.1.weight"] == (4, 24, 3, 3)
    spec = ModelSpec("light", 0.1, 1, EncoderSpec())
    assert "decoder_width" not in spec.to_json()
    assert "width" not in spec.encoder.to_json()


@pytest.mark.parametrize(
    ("encoder", "decoder", "parameters", "gmac"),
    [
        (0.75, 1.0, 1_562_708, 0.4655),
        (0.5, 0.5, 620_916, 0.1815),
        (0.5, 0.35, 556_452, 0.1248),
        (0.35, 0.5, 383_700, 0.1465),
    ],
)
def test_narrow_ones(encoder: float, decoder: float, parameters: int, gmac: float) -> None:
    model = build_model(made(encoder, decoder)).eval()
    assert count_parameters(model)["total"] == parameters
    assert count_macs(model, 192, 256) / 1e9 == pytest.approx(gmac, abs=1e-4)


@pytest.mark.parametrize("width", [0.01, 0.35, 0.5, 0.77, 2.0])
def test_its_channels_are_multiples_of_8(width: float) -> None:
    decoder = LightDecoder(0.0, channels=CHANNELS, width=width)
    counts = [m.num_features for m in decoder.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(count >= 8 and count % 8 == 0 for count in counts)
    assert decoder.eval()(features(64, 64)).shape == (2, 1, 64, 64)


@pytest.mark.parametrize("name", ["unet", "unet_shuffle", "pix2pix", "deeplab"])
@pytest.mark.parametrize(("encoder", "decoder"), [(0.5, 1.0), (1.0, 0.5)])
def test_no_other_decoder_comes_in_other_widths(name: str, encoder: float, decoder: float) -> None:
    with pytest.raises(ConfigError, match=rf"'{name}' comes in width 1 only.*[\s\S]*model.name to light"):
        build_model(ModelSpec(name, 0.1, 1, EncoderSpec(width=encoder), decoder_width=decoder))
