"""Machines that lack what other libraries take for granted."""

import getpass
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import lesionseg

ROOT = Path(__file__).parents[1]
NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")


def unknown_user(uid: int) -> None:
    raise KeyError(f"getpwuid(): uid not found: {uid}")


@pytest.fixture
def nameless(monkeypatch: pytest.MonkeyPatch) -> None:
    pwd = pytest.importorskip("pwd")
    for name in NAMES:
        # Set first, so that what the code under test sets is removed afterwards.
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(pwd, "getpwuid", unknown_user)


@pytest.mark.usefixtures("nameless")
def test_a_user_without_an_account_is_named_after_the_id() -> None:
    with pytest.raises((KeyError, OSError)):
        getpass.getuser()
    lesionseg._name_user()
    assert getpass.getuser() == f"user-{os.getuid()}"


def test_a_user_with_a_name_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("USERNAME", "ada")
    lesionseg._name_user()
    assert not os.environ["LOGNAME"]


def test_an_account_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    pwd = pytest.importorskip("pwd")
    for name in NAMES:
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: ("ada",))
    lesionseg._name_user()
    assert not os.environ["LOGNAME"]


DRAW = """
import os, sys
from lesionseg.evaluation.drawing import plain, render
assert plain("a") == "a"
assert render(lambda figure: figure.subplots().plot([1, 2]), 2, 2)[:4] == b"\\x89PNG"
import matplotlib
assert os.environ.get("MPLBACKEND") == sys.argv[1]
print(dict.__getitem__(matplotlib.rcParams, "backend"))
"""


@pytest.mark.long
@pytest.mark.parametrize("backend", ["module://not_installed.backend", "not_a_backend", "agg"])
def test_figures_need_no_backend_that_the_environment_names(backend: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", DRAW, backend],
        env={**os.environ, "MPLBACKEND": backend},
        capture_output=True,
        text=True,
        check=True,
    )
    # What the user's own code draws with stays the user's choice.
    assert (result.stdout.strip() == backend) == (backend != "not_a_backend")


def test_no_folder_for_the_list_of_fonts_is_one_error(tmp_path: Path) -> None:
    code = (
        "import pathlib, tempfile\n"
        "def refuse(*args, **kwargs): raise PermissionError(13, 'Permission denied')\n"
        "tempfile.mkdtemp = pathlib.Path.mkdir = refuse\n"
        "from lesionseg.errors import OutputError\n"
        "from lesionseg.evaluation.drawing import load_matplotlib\n"
        "try:\n    load_matplotlib()\nexcept OutputError as error:\n    print(error)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "MPLCONFIGDIR": str(tmp_path / "missing")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Fix: set MPLCONFIGDIR or TMPDIR to a writable folder" in result.stdout


def test_python_m_runs_the_command_line() -> None:
    words = [sys.executable, "-m", "lesionseg"]
    assert subprocess.run([*words, "--version"], capture_output=True, text=True, check=True).stdout.startswith(
        "lesionseg "
    )
    help_text = subprocess.run([*words, "predict"], capture_output=True, text=True, check=False).stderr
    assert "Usage: lesionseg predict" in help_text


def lowest(package: str) -> str:
    """The lowest version that ``pyproject.toml`` allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = (re.fullmatch(rf"{package}>=([\d.]+)", line) for line in project["dependencies"])
    return next(match[1] for match in found if match)


@pytest.mark.slow
def test_the_lowest_typer_works_with_the_click_that_pip_chooses_for_it(tmp_path: Path) -> None:
    packages = [f"{name}=={lowest(name)}" for name in ("typer", "filelock")]
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--target", str(tmp_path)]
    installed = subprocess.run([*pip, *packages], capture_output=True, text=True, check=False)
    if installed.returncode:
        pytest.skip(f"no package index: {installed.stderr[-200:]}")
    path = os.pathsep.join((str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")))
    words = [
        ["--help"],
        ["predict", "--help"],
        ["data", "pair", "--help"],
        ["data", "synth", "--output", "made", "--train", "3", "--test", "1"],
    ]
    for more in [*words, ["predict", "made/train_images", "--output", "masks"]]:
        result = subprocess.run(
            [sys.executable, "-m", "lesionseg", *more],
            env={**os.environ, "PYTHONPATH": path},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, (more, result.stdout, result.stderr)
