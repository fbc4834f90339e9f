"""A trained network in the form in which it is exported: the same function, in fewer and friendlier operations."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lesionseg.data.labels import Labels
from lesionseg.models import SegmentationModel
from lesionseg.models.folding import fold_norms
from lesionseg.models.shuffle import as_shuffle

__all__ = ["ExportModule", "count_macs", "prepare"]

_NOTHING_IN_EVAL = (nn.Identity, nn.Dropout2d)


class ExportModule(nn.Module):
    """Photos in, probabilities out: normalisation and sigmoid (or softmax) inside.

    Args:
        model: from ``prepare``, or as it was trained.
        labels: the model's classes.

    Raises:
        ConfigError: the model has several classes, of which none is called lesion.
    """

    def __init__(self, model: SegmentationModel, labels: Labels) -> None:
        super().__init__()
        self.model = model
        weights = labels.lesion_weights if len(labels.names) > 1 else (1.0,)
        self.register_buffer("lesion", torch.tensor(weights).view(1, -1, 1, 1))
        self.lesion: Tensor
        self.outputs = ("probability",) if len(weights) == 1 else ("probability", "classes")
        self.eval()

    def forward(self, photos: Tensor) -> tuple[Tensor, ...]:
        """Probabilities of a batch.

        Args:
            photos: ``uint8 N H W 3``, RGB.

        Returns:
            ``float32 N H W`` in [0, 1]; for several classes also ``float32 N C H W``, of which a pixel's sum is 1.
        """
        logits = self.model(photos.permute(0, 3, 1, 2))
        if logits.shape[1] == 1:
            return (logits.sigmoid().squeeze(1),)
        classes = logits.softmax(1)
        return (classes * self.lesion).sum(1).clamp(0, 1), classes


def prepare(model: SegmentationModel) -> SegmentationModel:
    """A copy for inference: BatchNorm folded, and no transposed convolution, for which integer kernels are missing.

    Each becomes a convolution and a pixel shuffle, with the ReLU between them: quantised after it, a value has the
    whole scale for what is positive.
    """
    copy: SegmentationModel = fold_norms(model)  # type: ignore[assignment]
    for parent in list(copy.decoder.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Sequential):
                setattr(parent, name, _simplified(child))
            elif isinstance(child, nn.ConvTranspose2d) and not isinstance(parent, nn.Sequential):
                setattr(parent, name, nn.Sequential(*as_shuffle(child)))
    # Weights in channels_last would be saved as parts of something larger.
    return copy.eval().requires_grad_(False).to(memory_format=torch.contiguous_format)


def _simplified(block: nn.Sequential) -> nn.Sequential:
    layers: list[nn.Module] = []
    for layer in block:
        if isinstance(layer, _NOTHING_IN_EVAL):
            continue
        if isinstance(layer, nn.ReLU) and layers and isinstance(layers[-1], nn.PixelShuffle):
            layers.insert(-1, layer)
        else:
            layers += as_shuffle(layer) if isinstance(layer, nn.ConvTranspose2d) else [layer]
    return nn.Sequential(*layers)


@torch.no_grad()
def count_macs(model: SegmentationModel, height: int, width: int) -> int:
    """Multiplications with addition for one photo, in the convolutions."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, height, width))
    return int(counter.get_total_flops()) // 2
