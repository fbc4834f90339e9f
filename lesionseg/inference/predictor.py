"""One model behind one small interface: arrays in, probabilities out.

Nothing here imports torch before a torch model is loaded, so another runtime can stand beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from lesionseg.errors import ConfigError, NonFiniteError, RunError, ShapeError

if TYPE_CHECKING:
    import torch

    from lesionseg.models import SegmentationModel
    from lesionseg.records import Checkpoint

__all__ = ["Predictor", "TorchPredictor", "load_predictor"]

_CHECKPOINTS = ("best", "last")


class Predictor(Protocol):
    """What the rest of this room knows of a model."""

    @property
    def name(self) -> str:
        """The run's name."""

    @property
    def checkpoint(self) -> str:
        """Which state of the run, for example ``epoch-0042``."""

    @property
    def sha256(self) -> str:
        """Hex digest of the weights file."""

    @property
    def height(self) -> int:
        """Of the model's input, in pixels."""

    @property
    def width(self) -> int:
        """Of the model's input, in pixels."""

    def infer(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Lesion probabilities of some photos.

        Args:
            batch: ``uint8 N height width 3``, RGB, N at least 1.

        Returns:
            ``float32 N height width`` in [0, 1].

        Raises:
            ShapeError: the batch has another shape or dtype.
            NonFiniteError: the model gives NaN.
        """


class TorchPredictor:
    """A ``Predictor`` on torch.

    Args:
        model: with one class.
        name: the run's name.
        checkpoint: which state of the run.
        sha256: of the weights file.
        size: height and width of the model's input, multiples of 32.
        device: where it runs.
    """

    def __init__(
        self,
        model: SegmentationModel,
        *,
        name: str,
        checkpoint: str,
        sha256: str,
        size: tuple[int, int],
        device: torch.device,
    ) -> None:
        import torch

        self.name, self.checkpoint, self.sha256 = name, checkpoint, sha256
        self.height, self.width = size
        self._device = device
        self._model = model.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)

    def infer(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See ``Predictor.infer``."""
        import torch

        if batch.dtype != np.uint8 or batch.shape[1:] != (self.height, self.width, 3) or len(batch) == 0:
            raise ShapeError(
                f"the model takes uint8 N x {self.height} x {self.width} x 3 with N > 0, "
                f"not {batch.dtype} {' x '.join(map(str, batch.shape))}",
                fix="resize the photos to the model's input size",
            )
        with torch.inference_mode():
            # N H W 3 in memory, seen as N 3 H W, already is channels_last.
            images = torch.tensor(batch, device=self._device).permute(0, 3, 1, 2)
            probability: NDArray[np.float32] = self._model(images)[:, 0].float().sigmoid().cpu().numpy()
        if not np.isfinite(probability).all():
            raise NonFiniteError(f"the model {self.name} ({self.checkpoint}) gives NaN", fix="train it again")
        return probability


def load_predictor(
    run: Path, *, checkpoint: str = "best", device: str = "auto", threads: int | None = None
) -> TorchPredictor:
    """Loads a trained run for inference.

    Args:
        run: a run folder.
        checkpoint: ``best`` or ``last``.
        device: ``auto`` (CUDA or MPS where there is one, else the CPU), ``cpu``, ``cuda``, ``cuda:1``, ``mps``, ...
        threads: CPU threads of torch in this process; None leaves them as they are.

    Raises:
        ConfigError: an argument does not exist here.
        RunError: the run has no intact checkpoint of a binary model.
    """
    if checkpoint not in _CHECKPOINTS:
        raise ConfigError(f"there is no checkpoint {checkpoint!r}", fix=f"use one of: {', '.join(_CHECKPOINTS)}")
    if threads is not None and threads < 1:
        raise ConfigError(f"the number of threads is {threads}", fix="use at least 1")
    import torch

    from lesionseg.training.checkpoint import load_model

    place = _pick_device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    model, state, sha256 = load_model(run, checkpoint)
    if model.spec.classes != 1:
        raise RunError(f"{run} has {model.spec.classes} classes, not one", fix="use a run of a binary model")
    step = f"-step-{state.step:06d}" if state.step else ""
    return TorchPredictor(
        model,
        name=run.resolve().name,
        checkpoint=f"epoch-{state.epoch:04d}{step}",
        sha256=sha256,
        size=_input_size(state, run),
        device=place,
    )


def _input_size(state: Checkpoint, run: Path) -> tuple[int, int]:
    try:
        height, width = state.config["data"]["image_size"]
        return int(height), int(width)
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{run}: its checkpoint does not say data.image_size", fix="train it again") from error


def _pick_device(name: str) -> torch.device:
    import torch

    there = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if name == "auto":
        # Other kinds of accelerator were never tried; whoever has one can name it.
        return there if there is not None and there.type in ("cuda", "mps") else torch.device("cpu")
    known = ["auto", "cpu"]
    if there is not None:
        known += [there.type, *(f"{there.type}:{index}" for index in range(torch.accelerator.device_count()))]
    if name not in known:
        raise ConfigError(f"there is no device {name!r} here", fix=f"use one of: {', '.join(known)}")
    return torch.device(name)
