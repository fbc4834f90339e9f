"""``lesionseg models`` and ``export``: trained models that ship, and files made of trained models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from lesionseg.cli_parts import ManifestOption, Overwrite, Root, example, out, say

__all__ = ["EXPORTS", "MODELS", "export", "models"]

MODELS = example(
    "lesionseg models", "lesionseg models lesionseg-base --card > MODEL_CARD.md", "lesionseg models --json"
)

EXPORTS = example(
    "lesionseg export runs/finetuned",
    "lesionseg export runs/finetuned --precision int8 --root /data/isic2016",
    "lesionseg export runs/finetuned --precision int8 --qat 5",
    "lesionseg export runs/finetuned --format openvino --precision float16 --output finetuned.xml",
    "lesionseg export runs/finetuned --format bundle --about about.yaml --output my-model",
)


def models(
    name: Annotated[
        str | None, typer.Argument(help="One model, or a folder that 'export --format bundle' made; by default all.")
    ] = None,
    card: Annotated[
        bool, typer.Option("--card", help="The card in Markdown: data and licence, scores by subgroup, limits.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="All that is known, as JSON.")] = False,
) -> None:
    """Show the trained models that ship: size, cost, and scores on photos that they have never seen."""
    from lesionseg import console
    from lesionseg.shipped_models import describe

    found = describe(name)
    if card:
        from lesionseg.export.model_card import model_card

        typer.echo("\n".join(model_card(facts) for facts in found), nl=False)
    elif as_json:
        typer.echo(json.dumps(found, indent=1))
    else:
        out.print(console.models_table(found))


def export(
    run: Annotated[str, typer.Argument(help="A run folder, or a model that ships.")],
    output: Annotated[Path | None, typer.Option(help="The file; by default RUN/export/RUN-PRECISION.")] = None,
    form: Annotated[
        str,
        typer.Option("--format", help="onnx, openvino, torch-export, executorch; or bundle: a folder with all of it."),
    ] = "onnx",
    precision: Annotated[
        str | None, typer.Option(help="float32, float16, int8 or dynamic.", show_default="float32")
    ] = None,
    size: Annotated[int | None, typer.Option(help="Side of the input in pixels; by default the training's.")] = None,
    max_drop: Annotated[float, typer.Option(help="Dice points that int8 and dynamic may lose in validation.")] = 0.5,
    qat: Annotated[int, typer.Option(help="Epochs of training with int8's rounding, where int8 loses too much.")] = 0,
    manifest: ManifestOption = None,
    root: Root = None,
    about: Annotated[
        Path | None, typer.Option(help="YAML that a bundle's card quotes: data, licences, limits.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Export a run for another runtime; what is not as good as the run is not written."""
    from lesionseg import api

    checks: dict[str, Any] = {"max_drop": max_drop, "qat": qat, "manifest": manifest, "root": root, "about": about}
    checks["overwrite"] = overwrite
    sides = None if size is None else (size, size)
    made = api.export(run, output, form=form, precision=precision, size=sides, say=say, **checks)
    say(f"{escape(str(made.path))}: {made.bytes / 1e6:.1f} MB; {escape(str(made.checked))}")
