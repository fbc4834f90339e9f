"""The page and a model together: everything that a web server hands out, as files by their path."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from lesionseg import RESEARCH_USE, __version__
from lesionseg.app.building import VERSION_FILE, find_page
from lesionseg.errors import ConfigError, OutputError, RunError
from lesionseg.inference.exported import INPUT
from lesionseg.inference.onnx_predictor import OnnxPredictor
from lesionseg.inference.plausibility import plausibility_table
from lesionseg.io.ownership import RECORD, check_outputs, write_output
from lesionseg.io.reading import MAX_MODEL_BYTES, read_regular
from lesionseg.records import THRESHOLD, RgbImage
from lesionseg.shipped_models import DEFAULT, INT8, find_model, is_bundle, is_run, open_bundle, shipped_models

__all__ = ["Site", "check_photo", "default_model", "find_file", "make_site", "require_site_folder", "write_site"]

Site = Mapping[str, bytes]
"""Path below the root, without a leading slash -> bytes; ``index.html`` is the root's."""

_BLOCK = 16
_MARK = "lesionseg-app.txt"
_LIGHT = "lesionseg-lite"
_WORKER = "sw.js"
_ELSEWHERE = "name another --build folder"


def default_model() -> str:
    """The name of the model that a page has where none is named: the lightest that ships, since phones fetch it."""
    return _LIGHT if _LIGHT in shipped_models() else DEFAULT


def find_file(source: str) -> Path:
    """An exported model by its path, by the name of a model that ships, or by the run folder that it was exported from.

    Raises:
        ConfigError: a run has no exported model, or several.
        RunError: there is no such model, or it is damaged.
    """
    folder = find_model(source)
    if is_bundle(folder):
        open_bundle(folder).read(INT8)
        return folder / INT8
    if not is_run(folder):
        return folder
    found = sorted(folder.glob("*.onnx")) or sorted(folder.glob("export/*.onnx"))
    if not found:
        fix = f"'lesionseg export {source} --precision int8', then 'lesionseg app --model FILE.onnx'"
        raise ConfigError(f"{source} holds no exported model", fix=fix)
    if len(found) > 1:
        raise ConfigError(f"{source} holds several models", problems=map(str, found), fix="name one of them")
    return found[0]


def make_site(model: Path, page: Path | None = None) -> Site:
    """All files of the page for one model.

    Args:
        model: a file that ``lesionseg export`` wrote.
        page: a built page; None finds it, or builds it.

    Raises:
        LesionsegError: the model is damaged or of another program, or there is no page.
    """
    data = read_regular(model, limit=MAX_MODEL_BYTES, error=RunError)
    predictor = OnnxPredictor(data, model, threads=1)
    folder = page or find_page()
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    files.pop(VERSION_FILE, None)
    files["model.onnx"] = data
    files["model.json"] = json.dumps(_describe(predictor, len(files["model.onnx"])), indent=1).encode()
    # The service worker knows every file by its digest, so a changed file is a changed script, which browsers notice.
    digests = {path: hashlib.sha256(data).hexdigest()[:16] for path, data in sorted(files.items()) if path != _WORKER}
    files[_WORKER] = b"self.FILES=" + json.dumps(digests, separators=(",", ":")).encode() + b";\n" + files[_WORKER]
    return files


def _describe(predictor: OnnxPredictor, size: int) -> dict[str, object]:
    """``model.json``: what the browser's runtime does not tell of a model, and the answer to ``check_photo``."""
    info = predictor.info
    probability = predictor.infer(check_photo(info.height, info.width)[None])[0]
    rows, columns = info.height // _BLOCK, info.width // _BLOCK
    blocks = probability[: rows * _BLOCK, : columns * _BLOCK].reshape(rows, _BLOCK, columns, _BLOCK).mean((1, 3))
    metadata = info.to_metadata()
    return {
        **{key: metadata[key] for key in ("name", "checkpoint", "architecture", "precision", "licence")},
        "lesionseg_version": __version__,
        "height": info.height,
        "width": info.width,
        "threshold": THRESHOLD,
        "classes": info.labels.names,
        "input": INPUT,
        "output": "probability",
        "bytes": size,
        "sha256": predictor.sha256,
        "notice": RESEARCH_USE,
        "plausibility": plausibility_table(),
        "quality": None if info.quality is None else info.quality.to_json(),
        "check": [round(float(value), 5) for value in blocks.ravel()],
    }


def check_photo(height: int, width: int) -> RgbImage:
    """A made-up photo that browser and program draw alike: two dark rings on bands of skin colour.

    The page compares its model's answer with ours before it shows any other. ``uint8 height width 3``.
    """
    y, x = np.mgrid[:height, :width]
    across, down = 1000 * (2 * x + 1) // width - 900, 1000 * (2 * y + 1) // height - 1000
    far = across**2 + 2 * down**2
    dark = np.where(far < 250_000, 110, np.where(far < 360_000, 60, 0))
    band = ((x >> 3) + (y >> 3)) % 5
    return np.stack([215 - dark - band, 165 - dark - 2 * band, 145 - dark + band], axis=2).astype(np.uint8)


def require_site_folder(folder: Path, *, overwrite: bool = False) -> None:
    """Make sure that ``write_site`` may write into a folder, which need not exist; nothing is made.

    Raises:
        OutputError: it holds something else, its name is none, or it cannot be written to.
    """
    try:
        folder.lstat()
    except FileNotFoundError:
        _require_new(folder)
        return
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror}", fix=_ELSEWHERE) from error
    try:
        taken = not (folder / _MARK).is_file() and (not folder.is_dir() or any(folder.iterdir()))
    except OSError as error:
        raise OutputError(f"{folder} cannot be read: {error.strerror}", fix=_ELSEWHERE) from error
    if taken and not (overwrite and folder.is_dir()):
        raise OutputError(f"{folder} holds something else", fix="name a new folder, or an empty one")
    _require_writable(folder, folder)


def _require_new(folder: Path) -> None:
    """Make sure that the folder can be made where its nearest parent exists."""
    above = next(parent for parent in folder.absolute().parents if parent.exists())
    _require_writable(above, folder)
    for part in folder.absolute().relative_to(above).parts:
        try:
            (above / part).lstat()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise OutputError(f"{folder} cannot be made: {error.strerror}", fix=_ELSEWHERE) from error


def _require_writable(existing: Path, folder: Path) -> None:
    if not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(f"{folder} cannot be written: {existing} is not writable", fix=_ELSEWHERE)


def write_site(site: Site, folder: Path, *, inputs: Iterable[Path] = (), overwrite: bool = False) -> None:
    """Writes the files for a web host.

    Raises:
        OutputError: the folder holds something else, or cannot be written to.
    """
    require_site_folder(folder, overwrite=overwrite)
    notice = f"Written by lesionseg {__version__}; written anew by 'lesionseg app --build'. {RESEARCH_USE}\n"
    files = {_MARK: notice.encode(), **site}
    # A page of an earlier version has no record of its files.
    is_older = (folder / _MARK).is_file() and not (folder / RECORD).exists()
    check_outputs([folder / path for path in files], inputs=inputs, overwrite=overwrite or is_older)
    # The list of digests last: browsers that come meanwhile go on with what they have.
    for path in sorted(files, key=lambda path: path == _WORKER):
        write_output(folder / path, files[path])
