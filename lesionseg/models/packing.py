"""A model's weights as one file, and back: float16 where rounding costs nothing."""

from __future__ import annotations

import safetensors.torch
from safetensors import SafetensorError

from lesionseg.errors import RunError
from lesionseg.models import ModelSpec, SegmentationModel, build_model
from lesionseg.models.weights import widened
from lesionseg.shipped_models import WEIGHTS, Bundle

__all__ = ["pack", "restore", "unpack"]


def pack(model: SegmentationModel) -> bytes:
    """A safetensors file of a model: the kernels of its convolutions in float16, norms and biases as they are.

    Half the size; norms are 1 % of the numbers, and a running variance may be too large or too small for float16.
    """
    kernels = {name for name, value in model.named_parameters() if value.ndim > 1}
    state = model.state_dict()
    halved = {name: value.half() if name in kernels else value for name, value in state.items()}
    data: bytes = safetensors.torch.save({name: value.detach().cpu().contiguous() for name, value in halved.items()})
    return data


def restore(data: bytes, spec: ModelSpec) -> SegmentationModel:
    """The inverse of ``pack``: a model in float32 and in eval mode."""
    model = build_model(spec)
    model.load_state_dict(widened(safetensors.torch.load(data)))
    return model.eval()


def unpack(bundle: Bundle) -> SegmentationModel:
    """The model of a bundle, as ``restore`` gives it.

    Raises:
        RunError: its weights are missing, damaged or of another architecture.
    """
    data = bundle.read(WEIGHTS)
    try:
        return restore(data, ModelSpec.from_json(bundle.facts["spec"]))
    except (SafetensorError, RuntimeError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise RunError(
            f"{bundle.folder}: its weights do not fit its model.json: {reason}", fix="copy it again"
        ) from error
