"""Where encoder weights come from, and what has to go with them."""

from __future__ import annotations

import hashlib
import math
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from lesionseg.config import is_file
from lesionseg.errors import RunError, WeightsError
from lesionseg.io.paths import as_path
from lesionseg.io.reading import MAX_MODEL_BYTES, read_regular
from lesionseg.shipped_models import WEIGHTS, default_bundle, find_bundle, open_bundle

__all__ = ["ARCHITECTURE", "EncoderSpec", "EncoderWeights", "load_encoder_weights", "widened"]

ARCHITECTURE = "mobilenetv2_100"
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_OURS = "lesionseg"
# Where a whole model keeps the encoder's tensors.
_NET = "encoder.net."

Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """What rebuilds the encoder that given weights were trained in.

    Attributes:
        mean, std: of the input, for pixel values in [0, 1].
        bn_eps: BatchNorm's epsilon.
        pad_type: timm's padding; ``""`` is symmetric, ``"same"`` is TensorFlow's.
        source: ``imagenet``, ``random`` or the weights file's name.
        sha256: hex digest of the weights file; empty for ``random``.
        width: of the network that is built, one of ``config.WIDTHS``; weights of width 1 are narrowed to it.
    """

    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    bn_eps: float = 1e-5
    pad_type: str = ""
    source: str = "random"
    sha256: str = ""
    width: float = 1.0

    @property
    def architecture(self) -> str:
        """timm's name of the network."""
        return f"mobilenetv2_{round(100 * self.width):03d}"

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EncoderSpec:
        """The inverse of ``to_json``, lists read as tuples."""
        return cls(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; without the width where it is 1, as it was before there were others."""
        values = asdict(self)
        if self.width == 1:
            del values["width"]
        return values


@dataclass(frozen=True, slots=True, eq=False)
class EncoderWeights:
    """A spec and the tensors that go with it; no tensors for ``random``."""

    spec: EncoderSpec
    state: Mapping[str, torch.Tensor] | None


def load_encoder_weights(source: str) -> EncoderWeights:
    """Loads encoder weights.

    Args:
        source: ``imagenet`` (timm's download), ``random``, ``lesionseg`` (that of the default model that ships), the
            name or folder of another such model, or a safetensors file with the tensors of timm's ``mobilenetv2_100``
            at ``num_classes=0``; its metadata may hold ``input_mean``, ``input_std`` (three numbers with commas),
            ``bn_eps`` and ``pad_type``.

    Raises:
        WeightsError: the download fails, or the file is missing, damaged or of another network.
    """
    if source == "random":
        return EncoderWeights(EncoderSpec(), None)
    if source == "imagenet":
        return _download()
    bundle = default_bundle() if source == _OURS else find_bundle(source)
    return _from_file(as_path(source)) if bundle is None else _from_bundle(bundle)


def _from_bundle(folder: Path) -> EncoderWeights:
    """The encoder of a whole trained model; layers that its decoder has no use for are missing."""
    try:
        bundle = open_bundle(folder)
        tensors = safetensors.torch.load(bundle.read(WEIGHTS))
        spec = EncoderSpec.from_json(bundle.facts["spec"]["encoder"])
    except RunError as error:
        raise WeightsError(f"encoder weights: {error.message}", fix=error.fix) from error
    except (SafetensorError, KeyError, TypeError) as error:
        raise WeightsError(f"encoder weights: {folder} is damaged: {error}", fix="copy it again") from error
    state = {name.removeprefix(_NET): value for name, value in tensors.items() if name.startswith(_NET)}
    return EncoderWeights(replace(spec, source=bundle.name, sha256=bundle.digest(WEIGHTS)), widened(state))


def widened(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same with every float16 tensor in float32."""
    return {name: value.float() if value.dtype == torch.float16 else value for name, value in tensors.items()}


def _download() -> EncoderWeights:
    import timm
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    cfg = timm.get_pretrained_cfg(ARCHITECTURE)
    place = {"repo_id": cfg.hf_hub_id, "filename": "model.safetensors"}
    try:
        try:
            path = hf_hub_download(**place, local_files_only=True)
        except LocalEntryNotFoundError:
            # The hub's client would retry for a minute before it tells that there is no network.
            socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, 443)
            path = hf_hub_download(**place)
    except (OSError, LocalEntryNotFoundError, HfHubHTTPError) as error:
        raise WeightsError(
            "the ImageNet weights are not in the local cache and could not be downloaded",
            problems=[" ".join(str(error).split())[:200]],
            fix="connect to the internet; or set model.encoder_weights to a safetensors file with the weights of "
            f"timm's {ARCHITECTURE} (on a connected machine: timm.create_model({ARCHITECTURE!r}, pretrained=True, "
            "num_classes=0), then safetensors.torch.save_model); or set it to 'lesionseg', the encoder of the model "
            "that ships; or set it to 'random'",
        ) from error
    weights = _from_file(Path(path))
    spec = replace(weights.spec, mean=_triple(cfg.mean), std=_triple(cfg.std), source="imagenet")
    state = {name: value for name, value in (weights.state or {}).items() if not name.startswith("classifier.")}
    return EncoderWeights(spec, state)


def _from_file(path: Path) -> EncoderWeights:
    fix = (
        "pass a safetensors file with the weights of timm's mobilenetv2_100 (num_classes=0), 'imagenet', 'lesionseg' "
        "or 'random'"
    )
    if not is_file(path):
        raise WeightsError(f"encoder weights: {path} is not a file", fix=fix)
    data = read_regular(path, limit=MAX_MODEL_BYTES, error=WeightsError, fix=fix)
    try:
        with safe_open(str(path), framework="pt") as file:
            meta = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"encoder weights: {path} is no intact safetensors file: {error}", fix=fix) from error
    try:
        spec = EncoderSpec(
            mean=_triple(meta["input_mean"].split(",")) if "input_mean" in meta else IMAGENET_MEAN,
            std=_triple(meta["input_std"].split(",")) if "input_std" in meta else IMAGENET_STD,
            bn_eps=_positive(meta.get("bn_eps", "1e-5")),
            pad_type=_padding(meta.get("pad_type", "")),
            source=path.name,
            sha256=hashlib.sha256(data).hexdigest(),
        )
    except ValueError as error:
        raise WeightsError(f"encoder weights: the metadata of {path} is wrong: {error}", fix=fix) from error
    return EncoderWeights(spec, state)


def _triple(values: Any) -> Triple:
    numbers = tuple(float(value) for value in values)
    if len(numbers) != 3 or not all(map(math.isfinite, numbers)):
        raise ValueError(f"expected three finite numbers, one a channel, got {numbers}")
    return numbers


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise ValueError(f"expected a positive number, got {text!r}")
    return number


def _padding(text: str) -> str:
    if text not in ("", "same"):
        raise ValueError(f"there is no padding {text!r}")
    return text
