"""A run to a bundle: what is in it, what is refused, and what it tells."""

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
import safetensors.torch
import torch

from lesionseg import api
from lesionseg.errors import ConfigError, DataError, OutputError, RunError
from lesionseg.export import publish, requests, shipping
from lesionseg.inference.onnx_predictor import load_onnx
from lesionseg.shipped_models import FACTS, INT8, WEIGHTS, open_bundle


def test_the_folder_holds_all_and_nothing_of_the_machine(shipped: Path, tiny: Any, exported: tuple[Path, Path]) -> None:
    assert {path.name for path in shipped.glob("[!.]*")} == {FACTS, WEIGHTS, INT8, "MODEL_CARD.md"}
    facts = open_bundle(shipped).facts
    assert (facts["image_size"], facts["training"]["photos"], facts["training"]["validation"]) == ([64, 96], 7, 3)
    assert (facts["about"]["licence"], facts["scores"]["photos"]) == ("Apache-2.0", 4)
    assert facts["cost"]["macs"] == load_onnx(shipped / INT8).info.macs
    for path in shipped.glob("[!.]*"):
        for place in (tiny.manifest.parent, exported[0].parent):
            assert str(place).encode() not in path.read_bytes(), path.name


def test_kernels_are_float16_and_norms_are_not(shipped: Path) -> None:
    kinds = {name: value.dtype for name, value in safetensors.torch.load_file(shipped / WEIGHTS).items()}
    assert kinds["encoder.net.conv_stem.weight"] == torch.float16
    assert kinds["encoder.net.bn1.running_var"] == kinds["encoder.net.bn1.weight"] == torch.float32
    assert kinds["encoder.mean"] == torch.float32
    assert kinds["encoder.net.bn1.num_batches_tracked"] == torch.int64
    assert (shipped / WEIGHTS).stat().st_size < 8_500_000


def test_the_int8_file_brings_name_and_calibration(shipped: Path) -> None:
    info = load_onnx(shipped / INT8).info
    assert (info.name, info.precision) == ("lesionseg-base", "int8")
    assert info.quality is not None
    assert info.quality.to_json() == open_bundle(shipped).facts["quality"]
    assert any(node.op_type == "QuantizeLinear" for node in onnx.load(shipped / INT8).graph.node)


def test_scores_have_intervals_and_subgroups(shipped: Path) -> None:
    scores = json.loads((shipped / FACTS).read_text())["scores"]
    assert list(scores["means"]) == ["int8", "float32"]
    for values in (value for form in scores["means"].values() for value in form.values()):
        mean, low, high = values
        assert 0 <= low <= mean <= high <= 1
    assert {row["attribute"] for row in scores["subgroups"]} >= {"lesion size"}
    assert all(row["few"] is True for row in scores["subgroups"])


def test_too_few_validation_photos_leave_it_uncalibrated(shipped: Path) -> None:
    said: list[str] = []
    file, photos = shipped / INT8, type("Photos", (), {"truths": (None,) * 19})()
    model, data = shipping._calibrated(file, "other", photos, said.append)  # type: ignore[arg-type]
    assert (model.name, model.quality, len(data) > 1_000_000) == ("other", None, True)
    assert said == ["not calibrated: there are 19 validation photos, and it takes 20"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data: x\nlicense: y", r"no card has:\n  - license\nFix: use these keys: summary"),
        ("- a", "no card"),
        ("{", "is not valid YAML"),
    ],
)
def test_what_is_said_of_it_has_known_keys(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "about.yaml").write_text(text)
    with pytest.raises(ConfigError, match=said):
        requests.read_about(tmp_path / "about.yaml")


def test_other_folders_are_left_alone(exported: tuple[Path, Path], shipped: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(OutputError, match="holds something else"):
        api.export(exported[0], tmp_path, form="bundle")
    with pytest.raises(ConfigError, match="is a bundle"):
        api.export(shipped, tmp_path / "again", form="bundle")
    with pytest.raises(ConfigError, match="size of its training"):
        api.export(exported[0], tmp_path / "large", form="bundle", size=(96, 96))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_test_photo_of_the_training_is_refused(
    exported: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = shipping._photos_of(exported[0], None, None)
    leaked = shipping._Photos(found.train, found.val, [*found.test, found.val[0]], found.manifest, found.sha256)
    monkeypatch.setattr(shipping, "_photos_of", lambda *_: leaked)
    with pytest.raises(DataError, match="tests with photos that it trains with"):
        api.export(exported[0], tmp_path / "leaking", form="bundle")
    assert list(tmp_path.iterdir()) == []


def test_weights_that_rounding_harms_are_not_written(
    exported: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipping, "compare_models", lambda *_: publish.Checked(0.5, 0.1))
    with pytest.raises(RunError, match=r"model\.safetensors is not written"):
        api.export(exported[0], tmp_path / "coarse", form="bundle")
    assert list(tmp_path.iterdir()) == []
