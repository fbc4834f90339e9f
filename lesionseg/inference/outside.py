"""Scores masks or probability maps that another tool has written, so that it can stand beside runs in a report."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from lesionseg import __version__
from lesionseg.data.case_ids import case_id_of, drop_lesion_ending
from lesionseg.data.images import IMAGE_SUFFIXES, decode_mask, read_bytes, read_probability
from lesionseg.data.pairing import list_pictures
from lesionseg.errors import ImageError, PairingError
from lesionseg.inference.homes import begun, outside_home
from lesionseg.inference.scoring import Ready, check_evaluation, evaluate_cases
from lesionseg.inference.stages import OVERLAY_ENDINGS, PROBABILITY_ENDING
from lesionseg.records import THRESHOLD, BoolMask, Case, Probability

__all__ = ["cases_of_masks", "match_predictions", "score_predictions"]

_SUFFIXES = (*IMAGE_SUFFIXES, ".nii", ".nii.gz")
# What 'lesionseg predict' keeps beside its masks.
_OURS = (".predictions.",)
_SHOWN = 8

Warn = Callable[[str], None]


def cases_of_masks(masks: Path, split: str, warn: Warn) -> list[Case]:
    """A case for each true mask of a folder; its photo is unknown, so the mask stands in its place.

    Raises:
        PairingError: the folder cannot be read, holds no mask, or two masks share an id.
    """
    found = _by_id(list_pictures(masks, _SUFFIXES, warn), masks)
    bare = {case_id.removesuffix("_lesion") for case_id in found}
    if bare.isdisjoint(found):
        # PH2 names all of its masks so.
        found = drop_lesion_ending(found, bare)
    return [Case(case_id, path, path, split=split) for case_id, path in sorted(found.items())]


def match_predictions(folder: Path, cases: Iterable[Case], *, probabilities: bool, warn: Warn) -> dict[str, Path]:
    """Case id -> the file that another tool has written for it, matched by id as photos and masks are.

    Args:
        folder: holds ``ID.png``, ``ID_segmentation.png``, ``ID_mask.png``, ``ID_lesion.png`` or, for probability maps,
            ``ID_probability.png``; where no name ends so, probability maps may have the other names too.
        cases: those that are scored.
        probabilities: the files are 8-bit grey probability maps, and not masks.
        warn: told of predictions that belong to no case.

    Raises:
        PairingError: listing every case without prediction and every id with several.
    """
    files = _wanted(list_pictures(folder, _SUFFIXES, warn, ours=_OURS), probabilities)
    ids = [case.case_id for case in cases]
    found = drop_lesion_ending(_by_id(files, folder), set(ids))
    missing = [case_id for case_id in ids if case_id not in found]
    if missing:
        raise PairingError(
            f"{folder} lacks a prediction for {len(missing)} of {len(ids)} cases",
            problems=missing,
            fix=_remedy(folder, probabilities, any_found=len(missing) < len(ids)),
        )
    extra = sorted(found.keys() - set(ids))
    if extra:
        more = ", ..." if len(extra) > _SHOWN else ""
        warn(f"{len(extra)} predictions belong to no case: {', '.join(extra[:_SHOWN])}{more}")
    return {case_id: found[case_id] for case_id in ids}


def _remedy(folder: Path, probabilities: bool, *, any_found: bool) -> str:
    names = "ID_probability.png" if probabilities else "ID.png, ID_mask.png, ID_segmentation.png or ID_lesion.png"
    if any_found:
        return f"predict these too, as {names}: a photo on which a tool failed counts, with an empty mask"
    if not probabilities and any(path.name.lower().endswith(PROBABILITY_ENDING) for path in folder.iterdir()):
        return "pass --probabilities (in Python probabilities=True): the folder holds probability maps"
    return f"call the files {names}, ID being that of the true masks"


def _wanted(files: Sequence[Path], probabilities: bool) -> list[Path]:
    # A folder that 'lesionseg predict' wrote holds all kinds side by side.
    names = {path: path.name.lower() for path in files}
    if not probabilities:
        other = [path for path, name in names.items() if name.endswith(PROBABILITY_ENDING)]
    elif any(name.endswith(PROBABILITY_ENDING) for name in names.values()):
        other = [path for path, name in names.items() if "_segmentation." in name]
    else:
        # Other tools name their probability maps like masks.
        other = []
    overlays = tuple(OVERLAY_ENDINGS.values())
    return [path for path, name in names.items() if path not in other and not name.endswith(overlays)]


def _by_id(files: Sequence[Path], folder: Path) -> dict[str, Path]:
    found: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        is_map = path.name.lower().endswith(PROBABILITY_ENDING)
        bare = path.with_name(path.name[: -len(PROBABILITY_ENDING)] + ".png") if is_map else path
        found[case_id_of(bare)].append(path)
    doubled = [f"{i}: {', '.join(p.name for p in paths)}" for i, paths in found.items() if len(paths) > 1]
    if doubled:
        raise PairingError(f"{folder} holds several files of one id", problems=doubled, fix="keep one file of each")
    return {case_id: paths[0] for case_id, paths in found.items()}


def score_predictions(
    run: Path,
    cases: Sequence[Case],
    files: Mapping[str, Path],
    *,
    split: str,
    manifest_sha256: str = "",
    probabilities: bool = False,
    threshold: float = THRESHOLD,
    sources: Mapping[str, str | None],
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    warn: Warn = lambda line: None,
) -> Path:
    """Scores another tool's files at the masks' own size, into a folder that reports read like a run.

    Args:
        run: the folder; made where it is missing.
        cases: with masks; one whose photo is its mask has none.
        files: case id -> mask, or probability map at the size of the mask.
        split: the evaluation's name.
        manifest_sha256: of the manifest that the cases come from; empty without one.
        probabilities: ``files`` are 8-bit grey probability maps.
        threshold: lesion where the probability is at least this; masks have only 0 and 1.
        sources: where all this comes from, for ``run.json``: ``predictions``, and ``manifest``, ``root``, ``masks``,
            ``images`` as far as there are any.
        overwrite: replace files that lesionseg did not write, or that were changed since.
        progress: called with (done, total) after each case.
        warn: called with a line for each way in which masks were odd.

    Returns:
        the folder with the evaluation.

    Raises:
        DataError: listing every case that cannot be scored.
        OutputError: the folder holds a training or something else, files of other origin are in the way, or it cannot
            be written to.
    """
    info = {"name": run.resolve().name, "created": datetime.now(UTC).isoformat(timespec="seconds"), **sources}
    home = outside_home(run, {**info, "versions": {"lesionseg": __version__}})
    digest = hashlib.sha256()
    for case_id, path in sorted(files.items()):
        digest.update(f"{case_id}\t{hashlib.sha256(read_bytes(path)).hexdigest()}\n".encode())
    facts = {
        "run": run.resolve().name,
        "split": split,
        "threshold": threshold,
        "checkpoint": "predictions of another tool",
        "model_sha256": digest.hexdigest(),
        "manifest_sha256": manifest_sha256,
        "size": "own",
        "sources": dict(sources),
    }
    source = _Files(files, probabilities)
    place = run / "evaluation" / split
    check_evaluation(place, cases, inputs=files.values(), overwrite=overwrite)
    home.check(inputs=files.values(), overwrite=overwrite)
    with begun(home):
        evaluate_cases(run, cases, source, facts, probabilities=probabilities, progress=progress)
    for line, ids in sorted(source.odd.items()):
        warn(f"{len(ids)} masks: {line}: {', '.join(sorted(ids)[:_SHOWN])}{', ...' if len(ids) > _SHOWN else ''}")
    return place


@dataclass(frozen=True, slots=True)
class _Files:
    files: Mapping[str, Path]
    probabilities: bool
    # What is odd -> the cases; several threads add to it.
    odd: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def _mask(self, case: Case, path: Path) -> BoolMask:
        mask = decode_mask(read_bytes(path), str(path))
        for line in mask.warnings:
            # A tool that finds nothing on a photo is asked for an empty mask.
            if mask.values.any():
                self.odd[line].append(case.case_id)
        return mask.values

    def prepare(self, case: Case) -> Ready | list[str]:
        if case.mask is None:
            return [f"{case.case_id}: has no mask"]
        path = self.files[case.case_id]
        try:
            truth = self._mask(case, case.mask)
            found = read_probability(path) if self.probabilities else self._mask(case, path).astype(np.float32)
            photo = None if case.image == case.mask else read_bytes(case.image)
        except ImageError as error:
            return [f"{case.case_id}: {error.message}{'' if self.probabilities else _if_soft(path)}"]
        if found.shape != truth.shape:
            sizes = f"{_size(found)}, the true mask {_size(truth)}"
            return [f"{case.case_id}: the prediction is {sizes} ({path})"]
        return Ready(case, truth, photo, truth.shape[1], truth.shape[0], found)

    def predict(self, ready: Ready) -> Probability:
        found: Probability = ready.given
        return found


def _if_soft(path: Path) -> str:
    """What to try with a file that is no mask, where it may be a probability map."""
    try:
        levels = len(np.unique(read_probability(path)))
    except ImageError:
        return ""
    return "; if it is a probability map, pass --probabilities (in Python probabilities=True)" if levels > 2 else ""


def _size(picture: BoolMask | Probability) -> str:
    return f"{picture.shape[1]} x {picture.shape[0]}"
