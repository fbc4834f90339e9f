"""Checked structure of JSON files: what a program reads from them is there, of the right type and within bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lesionseg.errors import LesionsegError

__all__ = ["Count", "Digest", "Fraction", "Record", "Triple", "problems_of", "require"]

Count = Annotated[int, Field(ge=0, le=2**53)]
"""A number of things."""
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""A SHA-256 in hexadecimal."""
Fraction = Annotated[float, Field(ge=0, le=1)]
"""A number in [0, 1]."""
Triple = Annotated[list[float], Field(min_length=3, max_length=3)]
"""Three numbers."""

_SHOWN, _LONGEST = 20, 60
_Model = TypeVar("_Model", bound="Record")


class Record(BaseModel):
    """A JSON object with known keys: no text for numbers, no NaN; further keys are passed over."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


def require(model: type[_Model], value: object, where: object, *, error: type[LesionsegError], fix: str) -> _Model:
    """Return a parsed JSON value as a record.

    Args:
        model: what is expected.
        value: the value.
        where: what holds it, for messages; for example the file's path.
        error: the class of the error to raise.
        fix: what to do about it.

    Raises:
        LesionsegError: of class ``error``, listing each key that is missing or wrong.
    """
    try:
        return model.model_validate(value)
    except ValidationError as problem:
        raise error(f"{where} is damaged", problems=_explain(problem), fix=fix) from problem


def problems_of(model: type[Record], value: object) -> list[str]:
    """Return a line for each key that is missing or wrong."""
    try:
        model.model_validate(value)
    except ValidationError as problem:
        return _explain(problem)
    return []


def _explain(problem: ValidationError) -> list[str]:
    errors = problem.errors(include_url=False)
    lines = [_line(error) for error in errors[:_SHOWN]]
    return [*lines, f"and {len(errors) - _SHOWN} more"] if len(errors) > _SHOWN else lines


def _line(error: Mapping[str, Any]) -> str:
    key = ".".join(map(str, error["loc"])) or "the whole"
    if error["type"] == "missing":
        return f"{key}: missing"
    text = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] in ("model_type", "dict_type"):
        text = "should be a JSON object"
    return f"{key}: {text[:1].lower()}{text[1:]} (got {_shortened(error['input'])})"


def _shortened(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:
        # Python does not write integers of more than 4300 digits.
        text = "a very large number"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
