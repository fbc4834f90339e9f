"""Checkpoints: safetensors for tensors, JSON for the rest; written as a whole or not at all, and verified when read.

``checkpoints/epoch-0007.json`` is written last and holds the SHA-256 of the two tensor files beside it, so a checkpoint
exists only once it is complete. ``best.json`` names the best one. There is no pickle anywhere. Where the checkpoints
are kept elsewhere, ``checkpoints.json`` in the run folder says where.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from pydantic import ConfigDict, Field
from safetensors import SafetensorError

from lesionseg.errors import RunError
from lesionseg.io.reading import MAX_MODEL_BYTES, read_regular
from lesionseg.io.schema import Count, Digest, Record, require
from lesionseg.io.writing import write_atomic
from lesionseg.models import ModelSpec, SegmentationModel, build_model
from lesionseg.records import Checkpoint
from lesionseg.shipped_models.schema import SpecRecord
from lesionseg.training.places import (
    FOLDER,
    best_checkpoint,
    best_name,
    checkpoint_files,
    checkpoint_folder,
    chosen_folder,
    latest_checkpoint,
    place_checkpoints,
    read_header,
    weights_file,
)

__all__ = [
    "FOLDER",
    "best_checkpoint",
    "build_from",
    "checkpoint_files",
    "checkpoint_folder",
    "chosen_folder",
    "latest_checkpoint",
    "load_checkpoint",
    "load_model",
    "optimizer_tensors",
    "place_checkpoints",
    "restore_optimizer",
    "save_checkpoint",
    "tidy_checkpoints",
]

_FORMAT = 1


class _Digests(Record):
    model: Digest
    optim: Digest


class _Best(Record):
    metric: str
    value: float
    epoch: Count


class _Nothing(Record):
    """Of the time before the first epoch is over."""

    model_config = ConfigDict(extra="forbid")


class _Partial(Record):
    """Sums of an epoch that is under way."""

    loss_sum: float
    images: float
    seconds: float


class _Header(Record):
    """A checkpoint's JSON file."""

    config: dict[str, dict[str, Any]]
    model_spec: dict[str, Any]
    sha256: _Digests
    optim_groups: list[dict[str, Any]]
    scaler: dict[str, Any] = Field(default_factory=dict)
    epoch: Count
    step: Count
    best: _Best | _Nothing
    history: list[dict[str, Any]]
    partial: dict[str, float]


class _Resumable(_Header):
    """The same of a checkpoint that a training goes on from."""

    partial: _Partial  # type: ignore[assignment]


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> tuple[dict[str, torch.Tensor], tuple[dict[str, Any], ...]]:
    """A copy of an optimiser's state as named tensors, and its groups as JSON values."""
    state = optimizer.state_dict()
    tensors = {
        f"{index}.{name}": torch.as_tensor(value).clone()
        for index, slot in state["state"].items()
        for name, value in slot.items()
    }
    groups = tuple({k: list(v) if isinstance(v, tuple) else v for k, v in g.items()} for g in state["param_groups"])
    return tensors, groups


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor], groups: Sequence[Mapping[str, Any]]
) -> None:
    """Puts back what ``optimizer_tensors`` took out."""
    slots: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        slots.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": slots, "param_groups": [dict(group) for group in groups]})
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            # Fused optimisers walk memory as it lies, so the slots have to lie as their parameter does.
            if value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter).copy_(value)


def save_checkpoint(checkpoint: Checkpoint, folder: Path, *, is_best: bool, keep: int) -> Path:
    """Writes a checkpoint, and removes those that are neither among the last ``keep`` nor the best.

    Args:
        checkpoint: what to write.
        folder: the run's ``checkpoints`` folder.
        is_best: whether it is the best so far.
        keep: how many of the newest stay.

    Returns:
        its JSON file.

    Raises:
        OutputError: it cannot be written; older checkpoints are left as they are.
    """
    name = _name(checkpoint.epoch, checkpoint.step)
    digests = {}
    for part, tensors in (("model", checkpoint.model_state), ("optim", checkpoint.optim_state)):
        data = safetensors.torch.save({key: value.detach().cpu().contiguous() for key, value in tensors.items()})
        write_atomic(folder / f"{name}.{part}.safetensors", data)
        digests[part] = hashlib.sha256(data).hexdigest()
    header = {
        "format": _FORMAT,
        "epoch": checkpoint.epoch,
        "step": checkpoint.step,
        "best": dict(checkpoint.best),
        "sha256": digests,
        "config": dict(checkpoint.config),
        "model_spec": dict(checkpoint.model_spec),
        "optim_groups": list(checkpoint.optim_groups),
        "scaler": dict(checkpoint.scaler),
        "partial": dict(checkpoint.partial),
        "history": list(checkpoint.history),
    }
    file = folder / f"{name}.json"
    write_atomic(file, json.dumps(header, indent=1).encode())
    if is_best:
        _write_best(folder, name)
    _prune(folder, keep)
    return file


def tidy_checkpoints(run: Path, newest: Checkpoint, *, keep: int) -> None:
    """Finishes what a kill in the middle of ``save_checkpoint`` may have left undone.

    Args:
        run: the run folder.
        newest: the checkpoint that the run goes on from.
        keep: how many of the newest stay.

    Raises:
        OutputError: the folder cannot be written to.
    """
    folder = checkpoint_folder(run)
    best = _name(newest.best["epoch"], 0) if newest.best else ""
    if best and best != best_name(folder) and (folder / f"{best}.json").is_file():
        _write_best(folder, best)
    for place in (run, folder):
        for leftover in place.glob(".part-*"):
            leftover.unlink(missing_ok=True)
    _prune(folder, keep)


def _name(epoch: int, step: int) -> str:
    return f"epoch-{epoch:04d}" + (f"-step-{step:06d}" if step else "")


def _write_best(folder: Path, name: str) -> None:
    write_atomic(folder / "best.json", json.dumps({"checkpoint": name}).encode())


def _prune(folder: Path, keep: int) -> None:
    best = best_name(folder)
    for path in checkpoint_files(folder)[:-keep]:
        if path.stem != best:
            # The JSON goes first: without it the tensors are leftovers, never a broken checkpoint.
            path.unlink(missing_ok=True)
    wanted = {path.stem for path in checkpoint_files(folder)}
    for path in folder.glob("epoch-*.safetensors"):
        if path.name.split(".")[0] not in wanted:
            path.unlink(missing_ok=True)


def load_checkpoint(file: Path, *, with_optimizer: bool = True) -> Checkpoint:
    """Reads a checkpoint and checks its hashes.

    Args:
        file: its JSON file.
        with_optimizer: also read the optimiser's state.

    Raises:
        RunError: a part is missing, damaged or of an unknown format.
    """
    header = read_header(file)
    if header.get("format") != _FORMAT:
        raise RunError(
            f"{file} has the checkpoint format {header.get('format')!r:.50}, not {_FORMAT}", fix="train it again"
        )
    fix = "delete it, and go on from the one before"
    # A model is loaded without what only a resumed training needs.
    require(_Resumable if with_optimizer else _Header, header, file, error=RunError, fix=fix)
    return Checkpoint(
        config=header["config"],
        model_spec=header["model_spec"],
        model_state=_read_tensors(file, "model", header),
        optim_state=_read_tensors(file, "optim", header) if with_optimizer else {},
        optim_groups=tuple(header["optim_groups"]),
        # Checkpoints of earlier versions have none, and need none.
        scaler=header.get("scaler", {}),
        epoch=header["epoch"],
        step=header["step"],
        best=header["best"],
        history=tuple(header["history"]),
        partial=header["partial"],
    )


def _read_tensors(file: Path, part: str, header: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    path = weights_file(file, part)
    fix = "delete this checkpoint, and go on from the one before"
    data = read_regular(path, limit=MAX_MODEL_BYTES, error=RunError, fix=fix)
    if hashlib.sha256(data).hexdigest() != header["sha256"][part]:
        raise RunError(f"{path} is damaged: its SHA-256 is not the one in {file.name}", fix=fix)
    try:
        return safetensors.torch.load(data)
    except SafetensorError as error:
        raise RunError(f"{path} is damaged: {error}", fix=fix) from error


def build_from(checkpoint: Checkpoint, where: Path) -> SegmentationModel:
    """Builds the network that a checkpoint is of, without its weights.

    Args:
        checkpoint: as it was read.
        where: its file or run, for messages.

    Raises:
        RunError: it does not describe a network.
    """
    fix = "train it again"
    require(SpecRecord, checkpoint.model_spec, f"{where}: model_spec", error=RunError, fix=fix)
    try:
        return build_model(ModelSpec.from_json(checkpoint.model_spec))
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise RunError(f"{where}: model_spec describes no network: {reason}", fix=fix) from error


def load_model(run: Path, which: str = "best") -> tuple[SegmentationModel, Checkpoint, str]:
    """Rebuilds a trained model, in eval mode.

    Args:
        run: a run folder.
        which: ``best`` or ``last``.

    Returns:
        the model, its checkpoint (without the optimiser), and the SHA-256 of its weights file.

    Raises:
        RunError: the run has no intact checkpoint.
    """
    file = best_checkpoint(run) if which == "best" else latest_checkpoint(run)
    checkpoint = load_checkpoint(file, with_optimizer=False)
    model = build_from(checkpoint, file)
    try:
        model.load_state_dict(dict(checkpoint.model_state))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise RunError(f"{file} does not fit its own architecture: {reason}", fix="train it again") from error
    digest: str = read_header(file)["sha256"]["model"]
    return model.eval(), checkpoint, digest
