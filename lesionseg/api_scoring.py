"""The public functions that score and compare: what ``api`` offers of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lesionseg.api_parts import Progress, Warn, as_paths, counting, ignore
from lesionseg.io.paths import AnyPath, as_path
from lesionseg.shipped_models import find_model, is_run

if TYPE_CHECKING:
    from lesionseg.data.labels import Labels
    from lesionseg.data.manifest import Manifest
    from lesionseg.evaluation.report import ReportFiles
    from lesionseg.evaluation.runs import RunResult
    from lesionseg.inference.homes import Home
    from lesionseg.records import Case

__all__ = ["compare", "evaluate", "evaluate_predictions"]

_IN_TRAINING = ("train", "val")


def evaluate(
    run: AnyPath,
    *,
    manifest: AnyPath | None = None,
    root: AnyPath | None = None,
    split: str = "test",
    at_model_size: bool = False,
    scores_in: AnyPath = "runs",
    progress: Progress = None,
    warn: Warn = ignore,
    overwrite: bool = False,
) -> RunResult:
    """Scores a run on a split, at each mask's own size; scores of the same weights and manifest are used again.

    Another tool's predictions are not scored anew: their scores are read, and nothing that would change them is taken.

    Photos that the run was trained or validated with are refused, unless the split is called train or val.

    Args:
        run: a run folder; an exported ``.onnx`` or ``.xml`` file, whose scores go into the folder ``<file>-scores``
            beside it; or a model that ships or a bundle, whose scores go into ``runs/NAME``.
        manifest: by default the one that the run was trained with.
        root: folder that the manifest's relative paths start from.
        split: which cases.
        at_model_size: score at the model's input size instead, beside the other evaluation.
        scores_in: the folder for the scores of models that ship.
        progress: True shows it; a function is called with (done, total).
        warn: told where the training photos are not there to compare with.
        overwrite: replace files that lesionseg did not write, or that were changed since; never an input.

    Raises:
        OutputError: listing every file in the way of the scores.
        ConfigError: a manifest, a root or the model's size is asked for of another tool's predictions.
        DataError: listing every photo that has the very pixels of a training photo, or that is not the one of its
            manifest.
        LesionsegError: as the run and the data give cause.
    """
    asked: dict[str, Any] = {"manifest": manifest, "root": root, "at_model_size": at_model_size}
    _refuse_for_outside(as_path(run), [name for name, value in asked.items() if value])
    more: dict[str, Any] = {"scores_in": scores_in, "progress": progress, "warn": warn, "overwrite": overwrite}
    return _scored(run, split=split, **asked, **more)


def _refuse_for_outside(run: Path, asked: Sequence[str]) -> None:
    """Refuse what cannot be applied to the scores of another tool's predictions."""
    from lesionseg.errors import ConfigError
    from lesionseg.evaluation.runs import is_trained, load_info

    model = find_model(run)
    if asked and is_run(model) and not is_trained(load_info(model)):
        raise ConfigError(
            f"{run} holds another tool's predictions, which are scored once, when they are given",
            problems=[f"{name}: has no effect on scores that exist" for name in asked],
            fix="leave these out to read the scores, or score the predictions again with "
            "'lesionseg evaluate --predictions DIR'",
        )


def _scored(
    run: AnyPath,
    *,
    manifest: AnyPath | None,
    root: AnyPath | None,
    split: str,
    at_model_size: bool,
    scores_in: AnyPath,
    progress: Progress,
    warn: Warn,
    overwrite: bool,
) -> RunResult:
    """Return a run with its scores, as ``evaluate`` does; of another tool's predictions, the scores that exist."""
    from lesionseg.data.recorded import require_recorded
    from lesionseg.evaluation.runs import is_trained, load_info, load_run

    model = find_model(run)
    if is_run(model) and not is_trained(load_info(model)):
        return load_run(model, split)
    from lesionseg.inference.homes import begun, find_home
    from lesionseg.inference.predictor import load_predictor
    from lesionseg.inference.scoring import AT_MODEL_SIZE, check_evaluation, score_run
    from lesionseg.training.places import weights_digest

    name = split + AT_MODEL_SIZE * at_model_size
    # Loading the weights, and torch for them, takes longer than reading the scores.
    known = weights_digest(model) if is_run(model) else ""
    data = _manifest_of(load_info(model), manifest, root) if known else None
    if data and _is_scored(model, name, known, data.sha256, data.split(split)):
        return load_run(model, name)
    if data:
        # Before torch, which takes seconds to load.
        check_evaluation(model / "evaluation" / name, data.split(split), overwrite=overwrite)
    predictor = load_predictor(model)
    home = find_home(model, predictor, as_path(run), as_path(scores_in))
    place = home.folder / "evaluation" / name
    # A run has been looked at above.
    looked = data is not None
    data = data or _manifest_of(home.info, manifest, root)
    cases = data.split(split)
    if looked or not _is_scored(home.folder, name, predictor.sha256, data.sha256, cases):
        home.check(inputs=[model], overwrite=overwrite)
        check_evaluation(place, cases, inputs=[model], overwrite=overwrite)
        require_recorded(cases, warn)
        if split not in _IN_TRAINING:
            _refuse_training_photos(home, data, split, warn)
        with begun(home), counting(progress, f"{home.name}: scoring") as counted:
            with_classes = _has_classes(predictor.labels, cases)
            if with_classes:
                from lesionseg.inference.class_scoring import score_classes

                # First: what is scored counts as scored once the summary below is written.
                score_classes(predictor, cases, place, progress=counted)
            score_run(
                home.folder,
                cases,
                split=split,
                manifest_sha256=data.sha256,
                predictor=predictor,
                at_model_size=at_model_size,
                with_classes=with_classes,
                progress=counted,
            )
    return load_run(home.folder, name)


def _has_classes(labels: Labels, cases: Sequence[Case]) -> bool:
    """Whether there are classes to compare, and not just the lesion of binary masks."""
    if labels.classes is None:
        return len(labels.names) > 1
    first = next((case.mask for case in cases if case.mask), None)
    return first is None or not labels.read_lesion(first)[1]


def evaluate_predictions(
    predictions: AnyPath,
    run: AnyPath,
    *,
    masks: AnyPath | None = None,
    images: AnyPath | None = None,
    manifest: AnyPath | None = None,
    root: AnyPath | None = None,
    split: str = "test",
    probabilities: bool = False,
    progress: Progress = None,
    warn: Warn = ignore,
    overwrite: bool = False,
) -> RunResult:
    """Scores masks that any tool has written, at each true mask's own size, into a folder that reports read as a run.

    Args:
        predictions: a folder with a mask for every case, matched by id.
        run: the folder to write, for example ``runs/other-tool``.
        masks: a folder with the true masks; or else a manifest names them.
        images: a folder with the photos, for subgroups and pictures; a manifest names them too.
        manifest, root, split: the cases, as in ``evaluate``; the report then takes this beside runs of the manifest.
        probabilities: the files are 8-bit grey probability maps and not masks.
        progress: True shows it; a function is called with (done, total).
        warn: told of files that belong to no case.
        overwrite: replace files that lesionseg did not write, or that were changed since; never an input.

    Raises:
        OutputError: the folder holds something else, or listing every file in the way of the scores.
        RunError: the folder's name cannot be a run's.
        ConfigError: neither masks nor a manifest are given, or both.
        DataError: listing every case without prediction and every one that cannot be scored.
    """
    from lesionseg.data.recorded import require_recorded
    from lesionseg.evaluation.runs import load_run
    from lesionseg.inference.homes import outside_home
    from lesionseg.inference.outside import match_predictions, score_predictions
    from lesionseg.io.names import require_run_name

    folder, found = as_path(run), as_path(predictions)
    require_run_name(folder.name)
    # Before the masks are read.
    outside_home(folder, {})
    sources = as_paths(predictions=found, manifest=manifest, root=root, masks=masks, images=images)
    # Absolute, as a report may be made in another folder; the name of a shipped manifest stays a name.
    told = {
        name: str(place.absolute() if name != "manifest" or place.exists() else place) if place else None
        for name, place in sources.items()
    }
    cases, sha256 = _cases_outside(told, split, warn)
    if manifest is not None:
        require_recorded(cases, warn)
    files = match_predictions(found, cases, probabilities=probabilities, warn=warn)
    with counting(progress, f"{folder.name}: scoring") as counted:
        score_predictions(
            folder,
            cases,
            files,
            split=split,
            manifest_sha256=sha256,
            probabilities=probabilities,
            sources=told,
            overwrite=overwrite,
            progress=counted,
            warn=warn,
        )
    return load_run(folder, split)


def _cases_outside(sources: Mapping[str, str | None], split: str, warn: Warn) -> tuple[Sequence[Case], str]:
    """Cases that another tool's predictions are scored on, and the hash of their manifest or nothing."""
    from lesionseg.data.manifest import read_manifest
    from lesionseg.data.pairing import Folders, pair_folders
    from lesionseg.errors import ConfigError
    from lesionseg.inference.outside import cases_of_masks

    manifest, masks, images = sources["manifest"], sources["masks"], sources["images"]
    if (manifest is None) == (masks is None):
        raise ConfigError("predictions are scored against true masks", fix="pass either --masks DIR or --manifest NAME")
    if manifest is not None:
        data = read_manifest(manifest, sources["root"])
        return data.split(split), data.sha256
    if images is not None:
        return pair_folders([Folders(split, Path(images), Path(str(masks)))], warn=warn), ""
    return cases_of_masks(Path(str(masks)), split, warn), ""


def _refuse_training_photos(home: Home, data: Manifest, split: str, warn: Warn) -> None:
    from lesionseg.data.leaks import refuse_shared
    from lesionseg.errors import LesionsegError

    run, known = home.folder, home.info["manifest"]["sha256"]
    try:
        trained = data if data.sha256 == known else _manifest_of(home.info, None, None)
    except LesionsegError as error:
        warn(f"{run}: {split} was not searched for training photos, as these were not found: {error.message}")
        return
    if trained.sha256 != known:
        warn(f"{run}: its manifest {trained.name} has changed since the training")
    seen = [case for case in trained.cases if case.split in _IN_TRAINING]
    refuse_shared(
        data.split(split), seen, f"{run}: {split} holds photos that the run was trained with, by their pixels"
    )


def _manifest_of(info: Mapping[str, Any], manifest: str | Path | None, root: str | Path | None) -> Manifest:
    from lesionseg.data.manifest import read_manifest

    if manifest is None:
        settings = info["config"]["data"]
        manifest, root = settings["manifest"], root or settings["root"]
    return read_manifest(manifest, root)


def _is_scored(run: Path, split: str, model_sha256: str, manifest_sha256: str, cases: Sequence[Case]) -> bool:
    from lesionseg.data.files import files_digest
    from lesionseg.errors import ImageError, RunError
    from lesionseg.evaluation.runs import load_run

    try:
        summary = load_run(run, split).summary
    except RunError:
        return False
    # One of an earlier version lacks what is scored today.
    if "files_sha256" not in summary:
        return False
    if (summary["model_sha256"], summary["manifest_sha256"]) != (model_sha256, manifest_sha256):
        return False
    try:
        # A manifest names files, which may be others by now, or under another root.
        return bool(summary["files_sha256"] == files_digest(cases))
    except ImageError:
        return False


def compare(
    runs: AnyPath | Iterable[AnyPath],
    output: AnyPath,
    *,
    manifest: AnyPath | None = None,
    root: AnyPath | None = None,
    split: str = "test",
    at_model_size: bool = False,
    scores_in: AnyPath = "runs",
    formats: str | Sequence[str] = ("html",),
    progress: Progress = None,
    warn: Warn = ignore,
    overwrite: bool = False,
) -> tuple[list[RunResult], ReportFiles]:
    """Scores runs where needed and writes one report of them all.

    Args:
        runs: run folders, exported files and names of models that ship, one or several.
        output: the report's folder.
        manifest, root, split, at_model_size, scores_in: as in ``evaluate``.
        formats: any of ``html``, ``md``, ``latex`` and ``csv``; the CSVs are always written.
        progress: True shows it; a function is called with (done, total) while a run is scored.
        warn: as in ``evaluate``.
        overwrite: replace files that lesionseg did not write, or that were changed since; never an input.

    Raises:
        OutputError: listing every file in the way of the report.
        ConfigError: there is no such format.
        ComparisonError: the runs were scored on different cases.
        LesionsegError: as the runs and the data give cause.

    Returns:
        the runs with their scores, and the files of the report.
    """
    from lesionseg.data.manifest import manifest_inputs
    from lesionseg.evaluation.drawing import load_matplotlib
    from lesionseg.evaluation.report import check_formats, report_outputs, write_report
    from lesionseg.io.ownership import check_outputs

    # A single name is a sequence too, of letters.
    wanted = (formats,) if isinstance(formats, str) else formats
    # Before what takes minutes.
    check_formats(wanted)
    load_matplotlib()
    named = [runs] if isinstance(runs, str | Path) else list(runs)
    folder = as_path(output)
    written = report_outputs(folder, wanted)
    check_outputs(written, inputs=_files_below(map(as_path, named)), overwrite=overwrite)
    more: dict[str, Any] = {"manifest": manifest, "root": root, "split": split, "at_model_size": at_model_size}
    more |= {"scores_in": scores_in, "progress": progress, "warn": warn, "overwrite": overwrite}
    results = [_scored(run, **more) for run in named]
    cases = _pictured_cases(results, manifest, root, split)
    photos = [file for case in cases for file in (case.image, case.mask) if file is not None]
    read = [*photos, *_files_below(result.folder for result in results)]
    read += manifest_inputs(manifest, ()) if manifest is not None else []
    # Once more: only now is it known which photos and scores are read.
    check_outputs(written, inputs=read, overwrite=overwrite)
    return results, write_report(results, {case.case_id: case for case in cases}, folder, formats=wanted)


def _pictured_cases(
    results: Sequence[RunResult], manifest: str | Path | None, root: str | Path | None, split: str
) -> Sequence[Case]:
    """The scored cases with their photos, from whichever run knows them; none where all were scored without photos."""
    for result in results:
        if result.trained:
            return _manifest_of(result.info, manifest, root).split(split)
    for result in results:
        if result.info.get("manifest") or result.info.get("images"):
            return _cases_outside(result.info, split, ignore)[0]
    return ()


def _files_below(runs: Iterable[Path]) -> list[Path]:
    """The files of runs that a report reads: themselves, or what is in their folders and those of their evaluations."""
    return [file for run in runs for file in (run, *run.glob("*.*"), *run.glob("evaluation/*/*.*"))]
