"""``lesionseg data``: the commands that come before any training."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from lesionseg import RESEARCH_USE
from lesionseg.cli_parts import Root, example, out, say
from lesionseg.errors import ConfigError

__all__ = ["data"]

data = typer.Typer(
    help=f"Download, pair, check, split and generate data sets. {RESEARCH_USE}",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@data.command(
    "pair",
    epilog=example(
        "lesionseg data pair --images train/photos --masks train/masks --output data_manifests/mine.csv",
        "lesionseg data pair --images A --masks B --test-images C --test-masks D --labels dx.csv --output m.csv",
    ),
)
def pair(
    images: Annotated[Path, typer.Option(help="Folder with the training photos.")],
    masks: Annotated[Path, typer.Option(help="Folder with their masks.")],
    output: Annotated[Path, typer.Option(help="The manifest CSV to write.")],
    test_images: Annotated[Path | None, typer.Option(help="Folder with the test photos.")] = None,
    test_masks: Annotated[Path | None, typer.Option(help="Folder with their masks.")] = None,
    labels: Annotated[list[Path] | None, typer.Option(help="CSV of case id and diagnosis; repeatable.")] = None,
    groups: Annotated[Path | None, typer.Option(help="CSV of case id and patient or lesion.")] = None,
) -> None:
    """Match photos with masks by id and write a manifest; every mismatch is listed, none is guessed."""
    from lesionseg import api

    manifest = api.pair(
        images, masks, output, test_images=test_images, test_masks=test_masks, labels=labels or (), groups=groups
    )
    counts = {split: sum(case.split == split for case in manifest.cases) for split in ("train", "test")}
    say(f"{len(manifest.cases)} pairs ({counts['train']} train, {counts['test']} test) -> {escape(str(output))}")


@data.command(
    epilog=example(
        "lesionseg data split isic2016 --official isic2016 --output m/official.csv",
        "lesionseg data split m.csv --folds 5 --link patient_id --near-duplicates --output m/cv.csv",
    )
)
def split(
    manifest: Annotated[str, typer.Argument(help="Manifest CSV, or the name of a shipped one.")],
    output: Annotated[Path, typer.Option(help="The CSV to write; folds go beside it as NAME-fold1.csv and so on.")],
    official: Annotated[str | None, typer.Option(help="Take a published split: isic2016, or a CSV.")] = None,
    folds: Annotated[int | None, typer.Option(min=2, help="Folds for cross-validation.")] = None,
    hold_out: Annotated[float | None, typer.Option(help="Share of the cases to hold out as val.")] = None,
    link: Annotated[list[str] | None, typer.Option(help="Column whose equal values stay together; repeatable.")] = None,
    near_duplicates: Annotated[
        bool, typer.Option("--near-duplicates", help="Keep photos of one lesion together.")
    ] = False,
    stratify: Annotated[str | None, typer.Option(help="Column to keep as frequent in every part.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the shuffling.")] = 0,
    root: Root = None,
) -> None:
    """Split a manifest; no patient, lesion or near-duplicate ever stands on both sides. Test cases stay test."""
    from lesionseg.data.manifest import read_manifest
    from lesionseg.data.resplit import SplitOptions, split_manifest

    options = SplitOptions(official, folds, hold_out, tuple(link or ()), near_duplicates, stratify, seed)
    for path in split_manifest(read_manifest(manifest, root), output, options):
        counts = Counter(case.split for case in read_manifest(path).cases)
        say(f"{', '.join(f'{count} {name}' for name, count in counts.items())} -> {escape(str(path))}")


@data.command(epilog=example("lesionseg data synth --output synthetic --train 2000 --test 200 --size 256x192"))
def synth(
    output: Annotated[Path, typer.Option(help="Folder for the four folders and manifest.csv.")],
    train: Annotated[int, typer.Option(min=0, help="Number of training photos.")] = 100,
    test: Annotated[int, typer.Option(min=0, help="Number of test photos.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Photo k of a seed is always the same.")] = 0,
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT in pixels.")] = "256x192",
) -> None:
    """Generate dermoscopy photos with exact masks: skin types I to VI, hair, rulers, bubbles, vignettes, stickers."""
    from lesionseg import api, console
    from lesionseg.data.synthetic import write_dataset

    width, height = _size(size)
    with console.counter(out, "generating") as progress:
        made = write_dataset(output, train=train, test=test, seed=seed, width=width, height=height, progress=progress)
    tests = (made.test_images, made.test_masks) if test else (None, None)
    if train:
        manifest = output / "manifest.csv"
        api.pair(made.train_images, made.train_masks, manifest, test_images=tests[0], test_masks=tests[1])
        say(f"{train} training and {test} test photos -> {escape(str(manifest))}")


def _size(text: str) -> tuple[int, int]:
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdecimal() and 32 <= int(side) <= 8192 for side in sides):
        raise ConfigError(f"--size {text!r} is not WIDTHxHEIGHT", fix="write for example 256x192, from 32 pixels up")
    return int(sides[0]), int(sides[1])
