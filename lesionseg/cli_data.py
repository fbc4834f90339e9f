"""``lesionseg data``: the commands that come before any training."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from lesionseg import RESEARCH_USE
from lesionseg.cli_options import Commands
from lesionseg.cli_parts import PARTIAL, Overwrite, Root, example, out, say, telling
from lesionseg.errors import ConfigError

__all__ = ["data"]

data = Commands(
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
    labels: Annotated[list[Path] | None, typer.Option(help="CSV of image id and diagnosis; repeatable.")] = None,
    groups: Annotated[Path | None, typer.Option(help="CSV of image id and patient or lesion.")] = None,
    id_column: Annotated[str | None, typer.Option(help="Column of these CSVs with the image id.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Column of --labels with the diagnosis.")] = None,
    group_column: Annotated[str | None, typer.Option(help="Column of --groups with the patient or lesion.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Match photos with masks by id and write a manifest; every mismatch is listed, none is guessed."""
    from lesionseg import api

    with telling(f" in {output.parent / output.stem}.warnings.txt") as warn:
        manifest = api.pair(
            images,
            masks,
            output,
            test_images=test_images,
            test_masks=test_masks,
            labels=labels or (),
            groups=groups,
            id_column=id_column,
            label_column=label_column,
            group_column=group_column,
            warn=warn,
            overwrite=overwrite,
        )
    counts = {split: sum(case.split == split for case in manifest.cases) for split in ("train", "test")}
    say(f"{len(manifest.cases)} pairs ({counts['train']} train, {counts['test']} test) -> {escape(str(output))}")


@data.command(
    epilog=example(
        "lesionseg data audit isic2016 --root data/isic2016",
        "lesionseg data audit --images train/photos --masks train/masks --output audit",
    )
)
def audit(
    manifest: Annotated[str | None, typer.Argument(help="Manifest CSV, or the name of a shipped one.")] = None,
    images: Annotated[Path | None, typer.Option(help="Instead of a manifest: folder with photos.")] = None,
    masks: Annotated[Path | None, typer.Option(help="Folder with their masks.")] = None,
    root: Root = None,
    output: Annotated[Path, typer.Option(help="Folder for audit.html and findings.csv.")] = Path("audit"),
    overwrite: Overwrite = False,
) -> None:
    """Find broken files, wrong masks, photos that come twice and splits that leak. Exit 0 clean, 3 with findings."""
    from lesionseg import api, console

    with console.counter(out, "examining") as progress:
        result, files = api.audit(
            manifest, output, images=images, masks=masks, root=root, progress=progress, overwrite=overwrite
        )
    out.print(console.audit_summary(result))
    say(f"-> {escape(str(files.html))} and, for programs, {files.table.name} and {files.fingerprint.name} beside it")
    if result.findings:
        raise typer.Exit(PARTIAL)


@data.command(
    epilog=example(
        "lesionseg data download",
        "lesionseg data download isic2016 --output data/isic2016",
        "lesionseg data download isic2018 --output /big/isic2018 --max-gib 12",
    )
)
def download(
    name: Annotated[str | None, typer.Argument(help="Data set; without it, all are listed.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder for the files; by default data/NAME.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Verify and unpack what is there; fetch nothing.")] = False,
    max_gib: Annotated[float, typer.Option(min=0.001, help="Refuse files larger than this many GiB.")] = 20.0,
) -> None:
    """Fetch a published data set: verified, resumable, safely unpacked. Without a name, list what there is."""
    from lesionseg import console
    from lesionseg.data import catalogue
    from lesionseg.data import download as fetching

    if name is None:
        return out.print(console.catalogue_table(catalogue.CATALOGUE))
    found = catalogue.find_dataset(name)
    folder, limit = output or Path("data") / found.name, round(max_gib * 2**30)
    for line in (found.title, f"licence: {found.licence}", f"cite: {found.citation}"):
        say(escape(line))
    with console.byte_counter(out) as progress:
        result = fetching.download(found, folder, offline=offline, max_bytes=limit, progress=progress)
    for file in result.files:
        checked = "verified" if file.verified else "digest recorded, none was published"
        say(f"{escape(str(file.folder or file.path))}: {checked}")
    return None


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
    overwrite: Overwrite = False,
) -> None:
    """Split a manifest; no patient, lesion or near-duplicate ever stands on both sides. Test cases stay test."""
    from lesionseg import api

    made = api.split(
        manifest,
        output,
        official=official,
        folds=folds,
        hold_out=hold_out,
        links=link or (),
        near_duplicates=near_duplicates,
        stratify=stratify,
        seed=seed,
        root=root,
        overwrite=overwrite,
    )
    for path, parts in made.items():
        counts = Counter(case.split for case in parts.cases)
        say(f"{', '.join(f'{count} {name}' for name, count in counts.items())} -> {escape(str(path))}")


@data.command(epilog=example("lesionseg data synth --output synthetic --train 2000 --test 200 --size 256x192"))
def synth(
    output: Annotated[Path, typer.Option(help="Folder for the four folders and manifest.csv.")],
    train: Annotated[int, typer.Option(min=0, help="Number of training photos.")] = 100,
    test: Annotated[int, typer.Option(min=0, help="Number of test photos.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Photo k of a seed is always the same.")] = 0,
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT in pixels.")] = "256x192",
    overwrite: Overwrite = False,
) -> None:
    """Generate dermoscopy photos with exact masks: skin types I to VI, hair, rulers, bubbles, vignettes, stickers."""
    from lesionseg import api, console

    with console.counter(out, "generating") as progress:
        sides = _size(size)
        api.synth(output, train=train, test=test, seed=seed, size=sides, progress=progress, overwrite=overwrite)
    if train:
        say(f"{train} training and {test} test photos -> {escape(str(output / 'manifest.csv'))}")


@data.command(epilog=example("lesionseg data trimap isic2016 --band 4 --output trimaps"))
def trimap(
    manifest: Annotated[str, typer.Argument(help="Manifest CSV, or the name of a shipped one.")],
    output: Annotated[Path, typer.Option(help="Folder for the masks and manifest.csv.")],
    band: Annotated[float, typer.Option(min=0.5, help="Pixels of border to each side of the outline.")] = 4,
    root: Root = None,
    overwrite: Overwrite = False,
) -> None:
    """Make palette-coded masks of skin, border and lesion from binary ones; data.trimap does so without files."""
    from lesionseg import console
    from lesionseg.data.manifest import manifest_inputs, read_manifest
    from lesionseg.data.trimaps import TRIMAP_CLASSES, write_trimaps

    found, read = read_manifest(manifest, root), manifest_inputs(manifest, ())
    with console.counter(out, "writing") as progress:
        made = write_trimaps(found, output, band, inputs=read, overwrite=overwrite, progress=progress)
    classes = ", ".join(f"{name}: '{colour}'" for name, colour in TRIMAP_CLASSES.items())
    say(f"train with data.manifest={escape(str(made))} data.classes={{{classes}}} optim.loss=ce")


@data.command(
    epilog=example("lesionseg data preview --config isic2016-finetuned --output sheet.png data.preset=dermoscopy")
)
def preview(
    output: Annotated[Path, typer.Option(help="The PNG to write.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key.subkey=value words.")] = None,
    config: Annotated[str | None, typer.Option(help="YAML file, or the name of a shipped config.")] = None,
    cases: Annotated[int, typer.Option(min=1, max=50, help="Photos to show.")] = 6,
    overwrite: Overwrite = False,
) -> None:
    """Draw a contact sheet of what augmentation makes of the first training photos."""
    from lesionseg.config import find_shipped, load_config
    from lesionseg.data.images import encode_photo_png
    from lesionseg.data.manifest import manifest_inputs, read_manifest
    from lesionseg.io.ownership import check_outputs, write_output

    settings = load_config(config, overrides or ())
    manifest = read_manifest(settings.data.manifest, settings.data.root)
    read = [find_shipped(config, "configs", ".yaml")] if config else []
    read += manifest_inputs(settings.data.manifest, manifest.cases)
    check_outputs([output], inputs=read, overwrite=overwrite)
    shown = manifest.split("train")[:cases]
    from lesionseg.data.preview import contact_sheet

    write_output(output, encode_photo_png(contact_sheet(settings, shown)))
    say(f"{len(shown)} photos, as they are and in 7 epochs -> {escape(str(output))}")


def _size(text: str) -> tuple[int, int]:
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdecimal() and 32 <= int(side) <= 8192 for side in sides):
        raise ConfigError(f"--size {text!r} is not WIDTHxHEIGHT", fix="write for example 256x192, from 32 pixels up")
    return int(sides[0]), int(sides[1])
