"""Trained models that come with the package, and how every command finds the model that it is told to use.

A model's folder, a bundle, holds ``model.json`` (what it is, how it was trained and how it scored, and the SHA-256 of
every other file), ``model.safetensors`` (the weights, for torch) and ``model-int8.onnx`` (what ``predict`` runs,
without torch). ``lesionseg export RUN --format bundle`` makes one; the folders beside this file ship.
"""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lesionseg.errors import RunError
from lesionseg.io.paths import expand_home
from lesionseg.io.reading import MAX_MODEL_BYTES, read_json, read_regular

__all__ = [
    "DEFAULT",
    "FACTS",
    "INT8",
    "SCORES_OF",
    "VERSION",
    "WEIGHTS",
    "Bundle",
    "default_bundle",
    "describe",
    "find_bundle",
    "find_model",
    "is_bundle",
    "is_run",
    "open_bundle",
    "shipped_models",
]

DEFAULT = "lesionseg-base"
"""The model that is used where none is named."""

FACTS, WEIGHTS, INT8 = "model.json", "model.safetensors", "model-int8.onnx"
"""The files of a bundle."""

SCORES_OF = "scores_of"
"""Key of a ``run.json`` that stands beside the scores of a bundle: which one's they are."""

VERSION = 1
"""Of ``model.json``."""

_FOLDER = Path(__file__).parent
_EXPORTED = (".onnx", ".xml")


@dataclass(frozen=True, slots=True)
class Bundle:
    """A model's folder.

    Attributes:
        folder: where it is.
        facts: ``model.json``.
    """

    folder: Path
    facts: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The model's."""
        return str(self.facts["name"])

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the input, in pixels."""
        height, width = self.facts["image_size"]
        return height, width

    def digest(self, file: str) -> str:
        """The SHA-256 that a file has to have."""
        return str(self.facts["files"][file]["sha256"])

    def read(self, file: str) -> bytes:
        """The bytes of one of its files.

        Raises:
            RunError: it is missing, or not what it was when the bundle was made.
        """
        path = self.folder / file
        data = read_regular(path, limit=MAX_MODEL_BYTES, error=RunError, fix=_renew(self.folder))
        if hashlib.sha256(data).hexdigest() != self.digest(file):
            raise RunError(f"{path} is damaged: its SHA-256 is not the one in {FACTS}", fix=_renew(self.folder))
        return data


def _renew(folder: Path) -> str:
    if folder.parent == _FOLDER:
        return "install lesionseg again: pip install --force-reinstall"
    return "copy the folder again, or make it again with 'lesionseg export RUN --format bundle'"


def shipped_models() -> list[str]:
    """The names of the models that ship, the default first."""
    found = sorted(path.parent.name for path in _FOLDER.glob(f"*/{FACTS}"))
    return sorted(found, key=lambda name: name != DEFAULT)


def is_bundle(folder: Path) -> bool:
    """Whether a folder is a bundle."""
    # Unlike Path.is_file, this is False for what is too long to be a path.
    return os.path.isfile(folder / FACTS)  # noqa: PTH113


def is_run(path: Path) -> bool:
    """Whether a path is a training's run folder, and neither a bundle nor an exported file."""
    return path.is_dir() and not is_bundle(path)


def open_bundle(folder: Path) -> Bundle:
    """Reads what a bundle says of itself; the other files are checked when they are read.

    Raises:
        RunError: ``model.json`` is missing, damaged or of another version.
    """
    # The command line imports this module and must start without pydantic.
    from lesionseg.io.schema import require
    from lesionseg.shipped_models.schema import BundleFacts

    path, fix = folder / FACTS, _renew(folder)
    facts: Any = read_json(path, error=RunError, fix=fix, repair=fix)
    if not isinstance(facts, dict) or facts.get("lesionseg_model") != VERSION:
        raise RunError(f"{path} is no model of this version of lesionseg", fix=fix)
    require(BundleFacts, facts, path, error=RunError, fix=fix)
    return Bundle(folder, facts)


def describe(name: str | Path | None = None) -> list[dict[str, Any]]:
    """``model.json`` of the models that ship, the default first.

    Args:
        name: one of them, or a bundle's folder; None takes all.

    Raises:
        RunError: there is no such model, or it is damaged.
    """
    places = [find_model(one) for one in (shipped_models() if name is None else [name])]
    if others := [place for place in places if not is_bundle(place)]:
        fix = "name a model that ships, or make a bundle: lesionseg export RUN --format bundle"
        raise RunError(f"{others[0]} is no bundle", fix=fix)
    return [dict(open_bundle(place).facts) for place in places]


def find_bundle(source: str | Path) -> Path | None:
    """The bundle that a shipped name, or a bundle's own path, stands for; None where it stands for something else.

    A run or bundle in the working folder goes before a shipped one of its name.
    """
    path = Path(expand_home(str(source)))
    if is_bundle(path):
        return path
    name = str(source)
    # A folder of its scores stands for the model itself.
    if name not in shipped_models() or ((path / "run.json").is_file() and _scored(path) != name):
        return None
    return _FOLDER / name


def default_bundle() -> Path:
    """The folder of the default model that ships, whatever the working folder holds."""
    return _FOLDER / DEFAULT


def find_model(source: str | Path) -> Path:
    """What every command takes for a model: a run folder, an exported file or a bundle.

    Args:
        source: the path of one of them, the name of a model that ships, or the folder of a bundle's scores.

    Returns:
        its path. An exported file need not exist: who opens it tells so.

    Raises:
        RunError: there is nothing of this name; lists the models that ship.
    """
    found = find_bundle(source)
    if found is not None:
        return found
    path = Path(expand_home(str(source)))
    if path.suffix in _EXPORTED or os.path.exists(path):  # noqa: PTH110 - as above
        scored = _scored(path)
        return path if scored is None else _model_of_scores(path, scored)
    ships = shipped_models()
    near = difflib.get_close_matches(path.name, ships, n=1, cutoff=0.5)
    raise RunError(
        f"there is no model {str(source)!r}" + (f"; did you mean {near[0]}?" if near else ""),
        fix="name a run folder, an exported .onnx or .xml file, or a model that ships with lesionseg "
        f"({', '.join(ships) or 'this copy has none'})",
    )


def _model_of_scores(folder: Path, scored: object) -> Path:
    # A name, a bundle or an exported file, and never another folder of scores: there is no chain to follow.
    found = find_bundle(scored) if isinstance(scored, str) else None
    if found is None and isinstance(scored, str) and Path(scored).suffix in _EXPORTED:
        found = Path(scored)
    if found is None:
        raise RunError(
            f"{folder / 'run.json'}: {SCORES_OF} names no model: {scored!r:.80}",
            fix="name the model itself",
        )
    return found


def _scored(folder: Path) -> object:
    """Whose scores a folder holds, as its ``run.json`` says; None where it does not."""
    try:
        info = read_json(folder / "run.json", error=RunError)
    except RunError:
        # Whoever opens the run reports it.
        return None
    return info.get(SCORES_OF) if isinstance(info, dict) else None
