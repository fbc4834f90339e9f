"""The comparison of runs: every pair of them, the tables of means and of differences, and a verdict in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from lesionseg.evaluation.columns import SCORES, SURFACE
from lesionseg.evaluation.runs import RunResult, scores_of, shared_groups
from lesionseg.evaluation.statistics import Comparison, bootstrap_mean, compare_all

__all__ = ["COMPARED", "compare_runs", "final_table", "format_p", "paired_table", "verdict"]

COMPARED = ("dice", "iou")
"""Scores that get intervals and tests."""

_ALPHA = 0.05


def compare_runs(results: Sequence[RunResult]) -> dict[str, list[Comparison]]:
    """Score of ``COMPARED`` -> every pair of runs, the run with the higher mean Dice first.

    Args:
        results: runs that were scored on the same cases.
    """
    ranked = sorted(results, key=lambda result: -float(result.per_image["dice"].mean()))
    groups = shared_groups(results)
    return {name: compare_all(scores_of(ranked, name), groups=groups) for name in COMPARED}


def final_table(results: Sequence[RunResult]) -> pd.DataFrame:
    """One row per run: settings, finished epochs, last validation loss, and the mean of every score over the photos.

    Then the mean distances between outlines and the mean calibration error; NaN where a run does not know a value.
    The scores of ``COMPARED`` have the ends of their 95 % bootstrap interval in ``*_low`` and ``*_high``.
    """
    rows: list[dict[str, Any]] = []
    groups = shared_groups(results)
    for result in results:
        row = {"run": result.name, **_training_row(result)}
        for name in SCORES:
            row[name] = float(result.per_image[name].mean())
            if name in COMPARED:
                values = scores_of([result], name)[result.name]
                row[name], row[f"{name}_low"], row[f"{name}_high"] = bootstrap_mean(values, groups=groups)
        row |= {name: float(result.per_image[name].mean()) for name in (*SURFACE, "ece")}
        if not result.summary.get("probabilities", True):
            row |= dict.fromkeys(("soft_dice", "soft_iou", "ece"), float("nan"))
        rows.append(row)
    return pd.DataFrame(rows)


def _training_row(result: RunResult) -> dict[str, Any]:
    if not result.trained:
        columns = ("encoder_lr", "decoder_lr", "loss", "epochs", "epochs_planned", "last_val_loss")
        return dict.fromkeys(columns, float("nan"))
    config = result.info["config"]
    row = {key: config["optim"][key] for key in ("encoder_lr", "decoder_lr", "loss")}
    row |= {"epochs": len(result.history), "epochs_planned": int(config["loop"]["epochs"])}
    return row | {"last_val_loss": float(result.history["val_loss"].iloc[-1])}


def paired_table(comparisons: Mapping[str, Sequence[Comparison]]) -> pd.DataFrame:
    """One row per score and pair of runs; differences are ``run_a - run_b``, p-values corrected within the score."""
    columns = ("metric", "run_a", "run_b", "n", "mean_difference", "low", "high", "p_value", "p_holm")
    last = ("wins", "ties", "losses", "effect_size")
    rows = [
        (
            metric,
            c.a,
            c.b,
            d.n,
            d.mean_difference,
            d.low,
            d.high,
            d.p_value,
            c.p_holm,
            d.wins,
            d.ties,
            d.losses,
            d.effect_size,
        )
        for metric, pairs in comparisons.items()
        for c in pairs
        for d in (c.difference,)
    ]
    return pd.DataFrame(rows, columns=[*columns, *last])


def format_p(p_value: float) -> str:
    """``p < 0.001`` or ``p = 0.012``."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def verdict(dice: Sequence[Comparison], photos: str) -> str:
    """What the comparison found, in a sentence that claims no more than interval and test allow.

    Args:
        dice: at least one pair of runs, the first being the best run against the runner-up.
        photos: what they were scored on, for example ``339 test photos``.
    """
    best, d = dice[0], dice[0].difference
    runs = len({name for pair in dice for name in (pair.a, pair.b)})
    corrected = ", Holm-corrected" if len(dice) > 1 else ""
    found = f"95 % interval {d.low:.4f} to {d.high:.4f}, Wilcoxon {format_p(best.p_holm)}{corrected}"
    both = f"{best.a} and {best.b}" + (f", the two best of {runs} runs," if runs > 2 else "")
    if d.ties == d.n:
        return f"{both} have the same Dice on each of the {photos}."
    outside, significant = not d.low <= 0 <= d.high, best.p_holm < _ALPHA
    if not outside and not significant:
        gap = f"the mean difference is {d.mean_difference:.4f} ({found})"
        return f"{both} cannot be told apart by their Dice on {photos}: {gap}."
    lead = best.a + (f", the best of {runs} runs," if runs > 2 else "")
    higher = f"{lead} scores {d.mean_difference:.4f} higher in Dice than {best.b} on {photos} ({found})"
    if outside and significant and d.effect_size * d.mean_difference < 0:
        return f"{higher}, but lower on {d.losses} of them, which is what the test found: this is not settled."
    if outside and significant:
        return f"{higher}."
    return f"{higher}; interval and test disagree at the {_ALPHA * 100:g} % level, so this is not settled."
