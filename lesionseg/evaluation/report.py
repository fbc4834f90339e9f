"""The comparison of runs: one self-contained HTML file, CSV tables, figures, and the same tables for the terminal."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from lesionseg import RESEARCH_USE
from lesionseg.data.images import write_atomic
from lesionseg.errors import ComparisonError, OutputError
from lesionseg.evaluation.metrics import JACCARD_THRESHOLD
from lesionseg.evaluation.runs import RunResult, check_comparable, epoch_table, groups_of, per_image_table, shorten
from lesionseg.evaluation.statistics import (
    DRAWS,
    Comparison,
    bootstrap_mean,
    compare_runs,
    final_table,
    format_p,
    paired_table,
    verdict,
)
from lesionseg.records import Case
from lesionseg.tables import encode_table

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

__all__ = ["ReportFiles", "render_terminal", "write_report"]

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
_MILESTONES = (1, 10, 20, 30, 40, 50)
# As many columns as a terminal of 80 to 100 characters holds.
_TERMINAL_RUNS = 4
_PUBLISHED_FOR = "isic2016"
_PUBLISHED = (
    {"run": "published, frozen", "soft_iou": 0.6454, "soft_dice": 0.7641},
    {"run": "published, fine-tuned", "soft_iou": 0.7239, "soft_dice": 0.8295},
)


@dataclass(frozen=True, slots=True)
class ReportFiles:
    """What ``write_report`` wrote.

    Attributes:
        html: the report; it needs no other file.
        tables: CSVs with every number at full precision.
        figures: the report's figures as PNG.
    """

    html: Path
    tables: tuple[Path, ...]
    figures: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class _Figure:
    file: str
    title: str
    caption: str
    png: bytes

    @property
    def uri(self) -> str:
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")


def write_report(results: Sequence[RunResult], cases: Mapping[str, Case], output: Path) -> ReportFiles:
    """Writes ``report.html``, its tables and its figures into a folder; those of an earlier report are replaced.

    Args:
        results: one or more runs that were scored on the same cases.
        cases: case id -> case with photo and mask, for every scored case.
        output: the folder; made where it is missing.

    Raises:
        ComparisonError: the runs cannot stand in one table, or a scored case is not among ``cases`` or has no mask.
        ImageError: a photo, mask or probability map to be shown cannot be decoded.
        RunError: a probability map differs in size from its mask.
        OutputError: the folder cannot be written to.
    """
    check_comparable(results)
    unknown = [case_id for case_id in results[0].per_image["case_id"] if case_id not in cases]
    if unknown:
        raise ComparisonError(
            f"scored cases are not in the manifest, {shorten(unknown)}",
            fix="pass the manifest that the runs were scored with",
        )
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output} is a file, not a folder", fix="name a folder for the report")
    comparisons = compare_runs(results)
    figures = list(_figures(results, cases, comparisons["dice"]))
    tables = {
        "final_table.csv": final_table(results),
        "epochs.csv": epoch_table(results),
        "per_image.csv": per_image_table(results),
        "paired.csv": paired_table(comparisons),
    }
    html = _html(results, tables, figures, _answer(results, comparisons["dice"]))
    for name, frame in tables.items():
        write_atomic(output / name, _csv(frame))
    for figure in figures:
        write_atomic(output / figure.file, figure.png)
    # Last, so that no report is newer than the files it was made of.
    write_atomic(output / "report.html", html.encode())
    return ReportFiles(
        html=output / "report.html",
        tables=tuple(output / name for name in tables),
        figures=tuple(output / figure.file for figure in figures),
    )


def render_terminal(results: Sequence[RunResult]) -> RenderableType:
    """The answer, the final table (a column per run) and the epoch table, for a rich console.

    Raises:
        ComparisonError: the runs cannot stand in one table.
    """
    from rich.console import Group

    check_comparable(results)
    final = _final_rows(final_table(results)) + _published_rows(results)
    epochs = _epoch_rows(epoch_table(results))
    parts: list[RenderableType] = [_printable(_answer(results, compare_runs(results)["dice"]))]
    for start in range(0, len(final), _TERMINAL_RUNS):
        shown = final[start : start + _TERMINAL_RUNS]
        measures = [[name, *(row[name].replace("–", " – ") for row in shown)] for name in list(shown[0])[1:]]
        parts.append(_grid("\nFinal scores", ["", *(row["Run"] for row in shown)], measures, words=1))
    if by_class := _class_rows(results):
        parts.append(_grid("\nBy class", list(by_class[0]), [list(r.values()) for r in by_class], words=1))
    parts.append(
        _grid("\nBy epoch, on the validation part", list(epochs[0]), [list(r.values()) for r in epochs], words=2)
    )
    return Group(*parts, _printable(RESEARCH_USE))


def _printable(text: str) -> Text:
    from rich.text import Text

    # Text does not read names as markup; control characters could steer the terminal.
    return Text("".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text.replace("\u00ad", "")))


def _grid(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], words: int) -> RenderableType:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for index, name in enumerate(header):
        table.add_column(
            _printable(name), justify="left" if index < words else "right", overflow="fold", no_wrap=index < words
        )
    for row in rows:
        table.add_row(*(_printable(cell) for cell in row))
    return table


def _answer(results: Sequence[RunResult], dice: Sequence[Comparison]) -> str:
    photos = f"{len(results[0].per_image)} {results[0].summary['split']} photos"
    if dice:
        return verdict(dice, photos)
    mean, low, high = bootstrap_mean(results[0].per_image["dice"], groups=groups_of(results[0]))
    return f"{results[0].name} reaches a mean Dice of {mean:.4f} on {photos} (95 % interval {low:.4f} to {high:.4f})."


def _rate(value: float) -> str:
    return "0 (frozen)" if value == 0 else f"{value:g}"


def _final_rows(table: pd.DataFrame) -> list[Row]:
    rows = []
    for record in table.to_dict("records"):
        short = record["epochs"] < record["epochs_planned"]
        row = {"Run": str(record["run"]), "Encoder LR": _rate(record["encoder_lr"])}
        row |= {"Decoder LR": _rate(record["decoder_lr"]), "Loss": str(record["loss"])}
        row["Last val. loss"] = f"{record['last_val_loss']:.4f}"
        row["Epochs"] = f"{record['epochs']}" + (f" of {record['epochs_planned']}" if short else "")
        for name, label in _SCORES.items():
            row[label] = f"{record[name]:.4f}"
            if f"{name}_low" in record:
                row[label] += f"\n{record[f'{name}_low']:.4f}–{record[f'{name}_high']:.4f}"
        rows.append(row)
    return rows


def _published_rows(results: Sequence[RunResult]) -> list[Row]:
    """Figures of the original study, in the cells that it gives."""
    if any(result.info["manifest"]["name"] != _PUBLISHED_FOR for result in results):
        return []
    columns = ("Encoder LR", "Decoder LR", "Loss", "Last val. loss", "Epochs")
    return [
        {"Run": str(known["run"]), **dict.fromkeys(columns, "–")}
        | {label: f"{known[name]:.4f}" if name in known else "–" for name, label in _SCORES.items()}
        for known in _PUBLISHED
    ]


def _epoch_rows(table: pd.DataFrame) -> list[Row]:
    """The milestones and every run's last epoch; an epoch is named once, above the runs that reached it."""
    chosen = {*_MILESTONES, *table.groupby("run")["epoch"].max()}
    rows: list[Row] = []
    for epoch, part in table[table["epoch"].isin(chosen)].groupby("epoch"):
        for index, record in enumerate(part.to_dict("records")):
            row = {"Epoch": "" if index else str(epoch), "Run": str(record["run"])}
            rows.append(row | {label: f"{record[name]:.4f}" for name, label in _EPOCH.items()})
    return rows


def _parameter_rows(results: Sequence[RunResult]) -> list[Row]:
    parts = {"total": "Total", "trainable": "Trainable", "non_trainable": "Non-trainable"}
    parts |= {"encoder": "Encoder", "decoder": "Decoder"}
    return [
        {"Run": r.name} | {label: f"{r.info['parameters'][part]:,}" for part, label in parts.items()} for r in results
    ]


def _class_rows(results: Sequence[RunResult]) -> list[Row]:
    """Scores by class of the runs that have several; a dash for a class that a run does not have."""
    scored = [(result.name, result.classes) for result in results if result.classes]
    names = dict.fromkeys(name for _, classes in scored for name in classes["names"])
    rows = []
    for run, classes in scored:
        height, width = classes["size"]
        row = {"Run": run, "Size": f"{width} x {height}"}
        row |= {"Pixel accuracy": f"{classes['pixel_accuracy']:.4f}", "Mean IoU": f"{classes['mean_iou']:.4f}"}
        ious = {f"IoU {name}": classes["iou"].get(name) for name in names}
        rows.append(row | {label: "–" if iou is None else f"{iou:.4f}" for label, iou in ious.items()})
    return rows


def _paired_rows(table: pd.DataFrame) -> list[Row]:
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
        rows.append(row | {"Higher / equal / lower": f"{d['wins']} / {d['ties']} / {d['losses']}"})
    return rows


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)


def _provenance(results: Sequence[RunResult]) -> list[tuple[str, list[str]]]:
    """Key -> its value in each run, for everything in ``run.json`` and ``summary.json`` that no other table shows."""
    columns = []
    for result in results:
        shown = {key: value for key, value in result.info.items() if key not in ("name", "parameters")}
        scored = {key: value for key, value in result.summary.items() if key not in ("run", "means")}
        columns.append(dict(_flat(shown | {"evaluation": scored})))
    keys = dict.fromkeys(key for column in columns for key in column)
    return [(key, [column.get(key, "–") for column in columns]) for key in keys]


def _figures(results: Sequence[RunResult], cases: Mapping[str, Case], dice: Sequence[Comparison]) -> Iterator[_Figure]:
    # matplotlib takes a second to import; the terminal's tables do without it.
    from lesionseg.evaluation.figures import dice_scatter, loss_curves, overlap_curves, pick_cases, sample_panels

    yield _Figure("loss.png", "Loss", "Loss by epoch.", loss_curves(results))
    caption = "Dice and IoU on the validation part by epoch."
    yield _Figure("dice_iou.png", "Dice and IoU", caption, overlap_curves(results))
    if dice:
        named = {result.name: result for result in results}
        caption = f"Dice of every photo in {dice[0].a} against {dice[0].b}; above the line {dice[0].a} is higher."
        png = dice_scatter(named[dice[0].a], named[dice[0].b])
        yield _Figure("paired_dice.png", "Photo by photo", caption, png)
    for kind, picked in pick_cases(results).items():
        if picked:
            caption = f"{kind.capitalize()} Dice, averaged over the runs: {', '.join(picked)}."
            png = sample_panels(results, [cases[case_id] for case_id in picked])
            yield _Figure(f"samples_{kind}.png", f"{kind.capitalize()} cases", caption, png)


def _html(
    results: Sequence[RunResult], tables: Mapping[str, pd.DataFrame], figures: Sequence[_Figure], answer: str
) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = Path(__file__).parent / "templates"
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(
        research_use=RESEARCH_USE,
        answer=answer,
        results=results,
        final=_final_rows(tables["final_table.csv"]),
        published=_published_rows(results),
        epochs=_epoch_rows(tables["epochs.csv"]),
        by_class=_class_rows(results),
        parameters=_parameter_rows(results),
        paired=_paired_rows(tables["paired.csv"]),
        provenance=_provenance(results),
        figures={figure.file: figure for figure in figures},
        tables=list(tables),
        summary=results[0].summary,
        draws=DRAWS,
        jaccard_threshold=JACCARD_THRESHOLD,
        grouped=groups_of(results[0]) is not None,
    )


def _csv(frame: pd.DataFrame) -> bytes:
    # NaN is the one value that is not itself; in a table it is an empty cell.
    rows = ({str(name): cell for name, cell in row.items() if cell == cell} for row in frame.to_dict("records"))
    return encode_table(list(frame.columns), rows)
