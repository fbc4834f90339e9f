"""One model behind one small interface: arrays in, probabilities out.

Nothing here imports torch before a torch model is loaded, so another runtime can stand beside it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from lesionseg.config import DataConfig, load_config
from lesionseg.data.labels import BINARY, Labels, labels_of
from lesionseg.errors import ConfigError, RunError
from lesionseg.inference.batches import both_classes, lesion_of, require_batch, require_probabilities
from lesionseg.inference.quality import Quality
from lesionseg.inference.single import PhotoPrediction, PhotoSource, TakesPhotos
from lesionseg.shipped_models import INT8, WEIGHTS, Bundle, find_model, is_bundle, is_run, open_bundle

if TYPE_CHECKING:
    import torch

    from lesionseg.inference.exported import ExportInfo
    from lesionseg.models import SegmentationModel
    from lesionseg.records import Checkpoint

__all__ = ["ExportedPredictor", "Predictor", "TorchPredictor", "load_file", "load_int8", "load_predictor", "load_torch"]

_CHECKPOINTS = ("best", "last", "start")


class Predictor(Protocol):
    """What the rest of this room knows of a model; several threads may infer at a time."""

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
    def labels(self) -> Labels:
        """The model's classes, and what masks of the kind that it was trained with look like."""

    @property
    def quality(self) -> Quality | None:
        """The calibration of what is expected of a mask; None where there was none."""

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

    def infer_classes(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities of the classes, ``float32 N C height width``, of which a pixel's sum is 1; C is at least 2.

        Otherwise as ``infer``.
        """

    def predict(self, photo: PhotoSource, name: str | None = None) -> PhotoPrediction:
        """The prediction of one photo at the photo's own size.

        Args:
            photo: a path, the bytes of a file, or pixels as ``uint8 H W 3``, RGB.
            name: the prediction's case id; by default the file's stem, or ``photo``.

        Raises:
            ImageError: it cannot be read or decoded, or the pixels are of another kind.
            NonFiniteError: the model gives NaN.
        """


@runtime_checkable
class ExportedPredictor(Predictor, Protocol):
    """A ``Predictor`` that was loaded from an exported file.

    Attributes:
        info: what the file says of itself.
    """

    info: ExportInfo


class TorchPredictor(TakesPhotos):
    """A ``Predictor`` on torch.

    Args:
        model: with one output channel, or one for each class; kept as it is, and run with its BatchNorms folded.
        name: the run's name.
        checkpoint: which state of the run.
        sha256: of the weights file.
        size: height and width of the model's input, multiples of 32.
        device: where it runs.
        labels: the model's classes.
        quality: its calibration.
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
        labels: Labels = BINARY,
        quality: Quality | None = None,
    ) -> None:
        import torch

        from lesionseg.models.folding import fold_norms

        self.labels, self.quality = labels, quality
        self.name, self.checkpoint, self.sha256 = name, checkpoint, sha256
        self.height, self.width = size
        self._device, self._lock = device, Lock()
        self.model = model.eval().requires_grad_(False).to(device)
        self._net = fold_norms(self.model).to(memory_format=torch.channels_last)

    def infer(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See ``Predictor.infer``."""
        return lesion_of(self._probabilities(batch), self.labels)

    def infer_classes(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See ``Predictor.infer_classes``."""
        return both_classes(self._probabilities(batch))

    def _probabilities(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        import torch

        require_batch(batch, self.height, self.width)
        # torch shares one photo among its threads; several photos at a time would only get in each other's way.
        with self._lock, torch.inference_mode():
            # N H W 3 in memory, seen as N 3 H W, already is channels_last.
            images = torch.tensor(batch, device=self._device).permute(0, 3, 1, 2)
            logits = self._net(images).float()
            found = logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)
            probabilities: NDArray[np.float32] = found.contiguous().cpu().numpy()
        return require_probabilities(probabilities, probabilities.shape, f"{self.name} ({self.checkpoint})")


def load_predictor(
    run: str | Path, *, checkpoint: str = "best", device: str = "auto", threads: int | None = None
) -> Predictor:
    """Loads a trained run, a model exported from one, or a model that ships, for inference.

    Args:
        run: a run folder; or, without torch, an ``.onnx`` or ``.xml`` (OpenVINO) file that ``lesionseg export`` wrote,
            the name of a model that ships, or a bundle's folder.
        checkpoint: ``best``, ``last``, or ``start``, which is the untrained model that the run began with; exported
            files and bundles hold the one that they were made from.
        device: ``auto`` (CUDA or MPS where there is one, else the CPU), ``cpu``, ``cuda``, ``cuda:1``, ``mps``, ...; an
            exported file runs on the CPU, and so does a bundle unless another device is named: then its float weights
            run on torch.
        threads: CPU threads, for torch of the whole process; None leaves them as they are.

    Raises:
        ConfigError: an argument does not exist here.
        RunError: there is no such model, the run has no intact checkpoint, or a file is missing, damaged or of another
            program.
    """
    if checkpoint not in _CHECKPOINTS:
        raise ConfigError(f"there is no checkpoint {checkpoint!r}", fix=f"use one of: {', '.join(_CHECKPOINTS)}")
    if threads is not None and threads < 1:
        raise ConfigError(f"the number of threads is {threads}", fix="use at least 1")
    place = find_model(run)
    if is_run(place):
        return load_torch(place, checkpoint, device, threads)
    if checkpoint != "best":
        raise ConfigError(f"{run} has one state", fix="name a run folder instead")
    if is_bundle(place):
        on_cpu = device in ("auto", "cpu")
        return load_int8(open_bundle(place), threads=threads) if on_cpu else load_torch(place, "best", device, threads)
    if device not in ("auto", "cpu"):
        raise ConfigError(f"{run} runs on the CPU", fix="name a run folder instead")
    return load_file(place, threads=threads)


def load_int8(bundle: Bundle, *, threads: int | None = None) -> ExportedPredictor:
    """Loads what a bundle is run with by default; needs no torch.

    Raises:
        RunError: the file is missing or damaged.
    """
    from lesionseg.inference.onnx_predictor import OnnxPredictor

    # Its bytes are those of model.json's digest.
    return OnnxPredictor(bundle.read(INT8), bundle.folder / INT8, threads=threads, name=bundle.name, verified=True)


def load_file(path: Path, *, threads: int | None = None) -> ExportedPredictor:
    """Loads an exported file, ``.onnx`` or ``.xml``; otherwise as ``load_predictor``."""
    if path.suffix == ".xml":
        from lesionseg.inference.openvino_predictor import load_openvino

        return load_openvino(path, threads=threads)
    from lesionseg.inference.onnx_predictor import load_onnx

    return load_onnx(path, threads=threads)


def load_torch(run: Path, checkpoint: str = "best", device: str = "auto", threads: int | None = None) -> TorchPredictor:
    """Loads a run folder, or a bundle's weights, with torch; otherwise as ``load_predictor``."""
    from lesionseg.training.places import best_checkpoint, latest_checkpoint, read_header

    if not is_bundle(run):
        # Before torch, which takes seconds to load.
        read_header(best_checkpoint(run) if checkpoint == "best" else latest_checkpoint(run))
    import torch

    from lesionseg.training.checkpoint import load_model

    place = _pick_device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    if is_bundle(run):
        return _unpacked(open_bundle(run), place)
    model, state, sha256 = load_model(run, "last" if checkpoint == "start" else checkpoint)
    labels = _labels(state, run)
    if model.spec.classes != len(labels.names):
        raise RunError(
            f"{run}: its model has {model.spec.classes} classes, its settings {len(labels.names)}", fix="train it again"
        )
    called = f"epoch-{state.epoch:04d}" + (f"-step-{state.step:06d}" if state.step else "")
    if checkpoint == "start":
        called = "epoch-0000"
        model, sha256 = _untrained(state)
    return TorchPredictor(
        model,
        name=run.resolve().name,
        checkpoint=called,
        sha256=sha256,
        size=_input_size(state, run),
        device=place,
        labels=labels,
    )


def _unpacked(bundle: Bundle, device: torch.device) -> TorchPredictor:
    from lesionseg.models.packing import unpack

    quality = bundle.facts["quality"]
    return TorchPredictor(
        unpack(bundle),
        name=bundle.name,
        checkpoint=bundle.facts["checkpoint"],
        sha256=bundle.digest(WEIGHTS),
        size=bundle.size,
        device=device,
        labels=Labels(**{**bundle.facts["labels"], "names": tuple(bundle.facts["labels"]["names"])}),
        quality=None if quality is None else Quality.from_json(quality),
    )


def _untrained(state: Checkpoint) -> tuple[SegmentationModel, str]:
    """The model before the first step, and the digest of its weights, which no file holds."""
    import safetensors.torch
    import torch

    from lesionseg.training.start import starting_model

    # The caller's own random numbers must not begin anew with every load.
    with torch.random.fork_rng(devices=[]):
        model = starting_model(load_config(state.config))
    return model, hashlib.sha256(safetensors.torch.save(model.state_dict())).hexdigest()


def _labels(state: Checkpoint, run: Path) -> Labels:
    try:
        return labels_of(DataConfig.model_validate(state.config["data"]))
    except (KeyError, ValueError) as error:
        raise RunError(f"{run}: its checkpoint does not say how masks are read", fix="train it again") from error


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
