import torch
from torch import nn

from lesionseg.models.encoder import Encoder
from lesionseg.models.unet import BLOCKS, NineSkipDecoder, ShuffleDecoder, to_shuffle
from lesionseg.models.weights import EncoderSpec


def test_parameter_count() -> None:
    assert sum(p.numel() for p in NineSkipDecoder(0.4).parameters()) == 1_594_314


def test_each_block_is_convolution_norm_relu_dropout() -> None:
    for block in NineSkipDecoder(0.3).blocks:
        assert [type(layer) for layer in block] == [nn.ConvTranspose2d, nn.BatchNorm2d, nn.ReLU, nn.Dropout2d]
        assert block[3].p == 0.3


def test_from_1280_x_4_x_4_to_1_x_128_x_128() -> None:
    encoder, decoder = Encoder(EncoderSpec()).eval(), NineSkipDecoder(0.4).eval()
    features = encoder(torch.zeros(1, 3, 128, 128))
    assert features["head"].shape == (1, 1280, 4, 4)
    assert decoder(features).shape == (1, 1, 128, 128)


def test_every_skip_reaches_the_logits() -> None:
    encoder, decoder = Encoder(EncoderSpec()).eval(), NineSkipDecoder(0.0).eval()
    features = {name: value.detach().requires_grad_() for name, value in encoder(torch.rand(1, 3, 64, 64)).items()}
    decoder(features).sum().backward()
    for name in ["head", *(block.skip for block in BLOCKS)]:
        grad = features[name].grad
        assert grad is not None, name
        assert grad.abs().sum() > 0, name


def test_pixel_shuffle_form_is_the_same_function() -> None:
    torch.manual_seed(0)
    encoder, decoder = Encoder(EncoderSpec()).eval(), NineSkipDecoder(0.4, 2).eval()
    for tensor in decoder.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(torch.randn_like(tensor) * 0.01)  # biases and statistics that are not those of a fresh module
    features = encoder(torch.rand(2, 3, 64, 96) * 255)
    shuffled = to_shuffle(decoder)
    assert not any(isinstance(layer, nn.ConvTranspose2d) for layer in shuffled.modules())
    assert not shuffled.training
    torch.testing.assert_close(shuffled(features), decoder(features), atol=1e-5, rtol=1e-5)


def test_pixel_shuffle_form_trains() -> None:
    decoder = ShuffleDecoder(0.4).train()
    features = Encoder(EncoderSpec())(torch.rand(2, 3, 64, 64) * 255)
    decoder(features).sum().backward()
    assert all(p.grad is not None for p in decoder.parameters())
