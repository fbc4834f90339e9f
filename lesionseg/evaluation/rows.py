"""The report's tables as rows of text, which the page, the terminal and the papers share."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from lesionseg.evaluation.comparison import format_p, verdict
from lesionseg.evaluation.runs import RunResult, shared_groups
from lesionseg.evaluation.statistics import Comparison, bootstrap_mean

__all__ = [
    "Row",
    "answer",
    "class_rows",
    "difference_rows",
    "epoch_rows",
    "final_rows",
    "outline_rows",
    "paired_rows",
    "parameter_rows",
    "provenance",
    "published_rows",
    "size_of",
    "subgroup_rows",
]

Row = dict[str, str]

_SCORES = {
    "dice": "Dice",
    "iou": "IoU",
    "thresholded_iou": "Thresh. IoU",
    "accuracy": "Accu\u00adracy",
    "sensitivity": "Sensi\u00adtivity",
    "specificity": "Speci\u00adficity",
    "soft_dice": "Soft Dice",
    "soft_iou": "Soft IoU",
}
_EPOCH = {
    "train_loss": "Train loss",
    "val_loss": "Val. loss",
    "val_iou": "IoU",
    "val_dice": "Dice",
    "val_soft_iou": "Soft IoU",
    "val_soft_dice": "Soft Dice",
}
_NONE = "–"
_MILESTONES = (1, 10, 20, 30, 40, 50)
_OUTLINES = {
    "hausdorff95": "Hausdorff 95 (px)",
    "surface_distance": "Surface distance (px)",
    "surface_dice": "Surface Dice",
    "boundary_iou": "Boundary IoU",
    "area_error": "Area error",
    "ece": "Calibration error",
}
_PUBLISHED_FOR = "isic2016"
_PUBLISHED = (
    {"run": "published, frozen", "soft_iou": 0.6454, "soft_dice": 0.7641},
    {"run": "published, fine-tuned", "soft_iou": 0.7239, "soft_dice": 0.8295},
)


def size_of(result: RunResult) -> str:
    """At which size masks were compared, in words."""
    size = result.summary.get("size", "own")
    return "at each photo's own size" if size == "own" else f"at the model's input size, {size[0]} x {size[1]} pixels"


def answer(results: Sequence[RunResult], dice: Sequence[Comparison]) -> str:
    """What was found, in a sentence."""
    photos = f"{len(results[0].per_image)} {results[0].summary['split']} photos"
    if dice:
        return verdict(dice, photos)
    mean, low, high = bootstrap_mean(results[0].per_image["dice"], groups=shared_groups(results))
    return f"{results[0].name} reaches a mean Dice of {mean:.4f} on {photos} (95 % interval {low:.4f} to {high:.4f})."


def _rate(value: float) -> str:
    return "0 (frozen)" if value == 0 else f"{value:g}"


def _number(value: float, form: str = ".4f") -> str:
    return _NONE if pd.isna(value) else format(value, form)


def _training(record: Mapping[Any, Any]) -> Row:
    names = ("Encoder LR", "Decoder LR", "Loss", "Last val. loss", "Epochs")
    if pd.isna(record["epochs"]):
        return dict.fromkeys(names, _NONE)
    epochs, planned = int(record["epochs"]), int(record["epochs_planned"])
    cells = (_rate(record["encoder_lr"]), _rate(record["decoder_lr"]), str(record["loss"]))
    last = f"{record['last_val_loss']:.4f}"
    return dict(zip(names, (*cells, last, f"{epochs}" + (f" of {planned}" if epochs < planned else "")), strict=True))


def final_rows(table: pd.DataFrame) -> list[Row]:
    """A row for each run: its settings, and its scores with their intervals in a second line."""
    rows = []
    for record in table.to_dict("records"):
        row = {"Run": str(record["run"]), **_training(record)}
        for name, label in _SCORES.items():
            row[label] = _number(record[name])
            if f"{name}_low" in record:
                row[label] += f"\n{record[f'{name}_low']:.4f}–{record[f'{name}_high']:.4f}"
        rows.append(row)
    return rows


def outline_rows(table: pd.DataFrame) -> list[Row]:
    """A row for each run that knows them: mean distances between outlines, area error, calibration error."""
    rows = []
    for record in table[table["hausdorff95"].notna()].to_dict("records"):
        row = {"Run": str(record["run"])}
        for name, label in _OUTLINES.items():
            form = {"hausdorff95": ".2f", "surface_distance": ".2f", "area_error": "+.1%"}.get(name, ".4f")
            row[label] = _number(record[name], form)
        rows.append(row)
    return rows


def published_rows(results: Sequence[RunResult]) -> list[Row]:
    """Figures of the original study, in the cells that it gives."""
    trained = [result for result in results if result.trained]
    known_for = [
        # Trained on that set, and scored on it too.
        result.info["manifest"]["name"] == _PUBLISHED_FOR
        and result.info["manifest"]["sha256"] == result.summary["manifest_sha256"]
        and result.summary["split"] == "test"
        for result in trained
    ]
    if not known_for or not all(known_for):
        return []
    columns = ("Encoder LR", "Decoder LR", "Loss", "Last val. loss", "Epochs")
    return [
        {"Run": str(known["run"]), **dict.fromkeys(columns, _NONE)}
        | {label: f"{known[name]:.4f}" if name in known else _NONE for name, label in _SCORES.items()}
        for known in _PUBLISHED
    ]


def epoch_rows(table: pd.DataFrame) -> list[Row]:
    """The milestones and every run's last epoch; an epoch is named once, above the runs that reached it."""
    chosen = {*_MILESTONES, *table.groupby("run")["epoch"].max()}
    rows: list[Row] = []
    for epoch, part in table[table["epoch"].isin(chosen)].groupby("epoch"):
        for index, record in enumerate(part.to_dict("records")):
            row = {"Epoch": "" if index else str(epoch), "Run": str(record["run"])}
            rows.append(row | {label: f"{record[name]:.4f}" for name, label in _EPOCH.items()})
    return rows


def parameter_rows(results: Sequence[RunResult]) -> list[Row]:
    """How many parameters each run's model has, and how many of them train."""
    parts = {"total": "Total", "trainable": "Trainable", "non_trainable": "Non-trainable"}
    parts |= {"encoder": "Encoder", "decoder": "Decoder"}
    return [
        {"Run": r.name} | {label: f"{r.info['parameters'][part]:,}" for part, label in parts.items()}
        for r in results
        if r.trained
    ]


def class_rows(results: Sequence[RunResult]) -> list[Row]:
    """Scores by class of the runs that have several; a dash for a class that a run does not have."""
    scored = [(result.name, result.classes) for result in results if result.classes]
    names = dict.fromkeys(name for _, classes in scored for name in classes["names"])
    rows = []
    for run, classes in scored:
        height, width = classes["size"]
        row = {"Run": run, "Size": f"{width} x {height}"}
        row |= {"Pixel accuracy": f"{classes['pixel_accuracy']:.4f}", "Mean IoU": f"{classes['mean_iou']:.4f}"}
        ious = {f"IoU {name}": classes["iou"].get(name) for name in names}
        rows.append(row | {label: _NONE if iou is None else f"{iou:.4f}" for label, iou in ious.items()})
    return rows


def paired_rows(table: pd.DataFrame) -> list[Row]:
    """A row for each score and pair of runs."""
    several = table["metric"].value_counts().max() > 1 if len(table) else False
    rows = []
    for d in table.to_dict("records"):
        row = {"Score": _SCORES[d["metric"]], "Runs": f"{d['run_a']} − {d['run_b']}"}
        row |= {
            "Mean difference": f"{d['mean_difference']:+.4f}",
            "95 % interval": f"{d['low']:+.4f} to {d['high']:+.4f}",
        }
        row["Wilcoxon"] = format_p(d["p_value"])
        row |= {"Holm": format_p(d["p_holm"])} if several else {}
        row["Effect size"] = f"{d['effect_size']:+.2f}"
        rows.append(row | {"Higher / equal / lower": f"{d['wins']} / {d['ties']} / {d['losses']}"})
    return rows


def subgroup_rows(table: pd.DataFrame) -> list[Row]:
    """A row for each subgroup, a column for each run and for the difference of the two best; few photos are marked."""
    rows = []
    for (attribute, name), part in table.groupby(["attribute", "subgroup"], sort=False):
        few = bool(part["few"].iloc[0])
        row = {"Attribute": str(attribute), "Subgroup": str(name), "n": f"{part['n'].iloc[0]}" + (" *" if few else "")}
        for record in part.to_dict("records"):
            sign = "+" if record["kind"] == "difference" else ""
            ends = f"{record['low']:{sign}.3f} to {record['high']:{sign}.3f}"
            row[str(record["run"])] = f"{record['dice']:{sign}.3f}\n{ends}"
        rows.append(row)
    for before, row in zip(reversed(rows[:-1]), reversed(rows[1:]), strict=True):
        if before["Attribute"] == row["Attribute"]:
            row["Attribute"] = ""
    return rows


def difference_rows(table: pd.DataFrame) -> list[Row]:
    """The photos on which the two best runs differ most."""
    if table.empty:
        return []
    first = table.iloc[0]
    a, b = str(first["run_a"]), str(first["run_b"])
    best = table[(table["run_a"] == a) & (table["run_b"] == b)]
    rows = []
    for d in best.to_dict("records"):
        scores = {f"Dice {a}": f"{d['dice_a']:.4f}", f"Dice {b}": f"{d['dice_b']:.4f}"}
        rows.append({"Photo": str(d["case_id"]), **scores, "Difference": f"{d['difference']:+.4f}"})
    return rows


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)


def provenance(results: Sequence[RunResult]) -> list[tuple[str, list[str]]]:
    """Key -> its value in each run, for everything in ``run.json`` and ``summary.json`` that no other table shows."""
    columns = []
    for result in results:
        shown = {key: value for key, value in result.info.items() if key not in ("name", "parameters")}
        scored = {key: value for key, value in result.summary.items() if key not in ("run", "means")}
        columns.append(dict(_flat(shown | {"evaluation": scored})))
    keys = dict.fromkeys(key for column in columns for key in column)
    return [(key, [column.get(key, _NONE) for column in columns]) for key in keys]
