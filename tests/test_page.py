"""The page in a browser: no complaint, panels in the order that was asked for, a PDF."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from scored_runs import COUNT, write_cases, write_run

from lesionseg.evaluation.report import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("page")
    runs = [write_run(home / "frozen"), write_run(home / "fine <b>tuned</b>", noise=0.15)]
    return write_report(runs, write_cases(home), home / "report").html


def browse(*words: str, profile: Path) -> subprocess.CompletedProcess[str]:
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", f"--user-data-dir={profile}"]
    command = [str(CHROMIUM), *options, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)


def shown(page: Path, order: str, profile: Path) -> list[dict[str, str]]:
    """The panels' data in the order of the document, after the page's script has run."""
    done = browse("--dump-dom", f"{page.as_uri()}{order}", profile=profile)
    assert "CONSOLE" not in done.stderr, done.stderr
    assert '<div class="controls">' in done.stdout, "the script has not run"
    figures = re.findall(r'<figure class="case"[^>]*>', done.stdout)
    return [dict(re.findall(r'data-(\w+)="([^"]*)"', figure)) for figure in figures]


@pytest.mark.long
def test_sorting(page: Path, tmp_path: Path) -> None:
    first = [float(case["mean"]) for case in shown(page, "", tmp_path)]
    assert len(first) == COUNT
    assert first == sorted(first)
    gaps = [float(case["gap"]) for case in shown(page, "#sort=gap,falling", tmp_path)]
    assert gaps == sorted(gaps, reverse=True)
    assert len(set(gaps)) > 1
    # A key that is none changes nothing, and is no error.
    assert [float(case["mean"]) for case in shown(page, "#sort=nothing,falling", tmp_path)] == first


@pytest.mark.long
def test_printing(page: Path, tmp_path: Path) -> None:
    done = browse(f"--print-to-pdf={tmp_path / 'report.pdf'}", page.as_uri(), profile=tmp_path / "profile")
    assert "CONSOLE" not in done.stderr
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
