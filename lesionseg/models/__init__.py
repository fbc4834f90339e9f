"""Tensors only: encoders, decoders and the one place that joins them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from lesionseg.config import STRIDE
from lesionseg.errors import ConfigError
from lesionseg.models.deeplab import DeepLabDecoder
from lesionseg.models.encoder import Encoder
from lesionseg.models.light import LightDecoder
from lesionseg.models.pix2pix import Pix2PixDecoder
from lesionseg.models.unet import NineSkipDecoder, ShuffleDecoder
from lesionseg.models.weights import EncoderSpec, EncoderWeights, load_encoder_weights

__all__ = [
    "DECODERS",
    "Encoder",
    "EncoderSpec",
    "ModelSpec",
    "SegmentationModel",
    "build_model",
    "count_parameters",
    "load_encoder_weights",
    "require_decoder",
]

DECODERS: dict[str, type[NineSkipDecoder | Pix2PixDecoder | DeepLabDecoder | LightDecoder]] = {
    "unet": NineSkipDecoder,
    "unet_shuffle": ShuffleDecoder,
    "pix2pix": Pix2PixDecoder,
    "deeplab": DeepLabDecoder,
    "light": LightDecoder,
}
"""Model name -> its decoder."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What rebuilds a model's architecture.

    Attributes:
        name: a key of ``DECODERS``.
        dropout: of the decoder.
        classes: channels of the logits.
        encoder: what the encoder's weights were trained with.
        rates: of DeepLabV3+'s atrous convolutions; empty for the paper's.
        decoder_width: multiplies the light decoder's channels.
    """

    name: str
    dropout: float
    classes: int
    encoder: EncoderSpec
    rates: tuple[int, ...] = ()
    decoder_width: float = 1.0

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ModelSpec:
        """The inverse of ``to_json``."""
        parts = {"encoder": EncoderSpec.from_json(values["encoder"]), "rates": tuple(values.get("rates", ()))}
        return cls(**{**values, **parts})

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "name": self.name,
            "dropout": self.dropout,
            "classes": self.classes,
            "encoder": self.encoder.to_json(),
            # Left out where they are as they were before there was a choice.
            **({"rates": list(self.rates)} if self.rates else {}),
            **({"decoder_width": self.decoder_width} if self.decoder_width != 1 else {}),
        }


class SegmentationModel(nn.Module):
    """An encoder and a decoder: pictures in (or what the encoder makes of them), logits out."""

    def __init__(self, spec: ModelSpec, encoder: Encoder, decoder: nn.Module) -> None:
        super().__init__()
        self.spec, self.encoder, self.decoder = spec, encoder, decoder

    def forward(self, image: Tensor | dict[str, Tensor]) -> Tensor:
        """Logits of a batch.

        Args:
            image: ``N 3 H W``, RGB, values 0 to 255, uint8 or float; H and W multiples of 32. Or what the encoder
                gives for that.

        Returns:
            ``N classes H W``, float; the sigmoid of it is the lesion probability.

        Raises:
            ShapeError: the batch has another shape.
        """
        logits: Tensor = self.decoder(image if isinstance(image, dict) else self.encoder(image))
        return logits


def require_decoder(name: str) -> None:
    """Makes sure that there is a model of this name.

    Raises:
        ConfigError: listing those that there are.
    """
    if name not in DECODERS:
        raise ConfigError(f"there is no model {name!r}", fix=f"set model.name to one of: {', '.join(DECODERS)}")


def build_model(spec: ModelSpec, weights: EncoderWeights | None = None) -> SegmentationModel:
    """Builds a model; without weights, its encoder starts at random.

    Raises:
        ConfigError: there is no decoder of that name, or none of that width.
        WeightsError: the weights are of another network.
    """
    require_decoder(spec.name)
    decoder = DECODERS[spec.name]
    any_width = getattr(decoder, "ANY_WIDTH", False)
    if not any_width and (spec.encoder.width, spec.decoder_width) != (1, 1):
        able = ", ".join(name for name, other in DECODERS.items() if getattr(other, "ANY_WIDTH", False))
        raise ConfigError(
            f"the model {spec.name!r} comes in width 1 only, not with an encoder of width {spec.encoder.width:g} "
            f"and a decoder of {spec.decoder_width:g}",
            fix=f"set model.encoder_width and model.decoder_width to 1, or model.name to {able}",
        )
    encoder = Encoder(
        spec.encoder,
        weights.state if weights else None,
        taps=decoder.TAPS,
        output_stride=getattr(decoder, "OUTPUT_STRIDE", STRIDE),
    )
    options: dict[str, Any] = {"rates": spec.rates} if spec.rates else {}
    if any_width:
        options |= {"channels": encoder.channels, "width": spec.decoder_width}
    return SegmentationModel(spec, encoder, decoder(spec.dropout, spec.classes, **options))


def count_parameters(model: SegmentationModel) -> dict[str, int]:
    """Numbers of parameters: encoder, decoder, total, trainable, non_trainable."""
    encoder, decoder = (sum(p.numel() for p in part.parameters()) for part in (model.encoder, model.decoder))
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = encoder + decoder
    return {
        "encoder": encoder,
        "decoder": decoder,
        "total": total,
        "trainable": trainable,
        "non_trainable": total - trainable,
    }
