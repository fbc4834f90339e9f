"""What an export is asked for, checked without torch, which takes seconds to load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lesionseg.config import LARGEST_SIDE, STRIDE
from lesionseg.errors import ConfigError
from lesionseg.export.model_card import ABOUT
from lesionseg.io.reading import read_yaml
from lesionseg.shipped_models import INT8, is_bundle
from lesionseg.training.places import best_checkpoint, read_header

__all__ = ["BY_MASKS", "KINDS", "Kind", "Request", "read_about", "require_trained"]

BY_MASKS = ("int8", "dynamic")
"""Precisions that are judged by their masks."""

_MOST_EPOCHS = 1_000_000


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of file.

    Attributes:
        suffix: of the file that is named.
        precisions: that it comes in.
        beside: suffixes of the files that belong to it.
    """

    suffix: str
    precisions: tuple[str, ...]
    beside: tuple[str, ...] = ()


KINDS: Mapping[str, Kind] = {
    "onnx": Kind(".onnx", ("float32", "float16", "int8", "dynamic")),
    "openvino": Kind(".xml", ("float32", "float16", "int8"), (".bin",)),
    "torch-export": Kind(".pt2", ("float32",)),
    "executorch": Kind(".pte", ("float32",), (".json",)),
}
"""Name of a format -> its kind of file."""


@dataclass(frozen=True, slots=True)
class Request:
    """The arguments of an export into one file; see ``lesionseg.export.publish.export_run``."""

    form: str = "onnx"
    precision: str = "float32"
    size: tuple[int, int] | None = None
    max_drop: float = 0.5
    qat: int = 0

    def check(self, run: Path, output: Path | None) -> None:
        """Make sure that the arguments exist and go together.

        Args:
            run: a run folder or a bundle.
            output: the file, if it is named.

        Raises:
            ConfigError: they do not.
            RunError: the run has no checkpoint.
        """
        self._check_file()
        self._check_numbers()
        if is_bundle(run) and self.precision in BY_MASKS:
            raise ConfigError(
                f"{run.name} does not bring the photos that {self.precision} is made with",
                fix=f"use {run / INT8}, which is int8; or export float32 or float16",
            )
        suffix = KINDS[self.form].suffix
        if output is not None and output.suffix != suffix:
            raise ConfigError(f"{output} would not be known as {self.form}", fix=f"let the name end with {suffix}")
        require_trained(run)

    def _check_file(self) -> None:
        if self.form not in KINDS:
            raise ConfigError(f"there is no format {self.form!r}", fix=f"use one of: {', '.join(KINDS)}")
        if self.precision not in KINDS[self.form].precisions:
            offered = ", ".join(KINDS[self.form].precisions)
            raise ConfigError(
                f"{self.form} files are not made in the precision {self.precision!r}", fix=f"use one of: {offered}"
            )

    def _check_numbers(self) -> None:
        size = self.size
        if size is not None and (min(size) < STRIDE or max(size) > LARGEST_SIDE or any(side % STRIDE for side in size)):
            raise ConfigError(
                f"the input cannot be {size[0]} x {size[1]}", fix=f"use multiples of {STRIDE} up to {LARGEST_SIDE}"
            )
        if not self.max_drop >= 0:
            raise ConfigError(f"max_drop is {self.max_drop}", fix="use 0 or more Dice points")
        if not 0 <= self.qat <= _MOST_EPOCHS:
            raise ConfigError(f"the number of epochs is {self.qat}", fix=f"use 0 to {_MOST_EPOCHS}")
        if self.qat and self.precision != "int8":
            raise ConfigError(f"{self.precision} is not trained for", fix="use --qat with --precision int8")


def require_trained(run: Path) -> None:
    """Make sure that a model has weights to export.

    Raises:
        RunError: a run has no readable checkpoint.
    """
    if not is_bundle(run):
        read_header(best_checkpoint(run))


def read_about(path: Path | None) -> dict[str, Any]:
    """What a person says of a model, for its card: YAML with keys of ``model_card.ABOUT``.

    Raises:
        ConfigError: it cannot be read, or holds other keys.
    """
    if path is None:
        return {}
    found = read_yaml(path, error=ConfigError, fix="pass a YAML file")
    keys = [str(key) for key in (found if isinstance(found, dict) else [found])]
    if strange := [key for key in keys if key not in ABOUT]:
        known = ", ".join(ABOUT)
        raise ConfigError(f"{path} tells of what no card has", problems=strange, fix=f"use these keys: {known}")
    return dict(found)
