from pathlib import Path

import pytest
from jinja2 import UndefinedError

from lesionseg.pages import render_template


def write(folder: Path, text: str) -> Path:
    path = folder / "page.html"
    path.write_text(text)
    return path


def test_names_are_escaped_and_files_included_from_both_places(tmp_path: Path) -> None:
    (tmp_path / "own.css").write_text("own { }")
    page = write(tmp_path, '{% include "own.css" %}|{% include "base.css" %}|{{ name }}')
    own, shared, name = render_template(page, name="<script>").split("|")
    assert own == "own { }"
    assert "color-scheme: light dark" in shared
    assert name == "&lt;script&gt;"


def test_an_unknown_name_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UndefinedError, match="nobody"):
        render_template(write(tmp_path, "{{ nobody }}"))
