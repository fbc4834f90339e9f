"""An exported file where a run folder is expected: in predict, evaluate, compare and the benchmark, without torch."""

import csv
import os
import re
import subprocess
import sys

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from lesionseg import api, cli
from lesionseg.data.images import read_mask
from lesionseg.errors import ConfigError, DataError, NonFiniteError, OutputError, RunError, ShapeError
from lesionseg.export.benchmark import COLUMNS
from lesionseg.inference.onnx_predictor import load_onnx
from lesionseg.inference.seal import UNSEALED, seal


@pytest.fixture
def run(exported):
    return exported[0]


@pytest.fixture
def file(exported):
    return exported[1]


def altered(file, target, *, metadata=None, change=lambda proto: None):
    """A copy with other texts in it, or another graph, and with a digest that fits."""
    proto = onnx.load(file)
    values = {entry.key: entry.value for entry in proto.metadata_props}
    onnx.helper.set_model_props(proto, values if metadata is None else metadata(values))
    change(proto)
    data = proto.SerializeToString()
    held = re.search(rb"file_sha256\x12\x40([0-9a-f]{64})", data)
    target.write_bytes(data if held is None else seal(data.replace(held[1], UNSEALED.encode())))
    return target


def test_the_runtime_leaves_nothing_in_the_home_folder_and_calls_nobody(exported, tmp_path):
    code = "import sys, lesionseg\nlesionseg.load(sys.argv[1])"
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / ".cache"), "PATH": os.environ["PATH"]}
    subprocess.run([sys.executable, "-c", code, str(exported[1])], check=True, env=home)
    assert list(tmp_path.rglob("*")) == []


def test_masks_are_those_of_torch(tiny, run, file, tmp_path):
    results = [api.predict(tiny.folders.test_images, model, tmp_path / model.stem) for model in (run, file)]
    assert [(result.done, result.failed) for result in results] == [(4, 0)] * 2
    for path in results[0].output.glob("*.png"):
        assert (read_mask(path) == read_mask(results[1].output / path.name)).mean() > 0.999


def test_predicting_needs_no_torch(tiny, file, tmp_path):
    code = (
        "import sys\nfrom pathlib import Path\nfrom lesionseg import api\n"
        "api.predict(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))\n"
        "heavy = {'torch', 'monai', 'timm', 'onnx', 'pandas', 'matplotlib', 'scipy'}\n"
        "status = Path('/proc/self/status')\n"
        "print(status.read_text().split('VmHWM:')[1].split()[0] if status.exists() else 0)\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    photo = next(tiny.folders.test_images.glob("*.jpg"))
    words = [sys.executable, "-c", code, str(photo), str(file), str(tmp_path / "out")]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) * 1024 < 300e6, "bytes at most; Linux alone tells them"
    assert len(list((tmp_path / "out").glob("*_segmentation.png"))) == 1


@pytest.mark.long
def test_scores_are_those_of_torch_and_stay_beside_the_file(run, file, tiny, tmp_path):
    manifest, root = tiny.manifest, tiny.folders.train_images.parent
    ours = api.evaluate(file, manifest=manifest, root=root)
    theirs = api.evaluate(run, manifest=manifest, root=root)
    assert ours.folder == file.with_name(f"{file.name}-scores")
    assert ours.name == "small.onnx"
    np.testing.assert_allclose(ours.per_image["dice"], theirs.per_image["dice"], atol=2e-3)
    scored = (ours.folder / "evaluation/test/summary.json").stat().st_mtime_ns
    results, files = api.compare([run, file], tmp_path / "report", manifest=manifest, root=root)
    assert [result.name for result in results] == ["one", "small.onnx"]
    assert files.html.is_file()
    assert (ours.folder / "evaluation/test/summary.json").stat().st_mtime_ns == scored, "used again"


@pytest.mark.parametrize(
    "batch", [np.zeros((1, 64, 64, 3), np.uint8), np.zeros((0, 64, 96, 3), np.uint8), np.zeros((1, 64, 96, 3))]
)
def test_other_shapes_and_dtypes_are_refused(file, batch):
    with pytest.raises(ShapeError, match="N x 64 x 96 x 3"):
        load_onnx(file).infer(batch)


def test_files_that_cannot_be_used(file, tmp_path):
    (tmp_path / "half.onnx").write_bytes(file.read_bytes()[:100_000])
    (tmp_path / "text.onnx").write_bytes(b"no model")
    for name in ("half", "text"):
        with pytest.raises(RunError, match="no intact model that this version of lesionseg exported"):
            load_onnx(tmp_path / f"{name}.onnx")
    with pytest.raises(RunError, match="does not exist"):
        api.load(tmp_path / "none.onnx")
    with pytest.raises(RunError, match="no intact model that"):
        load_onnx(altered(file, tmp_path / "other.onnx", metadata=lambda values: {}))
    with pytest.raises(RunError, match="damaged"):
        load_onnx(altered(file, tmp_path / "wrong.onnx", metadata=lambda values: values | {"height": "tall"}))
    untold = altered(file, tmp_path / "untold.onnx", metadata=lambda values: values | {"run": "{}"})
    with pytest.raises(RunError, match="how it was trained"):
        api.evaluate(untold)


def test_an_exported_file_has_one_state(file):
    with pytest.raises(ConfigError, match="one state"):
        api.load(file, checkpoint="last")


def test_nan_is_an_error_and_no_empty_mask(file, tmp_path):
    def spoil(proto):
        weights = next(value for value in proto.graph.initializer if value.name.endswith("head.0.bias"))
        weights.raw_data = np.full(weights.dims, np.nan, np.float32).tobytes()

    with pytest.raises(NonFiniteError, match="gives NaN"):
        load_onnx(altered(file, tmp_path / "nan.onnx", change=spoil)).infer(np.zeros((1, 64, 96, 3), np.uint8))


@pytest.mark.long
def test_the_benchmark_scores_and_times_side_by_side(tiny, run, file, tmp_path):
    counted = []
    found = api.benchmark(
        [run, file],
        tmp_path,
        manifest=tiny.manifest,
        root=tiny.folders.train_images.parent,
        rounds=2,
        progress=lambda *numbers: counted.append(numbers),
    )
    with found.table.open(encoding="utf-8", newline="") as text:
        rows = list(csv.DictReader(text))
    assert list(rows[0]) == list(COLUMNS)
    assert [row["precision"] for row in rows] == ["float32 torch", "float32"]
    assert all(row[name] != "" for row in rows for name in COLUMNS)
    assert rows[0]["gmac"] == rows[1]["gmac"]
    assert float(rows[0]["speedup"]) == 1
    means = api.evaluate(run).summary["means"]
    assert float(rows[0]["dice"]) == pytest.approx(means["dice"])
    assert float(rows[0]["accuracy"]) == pytest.approx(means["accuracy"])
    assert float(rows[1]["dice"]) == pytest.approx(means["dice"], abs=2e-3)
    assert float(rows[1]["peak_megabytes"]) < float(rows[0]["peak_megabytes"])
    assert counted[-1] == (4, 4)
    assert (tmp_path / "benchmark.md").read_text().count("\n") == 4


@pytest.mark.long
def test_a_benchmark_without_photos_only_times(file, tmp_path):
    words = ["benchmark", str(file), "--rounds", "1", "--output", str(tmp_path)]
    result = CliRunner().invoke(cli.app, words, catch_exceptions=False)
    assert "ms all threads" in result.output
    assert "dice" not in result.output
    (row,) = csv.DictReader((tmp_path / "benchmark.csv").read_text().splitlines())
    assert float(row["ms_1_thread"]) > 0
    assert row["dice"] == ""
    with pytest.raises(ConfigError, match="nothing to measure"):
        api.benchmark([], tmp_path)


def test_scores_of_a_file_never_go_into_the_run_beside_it(run, file, tiny, tmp_path):
    manifest, root = tiny.manifest, tiny.folders.train_images.parent
    (tmp_path / "one").mkdir()
    for name in ("run.json", "history.csv"):
        (tmp_path / "one" / name).write_bytes((run / name).read_bytes())
    (tmp_path / "one.onnx").write_bytes(file.read_bytes())
    before = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    scores = api.evaluate(tmp_path / "one.onnx", manifest=manifest, root=root)
    assert {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()} == before
    assert (scores.name, scores.folder) == ("one.onnx", tmp_path / "one.onnx-scores")
    # The folder of the scores stands for the file.
    assert api.evaluate(scores.folder, manifest=manifest, root=root).folder == scores.folder
    (tmp_path / "two.onnx").write_bytes(file.read_bytes())
    (tmp_path / "two.onnx-scores").mkdir()
    (tmp_path / "two.onnx-scores" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds something else"):
        api.evaluate(tmp_path / "two.onnx", manifest=manifest, root=root)
    assert [path.name for path in (tmp_path / "two.onnx-scores").iterdir()] == ["thesis.txt"]


def test_a_refused_evaluation_of_a_file_leaves_nothing(file, tiny, tmp_path, monkeypatch):
    (tmp_path / "one.onnx").write_bytes(file.read_bytes())
    monkeypatch.setattr("lesionseg.inference.scoring._score", lambda *_: ([], ["a: odd"]))
    with pytest.raises(DataError, match="can be scored"):
        api.evaluate(tmp_path / "one.onnx", manifest=tiny.manifest, root=tiny.folders.train_images.parent)
    assert not (tmp_path / "one.onnx-scores").exists()
