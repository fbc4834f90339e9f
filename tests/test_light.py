import torch
from torch import nn

from lesionseg.models import EncoderSpec, ModelSpec, build_model, count_parameters
from lesionseg.models.light import STEPS, LightDecoder


def features(height: int, width: int, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    made = {"block17": torch.rand(2, 320, height // 32, width // 32, generator=generator)}
    for step, stride in zip(STEPS, (16, 8, 4, 2), strict=True):
        made[step.skip] = torch.rand(2, step.skip_channels, height // stride, width // stride, generator=generator)
    return made


def test_it_is_light() -> None:
    model = build_model(ModelSpec("light", 0.1, 1, EncoderSpec()))
    assert count_parameters(model)["total"] == 2_352_052
    assert "head" not in model.encoder.taps


def test_logits_have_the_inputs_size() -> None:
    assert LightDecoder(0.1, 3).eval()(features(64, 96)).shape == (2, 3, 64, 96)


def test_every_resolution_and_the_whole_picture_have_a_say() -> None:
    decoder = LightDecoder(0.0).eval()
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
