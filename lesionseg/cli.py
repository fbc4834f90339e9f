"""The command line: one command, one call into the library. Heavy imports stay inside the commands."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.markup import escape

from lesionseg import RESEARCH_USE
from lesionseg.cli_app import EPILOG, app_page
from lesionseg.cli_data import data
from lesionseg.cli_models import EXPORTS, MODELS, export, models
from lesionseg.cli_options import Commands
from lesionseg.cli_parts import (
    INTERRUPTED,
    MODEL_HELP,
    PARTIAL,
    ManifestOption,
    Overwrite,
    Root,
    err,
    example,
    names,
    out,
    say,
    telling,
)
from lesionseg.cli_predict import EXAMPLES, predict
from lesionseg.cli_process import run
from lesionseg.errors import ConfigError, LesionsegError
from lesionseg.io.names import joined_name, name_of, require_run_name
from lesionseg.streams import make_output_optional
from lesionseg.tables import one_line

app = Commands(
    help=f"Finds the lesion in dermoscopy photos with a MobileNetV2 U-Net. [bold]{RESEARCH_USE}[/bold]",
    rich_markup_mode="rich",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(data, name="data")
app.command("app", epilog=EPILOG)(app_page)
app.command(epilog=MODELS)(models)

Runs = Annotated[Path, typer.Option(help="Folder that holds the runs.")]
AtModelSize = Annotated[
    bool, typer.Option("--at-model-size", help="Score at the model's input size, as many papers do.")
]
Split = Annotated[str, typer.Option(help="Which cases are scored.")]


def _version(wanted: bool) -> None:
    if wanted:
        from lesionseg import __version__

        say(f"lesionseg {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command(
    epilog=example(
        "lesionseg train --config isic2016-frozen --name frozen",
        "lesionseg train --config configs/isic2016-finetuned.yaml --name finetuned loop.epochs=20 optim.loss=bce_dice",
        "lesionseg train --name frozen --resume",
        "lesionseg train --config isic2016-frozen --name try --sweep optim.loss=bce,dice --sweep loop.seed=0,1",
    )
)
def train(
    overrides: Annotated[list[str] | None, typer.Argument(help="Any config key, as key.subkey=value.")] = None,
    config: Annotated[str | None, typer.Option(help="YAML file, or the name of a shipped config.")] = None,
    name: Annotated[str, typer.Option(help="Name of the run.")] = "run",
    runs: Runs = Path("runs"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint.")] = False,
    sweep: Annotated[
        list[str] | None, typer.Option(help="key.subkey=a,b,c: a run for each value, or for each combination.")
    ] = None,
) -> None:
    """Train a run into RUNS/NAME, or go on with one. Ctrl-C saves and exits 130."""
    from lesionseg import api, console

    require_run_name(name)
    make_output_optional()
    _require_train_input(config, overrides, resume and not sweep)
    if sweep:
        _train_variants(config or {}, name, sweep, runs, overrides or [], resume)
        return
    with console.training_bar(out, name, lambda info: _announce(info, runs / name)) as watcher:
        source: str | dict[str, Any] | None = config or (None if resume else {})
        result = api.train(source, runs / name, overrides=overrides or (), resume=resume, watcher=watcher)
    say(f"{result.status}: {escape(result.reason)} -> {escape(str(runs / name))}")
    if result.status == "interrupted":
        say(f"go on with: lesionseg train --name {escape(name)} --runs {escape(str(runs))} --resume")
        raise typer.Exit(INTERRUPTED)


def _train_variants(
    config: str | dict[str, Any], name: str, sweep: list[str], runs: Path, overrides: list[str], resume: bool
) -> None:
    from lesionseg import api, console

    def watch(variant: str) -> Any:
        return console.training_bar(out, variant, lambda info: _announce(info, runs / variant))

    results = api.sweep(config, name, sweep, runs, overrides=overrides, resume=resume, watch=watch)
    done, interrupted = [], False
    for variant, result in results.items():
        if isinstance(result, LesionsegError):
            text = f"{one_line(variant)}: {result}"
            err.print(f"[bold red]Error[/bold red] {escape(text)}", highlight=False, soft_wrap=True)
            continue
        say(f"{escape(variant)}: {result.status}: {escape(result.reason)}")
        done.append(variant)
        interrupted = result.status == "interrupted"
    if interrupted:
        say("go on with the same command and --resume")
        raise typer.Exit(INTERRUPTED)
    if done:
        where = f"--runs {escape(str(runs))} --output {escape(str(runs / f'report-{name}'))}"
        say(f"compare them with: lesionseg report --compare {escape(','.join(done))} {where}")
    if len(done) < len(results):
        raise typer.Exit(PARTIAL)


def _require_train_input(config: str | None, overrides: list[str] | None, resume: bool) -> None:
    if config or overrides or resume:
        return
    from lesionseg.config import shipped_names

    names = ", ".join(shipped_names("configs", ".yaml"))
    raise ConfigError(
        "train needs a config, and through it a manifest of photos and masks",
        problems=[
            f"with a shipped config: lesionseg train --config NAME --name RUN   (NAME is one of {names})",
            "with your own data: lesionseg data pair ... --output m.csv, then lesionseg train data.manifest=m.csv",
            "without any data: lesionseg demo",
        ],
    )


def _announce(info: dict[str, Any], run: Path) -> None:
    counts, weights = info["parameters"], info["encoder_weights"]
    manifest = info["manifest"]
    say(
        f"{escape(str(run))}: {manifest['train']} training and {manifest['val']} validation pairs of "
        f"{escape(manifest['name'])}; "
        f"{counts['trainable']:,} of {counts['total']:,} parameters train; encoder from {escape(weights['source'])}"
    )


@app.command(
    epilog=example(
        "lesionseg evaluate --model runs/finetuned --manifest isic2016 --split test",
        "lesionseg evaluate --model runs/finetuned --at-model-size",
        "lesionseg evaluate --predictions other-tool/ --masks GroundTruth/ --name other-tool",
        "lesionseg evaluate --predictions maps/ --probabilities --manifest isic2016 --name other-tool",
    )
)
def evaluate(
    model: Annotated[str | None, typer.Option(help=MODEL_HELP)] = None,
    manifest: ManifestOption = None,
    root: Root = None,
    split: Split = "test",
    at_model_size: AtModelSize = False,
    predictions: Annotated[
        Path | None, typer.Option(help="Folder of masks from any tool, matched by id, in place of a run.")
    ] = None,
    masks: Annotated[Path | None, typer.Option(help="Folder of true masks for these; or name a --manifest.")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the photos, for subgroups and pictures.")] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="The predictions are 8-bit grey probability maps, not masks.")
    ] = False,
    name: Annotated[str | None, typer.Option(help="What these predictions are called in reports.")] = None,
    runs: Runs = Path("runs"),
    overwrite: Overwrite = False,
) -> None:
    """Score a run or another tool's masks, at each mask's own size, into RUN/evaluation/SPLIT."""
    from lesionseg import api, console
    from lesionseg.evaluation.report import render_terminal

    if name is not None:
        require_run_name(name)
    _require_one_source(model, predictions)
    run = Path(model) if model else runs / (name or name_of(predictions or Path()))
    more: dict[str, Any] = {"manifest": manifest, "root": root, "split": split, "overwrite": overwrite}
    with telling("") as warn, console.counter(out, f"{run.name}: scoring") as progress:
        more |= {"progress": progress, "warn": warn}
        if predictions:
            more |= {"masks": masks, "images": images, "probabilities": probabilities}
            result = api.evaluate_predictions(predictions, run, **more)
        else:
            result = api.evaluate(run, at_model_size=at_model_size, scores_in=runs, **more)
    out.print(render_terminal([result]))


def _require_one_source(model: str | None, predictions: Path | None) -> None:
    if (model is None) == (predictions is None):
        raise ConfigError(
            "evaluate scores either a run or the masks of another tool",
            problems=[
                "a run: lesionseg evaluate --model runs/NAME",
                "masks: lesionseg evaluate --predictions DIR --masks DIR --name NAME",
            ],
        )


@app.command(
    epilog=example(
        "lesionseg report --compare frozen,finetuned",
        "lesionseg report --compare frozen,finetuned,other-tool --format md,latex",
    )
)
def report(
    compare: Annotated[str, typer.Option(help="Names of runs, and of models that ship, with commas.")],
    runs: Runs = Path("runs"),
    output: Annotated[Path | None, typer.Option(help="Folder of the report; by default RUNS/report-NAMES.")] = None,
    manifest: ManifestOption = None,
    root: Root = None,
    split: Split = "test",
    at_model_size: AtModelSize = False,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", callback=names, help="html (default), md, latex or csv; with commas, or repeated."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Compare runs on the same cases: one self-contained HTML, CSVs and PNGs. Scores runs first where needed."""
    from lesionseg import api, console
    from lesionseg.evaluation.report import render_terminal

    compared = [name.strip() for name in compare.split(",") if name.strip()]
    folder = output or runs / joined_name("report", compared)
    more: dict[str, Any] = {"manifest": manifest, "root": root, "split": split, "at_model_size": at_model_size}
    more["overwrite"] = overwrite
    models = [runs / name if (runs / name).exists() else name for name in compared]
    with telling("") as warn, console.counter(out, "scoring") as progress:
        more |= {"progress": progress, "warn": warn, "scores_in": runs, "formats": formats or ("html",)}
        results, files = api.compare(models, folder, **more)
    out.print(render_terminal(results))
    for path in files.documents or files.tables[:1]:
        say(f"report -> {escape(str(path))}")


app.command(epilog=EXAMPLES)(predict)


app.command(epilog=EXPORTS)(export)


@app.command(
    epilog=example(
        "lesionseg benchmark runs/finetuned runs/finetuned/export/*.onnx --manifest isic2016 --root /data/isic2016"
    )
)
def benchmark(
    models: Annotated[
        list[str], typer.Argument(help="Run folders, exported files, models that ship; compared with the first.")
    ],
    manifest: Annotated[str | None, typer.Option(help="Photos with masks to score on: CSV or shipped name.")] = None,
    root: Root = None,
    split: Split = "test",
    output: Annotated[Path, typer.Option(help="Folder for benchmark.csv and benchmark.md.")] = Path("benchmark"),
    rounds: Annotated[int, typer.Option(help="Photos that each model is timed with.")] = 50,
    overwrite: Overwrite = False,
) -> None:
    """Score, time and weigh runs and exported files side by side."""
    from lesionseg import api, console

    more: dict[str, Any] = {"manifest": manifest, "root": root, "split": split, "overwrite": overwrite}
    with console.counter(out, "measuring") as progress:
        found = api.benchmark(models, output, rounds=rounds, progress=progress, **more)
    out.print(console.benchmark_table(found))
    say(f"table -> {escape(str(found.table))}")


@app.command(epilog=example("lesionseg demo", "lesionseg demo --output /tmp/demo"))
def demo(
    output: Annotated[Path, typer.Option(help="Folder for everything that the demo makes.")] = Path("demo"),
    overwrite: Overwrite = False,
) -> None:
    """The whole way on generated photos, offline: pair, train frozen and fine-tuned, compare, predict."""
    from lesionseg.demo import run_demo

    make_output_optional()
    run_demo(output, out, overwrite=overwrite)


def main() -> NoReturn:
    """Run the command line and exit."""
    # Run as 'python -m lesionseg', it would call itself so in messages that are copied from.
    run(partial(app, prog_name="lesionseg"))
