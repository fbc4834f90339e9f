"""``lesionseg predict``: a folder of photos in, masks and a table out."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from lesionseg.cli_parts import INTERRUPTED, MODEL_HELP, PARTIAL, example, names, out, say
from lesionseg.errors import ConfigError
from lesionseg.shipped_models import DEFAULT
from lesionseg.signals import as_interrupt

if TYPE_CHECKING:
    from lesionseg.inference.distributed import ClusterResult
    from lesionseg.inference.folder import FolderResult
    from lesionseg.inference.table import Part

__all__ = ["EXAMPLES", "Engine", "predict"]

EXAMPLES = example(
    "lesionseg predict photos/",
    "lesionseg predict photos/ --model runs/finetuned --output masks/",
    "lesionseg predict photos/ --model finetuned-int8.onnx --output masks/",
    "lesionseg predict photo.jpg --model runs/finetuned --output out --overlay contour,heat --format png,geojson",
    "lesionseg predict photos/ --model runs/finetuned --output masks/ --measure",
    "sbatch --array=1-8 --wrap 'lesionseg predict photos/ --model finetuned-int8.onnx --output masks/ "
    "--num-parts 8 --part-id $SLURM_ARRAY_TASK_ID'",
)


class Engine(StrEnum):
    """What runs the stages."""

    LOCAL = "local"
    RAY = "ray"


_SHOWN = 20
_WRITTEN, _FOUND, _WHERE = "What is written", "How the lesion is found", "Where it runs"


def predict(
    source: Annotated[str, typer.Argument(help="A photo, or a folder that is searched with its sub-folders.")],
    model: Annotated[str, typer.Option(help=MODEL_HELP)] = DEFAULT,
    output: Annotated[
        str | None, typer.Option(help="Folder for masks and predictions.csv.", show_default="masks")
    ] = None,
    overlay: Annotated[
        list[str] | None,
        typer.Option(
            callback=names,
            is_eager=True,
            rich_help_panel=_WRITTEN,
            help="Also write pictures to look at: contour, heat, focus, strip; with commas, or repeated.",
        ),
    ] = None,
    save_probabilities: Annotated[
        bool, typer.Option("--save-probabilities", rich_help_panel=_WRITTEN, help="Also write 8-bit maps.")
    ] = False,
    mask_format: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            callback=names,
            is_eager=True,
            rich_help_panel=_WRITTEN,
            help="Of the mask: png (default), nifti, rle (COCO), geojson, svg; with commas, or repeated.",
        ),
    ] = None,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure",
            rich_help_panel=_WRITTEN,
            help="Also measure colours, and read a ruler where there is one.",
        ),
    ] = False,
    mm_per_pixel: Annotated[
        float | None,
        typer.Option(
            rich_help_panel=_WRITTEN, help="Scale of all photos at their own size; the table then has millimetres too."
        ),
    ] = None,
    bits: Annotated[
        int, typer.Option(rich_help_panel=_WRITTEN, help="Of each pixel of a PNG mask: 8 (0 and 255) or 1.")
    ] = 8,
    threshold: Annotated[
        float, typer.Option(min=0, max=1, rich_help_panel=_FOUND, help="Lesion where the probability is at least this.")
    ] = 0.5,
    tta: Annotated[
        bool, typer.Option("--tta", rich_help_panel=_FOUND, help="Average over four mirror images: slower, and better.")
    ] = False,
    largest: Annotated[
        bool,
        typer.Option(
            "--largest-component", rich_help_panel=_FOUND, help="Keep the largest region alone, at the model's size."
        ),
    ] = False,
    holes: Annotated[
        bool, typer.Option("--fill-holes", rich_help_panel=_FOUND, help="Fill what the lesion encloses.")
    ] = False,
    tile: Annotated[
        float | None,
        typer.Option(
            rich_help_panel=_FOUND,
            help="For lesions small in the frame: tiles at this many times the input size. Harms close-ups.",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(rich_help_panel=_WHERE, help="Photos done at a time; by default one per core.")
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            rich_help_panel=_WRITTEN,
            help="Replace files that lesionseg did not write, or that were changed since.",
        ),
    ] = False,
    num_parts: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=_WHERE,
            help="Share the photos among so many processes or machines; the last to end makes the one table.",
        ),
    ] = None,
    part_id: Annotated[
        int | None, typer.Option(rich_help_panel=_WHERE, help="Which share this process does, from 1 to --num-parts.")
    ] = None,
    engine: Annotated[
        Engine,
        typer.Option(
            rich_help_panel=_WHERE,
            help="ray: on a Ray cluster, with an .onnx file; source and output may be s3:// or gs:// then.",
        ),
    ] = Engine.LOCAL,
    address: Annotated[
        str | None, typer.Option(rich_help_panel=_WHERE, help="Of the Ray cluster; by default the one that is there.")
    ] = None,
) -> None:
    """Write a mask for each photo at the photo's own size; bad photos are recorded and skipped (exit 3).

    Ctrl-C and SIGTERM finish the photos under way; after that, or after a kill, the same command goes on.
    """
    from lesionseg import api, console
    from lesionseg.inference.folder import PredictOptions
    from lesionseg.inference.measurements import Measuring
    from lesionseg.inference.refine import Refinement

    measuring = Measuring(measure, mm_per_pixel)
    formats, overlays = tuple(mask_format or ("png",)), tuple(overlay or ())
    options = PredictOptions(threshold, formats, overlays, save_probabilities, bits, measuring)
    refine = Refinement(tile, flips=tta, largest=largest, holes=holes)
    part = _part(num_parts, part_id)
    _require_engine(engine, source, output or "")
    try:
        with as_interrupt(), console.counter(out, "predicting") as progress:
            more: dict[str, Any] = {
                "refine": refine,
                "progress": progress,
                "workers": workers,
                "overwrite": overwrite,
            }
            result: FolderResult | ClusterResult
            if engine == Engine.RAY:
                result = api.predict_on_cluster(source, model, output, options, address=address, **more)
            else:
                result = api.predict(source, model, output, options, part=part, **more)
    except KeyboardInterrupt:
        say("stopped; the same command goes on where it was")
        raise typer.Exit(INTERRUPTED) from None
    _report(result)
    if result.failed or result.kept or any(one.is_picture for one in result.skipped):
        raise typer.Exit(PARTIAL)


def _report(result: FolderResult | ClusterResult) -> None:
    """Print what became of the photos."""
    say(f"{result.done} done, {result.reused} reused, {result.failed} failed -> {escape(str(result.table))}")
    if missing := getattr(result, "missing", ()):
        say(f"predictions.csv follows with the last part; still to come: {_shortened(missing)}")
    if result.removed:
        say(f"removed, as their photos cannot be used now: files of an earlier run ({result.removed})")
    pictures = [one for one in result.skipped if one.is_picture]
    _list("left out, and perhaps photos", [f"{one.name}: {one.reason}" for one in pictures][:_SHOWN], len(pictures))
    if others := sum(one.is_other for one in result.skipped):
        say(f"left out, and listed in the table: files that are not photos ({others})")
    _list("kept, as lesionseg did not write them or they were changed since", result.kept, len(result.kept))
    if result.kept:
        say("Fix: pass --overwrite to replace the kept files")


def _list(what: str, lines: Sequence[str], count: int) -> None:
    if count:
        say(f"{what} ({count}):")
    for line in lines:
        say(escape(f"  {line}"))
    if count > len(lines):
        say(f"  and {count - len(lines)} more, which the table lists")


def _shortened(numbers: Sequence[int]) -> str:
    more = f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
    return ", ".join(map(str, numbers[:_SHOWN])) + more


def _part(count: int | None, number: int | None) -> Part | None:
    if count is None or number is None:
        return None
    from lesionseg.inference.table import Part

    return Part(number, count)


def _require_engine(engine: Engine, *places: str) -> None:
    """Raises ConfigError, listing the addresses that only another engine reads or writes."""
    if engine != Engine.RAY and (problems := [place for place in places if "://" in place]):
        raise ConfigError("addresses need --engine ray", problems=problems, fix="add it, or name folders")
