import torch
from torch import nn

from lesionseg.models import EncoderSpec, ModelSpec, SegmentationModel, build_model, count_parameters


def make() -> SegmentationModel:
    return build_model(ModelSpec("pix2pix", 0.5, 3, EncoderSpec()))


def keras_count(module: nn.Module) -> int:
    """Parameters, and BatchNorm's moving averages with them, as Keras counts."""
    moving = sum(value.numel() for name, value in module.named_buffers() if "running_" in name)
    return sum(p.numel() for p in module.parameters()) + moving


def test_parameter_counts() -> None:
    model = make()
    assert keras_count(model) == 6_504_227
    assert keras_count(model.encoder) == 1_841_984
    model.encoder.freeze()
    assert count_parameters(model)["trainable"] == 4_660_323


def test_concatenations_have_their_channels() -> None:
    inputs = [up[0].in_channels for up in make().decoder.ups]
    assert [*inputs, make().decoder.last.in_channels] == [320, 1088, 448, 272, 160]


def test_taps_come_from_their_places() -> None:
    features = make().encoder.eval()(torch.zeros(1, 3, 128, 128))
    shapes = {name: tuple(value.shape[1:]) for name, value in features.items()}
    assert shapes == {
        "expand2": (96, 64, 64),
        "expand4": (144, 32, 32),
        "expand7": (192, 16, 16),
        "expand14": (576, 8, 8),
        "project17": (320, 4, 4),
    }


def test_expanded_taps_are_after_the_activation_and_the_projection_before_its_norm() -> None:
    torch.manual_seed(0)
    features = make().encoder.eval()(torch.rand(1, 3, 64, 64) * 255)
    assert all(value.min() >= 0 and value.max() <= 6 for name, value in features.items() if "expand" in name)
    assert features["project17"].min() < 0


def test_order_within_an_upsampling_block() -> None:
    kinds = [type(layer) for layer in make().decoder.ups[0]]
    assert kinds == [nn.ConvTranspose2d, nn.BatchNorm2d, nn.Dropout2d, nn.ReLU]
