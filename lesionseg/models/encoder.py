"""timm's MobileNetV2 (arXiv:1801.04381) as an encoder with named taps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import timm
import torch
from torch import Tensor, nn

from lesionseg.config import STRIDE
from lesionseg.errors import ShapeError, WeightsError
from lesionseg.models.folding import fold_norms
from lesionseg.models.narrowing import narrowed
from lesionseg.models.weights import ARCHITECTURE, EncoderSpec

__all__ = ["HEAD_TAPS", "Encoder"]


_BLOCKS = 17
_LAST = "blocks.6.0"
HEAD_TAPS = ("input", "stem", *(f"block{number}" for number in range(1, _BLOCKS + 1)), "head")
"""The taps at the blocks' ends; ``expandN`` and ``projectN`` reach inside block N."""


class Encoder(nn.Module):
    """MobileNetV2 features: stem, 17 inverted residual blocks and the 1280-channel head (2,223,872 parameters at width
    1, whose channels are told below; ``channels`` tells those of any width).

    It owns the input's normalisation, as buffers that travel with the weights. Frozen, it is in eval mode whatever
    ``train()`` says, and outside autograd. Layers after the deepest tap are left out.

    Args:
        spec: what the weights were trained with.
        state: the weights, as in timm, of this width or of a larger one, which is narrowed; None starts at random.
            Layers that no tap needs may be missing.
        taps: the features that ``forward`` gives: ``input`` (normalised, 3 channels), ``stem`` (32, at 1/2), ``block1``
            to ``block17`` (16 at 1/2; 24 at 1/4; 32 at 1/8; 64, 96 at 1/16; 160, 320 at 1/32), ``head`` (1280, 1/32),
            ``expandN`` (after the first activation in block N: 96 at 1/2 in 2, 144 at 1/4 in 4, 192 at 1/8 in 7, 576 at
            1/16 in 14), ``projectN`` (block N's projection before its BatchNorm).
        output_stride: 32, or 16 with the last stage dilated instead (arXiv:1706.05587).

    Raises:
        WeightsError: names or shapes are not MobileNetV2's.
    """

    # timm's feature extractor offers five taps; the decoders need others, so the blocks are walked here.
    def __init__(
        self,
        spec: EncoderSpec,
        state: Mapping[str, Tensor] | None = None,
        *,
        taps: tuple[str, ...] = HEAD_TAPS,
        output_stride: int = STRIDE,
    ) -> None:
        super().__init__()
        self.net = timm.create_model(
            spec.architecture,
            pretrained=False,
            num_classes=0,
            bn_eps=spec.bn_eps,
            pad_type=spec.pad_type,
            output_stride=output_stride,
        )
        self.frozen = False
        self.taps = taps
        # In a list, so that neither state_dict() nor train() sees it; empty until it is needed.
        self._folded: list[nn.Module] = []
        self.register_load_state_dict_post_hook(lambda *_: self._folded.clear())  # type: ignore[no-untyped-call]
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1) * 255)
        self.mean: Tensor
        self.std: Tensor
        self.channels = {name: count for name, count in self._count_channels() if name in taps}
        """tap -> its channels, read off the network."""
        whole = self.net.state_dict().keys()
        fitting = None if state is None else narrowed(state, self.net)
        self._leave_out_what_no_tap_needs()
        if fitting is not None:
            unused = whole - self.net.state_dict().keys()
            self._require_whole(fitting, spec.source)
            try:
                self.net.load_state_dict({name: value for name, value in fitting.items() if name not in unused})
            except RuntimeError as error:
                reason = " ".join(str(error).split())[:300]
                raise WeightsError(
                    f"{spec.source} does not hold MobileNetV2 features: {reason}",
                    fix=f"use the weights of timm's {ARCHITECTURE} with num_classes=0, at least as wide as "
                    f"model.encoder_width={spec.width:g}",
                ) from error

    def _require_whole(self, state: Mapping[str, Tensor], source: str) -> None:
        """Makes sure that the encoder of another model goes as deep as this one's decoder needs it.

        Raises:
            WeightsError: it ends before.
        """
        missing = self.net.state_dict().keys() - state.keys()
        deepest = {name for name in missing if name.startswith(("conv_head.", "bn2.", f"{_LAST}.bn3."))}
        if missing and missing == deepest:
            layers = sorted({name.rpartition(".")[0] for name in missing})
            raise WeightsError(
                f"the encoder of {source} ends before this decoder's deepest features: it has no {', '.join(layers)}",
                fix="set model.name to the network that it comes from ('lesionseg models'), or "
                "model.encoder_weights to whole weights",
            )

    def _leave_out_what_no_tap_needs(self) -> None:
        if "head" not in self.taps:
            self.net.conv_head, self.net.bn2 = nn.Identity(), nn.Identity()
        if f"block{_BLOCKS}" not in self.taps and "head" not in self.taps:
            self.net.blocks[-1][-1].bn3 = nn.Identity()

    def _count_channels(self) -> Iterator[tuple[str, int]]:
        net: Any = self.net
        yield "input", net.conv_stem.in_channels
        yield "stem", net.conv_stem.out_channels
        blocks = (block for stage in net.blocks for block in stage)
        for number, block in enumerate(blocks, start=1):
            last = block.conv_pw if number == 1 else block.conv_pwl
            if number > 1:
                yield f"expand{number}", block.conv_pw.out_channels
                yield f"project{number}", last.out_channels
            yield f"block{number}", last.out_channels
        yield "head", net.conv_head.out_channels

    def freeze(self) -> Encoder:
        """Stops every parameter and every BatchNorm buffer for good."""
        self.frozen = True
        self.requires_grad_(False)
        return self.train(False)

    def _apply(self, fn: Any, recurse: bool = True) -> Encoder:
        # Called by to(), float(), cuda() and the like.
        self._folded.clear()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _net(self) -> nn.Module:
        """What is walked: frozen and in training, the BatchNorms are folded once, as they will not change."""
        net: nn.Module = self.net
        if not self.frozen or torch.compiler.is_exporting():
            return net
        if not self._folded:
            # What is made in inference mode could not take part in training later.
            with torch.inference_mode(False):
                self._folded.append(fold_norms(net))
        return self._folded[0]

    def train(self, mode: bool = True) -> Encoder:
        """Sets the mode; a frozen encoder stays in eval mode."""
        return super().train(mode and not self.frozen)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Features of a batch.

        Args:
            image: ``N 3 H W``, RGB, values 0 to 255, uint8 or float; H and W multiples of 32.

        Returns:
            tap -> ``N C h w``.

        Raises:
            ShapeError: the batch has another shape.
        """
        if image.ndim != 4 or image.shape[1] != 3 or image.shape[2] % STRIDE or image.shape[3] % STRIDE:
            shape = " x ".join(map(str, image.shape))
            raise ShapeError(
                f"the model takes N x 3 x H x W with H and W multiples of {STRIDE}, not {shape}",
                fix="resize or pad the pictures",
            )
        with torch.no_grad() if self.frozen else nullcontext():
            return {name: value for name, value in self._walk(image) if name in self.taps}

    def _walk(self, image: Tensor) -> Iterator[tuple[str, Tensor]]:
        x = (image.to(self.mean.dtype) - self.mean) / self.std
        yield "input", x
        net: Any = self._net()
        x = net.bn1(net.conv_stem(x))
        yield "stem", x
        blocks = (block for stage in net.blocks for block in stage)
        for number, block in enumerate(blocks, start=1):
            if number == 1:
                x = block(x)  # depthwise separable: nothing is expanded
            else:
                expanded = block.bn1(block.conv_pw(x))
                yield f"expand{number}", expanded
                projected = block.conv_pwl(block.bn2(block.conv_dw(expanded)))
                yield f"project{number}", projected
                x = block.bn3(projected) + x if block.has_skip else block.bn3(projected)
            yield f"block{number}", x
        if "head" in self.taps:
            yield "head", net.bn2(net.conv_head(x))
