"""The public functions, each one way through the house."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from lesionseg.api_data import audit, pair, read_image, read_mask, split, synth
from lesionseg.api_parts import Overrides, Progress, Warn, as_words, counting, ignore, plain
from lesionseg.api_scoring import compare, evaluate, evaluate_predictions
from lesionseg.io.paths import AnyPath, as_path
from lesionseg.shipped_models import DEFAULT, find_model, is_run
from lesionseg.training.launch import is_first_process

if TYPE_CHECKING:
    from lesionseg.config import RunConfig
    from lesionseg.errors import LesionsegError
    from lesionseg.export.benchmark import Benchmark
    from lesionseg.export.publish import Exported
    from lesionseg.inference.distributed import ClusterResult
    from lesionseg.inference.folder import FolderResult, Part, PredictOptions
    from lesionseg.inference.predictor import Predictor
    from lesionseg.inference.refine import Refinement
    from lesionseg.training.fit import FitResult
    from lesionseg.training.watch import Watcher

__all__ = [
    "audit",
    "benchmark",
    "compare",
    "evaluate",
    "evaluate_predictions",
    "export",
    "load",
    "pair",
    "predict",
    "predict_on_cluster",
    "read_image",
    "read_mask",
    "split",
    "sweep",
    "synth",
    "train",
]


def train(
    config: RunConfig | AnyPath | Mapping[str, Any] | None,
    run: AnyPath,
    *,
    overrides: Overrides = (),
    resume: bool = False,
    progress: bool = False,
    watcher: Watcher | None = None,
) -> FitResult:
    """Trains a run into its folder, or goes on with one.

    Args:
        config: settings, a YAML file, the bare name of a shipped config, or None to resume with the run's own.
        run: the run folder, for example ``runs/frozen``.
        overrides: settings laid over these: ``["loop.epochs=20"]``, or ``{"loop.epochs": 20}``.
        resume: go on from the newest checkpoint.
        progress: show a bar, and a line for each epoch.
        watcher: told of the progress instead.

    Returns:
        how it ended, and a row of losses and scores for each epoch, as in ``history.csv``.

    Raises:
        LesionsegError: as the config, the data, the weights and the run folder give cause.
    """
    from lesionseg.config import RunConfig, load_config
    from lesionseg.io.names import require_run_name
    from lesionseg.training.limits import require_possible
    from lesionseg.training.places import latest_checkpoint, require_unused
    from lesionseg.training.sources import require_sources

    words, folder, settings = as_words(overrides), as_path(run), None
    # Mistakes in the settings, the name, the folder and the data are reported before torch is loaded.
    require_run_name(folder.name)
    if config is not None or not resume:
        settings = load_config(config.model_dump() if isinstance(config, RunConfig) else _source(config), words)
        require_possible(settings)
    if resume or settings is None:
        latest_checkpoint(folder)
    elif is_first_process():
        require_unused(folder, settings.loop.checkpoints)
    if settings is not None:
        require_sources(settings, begins=not resume)
    from lesionseg.training.run import run_training

    with _watching(folder.name, progress, watcher) as watched:
        if settings is None:
            return run_training(None, folder, resume=True, overrides=words, watcher=watched)
        return run_training(settings, folder, resume=resume, watcher=watched)


def _source(config: AnyPath | Mapping[str, Any] | None) -> AnyPath | Mapping[str, Any] | None:
    if isinstance(config, Mapping):
        settings: Mapping[str, Any] = plain(config)
        return settings
    return None if config is None else as_path(config)


def _watching(name: str, progress: bool, watcher: Watcher | None) -> AbstractContextManager[Watcher | None]:
    if watcher is not None or not progress:
        return nullcontext(watcher)
    from lesionseg.console import live_console, training_bar

    return training_bar(live_console(), name, lambda info: None)


def sweep(
    config: AnyPath | Mapping[str, Any],
    name: str,
    sweeps: Sequence[str],
    runs: AnyPath,
    *,
    overrides: Overrides = (),
    resume: bool = False,
    watch: Callable[[str], AbstractContextManager[Watcher]] | None = None,
) -> dict[str, FitResult | LesionsegError]:
    """Trains a run for every combination of some settings' values, one after another.

    Args:
        config: settings, a YAML file, or the bare name of a shipped config.
        name: what the runs' names start with, as in ``NAME-loss=dice``.
        sweeps: ``key.subkey=a,b,c`` words.
        runs: the folder of the runs.
        overrides: settings for all of them, as in ``train``.
        resume: go on with those that have a checkpoint.
        watch: gives what is told of each run's progress, by its name.

    Returns:
        how each run ended, or the error that ended it; after one that was interrupted there are no more.

    Raises:
        ConfigError: listing every mistake in the settings, before the first run.
    """
    from lesionseg.training.sweep import Variant, check_variants, plan_sweep, run_sweep

    variants = plan_sweep(name, sweeps)
    settings = check_variants(_source(config) or {}, as_words(overrides), variants)
    from lesionseg.training.checkpoint import checkpoint_files, checkpoint_folder

    def train_one(variant: Variant) -> FitResult:
        run = as_path(runs) / variant.name
        begun = resume and bool(checkpoint_files(checkpoint_folder(run)))
        with watch(variant.name) if watch else nullcontext() as watcher:
            return train(settings[variant.name], run, resume=begun, watcher=watcher)

    return run_sweep(variants, train_one)


def load(run: AnyPath, *, checkpoint: str = "best", device: str = "auto", threads: int | None = None) -> Predictor:
    """Loads a model for inference: one that ships, a trained run, or what was exported from one.

    Only run folders need torch.

    ``load(run).predict(photo)`` takes a path, the bytes of a file or an array, and gives ``.probability`` at the
    photo's own size, ``.mask(threshold)``, and the pictures ``.photo``, ``.outline()`` and ``.focus()``.

    Args:
        run: the name of a model that ships, a run folder, an exported ``.onnx`` or ``.xml`` file, or a bundle's folder.
        checkpoint: ``best``, ``last``, or ``start``, which is the untrained model that the run began with.
        device: ``auto``, ``cpu``, ``cuda``, ...; a model that ships runs on the CPU unless another device is named.
        threads: CPU threads, for torch of the whole process; None leaves them as they are.

    Raises:
        ConfigError: there is no such checkpoint or device.
        RunError: there is no such model, the run has no intact checkpoint, or a file is missing, damaged or of another
            program.
    """
    from lesionseg.inference.predictor import load_predictor

    return load_predictor(run, checkpoint=checkpoint, device=device, threads=threads)


def predict(
    source: AnyPath,
    run: AnyPath = DEFAULT,
    output: AnyPath | None = None,
    options: PredictOptions | None = None,
    *,
    refine: Refinement | None = None,
    progress: Progress = None,
    workers: int | None = None,
    part: Part | None = None,
    overwrite: bool = False,
) -> FolderResult:
    """Writes a mask for every photo of a folder, or for one photo, at the photo's own size, and ``predictions.csv``.

    A photo that cannot be used is recorded there, and the others go on.

    Args:
        source: a photo, or a folder that is searched with its sub-folders.
        run: the model, as in ``load``; by default the one that ships.
        output: the folder to write; by default ``masks``, if it holds nothing but what this program has written.
        options: what is written of each photo; by default PNG masks at the threshold 0.5.
        refine: what is asked of the model beyond one look at each photo.
        progress: True shows it; a function is called with (done, total) after each photo.
        workers, part, overwrite: as of ``lesionseg.inference.folder.predict_folder``.

    Raises:
        ConfigError: the factor of the tiles is not in its range.
        DataError: there is no photo, or two photos would share an output.
        OutputError: there is something else in the default output, or files of other origin are in the way.
        RunError: there is no such model, it is damaged, or another run writes into the output folder.
    """
    from lesionseg.inference.folder import PredictOptions, default_output, plan_folder
    from lesionseg.inference.pipeline import require_workers

    require_workers(workers)
    model, options = find_model(run), options or PredictOptions()
    folder = default_output() if output is None else as_path(output)
    # Before torch is loaded, if it is needed.
    plan = plan_folder(as_path(source), folder, options, part=part, overwrite=overwrite)
    # Each worker runs an exported model on a thread of its own.
    predictor = load(model, threads=None if is_run(model) else 1)
    if refine is not None:
        predictor = refine.around(predictor, options.threshold)
    with counting(progress, "predicting") as counted:
        return plan.run(predictor, counted, workers)


def predict_on_cluster(
    source: AnyPath,
    model: AnyPath = DEFAULT,
    output: AnyPath | None = None,
    options: PredictOptions | None = None,
    *,
    refine: Refinement | None = None,
    progress: Progress = None,
    address: str | None = None,
    workers: int | None = None,
    overwrite: bool = False,
) -> ClusterResult:
    """Does what ``predict`` does on all machines of a Ray cluster; needs the extra ``[ray]``.

    Arguments and errors are those of ``lesionseg.inference.distributed.predict_distributed``.
    """
    from lesionseg.inference.distributed import predict_distributed
    from lesionseg.inference.folder import default_output

    with counting(progress, "predicting") as counted:
        return predict_distributed(
            source,
            as_path(model),
            default_output() if output is None else output,
            options,
            counted,
            refine=refine,
            address=address,
            workers=workers,
            overwrite=overwrite,
        )


def export(
    run: AnyPath,
    output: AnyPath | None = None,
    *,
    form: str = "onnx",
    precision: str | None = None,
    size: tuple[int, int] | None = None,
    max_drop: float = 0.5,
    qat: int = 0,
    manifest: AnyPath | None = None,
    root: AnyPath | None = None,
    about: AnyPath | None = None,
    say: Warn = ignore,
    overwrite: bool = False,
) -> Exported:
    """Exports a model for another runtime; a file that is not as good as the run is not written.

    Arguments and errors are those of ``lesionseg.export.publish.export_run`` (without a precision, float32), and for
    ``form="bundle"``, which has its precisions and its size, of ``lesionseg.export.shipping.export_bundle`` (without an
    output, the folder ``RUN/export/RUN``).
    """
    from lesionseg.errors import ConfigError
    from lesionseg.export.requests import Request, read_about, require_trained

    place, target = find_model(run), None if output is None else as_path(output)
    more: dict[str, Any] = {"max_drop": max_drop, "qat": qat, "manifest": manifest, "root": root, "say": say}
    more["overwrite"] = overwrite
    # Mistakes in the arguments are reported before torch is loaded.
    if form == "bundle":
        if size is not None:
            raise ConfigError("a bundle has the input size of its training", fix="leave out --size")
        if precision is not None:
            raise ConfigError("a bundle has float16 and int8 at once", fix="leave out --precision")
        told = None if about is None else as_path(about)
        read_about(told)
        require_trained(place)
        from lesionseg.export.shipping import export_bundle

        return export_bundle(place, target or place / "export" / place.name, about=told, **more)
    if about is not None:
        raise ConfigError(f"{about} is for a bundle's card", fix="pass --format bundle, or leave out --about")
    asked = Request(form, precision or "float32", size, max_drop, qat)
    asked.check(place, target)
    from lesionseg.export.publish import export_run

    return export_run(place, target, form=form, precision=asked.precision, size=size, **more)


def benchmark(
    models: Sequence[AnyPath],
    output: AnyPath,
    *,
    manifest: AnyPath | None = None,
    root: AnyPath | None = None,
    split: str = "test",
    rounds: int = 50,
    progress: Progress = None,
    overwrite: bool = False,
) -> Benchmark:
    """Scores and times runs and exported files side by side, and writes the table into a folder.

    Args:
        models: the first is what the others are compared with.
        output: the table's folder.
        manifest: photos with masks to score on; None leaves the scores out.
        root, split: of the manifest.
        rounds: photos that each model is timed with, at each number of threads.
        progress: True shows it; a function is called with (done, total).
        overwrite: replace files that lesionseg did not write, or that were changed since; never an input.

    Raises:
        OutputError: listing every output that is an input, or a file of other origin.
        LesionsegError: as the models and the data give cause.
    """
    from lesionseg.data.manifest import manifest_inputs, read_manifest
    from lesionseg.io.ownership import check_outputs

    cases = read_manifest(manifest, root).split(split) if manifest else ()
    read = [*map(as_path, models), *(manifest_inputs(manifest, cases) if manifest else ())]
    folder = as_path(output)
    check_outputs([folder / "benchmark.csv", folder / "benchmark.md"], inputs=read, overwrite=overwrite)
    from lesionseg.export.benchmark import benchmark as measure

    with counting(progress, "measuring") as counted:
        return measure([as_path(model) for model in models], folder, cases=cases, rounds=rounds, progress=counted)
