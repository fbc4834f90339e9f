"""Whether runs may stand in one table: the same cases, masks, split, threshold and policy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from lesionseg.errors import ComparisonError
from lesionseg.evaluation.reading import shorten
from lesionseg.evaluation.runs import RunResult

__all__ = ["check_comparable"]


def check_comparable(results: Sequence[RunResult]) -> None:
    """Makes sure that the runs may stand in one table: the same cases, masks, manifest, split, threshold and policy.

    Raises:
        ComparisonError: no runs, a name twice, or naming every run that differs and in what.
    """
    if not results:
        raise ComparisonError("there are no runs to compare", fix="name at least one run folder")
    doubled = [name for name, count in Counter(result.name for result in results).items() if count > 1]
    if doubled:
        places = [f"{r.name}: {r.folder}" for r in results if r.name in doubled]
        raise ComparisonError(
            "several runs have the same name", problems=places, fix="pass each run once, or rename it"
        )
    problems = _different_cases(results)
    for key in ("split", *_which_files(results), "threshold", "empty_mask_policy"):
        values = [result.summary[key] for result in results]
        if any(value != values[0] for value in values):
            problems += [f"{r.name}: its {key} is {value}" for r, value in zip(results, values, strict=True)]
    if not problems:
        problems = _different_masks(results)
    if problems:
        raise ComparisonError(
            "these runs were not scored on the same photos in the same way: " + ", ".join(r.name for r in results),
            problems=problems,
            fix="run 'lesionseg evaluate' for each of them with the same manifest, split and threshold",
        )


def _which_files(results: Sequence[RunResult]) -> tuple[str, ...]:
    """What tells whether the runs were scored on the same files: the masks, or else the manifest that names them and
    the files' bytes."""
    # Predictions of other tools may be scored against a folder of masks, without a manifest.
    from_folders = any(not result.summary["manifest_sha256"] for result in results)
    known = all("masks_sha256" in result.summary for result in results)
    if from_folders and known:
        return ("masks_sha256",)
    return ("manifest_sha256", *(("files_sha256",) if all("files_sha256" in r.summary for r in results) else ()))


def _different_cases(results: Sequence[RunResult]) -> list[str]:
    cases = {result.name: set(result.per_image["case_id"]) for result in results}
    union = set().union(*cases.values())
    lacking = {name: sorted(union - own) for name, own in cases.items()}
    return [f"{name}: lacks cases that others have, {shorten(ids)}" for name, ids in lacking.items() if ids]


def _different_masks(results: Sequence[RunResult]) -> list[str]:
    """Runs of one case must agree on how many pixels the photo and its true lesion have."""

    def sizes(result: RunResult) -> pd.DataFrame:
        frame = result.per_image.set_index("case_id").sort_index()
        return pd.DataFrame({"lesion": frame["tp"] + frame["fn"], "rest": frame["fp"] + frame["tn"]})

    first = sizes(results[0])
    different = {result.name: first.index[(sizes(result) != first).any(axis=1)] for result in results[1:]}
    return [
        f"{name}: its true masks differ from those of {results[0].name}, {shorten(map(str, ids))}"
        for name, ids in different.items()
        if len(ids)
    ]
