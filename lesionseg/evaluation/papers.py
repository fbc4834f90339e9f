"""The report's tables for a paper: Markdown and LaTeX."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lesionseg import RESEARCH_USE
from lesionseg.evaluation.rows import Row

__all__ = ["Section", "render_latex", "render_markdown"]

_MARKDOWN = re.compile(r"([\\`*_\[\]<>|#~&$])")
_LATEX = {
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    "−": "$-$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "\u00ad": "",
}


@dataclass(frozen=True, slots=True)
class Section:
    """A table or a figure of the report.

    Attributes:
        title: its heading.
        rows: of the table; none where it is a figure.
        note: what it shows.
        words: how many columns at the left hold words and not numbers.
        figure: the figure's file beside the report, or empty.
    """

    title: str
    rows: Sequence[Row] = ()
    note: str = ""
    words: int = 1
    figure: str = ""


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text.replace("\u00ad", "").replace("\n", " "))


def _cell(text: str) -> str:
    """A value, and what stands below it in brackets."""
    first, _, second = text.partition("\n")
    return f"{first} ({second})" if second else first


def _markdown(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", _plain(text))


def render_markdown(answer: str, sections: Sequence[Section]) -> str:
    """The answer, then each section with a pipe table or a picture."""
    parts = ["# Lesion segmentation", _markdown(answer)]
    for section in sections:
        parts.append(f"## {_markdown(section.title)}")
        if section.rows:
            parts.append(_pipe_table(section))
        if section.figure:
            parts.append(f"![{_markdown(section.title)}]({section.figure})")
        if section.note:
            parts.append(_markdown(section.note))
    return "\n\n".join([*parts, f"**{RESEARCH_USE}**"]) + "\n"


def _pipe_table(section: Section) -> str:
    names = list(section.rows[0])
    lines = [names, ["---" if i < section.words else "---:" for i in range(len(names))]]
    lines += [[_cell(cell) for cell in row.values()] for row in section.rows]
    escaped = [[cell if i == 1 else _markdown(cell) for cell in line] for i, line in enumerate(lines)]
    return "\n".join("| " + " | ".join(line) + " |" for line in escaped)


def _latex(text: str) -> str:
    return "".join(_LATEX.get(char, char) for char in _plain(text))


def render_latex(answer: str, sections: Sequence[Section]) -> str:
    """A ``table`` with booktabs rules for each section, to be copied into a paper or compiled as it stands."""
    parts = [
        r"\documentclass{article}",
        r"\usepackage[utf8]{inputenc}\usepackage{booktabs,graphicx,adjustbox}",
        r"\begin{document}",
        _latex(answer),
    ]
    for section in sections:
        caption = rf"\caption{{{_latex(section.title)}. {_latex(section.note)}}}"
        if section.rows:
            parts += [r"\begin{table}[p]\centering", caption, r"\begin{adjustbox}{max width=\textwidth}"]
            parts += [_tabular(section), r"\end{adjustbox}\end{table}"]
        if section.figure:
            picture = rf"\includegraphics[width=\textwidth]{{{section.figure}}}"
            parts += [r"\begin{figure}[p]\centering", picture, caption, r"\end{figure}"]
    return "\n".join([*parts, rf"\textbf{{{RESEARCH_USE}}}", r"\end{document}"]) + "\n"


def _tabular(section: Section) -> str:
    names = list(section.rows[0])
    columns = "l" * section.words + "r" * (len(names) - section.words)
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", _latex_row(names), r"\midrule"]
    lines += [_latex_row([_cell(cell) for cell in row.values()]) for row in section.rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _latex_row(cells: Sequence[str]) -> str:
    # A row that began with [ or * would be taken for an option of the one before.
    return "{}" + " & ".join(_latex(cell) for cell in cells) + r" \\"
