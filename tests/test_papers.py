"""Markdown and LaTeX: the same cells, nothing that a name could break."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lesionseg import RESEARCH_USE
from lesionseg.evaluation.papers import Section, render_latex, render_markdown

ROWS = [{"Run": "a_b|c", "Dice": "0.9012\n0.8900–0.9100"}, {"Run": "50% & $x$ #1 {y} ~^\\", "Dice": "–"}]
SECTIONS = [Section("Scores", ROWS, "Means of <all> photos."), Section("Loss", figure="loss.png")]


def test_markdown_table() -> None:
    lines = render_markdown("a_b wins.", SECTIONS).splitlines()
    assert r"a\_b wins." in lines
    start = lines.index("| Run | Dice |")
    assert lines[start + 1] == "| --- | ---: |"
    assert lines[start + 2] == r"| a\_b\|c | 0.9012 (0.8900–0.9100) |"
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in lines[start : start + 4])
    assert "![Loss](loss.png)" in lines
    assert r"Means of \<all\> photos." in lines
    assert lines[-1] == f"**{RESEARCH_USE}**"


def test_latex_escapes() -> None:
    text = render_latex("a_b wins.", SECTIONS)
    assert r"a\_b|c & 0.9012 (0.8900--0.9100) \\" in text
    assert r"50\% \& \$x\$ \#1 \{y\} \textasciitilde{}\textasciicircum{}\textbackslash{} & -- \\" in text
    assert r"\includegraphics[width=\textwidth]{loss.png}" in text
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 1
    assert r"\begin{tabular}{lr}" in text


def test_cells_that_would_be_options_or_markup() -> None:
    rows = [{"Run": "[b]x", "Dice": "1"}, {"Run": "*2", "Dice": "~~a~~ &amp; $x$"}]
    latex, markdown = (render("x", [Section("T", rows)]) for render in (render_latex, render_markdown))
    assert "\n{}[b]x & 1" in latex
    assert "\n{}*2 & " in latex
    assert r"\~\~a\~\~ \&amp; \$x\$" in markdown


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex here")
def test_latex_compiles(tmp_path: Path) -> None:
    (tmp_path / "report.tex").write_text(render_latex("a_b wins.", SECTIONS[:1]), encoding="utf-8")
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "report.tex"]
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    assert (tmp_path / "report.pdf").stat().st_size > 1000


def test_control_characters_and_line_breaks_stay_out() -> None:
    rows = [{"Run": "a\x1b[2J\rb", "Dice": "1"}]
    for text in (render_markdown("x", [Section("T", rows)]), render_latex("x", [Section("T", rows)])):
        assert "\x1b" not in text
        assert "\r" not in text
