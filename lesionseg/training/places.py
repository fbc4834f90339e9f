"""Where a run's checkpoints lie, which is the best, and whose weights it holds; needs no torch."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from lesionseg.errors import RunError
from lesionseg.io.reading import MAX_MODEL_BYTES, read_json, read_regular
from lesionseg.io.writing import write_atomic
from lesionseg.shipped_models import SCORES_OF

__all__ = [
    "FOLDER",
    "best_checkpoint",
    "best_name",
    "checkpoint_files",
    "checkpoint_folder",
    "chosen_folder",
    "latest_checkpoint",
    "place_checkpoints",
    "read_header",
    "require_unused",
    "weights_digest",
    "weights_file",
]

FOLDER = "checkpoints"
_BEFORE = "delete it, and go on from the one before"
_POINTER = "checkpoints.json"
_ELSEWHERE = "choose another --name (of checkpoints: another loop.checkpoints), or move the files"
_SHOWN = 10
_STEM = re.compile(r"epoch-(\d+)(?:-step-(\d+))?\.json")


def place_checkpoints(run: Path, chosen: str | None) -> None:
    """Notes where a new run's checkpoints go, for ``checkpoint_folder``.

    Raises:
        OutputError: the run folder cannot be written to.
    """
    if chosen is None:
        (run / _POINTER).unlink(missing_ok=True)
    else:
        write_atomic(run / _POINTER, json.dumps({"folder": str(chosen_folder(run, chosen))}).encode())


def chosen_folder(run: Path, chosen: str | None) -> Path:
    """Where a new run's checkpoints go: its own folder, or one of its name in the chosen one."""
    return run / FOLDER if chosen is None else (Path(chosen) / run.name).absolute()


def checkpoint_folder(run: Path) -> Path:
    """The folder of a run's checkpoints.

    Raises:
        RunError: ``checkpoints.json`` is damaged.
    """
    _require_access(run)
    pointer = run / _POINTER
    if not pointer.is_file():
        return run / FOLDER
    folder = read_header(pointer).get("folder")
    if not isinstance(folder, str):
        raise RunError(f"{pointer} names no folder", fix='write {"folder": "..."} with that of the checkpoints into it')
    return Path(folder)


def _require_access(folder: Path) -> None:
    """Make sure that a folder, where there is one, can be listed: an unreadable one must not be taken for empty."""
    try:
        next(folder.iterdir(), None)
    except PermissionError as error:
        raise RunError(
            f"{folder} cannot be read: {error.strerror}", fix="give this user read and execute permission for it"
        ) from error
    except OSError:
        return
    if not os.access(folder, os.X_OK):
        raise RunError(
            f"the files in {folder} cannot be read: permission denied", fix="give this user execute permission for it"
        )


def checkpoint_files(folder: Path) -> list[Path]:
    """The checkpoints' JSON files, oldest first.

    Raises:
        RunError: the folder cannot be read.
    """
    _require_access(folder)
    found = []
    for path in folder.glob("epoch-*.json"):
        match = _STEM.fullmatch(path.name)
        if match:
            found.append((int(match[1]), int(match[2] or 0), path))
    return [path for _, _, path in sorted(found)]


def best_name(folder: Path) -> str:
    """The name of the best checkpoint, empty where none is known as the best."""
    _require_access(folder)
    file = folder / "best.json"
    if not file.is_file():
        return ""
    name = read_header(file).get("checkpoint")
    if not isinstance(name, str):
        raise RunError(f"{file} names no checkpoint", fix="delete it; the newest checkpoint is used then")
    return name


def require_unused(run: Path, chosen: str | None) -> Path:
    """Make sure that a new training may begin in a run folder, and return the folder of its checkpoints.

    Args:
        run: the run folder.
        chosen: the setting ``loop.checkpoints``.

    Raises:
        RunError: a folder holds a run already, or files that are not of a training of lesionseg.
    """
    checkpoints = chosen_folder(run, chosen)
    # A name that is too long, or a folder that cannot be entered, shows here.
    _files_in(run)
    files = _files_in(checkpoints)
    if os.path.lexists(run):
        _require_training(run)
    for folder in (checkpoint_folder(run), checkpoints):
        if checkpoint_files(folder):
            raise RunError(
                f"{folder.parent if folder.name == FOLDER else folder} holds a run already",
                fix="go on with --resume, choose another --name, or delete the folder",
            )
    if checkpoints.parent != run and files:
        raise RunError(f"{checkpoints} holds files of something else", problems=files, fix=_ELSEWHERE)
    return checkpoints


def _require_training(run: Path) -> None:
    """Make sure that a folder is empty, or the run folder of a training that was ended early."""
    files = _files_in(run)
    if not files:
        return
    info = read_header(run / "run.json") if (run / "run.json").is_file() else {}
    if info.get(SCORES_OF) or "predictions" in info:
        raise RunError(f"{run} holds scores, and is not the run of a training", fix=_ELSEWHERE)
    if not {"config", "manifest", "versions"} <= info.keys():
        raise RunError(f"{run} holds files of something else", problems=files, fix=_ELSEWHERE)


def _files_in(folder: Path) -> list[str]:
    """What a folder holds; hidden files do not count, which locks and systems leave behind."""
    try:
        names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(f"{folder} cannot be listed: {error.strerror}", fix=_ELSEWHERE) from error
    return names if len(names) <= _SHOWN else [*names[:_SHOWN], f"and {len(names) - _SHOWN} more"]


def latest_checkpoint(run: Path) -> Path:
    """The newest checkpoint of a run folder.

    Raises:
        RunError: there is none.
    """
    files = checkpoint_files(checkpoint_folder(run))
    if not files and run.is_file():
        raise RunError(f"{run} has no weights to start from: it is a file", fix="name the run folder that it is of")
    if not files:
        raise RunError(f"{run} holds no checkpoint", fix="check the run's name, or train it first")
    return files[-1]


def best_checkpoint(run: Path) -> Path:
    """The best checkpoint's JSON file, or the newest one's where none is known as the best.

    Raises:
        RunError: there is none.
    """
    folder = checkpoint_folder(run)
    name = best_name(folder)
    return folder / f"{name}.json" if name else latest_checkpoint(run)


def read_header(file: Path) -> dict[str, Any]:
    """What a checkpoint's JSON file, or one of those beside it, says.

    Raises:
        RunError: it is missing or damaged.
    """
    content = read_json(file, error=RunError, fix="check the run's name, or train it first", repair=_BEFORE)
    if not isinstance(content, dict):
        raise RunError(f"{file} is damaged: no JSON object", fix=_BEFORE)
    return content


def weights_file(file: Path, part: str = "model") -> Path:
    """The tensors beside a checkpoint's JSON file: of the ``model``, or of the optimiser, ``optim``."""
    return file.with_name(f"{file.stem}.{part}.safetensors")


def _weights(file: Path) -> bytes:
    return read_regular(weights_file(file), limit=MAX_MODEL_BYTES, error=RunError)


def weights_digest(run: Path) -> str:
    """SHA-256 of the weights that ``load_model`` would load, empty where it would refuse them."""
    try:
        file = best_checkpoint(run)
        known = str(read_header(file)["sha256"]["model"])
        found = hashlib.sha256(_weights(file)).hexdigest()
    except (RunError, KeyError, TypeError):
        return ""
    return known if found == known else ""
