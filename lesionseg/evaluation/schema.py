"""What the JSON files of a run and of its evaluations have to hold, checked before any of it is used."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from lesionseg.io.schema import Count, Fraction, Record

__all__ = ["ClassesInfo", "OutsideInfo", "RunInfo", "SummaryInfo"]


class _Data(Record):
    manifest: str
    root: str | None = None
    classes: dict[str, int | str | list[Any]] | None = None


class _Optim(Record):
    loss: str
    encoder_lr: float
    decoder_lr: float


class _Loop(Record):
    epochs: Count


class _Config(Record):
    data: _Data
    optim: _Optim
    loop: _Loop
    model: dict[str, Any] = Field(default_factory=dict)


class _Parameters(Record):
    encoder: Count
    decoder: Count
    total: Count
    trainable: Count
    non_trainable: Count


class _Weights(Record):
    source: str
    sha256: str


class _Manifest(Record):
    name: str
    sha256: str


class RunInfo(Record):
    """``run.json`` of a training."""

    name: str
    created: str
    status: str
    config: _Config
    parameters: _Parameters
    encoder_weights: _Weights
    manifest: _Manifest
    versions: dict[str, Any]
    hardware: dict[str, Any]


class OutsideInfo(Record):
    """``run.json`` of the predictions of another tool, which come without a training."""

    name: str
    created: str
    predictions: str
    masks: str | None = None
    images: str | None = None
    manifest: str | None = None
    root: str | None = None


class SummaryInfo(Record):
    """``summary.json`` of an evaluation."""

    run: str
    split: str
    checkpoint: str
    model_sha256: str
    manifest_sha256: str
    empty_mask_policy: str
    n: Count
    threshold: float
    means: dict[str, Any]
    sources: dict[str, str | None] = Field(default_factory=dict)
    size: Literal["own"] | Annotated[list[Count], Field(min_length=2, max_length=2)] = "own"
    probabilities: bool = True
    files_sha256: str = ""
    masks_sha256: str = ""


class ClassesInfo(Record):
    """``classes.json`` of an evaluation of several classes."""

    pixel_accuracy: Fraction
    mean_iou: Fraction
    names: list[str]
    size: Annotated[list[Count], Field(min_length=2, max_length=2)]
    iou: dict[str, float | None]
    model_sha256: str
    n: Count
