"""One validation picture, predicted before the training and after each epoch, as an animated strip."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from lesionseg.data.images import encode_probability_png, read_probability
from lesionseg.data.loader import PairDataset
from lesionseg.io.writing import write_atomic
from lesionseg.training.sources import require_example
from lesionseg.training.state import Parts, forward

__all__ = ["Example", "find_example"]

_MARGIN, _CAPTION = 4, 16
_MILLISECONDS = 500


def find_example(wanted: str | None, run: Path, validation: PairDataset, names: Sequence[str]) -> Example | None:
    """The example that a config asks for: a case id, ``first``, or None.

    Raises:
        ConfigError: there is no such validation case.
    """
    if wanted is None:
        return None
    require_example(wanted, names)
    index = 0 if wanted == "first" else list(names).index(wanted)
    return Example(
        run, torch.from_numpy(np.array(validation.photos[index])), torch.from_numpy(np.array(validation.masks[index]))
    )


@dataclass(frozen=True)
class Example:
    """A picture and its truth.

    Attributes:
        run: the run folder; ``example/epoch-0007.png`` there are the predictions, ``example.png`` is the strip.
        photo: ``uint8 H W 3``.
        truth: ``uint8 1 H W``.
    """

    run: Path
    photo: torch.Tensor
    truth: torch.Tensor

    def draw(self, parts: Parts, epoch: int) -> None:
        """Adds the prediction after an epoch, 0 being before training; with several classes, the likeliest as greys.

        Raises:
            OutputError: the run folder cannot be written to.
        """
        folder = self.run / "example"
        write_atomic(folder / f"epoch-{epoch:04d}.png", encode_probability_png(self._predict(parts)))
        frames = []
        for number in range(epoch + 1):
            file = folder / f"epoch-{number:04d}.png"
            # Without those of epochs before the example was asked for.
            if file.is_file():
                frames.append(self._frame(read_probability(file), number, parts.model.spec.classes))
        strip = io.BytesIO()
        frames[0].save(strip, "PNG", save_all=True, append_images=frames[1:], duration=_MILLISECONDS, loop=0)
        write_atomic(self.run / "example.png", strip.getvalue())

    @torch.inference_mode()
    def _predict(self, parts: Parts) -> NDArray[np.float32]:
        batch = {"image": self.photo.permute(2, 0, 1)[None], "mask": self.truth[None]}
        logits, _ = forward(parts, parts.kept.eval(), batch)
        classes = logits.shape[1]
        shown = logits[0, 0].sigmoid() if classes == 1 else logits[0].argmax(0) / (classes - 1)
        return shown.float().cpu().numpy()

    def _frame(self, probability: NDArray[np.float32], epoch: int, classes: int) -> Image.Image:
        truth = self.truth[0].numpy() * (255 // max(1, classes - 1))
        panels = [self.photo.numpy(), truth, np.rint(probability * 255).astype(np.uint8)]
        titles = ("photo", "truth", f"after epoch {epoch}" if epoch else "before training")
        height, width = truth.shape
        frame = Image.new("RGB", (3 * width + 2 * _MARGIN, height + _CAPTION), "white")
        pen = ImageDraw.Draw(frame)
        for number, (panel, title) in enumerate(zip(panels, titles, strict=True)):
            left = number * (width + _MARGIN)
            frame.paste(Image.fromarray(panel), (left, _CAPTION))
            pen.text((left + 2, 2), title, fill="black")
        return frame
