"""The public functions, each one way through the house."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lesionseg.api_scoring import compare, evaluate, evaluate_predictions

if TYPE_CHECKING:
    from lesionseg.config import RunConfig
    from lesionseg.data.manifest import Manifest
    from lesionseg.errors import LesionsegError
    from lesionseg.export.benchmark import Benchmark
    from lesionseg.export.publish import Exported
    from lesionseg.inference.folder import FolderResult, PredictOptions
    from lesionseg.inference.predictor import Predictor
    from lesionseg.training.fit import FitResult
    from lesionseg.training.watch import Watcher

__all__ = [
    "benchmark",
    "compare",
    "evaluate",
    "evaluate_predictions",
    "export",
    "load",
    "pair",
    "predict",
    "sweep",
    "train",
]

Counted = Callable[[int, int], None]
Warn = Callable[[str], None]


def _ignore(_: str) -> None:
    pass


def pair(
    images: Path,
    masks: Path,
    output: Path,
    *,
    test_images: Path | None = None,
    test_masks: Path | None = None,
    labels: Sequence[Path] = (),
    groups: Path | None = None,
    warn: Warn = _ignore,
) -> Manifest:
    """Pairs photos and masks by id and writes a manifest.

    What was accepted and still is worth a look goes into ``<stem>.warnings.txt`` beside it.

    Args:
        images, masks: folders of the train split.
        output: the CSV to write.
        test_images, test_masks: folders of the test split.
        labels: CSVs with case id and diagnosis.
        groups: a CSV with case id and group (patient, lesion).
        warn: told of each line of ``<stem>.warnings.txt``.

    Raises:
        PairingError: listing every photo without mask, duplicate, unreadable file and size mismatch.
    """
    from lesionseg.data.manifest import read_manifest, write_manifest
    from lesionseg.data.pairing import Folders, pair_folders, read_labels
    from lesionseg.errors import ConfigError
    from lesionseg.tables import one_line

    if (test_images is None) != (test_masks is None):
        raise ConfigError("test photos and test masks go together", fix="pass both folders, or neither")
    folders = [Folders("train", images, masks)]
    if test_images and test_masks:
        folders.append(Folders("test", test_images, test_masks))
    diagnoses = {case_id: label for path in labels for case_id, label in read_labels(path).items()}
    told: list[str] = []
    group_of = read_labels(groups) if groups else None
    try:
        cases = pair_folders(folders, labels=diagnoses, groups=group_of, warn=lambda line: told.append(one_line(line)))
    finally:
        for line in told:
            warn(line)
        _record(told, output.with_suffix(".warnings.txt"))
    root = write_manifest(cases, output)
    return read_manifest(output, root)


def _record(warnings: Sequence[str], path: Path) -> None:
    from lesionseg.data.images import write_atomic

    if warnings:
        write_atomic(path, "".join(f"{line}\n" for line in warnings).encode())
    elif path.is_file():
        # Those of an earlier pairing.
        path.unlink()


def train(
    config: RunConfig | str | Path | Mapping[str, Any] | None,
    run: Path,
    *,
    overrides: Sequence[str] = (),
    resume: bool = False,
    watcher: Watcher | None = None,
) -> FitResult:
    """Trains a run into its folder, or goes on with one.

    Args:
        config: settings, a YAML file, the bare name of a shipped config, or None to resume with the run's own.
        run: the run folder, for example ``Path("runs/frozen")``.
        overrides: ``key.subkey=value`` words.
        resume: go on from the newest checkpoint.
        watcher: told of the progress.

    Raises:
        LesionsegError: as the config, the data, the weights and the run folder give cause.
    """
    from lesionseg.config import RunConfig, load_config

    # Mistakes in the settings are told before torch is loaded.
    settings = None
    if config is not None or not resume:
        plain = config.model_dump() if isinstance(config, RunConfig) else config
        settings = load_config(plain, overrides)
    from lesionseg.training.run import run_training

    if settings is None:
        return run_training(None, run, resume=True, overrides=overrides, watcher=watcher)
    return run_training(settings, run, resume=resume, watcher=watcher)


def sweep(
    config: str | Path | Mapping[str, Any],
    name: str,
    sweeps: Sequence[str],
    runs: Path,
    *,
    overrides: Sequence[str] = (),
    resume: bool = False,
    watch: Callable[[str], AbstractContextManager[Watcher]] | None = None,
) -> dict[str, FitResult | LesionsegError]:
    """Trains a run for every combination of some settings' values, one after another.

    Args:
        config: settings, a YAML file, or the bare name of a shipped config.
        name: what the runs' names start with, as in ``NAME-loss=dice``.
        sweeps: ``key.subkey=a,b,c`` words.
        runs: the folder of the runs.
        overrides: ``key.subkey=value`` words for all of them.
        resume: go on with those that have a checkpoint.
        watch: gives what is told of each run's progress, by its name.

    Returns:
        how each run ended, or the error that ended it; after one that was interrupted there are no more.

    Raises:
        ConfigError: listing every mistake in the settings, before the first run.
    """
    from lesionseg.training.sweep import Variant, check_variants, plan_sweep, run_sweep

    variants = plan_sweep(name, sweeps)
    settings = check_variants(config, overrides, variants)
    from lesionseg.training.checkpoint import checkpoint_files, checkpoint_folder

    def train_one(variant: Variant) -> FitResult:
        run = runs / variant.name
        begun = resume and bool(checkpoint_files(checkpoint_folder(run)))
        with watch(variant.name) if watch else nullcontext() as watcher:
            return train(settings[variant.name], run, resume=begun, watcher=watcher)

    return run_sweep(variants, train_one)


def load(run: Path, *, checkpoint: str = "best", threads: int | None = None) -> Predictor:
    """Loads a trained run, or an ``.onnx`` or ``.xml`` file exported from one (then without torch), for inference.

    Raises:
        RunError: the run has no intact checkpoint, or the file is missing, damaged or of another program.
    """
    from lesionseg.inference.predictor import load_predictor

    return load_predictor(run, checkpoint=checkpoint, threads=threads)


def predict(
    source: Path,
    run: Path,
    output: Path,
    options: PredictOptions | None = None,
    *,
    tile: float | None = None,
    progress: Counted | None = None,
) -> FolderResult:
    """Writes a mask for every photo of a folder, or for one photo, at the photo's own size.

    Args:
        source: the folder or photo.
        run: as in ``load``.
        output: the folder for the masks.
        options: what is written.
        tile: looks at each photo in overlapping tiles, at so many times the model's input size.
        progress: called with (done, total).

    Raises:
        ConfigError: the factor of the tiles is not in its range.
        DataError: there is no photo, or two photos would share an output.
        RunError: the run has no intact checkpoint, or the file is missing, damaged or of another program.
    """
    from lesionseg.inference.folder import PredictOptions, predict_folder

    predictor = load(run)
    if tile is not None:
        from lesionseg.inference.tiles import Tiled

        predictor = Tiled(predictor, tile)
    return predict_folder(source, predictor, output, options or PredictOptions(), progress=progress)


def export(
    run: Path,
    output: Path | None = None,
    *,
    form: str = "onnx",
    precision: str = "float32",
    size: tuple[int, int] | None = None,
    max_drop: float = 0.5,
    qat: int = 0,
    manifest: str | Path | None = None,
    root: str | Path | None = None,
    say: Warn = _ignore,
) -> Exported:
    """Exports a run for another runtime; a file that is not as good as the run is not written.

    Arguments and errors are those of ``lesionseg.export.publish.export_run``.
    """
    from lesionseg.export.publish import export_run

    return export_run(
        run,
        output,
        form=form,
        precision=precision,
        size=size,
        max_drop=max_drop,
        qat=qat,
        manifest=manifest,
        root=root,
        say=say,
    )


def benchmark(
    models: Sequence[Path],
    output: Path,
    *,
    manifest: str | Path | None = None,
    root: str | Path | None = None,
    split: str = "test",
    rounds: int = 50,
    progress: Counted | None = None,
) -> Benchmark:
    """Scores and times runs and exported files side by side, and writes the table into a folder.

    Args:
        models: the first is what the others are compared with.
        output: the table's folder.
        manifest: photos with masks to score on; None leaves the scores out.
        root, split: of the manifest.
        rounds: photos that each model is timed with, at each number of threads.
        progress: called with (done, total).

    Raises:
        LesionsegError: as the models and the data give cause.
    """
    from lesionseg.data.manifest import read_manifest
    from lesionseg.export.benchmark import benchmark as measure

    cases = read_manifest(manifest, root).split(split) if manifest else ()
    return measure(models, output, cases=cases, rounds=rounds, progress=progress)
