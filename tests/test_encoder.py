import pytest
import torch

from lesionseg.errors import ShapeError, WeightsError
from lesionseg.models.encoder import HEAD_TAPS, Encoder
from lesionseg.models.weights import EncoderSpec

CHANNELS = {"input": 3, "stem": 32, "block1": 16, "block3": 24, "block6": 32, "block10": 64, "block13": 96}
CHANNELS |= {"block16": 160, "block17": 320, "head": 1280}
STRIDES = {"input": 1, "stem": 2, "block1": 2, "block3": 4, "block6": 8, "block10": 16, "block13": 16}
STRIDES |= {"block16": 32, "block17": 32, "head": 32}


@pytest.mark.parametrize("pad_type", ["", "same"])
def test_taps_have_their_channels_and_strides(pad_type: str) -> None:
    encoder = Encoder(EncoderSpec(pad_type=pad_type)).eval()
    features = encoder(torch.zeros(1, 3, 64, 96, dtype=torch.uint8))
    assert len(features) == 20
    for name, channels in CHANNELS.items():
        assert features[name].shape == (1, channels, 64 // STRIDES[name], 96 // STRIDES[name]), name


@pytest.mark.parametrize(
    ("width", "parameters"), [(0.35, 396_128), (0.5, 687_680), (0.75, 1_355_424), (1.0, 2_223_872)]
)
def test_parameter_count(width: float, parameters: int) -> None:
    assert sum(p.numel() for p in Encoder(EncoderSpec(width=width)).parameters()) == parameters


@pytest.mark.parametrize("width", [0.35, 0.5, 0.75, 1.0])
def test_channels_are_those_of_the_features(width: float) -> None:
    inside = ("expand2", "expand14", "project2", "project17")
    encoder = Encoder(EncoderSpec(width=width), taps=(*HEAD_TAPS, *inside)).eval()
    features = encoder(torch.zeros(1, 3, 32, 32))
    assert encoder.channels == {name: value.shape[1] for name, value in features.items()}
    assert len(encoder.channels) == 24
    # Rounded to multiples of 8, so half of 24 is 16.
    assert encoder.channels["block3"] == {0.35: 8, 0.5: 16, 0.75: 24, 1.0: 24}[width]
    short = Encoder(EncoderSpec(width=width), taps=("block1", "block13"))
    assert set(short.channels) == {"block1", "block13"}


def test_epsilon_and_normalisation_follow_the_spec() -> None:
    spec = EncoderSpec(mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0), bn_eps=1e-3)
    encoder = Encoder(spec).eval()
    assert {m.eps for m in encoder.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {1e-3}
    image = torch.full((1, 3, 32, 32), 255, dtype=torch.uint8)
    torch.testing.assert_close(encoder(image)["input"][0, :, 0, 0], torch.tensor([1.0, 3.0, 1.0]))


def test_features_are_timms() -> None:
    torch.manual_seed(0)
    encoder = Encoder(EncoderSpec()).eval()
    image = torch.rand(2, 3, 64, 64) * 255
    expected = encoder.net.forward_features((image - encoder.mean) / encoder.std)
    torch.testing.assert_close(encoder(image)["head"], expected)


def test_layers_that_no_tap_needs_are_left_out() -> None:
    short = Encoder(EncoderSpec(), taps=("block17",))
    assert set(short.eval()(torch.zeros(1, 3, 32, 32))) == {"block17"}
    assert sum(p.numel() for p in short.parameters()) == 2_223_872 - 320 * 1280 - 2 * 1280


def test_a_smaller_output_stride_keeps_the_weights() -> None:
    torch.manual_seed(0)
    state = Encoder(EncoderSpec()).net.state_dict()
    dilated = Encoder(EncoderSpec(), state, taps=("block13", "block17"), output_stride=16).eval()
    plain = Encoder(EncoderSpec(), state, taps=("block13", "block17")).eval()
    image = torch.rand(1, 3, 64, 64) * 255
    a, b = dilated(image), plain(image)
    torch.testing.assert_close(a["block13"], b["block13"])
    assert a["block17"].shape[2:] == (4, 4)
    assert b["block17"].shape[2:] == (2, 2)


def test_frozen_encoder_never_moves() -> None:
    encoder = Encoder(EncoderSpec()).freeze()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    encoder.train()
    assert not any(module.training for module in encoder.modules())
    features = encoder(torch.rand(2, 3, 64, 64) * 255)
    assert not any(value.requires_grad for value in features.values())
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_unfrozen_encoder_trains() -> None:
    encoder = Encoder(EncoderSpec()).train()
    assert encoder(torch.rand(2, 3, 64, 64) * 255)["head"].requires_grad
    assert int(encoder.net.bn1.num_batches_tracked) == 1


@pytest.mark.parametrize("shape", [(1, 3, 64, 65), (1, 3, 48, 64), (1, 1, 64, 64), (3, 64, 64)])
def test_wrong_shapes_are_told(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"multiples of 32, not " + " x ".join(map(str, shape))):
        Encoder(EncoderSpec())(torch.zeros(shape))


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(WeightsError, match=r"x\.safetensors does not hold MobileNetV2 features"):
        Encoder(EncoderSpec(source="x.safetensors"), {"conv_stem.weight": torch.zeros(1)})
