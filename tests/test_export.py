"""Exported files: the same numbers as torch, nothing written that differs, and nothing told of the machine."""

import dataclasses
import json
import sys

import numpy as np
import onnx
import pytest
import torch
from test_folding import shake
from torch import nn

from lesionseg import api
from lesionseg.data.labels import BINARY, Labels
from lesionseg.errors import ConfigError, DataError, OutputError, RunError
from lesionseg.export import publish
from lesionseg.export.bundle import Checked
from lesionseg.export.formats import Built
from lesionseg.export.graph import ExportModule, count_macs, prepare
from lesionseg.export.onnx import trace, with_metadata
from lesionseg.export.photos import generated_photos, run_parts
from lesionseg.export.quantize import Calibration, to_dynamic, to_float16, to_int8
from lesionseg.inference.onnx_predictor import OnnxPredictor, load_onnx
from lesionseg.inference.predictor import load_predictor, load_torch
from lesionseg.models import EncoderSpec, ModelSpec, build_model


@pytest.fixture
def run(exported):
    return exported[0]


@pytest.fixture
def float32(exported):
    return exported[1]


@pytest.mark.parametrize("name", ["unet", "unet_shuffle", "pix2pix", "deeplab"])
@torch.no_grad()
def test_what_is_exported_is_the_same_function(name):
    model = shake(build_model(ModelSpec(name, 0.4, 1, EncoderSpec())), 1)
    prepared = prepare(model)
    assert not any(isinstance(part, nn.ConvTranspose2d | nn.Dropout2d) for part in prepared.decoder.modules())
    photos = torch.from_numpy(generated_photos(2, 64, 96))
    (before,), (after,) = ExportModule(model, BINARY)(photos), ExportModule(prepared, BINARY)(photos)
    assert before.shape == (2, 64, 96)
    assert np.ptp(before.numpy()) > 0.005
    torch.testing.assert_close(after, before, atol=1e-4, rtol=0)


@torch.no_grad()
def test_several_classes_make_the_lesion():
    model = shake(build_model(ModelSpec("unet", 0.4, 3, EncoderSpec())), 2)
    labels = Labels(("skin", "border", "lesion"), band=2)
    lesion, classes = ExportModule(prepare(model), labels)(torch.from_numpy(generated_photos(1, 64, 64)))
    torch.testing.assert_close(classes.sum(1), torch.ones(1, 64, 64))
    torch.testing.assert_close(lesion, classes[:, 2] + classes[:, 1] / 2)
    with pytest.raises(ConfigError, match="called lesion"):
        ExportModule(model, Labels(("skin", "mole"), {"skin": 0, "mole": 1}))


def test_macs_by_hand():
    class One(nn.Module):
        def forward(self, x):
            return nn.functional.conv2d(x, torch.zeros(4, 3, 3, 3), padding=1)

    assert count_macs(One(), 8, 16) == 4 * 3 * 9 * 8 * 16


def test_float32_says_what_torch_says(run, float32):
    trained, exported = load_torch(run, device="cpu"), load_predictor(float32, threads=1)
    photos = generated_photos(3, 64, 96)
    np.testing.assert_allclose(exported.infer(photos), trained.infer(photos), atol=1e-4)
    np.testing.assert_allclose(exported.infer_classes(photos), trained.infer_classes(photos), atol=1e-4)
    assert (exported.name, exported.checkpoint) == ("small", trained.checkpoint)
    assert (exported.height, exported.width, exported.labels) == (64, 96, trained.labels)
    assert exported.info.weights_sha256 == trained.sha256
    assert exported.info.macs == count_macs(trained.model, 64, 96)


def test_the_file_tells_what_is_needed_and_nothing_of_the_machine(tiny, float32):
    proto = onnx.load(float32)
    values = {entry.key: entry.value for entry in proto.metadata_props}
    assert json.loads(values["mean"]) == [0.485, 0.456, 0.406]
    assert (values["height"], values["width"], values["threshold"]) == ("64", "96", "0.5")
    assert "Not a medical device" in values["notice"]
    data = float32.read_bytes()
    for place in (str(tiny.manifest.parent), str(float32.parent), "lesionseg/models", "site-packages"):
        assert place.encode() not in data
    assert not any(node.op_type in ("BatchNormalization", "ConvTranspose") for node in proto.graph.node)
    assert "sha256" in float32.with_name("small.onnx.md").read_text()


@pytest.mark.long
@pytest.mark.parametrize(
    ("convert", "operation", "part"),
    [(to_float16, "Cast", 0.55), (to_dynamic, "ConvInteger", 0.35), (to_int8, "QuantizeLinear", 0.35)],
)
def test_smaller_numbers_make_smaller_files(float32, convert, operation, part):
    photos = generated_photos(6, 64, 96)
    proto = onnx.load(float32)
    made = convert(proto, Calibration(photos[:4])) if convert is to_int8 else convert(proto)
    data = with_metadata(made, load_onnx(float32).info.to_metadata())
    assert len(data) < part * float32.stat().st_size
    assert operation in {node.op_type for node in made.graph.node}
    small = OnnxPredictor(data, float32, threads=1).infer(photos[4:])
    assert small.dtype == np.float32
    assert np.abs(small - load_predictor(float32).infer(photos[4:])).mean() < 0.05


@pytest.mark.long
def test_int8_at_another_size(run, tmp_path):
    made = api.export(run, tmp_path / "large.onnx", precision="int8", size=(96, 64), max_drop=100)
    assert made.bytes == made.path.stat().st_size
    assert made.checked.photos == 3
    assert "Dice" in made.card.read_text()
    assert load_predictor(made.path).infer(generated_photos(1, 96, 64)).shape == (1, 96, 64)


@pytest.mark.long
def test_a_narrow_model_is_exported(tiny, tmp_path):
    words = ["model.name=light", "model.encoder_width=0.35", "model.decoder_width=0.35"]
    places = [f"model.start={tmp_path / 'first'}", f"optim.teacher={tmp_path / 'first'}"]
    api.train(tiny.config("loop.epochs=1", *words), tmp_path / "first")
    api.train(tiny.config("loop.epochs=1", *words, *places), tmp_path / "second")
    trained, photos = load_torch(tmp_path / "second", device="cpu"), generated_photos(2, 64, 64)
    for precision, limit in (("float32", 1.4e6), ("int8", 0.6e6)):
        made = api.export(tmp_path / "second", precision=precision, max_drop=100)
        assert made.bytes < limit
        # Nothing of where the runs lie goes into the file.
        assert str(tmp_path).encode() not in made.path.read_bytes()
        apart = np.abs(load_predictor(made.path, threads=1).infer(photos) - trained.infer(photos))
        assert apart.mean() < (1e-4 if precision == "float32" else 0.05)


def test_photos_of_the_test_split_take_no_part(tiny, run):
    train, val = run_parts(run, None, None)
    assert (len(train), len(val)) == (7, 3)
    assert {case.split for case in train + val} == {"train"}


def test_another_manifest_is_refused(tiny, run, tmp_path):
    other = tmp_path / "other.csv"
    other.write_text("".join(tiny.manifest.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(DataError, match="not the manifest"):
        api.export(run, precision="int8", manifest=other, root=tiny.folders.train_images.parent)


@pytest.mark.long
@pytest.mark.parametrize(
    ("precision", "checked"),
    [
        ("float32", Checked(0.01, 1e-5)),
        ("float16", Checked(0.9, 0.1)),
        ("float32", Checked(float("nan"), float("nan"))),
        ("int8", Checked(0.9, 0.1, 3, 0.9, 0.8)),
        ("int8", Checked(0.0, 0.0, 3, 0.9, float("nan"))),
    ],
)
def test_what_differs_is_not_written(run, monkeypatch, tmp_path, precision, checked):
    monkeypatch.setattr(publish, "compare_models", lambda *_: checked)
    # No network is converted: what is judged is made up.
    made_up = dataclasses.replace(publish.FORMATS["onnx"], build=lambda *_: Built({".onnx": b"x"}, np.asarray))
    monkeypatch.setitem(publish.FORMATS, "onnx", made_up)
    with pytest.raises(RunError, match="is not written"):
        api.export(run, tmp_path / "worse.onnx", precision=precision)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "tflite"}, "onnx, openvino"),
        ({"form": "torch-export", "precision": "int8"}, "float32"),
        ({"precision": "int4"}, "float32, float16, int8, dynamic"),
        ({"size": (100, 64)}, "multiples of 32"),
        ({"size": (0, 0)}, "multiples of 32"),
        ({"size": (320000, 320000)}, "multiples of 32 up to 4096"),
        ({"form": "bundle", "size": (0, 0)}, "leave out --size"),
        ({"form": "bundle", "precision": "float16"}, "leave out --precision"),
        ({"about": "about.yaml"}, "--format bundle"),
        ({"max_drop": float("nan")}, "0 or more"),
    ],
)
def test_options_that_do_not_exist(run, options, message):
    with pytest.raises(ConfigError, match=message):
        api.export(run, **options)


def test_a_name_that_would_not_be_found_again(run, tmp_path):
    with pytest.raises(ConfigError, match=r"end with \.onnx"):
        api.export(run, tmp_path / "model.bin")


def test_nothing_else_is_overwritten(run, monkeypatch, tmp_path):
    class Two:
        suffix, precisions, beside = ".pte", ("float32",), (".json",)

        @staticmethod
        def build(module, info, calibration):
            return Built({".pte": b"model", ".json": b"{}"}, module)

    monkeypatch.setitem(publish.FORMATS, "executorch", Two)
    monkeypatch.setattr(publish, "compare_models", lambda *_: publish.Checked(0.0, 0.0))
    monkeypatch.setattr(publish.Request, "check", lambda *_: None)
    (tmp_path / "model.json").write_text("something else")
    with pytest.raises(OutputError, match="not written by lesionseg"):
        publish.export_run(run, tmp_path / "model.pte", form="executorch")
    assert [path.name for path in tmp_path.iterdir()] == ["model.json"]


@pytest.mark.parametrize(("form", "module"), [("openvino", "openvino"), ("executorch", "executorch.exir")])
def test_missing_extras_are_named(run, monkeypatch, form, module):
    for name in {module, module.split(".")[0]}:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=rf"{form} is not installed[\s\S]*lesionseg\[{form}\]"):
        api.export(run, form=form)


@pytest.mark.long
def test_torch_export(run, tmp_path):
    made = api.export(run, tmp_path / "model.pt2", form="torch-export")
    assert made.checked.difference < 1e-4
    extra = {"lesionseg.json": ""}
    program = torch.export.load(made.path, extra_files=extra)
    assert json.loads(extra["lesionseg.json"])["height"] == "64"
    assert program.module()(torch.zeros(3, 64, 96, 3, dtype=torch.uint8))[0].shape == (3, 64, 96)


@pytest.mark.long
def test_a_trimap_survives(float32, tmp_path):
    model = shake(build_model(ModelSpec("unet", 0.4, 3, EncoderSpec())), 3)
    labels = Labels(("skin", "border", "lesion"), band=2.0)
    info = dataclasses.replace(load_onnx(float32).info, labels=labels)
    proto = trace(ExportModule(prepare(model), labels), info.height, info.width)
    exported = OnnxPredictor(with_metadata(proto, info.to_metadata()), tmp_path / "tri.onnx")
    photos = generated_photos(2, 64, 96)
    classes = exported.infer_classes(photos)
    assert classes.shape == (2, 3, 64, 96)
    np.testing.assert_allclose(classes.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(exported.infer(photos), classes[:, 2] + classes[:, 1] / 2, atol=1e-5)
    assert exported.labels == labels
