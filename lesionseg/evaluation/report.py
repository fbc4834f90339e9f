"""The comparison of runs: one self-contained HTML file, tables for papers, CSVs and figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lesionseg.errors import ComparisonError, ConfigError, OutputError
from lesionseg.evaluation import rows
from lesionseg.evaluation.comparable import check_comparable
from lesionseg.evaluation.comparison import compare_runs, final_table, paired_table
from lesionseg.evaluation.gallery import begun_strips
from lesionseg.evaluation.page import Figure, Page, render_page
from lesionseg.evaluation.papers import Section, render_latex, render_markdown
from lesionseg.evaluation.reading import shorten
from lesionseg.evaluation.runs import RunResult, epoch_table, per_image_table, shared_groups
from lesionseg.evaluation.statistics import DRAWS, Comparison
from lesionseg.evaluation.subgroups import FEW, largest_differences, subgroup_table
from lesionseg.evaluation.terminal import render_terminal
from lesionseg.io.ownership import remove_own, write_output
from lesionseg.records import Case
from lesionseg.tables import encode_table

__all__ = ["FORMATS", "ReportFiles", "check_formats", "render_terminal", "report_outputs", "write_report"]

FORMATS = {"html": "report.html", "md": "report.md", "latex": "report.tex", "csv": ""}
"""Format -> the document's name; of ``csv`` there are only the tables, which every report has."""

# All that a report may have.
_TABLES = (
    *("final_table.csv", "epochs.csv", "per_image.csv", "paired.csv", "subgroups.csv", "largest_differences.csv"),
    *("calibration.csv", "thresholds.csv"),
)
_FIGURES = (
    *("loss.png", "dice_iou.png", "paired_dice.png", "violin.png", "calibration.png", "subgroups.png"),
    *(f"samples_{kind}.png" for kind in ("best", "median", "worst")),
)
_FILES = frozenset({*filter(None, FORMATS.values()), *_TABLES, *_FIGURES})


@dataclass(frozen=True, slots=True)
class ReportFiles:
    """What ``write_report`` wrote.

    Attributes:
        html: the report; it needs no other file. None where it was not asked for.
        documents: the report in every format that was asked for.
        tables: CSVs with every number at full precision.
        figures: the report's figures as PNG.
    """

    html: Path | None
    documents: tuple[Path, ...]
    tables: tuple[Path, ...]
    figures: tuple[Path, ...]


def write_report(
    results: Sequence[RunResult], cases: Mapping[str, Case], output: Path, *, formats: Sequence[str] = ("html",)
) -> ReportFiles:
    """Writes the report, its tables and its figures into a folder; those of an earlier report are replaced.

    ``check_outputs`` of ``report_outputs`` comes first.

    Args:
        results: one or more runs that were scored on the same cases.
        cases: case id -> case with photo and mask, for every scored case; empty leaves out the pictures of cases.
        output: the folder; made where it is missing.
        formats: keys of ``FORMATS``.

    Raises:
        ComparisonError: the runs cannot stand in one table, or a scored case is not among ``cases`` or has no mask.
        ConfigError: there is no such format.
        ImageError: a photo, mask or probability map to be shown cannot be decoded.
        RunError: a probability map differs in size from its mask.
        OutputError: the folder cannot be written to.
    """
    _check_request(results, cases, output, formats)
    with begun_strips(results, cases if "html" in formats else {}) as strips:
        comparisons = compare_runs(results)
        tables = _tables(results, comparisons)
        wants_figures = any(FORMATS[name] for name in formats)
        figures = list(_figures(results, cases, comparisons["dice"], tables)) if wants_figures else []
        answer = rows.answer(results, comparisons["dice"])
        documents = {}
        if "html" in formats:
            drawn = strips() if cases else []
            documents["report.html"] = render_page(Page(results, drawn, tables, figures, answer, comparisons["dice"]))
    sections = _sections(results, tables, figures)
    if "md" in formats:
        documents["report.md"] = render_markdown(answer, sections)
    if "latex" in formats:
        documents["report.tex"] = render_latex(answer, sections)
    _remove_earlier(output, {*documents, *tables, *(figure.file for figure in figures)})
    for name, frame in tables.items():
        write_output(output / name, _csv(frame))
    for figure in figures:
        write_output(output / figure.file, figure.png)
    # Last, so that no report is newer than the files it was made of.
    for name, text in documents.items():
        write_output(output / name, text.encode())
    return ReportFiles(
        html=output / "report.html" if "report.html" in documents else None,
        documents=tuple(output / name for name in documents),
        tables=tuple(output / name for name in tables),
        figures=tuple(output / figure.file for figure in figures),
    )


def report_outputs(output: Path, formats: Sequence[str]) -> list[Path]:
    """Return every file that ``write_report`` may write."""
    documents = [FORMATS[name] for name in dict.fromkeys(formats) if FORMATS[name]]
    return [output / name for name in (*documents, *_TABLES, *(_FIGURES if documents else ()))]


def _remove_earlier(output: Path, kept: set[str]) -> None:
    """What only an earlier report has: beside this one, nothing would tell that it is of other runs."""
    for name in _FILES - kept:
        remove_own(output / name)


def check_formats(formats: Sequence[str]) -> None:
    """Makes sure that there is at least one format, and that all are keys of ``FORMATS``.

    Raises:
        ConfigError: naming every one that is none.
    """
    wrong = [name for name in formats if name not in FORMATS]
    if wrong or not formats:
        raise ConfigError(f"there is no report format {', '.join(wrong)}", fix=f"use any of: {', '.join(FORMATS)}")


def _check_request(
    results: Sequence[RunResult], cases: Mapping[str, Case], output: Path, formats: Sequence[str]
) -> None:
    check_formats(formats)
    check_comparable(results)
    unknown = [case_id for case_id in results[0].per_image["case_id"] if case_id not in cases]
    if unknown and cases:
        raise ComparisonError(
            f"scored cases are not in the manifest, {shorten(unknown)}",
            fix="pass the manifest that the runs were scored with",
        )
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output} is a file, not a folder", fix="name a folder for the report")


def _tables(results: Sequence[RunResult], comparisons: Mapping[str, Sequence[Comparison]]) -> dict[str, pd.DataFrame]:
    dice = comparisons["dice"]
    tables = {
        "final_table.csv": final_table(results),
        "epochs.csv": epoch_table(results),
        "per_image.csv": per_image_table(results),
        "paired.csv": paired_table(comparisons),
        "subgroups.csv": subgroup_table(results, dice),
        "largest_differences.csv": largest_differences(results, dice),
    }
    for name, curves in (
        ("calibration.csv", [r.calibration for r in results]),
        ("thresholds.csv", [r.thresholds for r in results]),
    ):
        found = [c.assign(run=r.name) for r, c in zip(results, curves, strict=True) if c is not None]
        if found:
            table = pd.concat(found, ignore_index=True)
            tables[name] = table[["run", *(column for column in table if column != "run")]]
    return tables


def _figures(
    results: Sequence[RunResult],
    cases: Mapping[str, Case],
    dice: Sequence[Comparison],
    tables: Mapping[str, pd.DataFrame],
) -> Iterator[Figure]:
    # matplotlib takes a second to import; the terminal's tables do without it.
    from lesionseg.evaluation import figures, panels, plots

    if any(result.trained for result in results):
        yield Figure("loss.png", "Loss", "Loss by epoch.", figures.loss_curves(results))
        caption = "Dice and IoU on the validation part by epoch."
        yield Figure("dice_iou.png", "Dice and IoU", caption, figures.overlap_curves(results))
    if dice:
        named = {result.name: result for result in results}
        caption = f"Dice of every photo in {dice[0].a} against {dice[0].b}; above the line {dice[0].a} is higher."
        png = figures.dice_scatter(named[dice[0].a], named[dice[0].b])
        yield Figure("paired_dice.png", "Photo by photo", caption, png)
    caption = "Dice of all photos: density, middle half (bar), median (dot) and mean (line)."
    yield Figure("violin.png", "Spread of Dice", caption, plots.dice_violins(results))
    if "calibration.csv" in tables:
        caption = "Left: how often pixels of a probability are lesion; on the diagonal, probabilities can be taken at "
        caption += "their word. Right: mean Dice by threshold; the one in use was fixed beforehand, not chosen here."
        yield Figure("calibration.png", "Calibration and threshold", caption, plots.calibration_curves(results))
    if len(tables["subgroups.csv"]):
        caption = f"Mean Dice by subgroup, with the number of photos; hollow where they are fewer than {FEW}."
        yield Figure("subgroups.png", "Subgroups", caption, plots.subgroup_forest(tables["subgroups.csv"]))
    for kind, picked in figures.pick_cases(results).items() if cases else ():
        if picked:
            caption = f"{kind.capitalize()} Dice, averaged over the runs: {', '.join(picked)}."
            png = panels.sample_panels(results, [cases[case_id] for case_id in picked])
            yield Figure(f"samples_{kind}.png", f"{kind.capitalize()} cases", caption, png)


def _sections(
    results: Sequence[RunResult], tables: Mapping[str, pd.DataFrame], figures: Sequence[Figure]
) -> list[Section]:
    """What goes into a paper: the tables, then the figures."""
    summary, final = results[0].summary, tables["final_table.csv"]
    drawn = "groups of photos" if shared_groups(results) else "photos"
    note = f"Means over {summary['n']} {summary['split']} photos {rows.size_of(results[0])}, at threshold "
    note += f"{summary['threshold']}, with 95 % "
    note += f"percentile bootstrap intervals ({DRAWS:,} resamples of {drawn}). Empty masks: "
    note += f"{summary['empty_mask_policy']}."
    paired = "Two-sided Wilcoxon signed-rank test, Holm-corrected over the pairs; effect size: rank-biserial."
    found = [
        Section("Scores", rows.final_rows(final) + rows.published_rows(results), note),
        Section("Outlines and calibration", rows.outline_rows(final), "Means over the photos; px: pixels of the mask."),
        Section("Paired differences", rows.paired_rows(tables["paired.csv"]), paired, 2),
        Section("Largest differences", rows.difference_rows(tables["largest_differences.csv"])),
        Section("By class", rows.class_rows(results), "Over all pixels of all photos together."),
        Section("Subgroups", rows.subgroup_rows(tables["subgroups.csv"]), f"Mean Dice; *: fewer than {FEW} photos.", 2),
        Section("Parameters", rows.parameter_rows(results)),
    ]
    pictures = [Section(figure.title, note=figure.caption, figure=figure.file) for figure in figures]
    return [section for section in found if section.rows] + pictures


def _csv(frame: pd.DataFrame) -> bytes:
    # NaN is the one value that is not itself; in a table it is an empty cell.
    cells = ({str(name): cell for name, cell in row.items() if cell == cell} for row in frame.to_dict("records"))
    return encode_table(list(frame.columns), cells)
