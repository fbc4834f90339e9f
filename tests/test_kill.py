"""A training that is killed again and again loses nothing, and ends where an unbroken one does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_net import same

from lesionseg.training.checkpoint import FOLDER


@pytest.mark.slow
def test_a_hundred_kills(tiny, tmp_path: Path) -> None:
    kills = int(os.environ.get("LESIONSEG_KILLS", "100"))
    script = Path(__file__).with_name("killing.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), str(tiny.manifest), str(kills)],
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["kills"] == kills
    whole, broken = tmp_path / "whole" / "run", tmp_path / "broken" / "run"
    assert same(whole, broken)
    assert timeless(whole / "history.csv") == timeless(broken / "history.csv")
    names = [sorted(path.name for path in (run / FOLDER).iterdir()) for run in (whole, broken)]
    assert names[0] == names[1]
    assert (whole / FOLDER / "best.json").read_bytes() == (broken / FOLDER / "best.json").read_bytes()
    assert not list(broken.rglob(".part-*"))


def timeless(table: Path) -> list[list[str]]:
    rows = [line.split(",") for line in table.read_text().splitlines()]
    columns = [i for i, name in enumerate(rows[0]) if name not in ("seconds", "images_per_second")]
    return [[row[i] for i in columns] for row in rows]
