"""Whose weights a run would be loaded with, found without loading them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lesionseg.errors import RunError
from lesionseg.records import Checkpoint
from lesionseg.training.checkpoint import save_checkpoint
from lesionseg.training.places import FOLDER, best_checkpoint, read_header, require_unused, weights_digest, weights_file


def save(run: Path, epoch: int, *, is_best: bool) -> Path:
    nothing: dict[str, object] = {}
    checkpoint = Checkpoint(
        config=nothing,
        model_spec=nothing,
        model_state={"weight": torch.full((3,), float(epoch))},
        optim_state={},
        optim_groups=(),
        scaler=nothing,
        epoch=epoch,
        step=0,
        best=nothing,
        history=tuple({} for _ in range(epoch)),
        partial=nothing,
    )
    return save_checkpoint(checkpoint, run / FOLDER, is_best=is_best, keep=2)


def test_the_digest_is_that_of_the_best_weights(tmp_path: Path) -> None:
    first = save(tmp_path, 1, is_best=True)
    last = save(tmp_path, 2, is_best=False)
    assert best_checkpoint(tmp_path) == first
    found = weights_digest(tmp_path)
    assert found == read_header(first)["sha256"]["model"] != read_header(last)["sha256"]["model"]


def test_weights_that_are_not_intact_have_none(tmp_path: Path) -> None:
    assert weights_digest(tmp_path) == ""
    file = save(tmp_path, 1, is_best=True)
    weights = weights_file(file)
    intact = weights.read_bytes()
    weights.write_bytes(intact[:-1])
    assert weights_digest(tmp_path) == ""
    weights.unlink()
    assert weights_digest(tmp_path) == ""
    weights.write_bytes(intact)
    header = read_header(file)
    file.write_text(json.dumps({**header, "sha256": None}))
    assert weights_digest(tmp_path) == ""
    file.write_text(json.dumps(header))
    assert weights_digest(tmp_path) == header["sha256"]["model"]


def test_no_torch_is_needed() -> None:
    code = "import sys, lesionseg.training.places; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_names_that_are_too_long_are_refused(tmp_path: Path) -> None:
    for run, chosen in ((tmp_path / "run", "a" * 3000), (tmp_path / ("b" * 300) / "run", None)):
        with pytest.raises(RunError, match="File name too long"):
            require_unused(run, chosen)
