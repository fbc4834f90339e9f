"""What ``model.json`` of a bundle has to hold, checked before any of it is used."""

from __future__ import annotations

from pathlib import PureWindowsPath
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from lesionseg.config import STRIDE, DataConfig
from lesionseg.io.schema import Count, Digest, Fraction, Record, Triple

__all__ = ["BundleFacts", "LabelsRecord", "QualityRecord", "Side", "SpecRecord"]

Side = Annotated[int, Field(ge=STRIDE, le=2**14, multiple_of=STRIDE)]
"""Of a model's input, in pixels."""

_Positive = Annotated[float, Field(gt=0)]
_Score = Triple
"""A mean and the ends of its interval."""


class _Exact(Record):
    """Becomes the arguments of a class, which takes no others."""

    model_config = ConfigDict(extra="forbid")


class _EncoderRecord(_Exact):
    mean: Triple
    std: Annotated[list[_Positive], Field(min_length=3, max_length=3)]
    bn_eps: _Positive
    pad_type: Literal["", "same"]
    source: str
    sha256: str
    width: _Positive = 1.0


class SpecRecord(_Exact):
    """``models.ModelSpec`` as JSON."""

    name: str
    dropout: Annotated[float, Field(ge=0, lt=1)]
    classes: Annotated[int, Field(ge=1, le=256)]
    encoder: _EncoderRecord
    rates: list[Annotated[int, Field(ge=1, le=2**10)]] = Field(default_factory=list)
    decoder_width: Annotated[float, Field(gt=0, le=4)] = 1.0


class LabelsRecord(_Exact):
    """``data.labels.Labels`` as JSON."""

    names: list[str]
    classes: dict[str, int | str | list[Any]] | None
    band: _Positive | None

    @model_validator(mode="after")
    def _agree(self) -> LabelsRecord:
        known = DataConfig(manifest="-", classes=self.classes, trimap=self.band).class_names
        if tuple(self.names) != known:
            raise ValueError(f"the names are not those of the classes, {', '.join(known)}")
        return self


class QualityRecord(Record):
    """``inference.quality.Quality`` as JSON."""

    certainties: list[Fraction]
    dice: list[Fraction]
    review_below: Fraction
    photos: Count

    @model_validator(mode="after")
    def _rising(self) -> QualityRecord:
        lines = (self.certainties, self.dice)
        if len(self.certainties) < 2 or len(self.certainties) != len(self.dice):
            raise ValueError("certainties and dice must be of one length, at least 2")
        if any(line != sorted(line) for line in lines):
            raise ValueError("certainties and dice must rise")
        return self


class _Cost(Record):
    parameters: Count
    macs: Count


class _Origin(Record):
    source: str
    sha256: str


class _Optim(Record):
    loss: str
    name: str = ""
    encoder_lr: float
    decoder_lr: float


class _Loop(Record):
    epochs: Count


class _Config(Record):
    optim: _Optim
    loop: _Loop


class _Training(Record):
    run: str
    created: str
    manifest: str
    manifest_sha256: str
    photos: Count
    validation: Count
    qat_epochs: Count
    config: _Config


class _Subgroup(Record):
    attribute: str
    subgroup: str
    n: Count
    few: bool
    dice: float
    low: float
    high: float


class _Scores(Record):
    split: str
    photos: Count
    threshold: Fraction
    means: Annotated[dict[str, dict[str, _Score]], Field(min_length=1)]
    subgroups: list[_Subgroup]

    @field_validator("means")
    @classmethod
    def _alike(cls, means: dict[str, dict[str, _Score]]) -> dict[str, dict[str, _Score]]:
        names = [set(form) for form in means.values()]
        if any(found != names[0] for found in names) or not {"dice", "iou"} <= names[0]:
            raise ValueError("each form needs the same measures, dice and iou among them")
        return means


class _Row(Record):
    dice: float
    jaccard: float
    difference: float
    low: float
    high: float


class _Option(_Row):
    option: str
    ms: float


class _Change(_Row):
    change: str


class _Failure(Record):
    kind: str
    photos: Count
    mean: float
    bad: float
    dice: float


class _Failures(Record):
    cases: list[_Failure]
    limit: float
    searched: Count
    seed: int
    mean: float
    picture: str


class _Speed(Record):
    ms: float
    cpu: str


class _Measured(Record):
    of: str = Field(alias="model-int8.onnx")
    photos: Count
    split: str
    speed: _Speed
    options: list[_Option]
    changes: list[_Change]
    failures: _Failures


class _File(Record):
    sha256: Digest
    bytes: Count


class _Files(Record):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, _File]

    weights: _File = Field(alias="model.safetensors")
    int8: _File = Field(alias="model-int8.onnx")


class BundleFacts(Record):
    """``model.json``."""

    name: str
    checkpoint: str
    spec: SpecRecord
    image_size: Annotated[list[Side], Field(min_length=2, max_length=2)]
    labels: LabelsRecord
    threshold: Fraction
    weights_sha256: str
    cost: _Cost
    encoder: _Origin
    training: _Training
    quality: QualityRecord | None
    scores: _Scores | None
    checked: str
    about: dict[str, Any]
    files: _Files
    measured: _Measured | None = None

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        # It becomes the name of files and folders.
        if name != PureWindowsPath(name).name or name in ("", ".", "..") or not name.isprintable():
            raise ValueError("not a plain name")
        return name
