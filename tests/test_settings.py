"""Settings that do not go together are told before anything is read."""

import json
from pathlib import Path
from typing import Any

import pytest

from lesionseg.config import load_config
from lesionseg.data.manifest import read_manifest
from lesionseg.errors import ConfigError
from lesionseg.training.run import run_training
from lesionseg.training.settings import require_same_manifest, require_trainable


def require(*words: str) -> None:
    require_trainable(load_config({"data": {"manifest": "x"}}, words))


def test_what_goes_together_passes() -> None:
    require()
    require("model.name=light", "optim.loss=bce_dice", "optim.trim=0.1", "loop.batch_size=10", "data.rotate90=0.5")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["model.name=ligth"], "there is no model 'ligth'"),
        (["optim.loss=ce"], "no loss 'ce' for 1 output"),
        (["optim.class_weights=[1,2]"], "holds 2 numbers for 1 output"),
        (["data.rotate90=0.5", "data.image_size=[128,160]"], "needs a square"),
        (["data.trimap=2", "optim.loss=ce", "data.lens=0.1"], "need binary masks"),
        (["loop.cache_features=true"], "loop.cache_features=true keeps"),
        (["optim.trim=0.1", "loop.batch_size=9"], "leaves no picture out of 9"),
        (["data.workers=100000"], "data.workers=100000 processes would only take the memory"),
    ],
)
def test_what_does_not_is_named(words: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        require(*words)


def test_each_process_trims_its_own_part(monkeypatch: pytest.MonkeyPatch) -> None:
    require("optim.trim=0.1", "loop.batch_size=24")
    for name, value in {"RANK": "0", "WORLD_SIZE": "4", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_PORT", "29500")
    with pytest.raises(ConfigError, match="leaves no picture out of 6, which one process has"):
        require("optim.trim=0.1", "loop.batch_size=24")


def test_nothing_is_read_for_it(tmp_path: Path) -> None:
    config = load_config({"data": {"manifest": str(tmp_path / "missing.csv")}}, ["optim.loss=ce"])
    with pytest.raises(ConfigError, match="no loss 'ce'"):
        run_training(config, tmp_path / "run")


def test_a_run_goes_on_with_its_own_manifest(tiny: Any, tmp_path: Path) -> None:
    words = ("loop.epochs=1", "model.name=light", "model.encoder_width=0.35", "model.decoder_width=0.25")
    run_training(tiny.config(*words), tmp_path / "run")
    moved, changed = tmp_path / "moved.csv", tmp_path / "changed.csv"
    lines = tiny.manifest.read_text().splitlines(keepends=True)
    moved.write_text("".join(lines))
    changed.write_text("".join([lines[0], *lines[2:]]))
    go_on = [f"data.root={tiny.folders.train_images.parent}", "loop.epochs=2"]
    with pytest.raises(ConfigError, match="cannot change on resuming") as caught:
        run_training(None, tmp_path / "run", resume=True, overrides=[f"data.manifest={changed}", *go_on])
    assert "SHA-256" in caught.value.problems[0]
    result = run_training(None, tmp_path / "run", resume=True, overrides=[f"data.manifest={moved}", *go_on])
    assert result.status == "finished"


@pytest.mark.parametrize("text", [None, "{", "[]", json.dumps({"manifest": None})])
def test_what_a_run_began_with_may_be_lost(tiny: Any, tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    require_same_manifest(read_manifest(str(tiny.manifest)), tmp_path)
