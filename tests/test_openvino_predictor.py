"""An OpenVINO file where a run folder is expected: the same numbers, the same texts, and no torch."""

import csv
import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from test_onnx_predictor import altered

from lesionseg import api
from lesionseg.errors import ConfigError, NonFiniteError, RunError, ShapeError
from lesionseg.export.photos import generated_photos
from lesionseg.inference.onnx_predictor import load_onnx
from lesionseg.inference.openvino_predictor import load_openvino
from lesionseg.inference.predictor import ExportedPredictor, load_predictor
from lesionseg.inference.seal import SEAL, UNSEALED, seal

openvino = pytest.importorskip("openvino", reason="the extra [openvino] is not installed")
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def file(exported, tmp_path_factory):
    return api.export(exported[0], tmp_path_factory.mktemp("ov") / "small.xml", form="openvino").path


def test_it_says_what_the_others_say(exported, file):
    run, onnx = exported
    photos = generated_photos(3, 64, 96)
    ours = load_predictor(file, threads=1)
    for other in (load_predictor(run), load_predictor(onnx)):
        np.testing.assert_allclose(ours.infer(photos), other.infer(photos), atol=1e-4)
        np.testing.assert_allclose(ours.infer_classes(photos), other.infer_classes(photos), atol=1e-4)
    assert ours.predict(photos[0]).probability.shape == (64, 96)
    # Nothing is overwritten by the next photo, nor by the next call.
    before = ours.infer(photos[:1])
    kept = before.copy()
    ours.infer(photos[1:])
    np.testing.assert_array_equal(before, kept)


def test_threads_get_what_they_asked_for(file):
    photos = generated_photos(8, 64, 96)
    ours = load_predictor(file)
    alone = [ours.infer(photo[None]) for photo in photos]
    order = np.random.default_rng(0).integers(0, len(photos), 400)
    with ThreadPoolExecutor(8) as pool:
        together = pool.map(lambda number: ours.infer(photos[number][None]), order)
        for number, found in zip(order, together, strict=True):
            np.testing.assert_array_equal(found, alone[number])


def test_the_file_tells_all_that_an_onnx_file_tells(exported, file):
    ours, onnx = load_openvino(file), load_onnx(exported[1])
    assert isinstance(ours, ExportedPredictor)
    assert ours.info == onnx.info
    assert "\n" in ours.info.history
    assert (ours.name, ours.height, ours.width, ours.labels) == ("small", 64, 96, onnx.labels)
    assert len(ours.sha256) == 64


def test_the_digest_is_of_both_files(file, tmp_path):
    for suffix in (".xml", ".bin"):
        (tmp_path / f"a{suffix}").write_bytes(file.with_suffix(suffix).read_bytes())
    assert load_openvino(tmp_path / "a.xml").sha256 == load_openvino(file).sha256
    weights = bytearray(file.with_suffix(".bin").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "a.bin").write_bytes(weights)
    with pytest.raises(RunError, match=r"a\.xml is damaged"):
        load_openvino(tmp_path / "a.xml")
    held = re.sub(rb'(?<=file_sha256 value=")[0-9a-f]{64}', UNSEALED.encode(), file.read_bytes())
    (tmp_path / "a.xml").write_bytes(seal(held, [bytes(weights)]))
    assert load_openvino(tmp_path / "a.xml").sha256 != load_openvino(file).sha256


@pytest.mark.parametrize(("precision", "apart"), [("int8", 0.05), ("float16", 5e-3)])
def test_the_smaller_precisions(exported, file, tmp_path, precision, apart):
    made = api.export(exported[0], tmp_path / "m.xml", form="openvino", precision=precision, max_drop=100)
    small = load_openvino(made.path, threads=1)
    assert small.info.precision == precision
    assert made.bytes == sum(made.path.with_suffix(suffix).stat().st_size for suffix in (".xml", ".bin"))
    assert made.path.with_suffix(".bin").stat().st_size < 0.55 * file.with_suffix(".bin").stat().st_size
    photos = generated_photos(2, 64, 96)
    assert np.abs(small.infer(photos) - load_openvino(file).infer(photos)).mean() < apart


def test_predict_evaluate_and_benchmark_take_it(exported, file, tiny, tmp_path):
    run, onnx = exported
    manifest, root = tiny.manifest, tiny.folders.train_images.parent
    code = (
        "import sys\nfrom pathlib import Path\nfrom lesionseg import api\n"
        "api.predict(*map(Path, sys.argv[1:4]))\n"
        "heavy = {'torch', 'monai', 'timm', 'onnx', 'onnxruntime', 'pandas', 'scipy'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    words = [sys.executable, "-c", code, str(tiny.folders.test_images), str(file), str(tmp_path / "out")]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out").glob("*_segmentation.png"))) == 4
    ours = api.evaluate(file, manifest=manifest, root=root)
    assert ours.folder == file.with_name(f"{file.name}-scores")
    theirs = api.evaluate(run, manifest=manifest, root=root)
    np.testing.assert_allclose(ours.per_image["dice"], theirs.per_image["dice"], atol=2e-3)
    api.benchmark([run, onnx, file], tmp_path, rounds=1)
    rows = list(csv.DictReader((tmp_path / "benchmark.csv").read_text().splitlines()))
    assert [row["precision"] for row in rows] == ["float32 torch", "float32", "float32 OpenVINO"]
    assert float(rows[2]["megabytes"]) == pytest.approx(
        sum(file.with_suffix(suffix).stat().st_size for suffix in (".xml", ".bin")) / 1e6
    )
    assert rows[0]["gmac"] == rows[2]["gmac"]


def test_files_that_cannot_be_used(exported, file, tmp_path):
    xml, weights = (file.with_suffix(suffix).read_bytes() for suffix in (".xml", ".bin"))

    def refused(first: bytes, second: bytes | None, message: str) -> None:
        path = Path(tmp_path) / "m.xml"
        path.write_bytes(first)
        path.with_suffix(".bin").unlink(missing_ok=True)
        if second is not None:
            path.with_suffix(".bin").write_bytes(second)
        with pytest.raises(RunError, match=message):
            api.load(path)

    def again(changed: bytes) -> bytes:
        held = re.search(rb'file_sha256 value="([0-9a-f]{64})', changed)
        assert held is not None
        return seal(changed.replace(held[1], UNSEALED.encode()), [weights])

    refused(xml[:5000], weights, "no intact model that this version of lesionseg exported")
    refused(b"no model", weights, "no intact model that this version of lesionseg exported")
    refused(xml, weights[:1000], "m.xml is damaged: its SHA-256")
    refused(xml, weights[:-1] + bytes([weights[-1] ^ 1]), "m.xml is damaged: its SHA-256")
    refused(xml + b" ", weights, "m.xml is damaged: its SHA-256")
    refused(again(xml.replace(b"<layers>", b"<layer>")), weights, "no intact OpenVINO model")
    refused(xml, None, r"m\.bin does not exist[\s\S]*side by side")
    other = xml.replace(b"<lesionseg>", b"<other>").replace(b"</lesionseg>", b"</other>")
    refused(again(other), weights, "was not exported")
    told = json.dumps(load_onnx(exported[1]).info.height)
    tall = xml.replace(f'<height value="{told}"'.encode(), b'<height value="tall"')
    refused(again(tall), weights, "height: input should be a valid integer")
    refused(again(xml.replace(b'names="probability"', b'names="chance"')), weights, "no output 'probability'")
    with pytest.raises(RunError, match="does not exist"):
        api.load(tmp_path / "none.xml")
    with pytest.raises(ConfigError, match="one state"):
        api.load(file, checkpoint="last")


def test_other_shapes_and_nan_are_refused(exported, file, tmp_path):
    with pytest.raises(ShapeError, match="N x 64 x 96 x 3"):
        load_openvino(file).infer(np.zeros((1, 64, 64, 3), np.uint8))

    def spoil(proto):
        bias = next(value for value in proto.graph.initializer if value.name.endswith("head.0.bias"))
        bias.raw_data = np.full(bias.dims, np.nan, np.float32).tobytes()

    texts = load_onnx(exported[1]).info.to_metadata()
    source = altered(exported[1], tmp_path / "nan.onnx", metadata=lambda values: texts, change=spoil)
    network = openvino.Core().read_model(source)
    for key, text in {**texts, SEAL: UNSEALED}.items():
        network.set_rt_info(text, ["lesionseg", key])
    xml = tmp_path / "nan.xml"
    openvino.save_model(network, xml, compress_to_fp16=False)
    xml.write_bytes(seal(xml.read_bytes(), [xml.with_suffix(".bin").read_bytes()]))
    with pytest.raises(NonFiniteError, match="gives NaN"):
        load_openvino(tmp_path / "nan.xml").infer(np.zeros((1, 64, 96, 3), np.uint8))


def test_the_missing_extra_is_named(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ConfigError, match=r"needs openvino[\s\S]*lesionseg\[openvino\]"):
        api.load(file)
