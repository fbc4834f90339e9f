import pytest
import torch
from torch import nn

from lesionseg.models.shuffle import as_shuffle


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 1},
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 2, "stride": 2},
        {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1},
        {"kernel_size": 4, "stride": 2, "padding": 1, "bias": False},
        {"kernel_size": 3, "stride": 3},
    ],
    ids=str,
)
@torch.no_grad()
def test_a_transposed_convolution_is_a_convolution_and_a_shuffle(options):
    torch.manual_seed(0)
    layer, x = nn.ConvTranspose2d(3, 5, **options), torch.randn(2, 3, 4, 6)
    layers = as_shuffle(layer)
    assert not any(isinstance(part, nn.ConvTranspose2d) for part in layers)
    torch.testing.assert_close(nn.Sequential(*layers)(x), layer(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("options", [{"kernel_size": 3}, {"kernel_size": 2, "stride": 2, "groups": 3}], ids=str)
def test_other_transposed_convolutions_are_refused(options):
    with pytest.raises(ValueError, match="by its stride"):
        as_shuffle(nn.ConvTranspose2d(3, 6, **options))
