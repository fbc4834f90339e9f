"""The main job from end to end on generated photos, without data or network."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from lesionseg import RESEARCH_USE, api, console
from lesionseg.errors import LesionsegError, OutputError
from lesionseg.io.ownership import check_outputs, record_outputs, write_output
from lesionseg.io.reading import read_json
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


def run_demo(output: Path, out: Console, *, overwrite: bool = False) -> None:
    """Generates 120 photos with masks, pairs them, trains a frozen and a fine-tuned run, compares and predicts.

    Args:
        output: the folder for all of it; the files of an earlier demo there are replaced, and all others stay.
        out: where to report to.
        overwrite: replace files that lesionseg did not write, or that were changed since.

    Raises:
        OutputError: the folder holds something else, cannot be written to, or holds files in the way that the user
            has changed.
    """
    from lesionseg.data.synthetic import write_dataset
    from lesionseg.inference.folder import PredictOptions

    out.print(f"[bold]{RESEARCH_USE}[/bold] Everything goes to {escape(str(output))}.")
    _prepare(output, overwrite=overwrite)
    with console.counter(out, "generating photos") as progress:
        folders = write_dataset(output / "photos", train=TRAIN, test=TEST, progress=progress)
    _pair(folders, output, out, overwrite=overwrite)
    rates, words, said = _start()
    out.print(said)
    for name, rate in rates.items():
        _train(name, output, out, [f"optim.encoder_lr={rate}", *words])
    runs = [output / "runs" / name for name in rates]
    with console.counter(out, "scoring") as progress:
        results, files = api.compare(runs, output / "report", progress=progress, overwrite=overwrite)
    for run in runs:
        _record(run)
    from lesionseg.evaluation.report import render_terminal

    out.print(render_terminal(results))
    with console.counter(out, "predicting") as progress:
        predicted = api.predict(
            folders.test_images,
            runs[-1],
            output / "predictions",
            PredictOptions(overlays=("contour",)),
            progress=progress,
            overwrite=overwrite,
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


def _prepare(output: Path, *, overwrite: bool) -> None:
    """Make room for a demo: the runs of an earlier one go, and its other files are replaced one by one."""
    from lesionseg.data.manifest import manifest_outputs
    from lesionseg.data.synthetic import dataset_outputs
    from lesionseg.evaluation.report import report_outputs

    try:
        is_taken = output.is_dir() and any(output.iterdir())
    except OSError as error:
        raise OutputError(f"{output} cannot be listed: {error.strerror}", fix="choose another --output") from error
    if is_taken and not (output / _MARK).is_file() and not overwrite:
        raise OutputError(f"{output} is not empty, and not from an earlier demo", fix="choose another --output")
    photos = [file for files in dataset_outputs(output / "photos", train=TRAIN, test=TEST) for file in files]
    listing = output / "manifest.csv"
    written = [output / _MARK, *photos, *manifest_outputs(listing), listing.with_suffix(".warnings.txt")]
    written += report_outputs(output / "report", ["html"])
    runs = [output / "runs" / name for name in RATES]
    # A demo that was stopped has not recorded its runs yet.
    written += [file for run in runs if not _was_stopped(run, listing) for file in _run_files(run)]
    check_outputs(written, overwrite=overwrite)
    write_output(output / _MARK, b"Written by 'lesionseg demo', which replaces its own files here. May be deleted.\n")
    for run in runs:
        for file in _run_files(run):
            # With run.json, the folder is still known as that of a run.
            if file.name != "run.json":
                file.unlink()


def _was_stopped(run: Path, manifest: Path) -> bool:
    """Whether a run is of a demo that did not come to its end."""
    try:
        info = read_json(run / "run.json")
        return bool(info["status"] != "finished" and info["config"]["data"]["manifest"] == str(manifest))
    except (LesionsegError, KeyError, TypeError):
        return False


def _run_files(run: Path) -> list[Path]:
    """What a training has written into its run folder."""
    patterns = (
        "run.json",
        "history.csv",
        "example.png",
        "example/*.png",
        "checkpoints/*.json",
        "checkpoints/epoch-*.*",
    )
    found = (file for pattern in patterns for file in sorted(run.glob(pattern)) if file.is_file())
    return list(dict.fromkeys(found))


def _record(run: Path) -> None:
    """Record a finished run as lesionseg's own, so that another demo may replace it unless somebody has changed it."""
    for file in _run_files(run):
        with file.open("rb") as opened:
            record_outputs(file.parent, {file.name: hashlib.file_digest(opened, "sha256").hexdigest()})


def _pair(folders: DatasetFolders, output: Path, out: Console, *, overwrite: bool) -> None:
    manifest = api.pair(
        folders.train_images,
        folders.train_masks,
        output / "manifest.csv",
        test_images=folders.test_images,
        test_masks=folders.test_masks,
        overwrite=overwrite,
    )
    out.print(f"paired {len(manifest.cases)} photos and masks -> {escape(str(output / 'manifest.csv'))}")


def _train(name: str, output: Path, out: Console, start: list[str]) -> None:
    words = [f"data.manifest={output / 'manifest.csv'}", *start, *EXTRA]
    with console.training_bar(out, name, lambda info: None) as watcher:
        api.train("demo", output / "runs" / name, overrides=words, watcher=watcher)
