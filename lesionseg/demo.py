"""The main job from end to end on generated photos, without data or network."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from lesionseg import RESEARCH_USE, api, console
from lesionseg.errors import OutputError
from lesionseg.shipped_models import DEFAULT, describe, shipped_models

if TYPE_CHECKING:
    from rich.console import Console

    from lesionseg.data.synthetic import DatasetFolders

__all__ = ["run_demo"]

TRAIN, TEST = 96, 24
RATES = {"frozen": 0.0, "finetuned": 0.01}
"""Of a random encoder, which has everything to learn."""
GENTLE = {"frozen": 0.0, "finetuned": 0.001}
"""Of one that knows photos of skin."""
EXTRA: tuple[str, ...] = ()
_MARK = "made-by-lesionseg-demo.txt"


def run_demo(output: Path, out: Console) -> None:
    """Generates 120 photos with masks, pairs them, trains a frozen and a fine-tuned run, compares and predicts.

    Args:
        output: the folder for all of it; an earlier demo there is replaced.
        out: where to report to.

    Raises:
        OutputError: the folder holds something else, or cannot be written to.
    """
    from lesionseg.data.synthetic import write_dataset
    from lesionseg.inference.folder import PredictOptions

    out.print(f"[bold]{RESEARCH_USE}[/bold] Everything goes to {escape(str(output))}.")
    _clear(output)
    with console.counter(out, "generating photos") as progress:
        folders = write_dataset(output / "photos", train=TRAIN, test=TEST, progress=progress)
    _pair(folders, output, out)
    rates, words, said = _start()
    out.print(said)
    for name, rate in rates.items():
        _train(name, output, out, [f"optim.encoder_lr={rate}", *words])
    runs = [output / "runs" / name for name in rates]
    with console.counter(out, "scoring") as progress:
        results, files = api.compare(runs, output / "report", progress=progress)
    from lesionseg.evaluation.report import render_terminal

    out.print(render_terminal(results))
    with console.counter(out, "predicting") as progress:
        predicted = api.predict(
            folders.test_images,
            runs[-1],
            output / "predictions",
            PredictOptions(overlays=("contour",)),
            progress=progress,
        )
    out.print(
        f"\n[bold]Look at[/bold] {escape(str(files.html))} (the comparison),\n"
        f"        {escape(str(predicted.table.parent))} (a mask and an overlay for each test photo).\n"
        "With your own photos and masks: lesionseg data pair --help",
        highlight=False,
    )


def _start() -> tuple[dict[str, float], list[str], str]:
    """What the encoder starts from: rates by run, settings, and what is said of it."""
    if DEFAULT not in shipped_models():
        return RATES, [], "The encoder starts at random here, so the scores say nothing about real photos."
    (facts,) = describe(DEFAULT)
    words = [f"model.encoder_weights={DEFAULT}", f"model.name={facts['spec']['name']}"]
    said = (
        f"The encoder is that of {DEFAULT}, which learned from real photos; scores on generated ones say little of it."
    )
    return GENTLE, words, said


def _clear(output: Path) -> None:
    if output.is_dir() and any(output.iterdir()):
        if not (output / _MARK).is_file():
            raise OutputError(f"{output} is not empty, and not from an earlier demo", fix="choose another --output")
        shutil.rmtree(output)
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / _MARK).write_text("This folder may be deleted. Another demo replaces it.\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{output} cannot be written: {error.strerror}", fix="choose another --output") from error


def _pair(folders: DatasetFolders, output: Path, out: Console) -> None:
    manifest = api.pair(
        folders.train_images,
        folders.train_masks,
        output / "manifest.csv",
        test_images=folders.test_images,
        test_masks=folders.test_masks,
    )
    out.print(f"paired {len(manifest.cases)} photos and masks -> {escape(str(output / 'manifest.csv'))}")


def _train(name: str, output: Path, out: Console, start: list[str]) -> None:
    words = [f"data.manifest={output / 'manifest.csv'}", *start, *EXTRA]
    with console.training_bar(out, name, lambda info: None) as watcher:
        api.train("demo", output / "runs" / name, overrides=words, watcher=watcher)
