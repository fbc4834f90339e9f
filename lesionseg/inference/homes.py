"""Folders for the scores of what is no training's run: exported files, bundles, and predictions of other tools."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lesionseg.errors import LesionsegError, OutputError
from lesionseg.evaluation.runs import load_info
from lesionseg.inference.exported import run_files
from lesionseg.inference.predictor import ExportedPredictor, Predictor
from lesionseg.io.ownership import RECORD, check_outputs, withdraw_outputs, write_output
from lesionseg.io.reading import read_json
from lesionseg.io.writing import new_folder
from lesionseg.shipped_models import SCORES_OF, find_bundle, is_bundle, is_run

__all__ = ["Home", "begun", "find_home", "outside_home"]

_OUTSIDE = "predictions"
"""Key of a ``run.json`` beside the scores of another tool's predictions: the folder that they are in."""


@dataclass(frozen=True, slots=True)
class Home:
    """Where scores go.

    Attributes:
        folder: the run folder; it need not exist.
        info: its ``run.json``.
        files: file name -> bytes of what describes the model there; empty for a training's run, which has its own.
    """

    folder: Path
    info: Mapping[str, Any]
    files: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the scores are called in reports."""
        return str(self.info["name"])

    def outputs(self) -> list[Path]:
        """Return the files that describe the model."""
        return [self.folder / name for name in self.files]

    def check(self, *, inputs: Iterable[Path], overwrite: bool) -> None:
        """Make sure that these files may be written; arguments and errors are those of ``check_outputs``."""
        # Earlier versions kept no record of what they wrote; their folders are known by their run.json.
        is_older = not (self.folder / RECORD).exists()
        check_outputs(self.outputs(), inputs=inputs, overwrite=overwrite or is_older)


def find_home(model: Path, predictor: Predictor, asked: Path, runs: Path) -> Home:
    """Return where the scores of a model go: never into the run folder of a training that is not the model itself.

    Those of a run go into the run, those of an exported file into ``<file>-scores`` beside it, those of a bundle into
    ``RUNS/NAME``.

    Args:
        model: a run folder, an exported file or a bundle.
        predictor: the loaded model.
        asked: how the model was named; a folder with its scores stands for it, and has them renewed.
        runs: the folder for the scores of bundles.

    Raises:
        OutputError: the folder holds something else.
        RunError: the model does not say how it was trained, or the run is damaged.
    """
    if is_run(model):
        return Home(model, load_info(model))
    assert isinstance(predictor, ExportedPredictor)  # noqa: S101 - no other predictor comes from these
    if is_bundle(model):
        folder = asked if is_run(asked) else runs / predictor.name
        name, ships = folder.name, find_bundle(predictor.name) == model
        source, fix = predictor.name if ships else str(model.absolute()), "pass --runs DIR"
    else:
        folder = model.with_name(f"{model.name}-scores")
        name, source, fix = model.name, str(model.absolute()), "move that folder or the model"
    _require_scores(folder, SCORES_OF, fix)
    files = run_files(predictor.info, name, source)
    return Home(folder, json.loads(files["run.json"]), files)


def outside_home(folder: Path, info: Mapping[str, Any]) -> Home:
    """Return a folder for the scores of another tool's predictions.

    Args:
        folder: the run folder.
        info: its future ``run.json``.

    Raises:
        OutputError: it is the run of a training, or holds something else.
    """
    fix = "choose another --name for these predictions"
    if (folder / "checkpoints").exists() or (folder / "history.csv").exists():
        raise OutputError(f"{folder} is the run of a training", fix=fix)
    _require_scores(folder, _OUTSIDE, fix)
    return Home(folder, info, {"run.json": json.dumps(info, indent=1).encode()})


def _require_scores(folder: Path, key: str, fix: str) -> None:
    """Make sure that a folder is new, empty, or one for such scores; hidden files do not count."""
    try:
        found = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputError(f"{folder} cannot be used for scores: {error.strerror}", fix=fix) from error
    info: Any = {}
    with suppress(LesionsegError):
        info = read_json(folder / "run.json")
    if found and not (isinstance(info, dict) and isinstance(info.get(key), str)):
        raise OutputError(f"{folder} holds something else than these scores", problems=sorted(found)[:10], fix=fix)


@contextmanager
def begun(home: Home) -> Iterator[None]:
    """Write the files that describe the model, for the scoring within; new ones are removed after an error.

    Raises:
        OutputError: they cannot be written.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(new_folder(home.folder))
        except OSError as error:
            raise OutputError(f"{home.folder} cannot be made: {error.strerror}", fix="choose another place") from error
        new = [path for path in home.outputs() if not path.exists()]
        # Before the scores, so that after a kill the folder is still known as one for scores.
        for path in new:
            write_output(path, home.files[path.name])
        try:
            yield
        except BaseException:
            withdraw_outputs(home.folder, new)
            raise
        for path in home.outputs():
            write_output(path, home.files[path.name])
