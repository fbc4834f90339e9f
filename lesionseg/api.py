"""The public functions, each one way through the house."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lesionseg.config import RunConfig
    from lesionseg.data.manifest import Manifest
    from lesionseg.evaluation.report import ReportFiles
    from lesionseg.evaluation.runs import RunResult
    from lesionseg.inference.folder import FolderResult, PredictOptions
    from lesionseg.inference.predictor import Predictor
    from lesionseg.training.fit import FitResult
    from lesionseg.training.watch import Watcher

__all__ = ["compare", "evaluate", "load", "pair", "predict", "train"]

Counted = Callable[[int, int], None]


def pair(
    images: Path,
    masks: Path,
    output: Path,
    *,
    test_images: Path | None = None,
    test_masks: Path | None = None,
    labels: Sequence[Path] = (),
    groups: Path | None = None,
) -> Manifest:
    """Pairs photos and masks by id and writes a manifest.

    Args:
        images, masks: folders of the train split.
        output: the CSV to write.
        test_images, test_masks: folders of the test split.
        labels: CSVs with case id and diagnosis.
        groups: a CSV with case id and group (patient, lesion).

    Raises:
        PairingError: listing every orphan, duplicate, unreadable file and size mismatch.
    """
    from lesionseg.data.manifest import read_manifest, write_manifest
    from lesionseg.data.pairing import Folders, pair_folders, read_labels
    from lesionseg.errors import ConfigError

    if (test_images is None) != (test_masks is None):
        raise ConfigError("test photos and test masks go together", fix="pass both folders, or neither")
    folders = [Folders("train", images, masks)]
    if test_images and test_masks:
        folders.append(Folders("test", test_images, test_masks))
    diagnoses = {case_id: label for path in labels for case_id, label in read_labels(path).items()}
    cases = pair_folders(folders, labels=diagnoses, groups=read_labels(groups) if groups else None)
    root = write_manifest(cases, output)
    return read_manifest(output, root)


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


def load(run: Path, *, checkpoint: str = "best", threads: int | None = None) -> Predictor:
    """Loads a trained run for inference.

    Raises:
        RunError: the run has no intact checkpoint.
    """
    from lesionseg.inference.predictor import load_predictor

    return load_predictor(run, checkpoint=checkpoint, threads=threads)


def predict(
    source: Path, run: Path, output: Path, options: PredictOptions | None = None, *, progress: Counted | None = None
) -> FolderResult:
    """Writes a mask for every photo of a folder, or for one photo, at the photo's own size.

    Raises:
        DataError: there is no photo, or two photos would share an output.
        RunError: the run has no intact checkpoint.
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
) -> RunResult:
    """Scores a run on a split, at each mask's own size; scores of the same weights and manifest are used again.

    Args:
        run: a run folder.
        manifest: by default the one that the run was trained with.
        root: folder that the manifest's relative paths start from.
        split: which cases.
        progress: called with (done, total).

    Raises:
        LesionsegError: as the run and the data give cause.
    """
    from lesionseg.evaluation.runs import load_run
    from lesionseg.inference.scoring import score_run

    data = _manifest_of(run, manifest, root)
    predictor = load(run)
    if not _is_scored(run, split, predictor.sha256, data.sha256):
        score_run(
            run, data.split(split), split=split, manifest_sha256=data.sha256, predictor=predictor, progress=progress
        )
    return load_run(run, split)


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
) -> tuple[list[RunResult], ReportFiles]:
    """Scores runs where needed and writes one report of them all.

    Args:
        runs: run folders.
        output: the report's folder.
        manifest, root, split: as in ``evaluate``.
        progress: called with (done, total) while a run is scored.

    Raises:
        ComparisonError: the runs were scored on different cases.
        LesionsegError: as the runs and the data give cause.
    """
    from lesionseg.evaluation.report import write_report

    results = [evaluate(run, manifest=manifest, root=root, split=split, progress=progress) for run in runs]
    cases = _manifest_of(runs[0], manifest, root).split(split) if runs else ()
    return results, write_report(results, {case.case_id: case for case in cases}, output)
