"""The public functions, each one way through the house."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lesionseg.config import RunConfig
    from lesionseg.data.manifest import Manifest
    from lesionseg.errors import LesionsegError
    from lesionseg.evaluation.report import ReportFiles
    from lesionseg.evaluation.runs import RunResult
    from lesionseg.export.benchmark import Benchmark
    from lesionseg.export.publish import Exported
    from lesionseg.inference.folder import FolderResult, PredictOptions
    from lesionseg.inference.predictor import Predictor
    from lesionseg.training.fit import FitResult
    from lesionseg.training.watch import Watcher

__all__ = ["benchmark", "compare", "evaluate", "export", "load", "pair", "predict", "sweep", "train"]

Counted = Callable[[int, int], None]
Warn = Callable[[str], None]

_IN_TRAINING = ("train", "val")


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
    """Loads a trained run, or an ``.onnx`` file that was exported from one (then without torch), for inference.

    Raises:
        RunError: the run has no intact checkpoint, or the file is missing, damaged or of another program.
    """
    from lesionseg.inference.predictor import load_predictor

    return load_predictor(run, checkpoint=checkpoint, threads=threads)


def predict(
    source: Path, run: Path, output: Path, options: PredictOptions | None = None, *, progress: Counted | None = None
) -> FolderResult:
    """Writes a mask for every photo of a folder, or for one photo, at the photo's own size.

    Raises:
        DataError: there is no photo, or two photos would share an output.
        RunError: the run has no intact checkpoint, or the file is missing, damaged or of another program.
    """
    from lesionseg.inference.folder import PredictOptions, predict_folder

    return predict_folder(source, load(run), output, options or PredictOptions(), progress=progress)


def evaluate(
    run: Path,
    *,
    manifest: str | Path | None = None,
    root: str | Path | None = None,
    split: str = "test",
    progress: Counted | None = None,
    warn: Warn = _ignore,
) -> RunResult:
    """Scores a run on a split, at each mask's own size; scores of the same weights and manifest are used again.

    Photos that the run was trained or validated with are refused, unless the split is called train or val.

    Args:
        run: a run folder, or an exported ``.onnx`` file; its scores go into a folder beside it, called as the file
            without its suffix.
        manifest: by default the one that the run was trained with.
        root: folder that the manifest's relative paths start from.
        split: which cases.
        progress: called with (done, total).
        warn: told where the training photos are not there to compare with.

    Raises:
        DataError: listing every photo that has the very pixels of a training photo.
        LesionsegError: as the run and the data give cause.
    """
    from lesionseg.evaluation.runs import load_run
    from lesionseg.inference.class_scoring import score_classes
    from lesionseg.inference.scoring import score_run

    predictor = load(run)
    home = _home(run, predictor)
    data = _manifest_of(home, manifest, root)
    if not _is_scored(home, split, predictor.sha256, data.sha256):
        if split not in _IN_TRAINING:
            _refuse_training_photos(home, data, split, warn)
        if len(predictor.labels.names) > 1:
            # First: what is scored counts as scored once the summary below is written.
            score_classes(predictor, data.split(split), home / "evaluation" / split, progress=progress)
        score_run(
            home, data.split(split), split=split, manifest_sha256=data.sha256, predictor=predictor, progress=progress
        )
    return load_run(home, split)


def _home(run: Path, predictor: Predictor) -> Path:
    """The run folder that the scores go to."""
    if run.is_dir():
        return run
    from lesionseg.inference.exported import unpack_run
    from lesionseg.inference.onnx_predictor import OnnxPredictor

    assert isinstance(predictor, OnnxPredictor)  # noqa: S101 - no other predictor comes from a file
    return unpack_run(predictor.info, run)


def _refuse_training_photos(run: Path, data: Manifest, split: str, warn: Warn) -> None:
    from lesionseg.data.leaks import refuse_shared
    from lesionseg.errors import LesionsegError
    from lesionseg.evaluation.runs import load_info

    known = load_info(run)["manifest"]["sha256"]
    try:
        trained = data if data.sha256 == known else _manifest_of(run, None, None)
    except LesionsegError as error:
        warn(f"{run}: {split} was not searched for training photos, as these were not found: {error.message}")
        return
    if trained.sha256 != known:
        warn(f"{run}: its manifest {trained.name} has changed since the training")
    seen = [case for case in trained.cases if case.split in _IN_TRAINING]
    refuse_shared(
        data.split(split), seen, f"{run}: {split} holds photos that the run was trained with, by their pixels"
    )


def _manifest_of(run: Path, manifest: str | Path | None, root: str | Path | None) -> Manifest:
    from lesionseg.data.manifest import read_manifest
    from lesionseg.evaluation.runs import load_info

    if manifest is None:
        settings = load_info(run)["config"]["data"]
        manifest, root = settings["manifest"], root or settings["root"]
    return read_manifest(manifest, root)


def _is_scored(run: Path, split: str, model_sha256: str, manifest_sha256: str) -> bool:
    from lesionseg.errors import RunError
    from lesionseg.evaluation.runs import load_run

    try:
        summary = load_run(run, split).summary
    except RunError:
        return False
    return bool(summary["model_sha256"] == model_sha256 and summary["manifest_sha256"] == manifest_sha256)


def compare(
    runs: Sequence[Path],
    output: Path,
    *,
    manifest: str | Path | None = None,
    root: str | Path | None = None,
    split: str = "test",
    progress: Counted | None = None,
    warn: Warn = _ignore,
) -> tuple[list[RunResult], ReportFiles]:
    """Scores runs where needed and writes one report of them all.

    Args:
        runs: run folders and exported files.
        output: the report's folder.
        manifest, root, split: as in ``evaluate``.
        progress: called with (done, total) while a run is scored.
        warn: as in ``evaluate``.

    Raises:
        ComparisonError: the runs were scored on different cases.
        LesionsegError: as the runs and the data give cause.
    """
    from lesionseg.evaluation.report import write_report

    results = [evaluate(run, manifest=manifest, root=root, split=split, progress=progress, warn=warn) for run in runs]
    cases = _manifest_of(results[0].folder, manifest, root).split(split) if runs else ()
    return results, write_report(results, {case.case_id: case for case in cases}, output)


def export(
    run: Path,
    output: Path | None = None,
    *,
    form: str = "onnx",
    precision: str = "float32",
    size: tuple[int, int] | None = None,
    max_drop: float = 0.5,
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
