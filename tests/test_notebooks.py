"""The notebooks, as a reader gets them and as a reader runs them."""

import json
import os
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import lesionseg

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
PICTURES = {"1_train_and_compare": 4, "2_your_own_photo": 1, "3_audit_and_split": 2}
by_name = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def source(path: Path, kind: str) -> str:
    return "\n".join(cell["source"] for cell in nbformat.read(path, 4).cells if cell["cell_type"] == kind)


def test_these_are_all() -> None:
    assert [path.stem for path in NOTEBOOKS] == sorted(PICTURES)


@by_name
def test_it_is_stored_without_outputs_and_places(path: Path) -> None:
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell["cell_type"] == "code"]
    assert [cell for cell in cells if cell["outputs"] or cell["execution_count"] is not None] == []
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
    # A path from the root of a disk, of whatever system.
    assert (
        re.findall(r"""["'\s(`](?:/\w|~/|[A-Za-z]:\\)""", path.read_text(encoding="utf-8").replace("\\n", "\n")) == []
    )


@by_name
def test_it_is_for_a_reader_who_has_seen_none_before(path: Path) -> None:
    text, code = source(path, "markdown"), source(path, "code")
    assert f"**{lesionseg.RESEARCH_USE}**" in text
    assert code.count("# YOUR FOLDERS") == 1
    assert set(re.findall(r"\blesionseg\.(\w+)", code)) <= set(lesionseg.__all__), "more than the public names"
    assert "from lesionseg" not in code
    assert "import lesionseg." not in code
    # It knows neither EXIF nor the many kinds of masks.
    assert re.findall(r"imread\((?!images / \"SYNTH)", code) == []


def run(path: Path, folder: Path) -> Any:
    """The notebook after its last cell; a cell's error is raised here with its traceback."""
    notebook = nbformat.read(path, 4)
    # Its results go where temporary folders are; the plots are the notebook's to draw.
    here, temporary = folder / "here", folder / "temporary"
    here.mkdir()
    temporary.mkdir()
    env = {**os.environ, "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1", "IPYTHONDIR": str(folder / "ipython")}
    env.pop("MPLBACKEND", None)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(here)}}).execute(env=env)
    return notebook


@pytest.mark.long
@by_name
def test_it_runs_from_top_to_bottom(path: Path, tmp_path: Path) -> None:
    outputs = [output for cell in run(path, tmp_path).cells for output in cell.get("outputs", ())]
    shown = [output["data"] for output in outputs if "data" in output]
    assert sum("image/png" in data for data in shown) == PICTURES[path.stem]
    assert [output["text"] for output in outputs if output.get("name") == "stderr"] == []
    # One text for a bar and its lines, which needs no widget to be read again.
    bars = [data["text/plain"] for data in shown if "━" in data.get("text/plain", "")]
    assert bars
    assert [data for data in shown if "Output()" in data.get("text/plain", "")] == []
    assert "\\u001b" not in json.dumps(outputs), "colours for a terminal"
    assert list((tmp_path / "here").iterdir()) == [], "nothing is left beside the notebook"
