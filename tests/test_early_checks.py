"""Mistakes that are reported before the modules that load torch are imported."""

import sys
from pathlib import Path
from typing import Any

import pytest

from lesionseg import api
from lesionseg.errors import ConfigError, LesionsegError, RunError

TRAIN: dict[str, Any] = {"model.encoder_weights": "random", "loop.threads": 1}


@pytest.fixture(autouse=True)
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lesionseg.training.run", "lesionseg.export.publish", "lesionseg.export.shipping"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data.manifest": "nosuch.csv"}, "neither a file nor a shipped name"),
        ({"optim.teacher": "nosuch"}, "no model 'nosuch'"),
        ({"model.start": "nosuch"}, "no model 'nosuch'"),
        ({"loop.example": "nosuch"}, "no validation case"),
        ({"model.start": "empty"}, "holds no checkpoint"),
    ],
)
def test_what_a_training_starts_from(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    words = {"data.manifest": str(tiny.manifest), **TRAIN, **settings}
    with pytest.raises(LesionsegError, match=message):
        api.train({}, tmp_path / "runs/x", overrides=words)
    assert not (tmp_path / "runs").exists()


def test_a_last_batch_of_one(tiny: Any, tmp_path: Path) -> None:
    words = {"data.manifest": str(tiny.manifest), "data.image_size": 32, "loop.batch_size": 2, "model.name": "light"}
    images = len(tiny_training(tiny))
    size = next(number for number in range(2, images) if images % number == 1)
    with pytest.raises(ConfigError, match="last batch has 1 of"):
        api.train({}, tmp_path / "x", overrides={**words, **TRAIN, "loop.batch_size": size})


def tiny_training(tiny: Any) -> Any:
    from lesionseg.config import load_config
    from lesionseg.data.manifest import read_manifest
    from lesionseg.data.splits import training_parts

    config = load_config({}, [f"data.manifest={tiny.manifest}"])
    return training_parts(read_manifest(tiny.manifest), config.data.validation_fraction, config.loop.seed)[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (33, 33)}, "cannot be 33 x 33"),
        ({"form": "keras"}, "no format 'keras'"),
        ({"form": "openvino", "precision": "dynamic"}, "precision 'dynamic'"),
        ({"output": "model.pt"}, "would not be known as onnx"),
        ({"qat": 3}, "not trained for"),
        ({"max_drop": -1.0}, "max_drop is -1"),
        ({"form": "bundle", "size": (64, 64)}, "input size of its training"),
        ({"form": "bundle", "about": "nosuch.yaml"}, "nosuch.yaml"),
    ],
)
def test_what_an_export_is_asked_for(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(ConfigError, match=message):
        api.export(tmp_path / "run", **options)


@pytest.mark.parametrize("form", ["onnx", "bundle"])
def test_a_run_without_checkpoints_is_not_exported(tmp_path: Path, form: str) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(RunError, match="holds no checkpoint"):
        api.export(tmp_path / "run", form=form)
