"""Models that ship: found by name, checked, and taken wherever a run folder is, without torch."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import lesionseg
from lesionseg import api, shipped_models
from lesionseg.errors import ConfigError, OutputError, RunError
from lesionseg.export import publish
from lesionseg.export.formats import Built
from lesionseg.export.onnx import with_metadata
from lesionseg.export.photos import generated_photos
from lesionseg.inference.exported import ExportInfo
from lesionseg.inference.onnx_predictor import OnnxPredictor, load_onnx
from lesionseg.inference.predictor import TorchPredictor, load_torch
from lesionseg.shipped_models import DEFAULT, FACTS, INT8, SCORES_OF, WEIGHTS, find_model, open_bundle


@pytest.fixture
def copied(shipped: Path, tmp_path: Path) -> Path:
    """The stand-in as a folder of the user's own."""
    return Path(shutil.copytree(shipped, tmp_path / "mine"))


def changed(folder: Path, **facts: Any) -> Path:
    told = json.loads((folder / FACTS).read_text())
    (folder / FACTS).write_text(json.dumps({**told, **facts}))
    return folder


# --- finding ----------------------------------------------------------------------------------------------------------


def test_names_and_paths_are_told_apart(shipped: Path, exported: tuple[Path, Path], tmp_path: Path) -> None:
    assert find_model(DEFAULT) == shipped
    assert find_model(Path(DEFAULT)) == shipped
    assert find_model(shipped) == shipped
    for path in exported:
        assert find_model(str(path)) == path
    assert find_model(tmp_path / "none.onnx") == tmp_path / "none.onnx"


def test_a_run_of_the_same_name_goes_first_but_no_other_folder(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(DEFAULT).mkdir()
    assert find_model(DEFAULT) == shipped
    (Path(DEFAULT) / "run.json").write_text("{}")
    assert find_model(DEFAULT) == Path(DEFAULT)
    # That of the model's own scores stands for it.
    (Path(DEFAULT) / "run.json").write_text(json.dumps({SCORES_OF: DEFAULT}))
    assert find_model(DEFAULT) == find_model(Path(DEFAULT).resolve()) == shipped


@pytest.mark.parametrize("name", ["lesionseg-bas", "runs/lesionseg-bose"])
def test_what_is_not_there_is_told_with_what_is(shipped: Path, name: str) -> None:
    with pytest.raises(RunError, match=rf"no model '{name}'; did you mean {DEFAULT}\?\n.*ships with.*\({DEFAULT}\)"):
        find_model(name)
    with pytest.raises(RunError, match=r"no model 'x{300}'\nFix"):
        find_model("x" * 300)


def test_a_copy_without_models_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped_models, "_FOLDER", tmp_path)
    assert shipped_models.shipped_models() == []
    with pytest.raises(RunError, match="this copy has none"):
        lesionseg.load(DEFAULT)


def test_the_default_comes_first(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped_models, "_FOLDER", copied.parent)
    shutil.copytree(copied, copied.parent / DEFAULT)
    shutil.copytree(copied, copied.parent / "a")
    assert shipped_models.shipped_models() == [DEFAULT, "a", "mine"]


# --- checking ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", [INT8, WEIGHTS])
def test_damaged_and_missing_files_are_one_clear_error(copied: Path, file: str) -> None:
    device = "cpu" if file == INT8 else "meta"
    data = bytearray((copied / file).read_bytes())
    data[len(data) // 2] ^= 1
    (copied / file).write_bytes(data)
    load = (lambda: lesionseg.load(copied)) if device == "cpu" else (lambda: load_torch(copied, device="cpu"))
    with pytest.raises(RunError, match=rf"{file} is damaged: its SHA-256 is not the one in {FACTS}\nFix: copy"):
        load()
    (copied / file).unlink()
    with pytest.raises(RunError, match=rf"{file} does not exist"):
        load()


def test_of_those_that_ship_the_fix_is_to_install_again(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped_models, "_FOLDER", copied.parent)
    (copied / INT8).write_bytes(b"")
    with pytest.raises(RunError, match="install lesionseg again"):
        lesionseg.load("mine")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "is not valid JSON: Expecting"),
        ("[]", "no model of this version"),
        ('{"lesionseg_model": 2}', "no model of this version"),
        (
            '{"lesionseg_model": 1, "name": 3}',
            r"is damaged:\n  - name: input should be a valid string \(got 3\)\n  - checkpoint: missing",
        ),
    ],
)
def test_damaged_facts(copied: Path, text: str, told: str) -> None:
    (copied / FACTS).write_text(text)
    with pytest.raises(RunError, match=told):
        open_bundle(copied)


@pytest.mark.parametrize("name", ["", ".", "..", "/x", "../x", "a/b", "a\\b", "c:x", "a\nb"])
def test_a_name_that_leads_elsewhere(copied: Path, name: str) -> None:
    changed(copied, name=name)
    with pytest.raises(RunError, match="name: not a plain name"):
        open_bundle(copied)


def test_weights_of_another_network(copied: Path) -> None:
    spec = json.loads((copied / FACTS).read_text())["spec"]
    changed(copied, spec={**spec, "name": "light"})
    with pytest.raises(RunError, match=r"its weights do not fit its model\.json"):
        load_torch(copied, device="cpu")


# --- using ------------------------------------------------------------------------------------------------------------


def test_it_is_loaded_by_name_as_int8_and_as_float(shipped: Path, exported: tuple[Path, Path]) -> None:
    small, trained = lesionseg.load(DEFAULT, threads=1), load_torch(exported[0], device="cpu")
    assert (small.name, small.height, small.width) == (DEFAULT, 64, 96)
    assert small.quality is not None
    whole = load_torch(shipped, device="cpu")
    assert isinstance(whole, TorchPredictor)
    assert (whole.name, whole.checkpoint, whole.labels) == (DEFAULT, trained.checkpoint, trained.labels)
    assert whole.quality == small.quality
    photos = generated_photos(2, 64, 96)
    np.testing.assert_allclose(whole.infer(photos), trained.infer(photos), atol=1e-2)
    np.testing.assert_allclose(whole.infer(photos), trained.infer(photos), atol=1e-3, rtol=0.1)
    assert np.abs(small.infer(photos) - trained.infer(photos)).mean() < 0.05
    with pytest.raises(ConfigError, match="has one state"):
        lesionseg.load(DEFAULT, checkpoint="last")


CODE = """
import sys
from pathlib import Path
from lesionseg import shipped_models
shipped_models._FOLDER = Path(sys.argv.pop(1))
from lesionseg.cli import main
try:
    main()
except SystemExit as ended:
    heavy = {"torch", "monai", "timm", "onnx", "pandas", "matplotlib", "scipy"} & set(sys.modules)
    sys.exit(str(heavy) if heavy else ended.code)
"""


def test_predict_needs_neither_model_nor_output_nor_torch(tiny: Any, shipped: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-c", CODE, str(shipped.parent), "predict", str(tiny.folders.test_images)]
    for said in ("4 done, 0 reused", "0 done, 4 reused"):
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert said in done.stdout
    assert len(list((tmp_path / "masks").glob("*_segmentation.png"))) == 4


def test_masks_of_another_origin_are_left_alone(
    tiny: Any, shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("masks").mkdir()
    photo = next(tiny.folders.test_images.glob("*.jpg"))
    drawn = Path("masks") / f"{photo.stem}_segmentation.png"
    drawn.write_bytes(b"drawn by hand")
    with pytest.raises(OutputError, match="masks holds files of another origin"):
        lesionseg.predict(photo)
    assert drawn.read_bytes() == b"drawn by hand"
    with pytest.raises(OutputError, match=drawn.name):
        lesionseg.predict(photo, output="masks")
    assert drawn.read_bytes() == b"drawn by hand"
    lesionseg.predict(photo, output="masks", overwrite=True)
    assert drawn.read_bytes() != b"drawn by hand"


def test_scores_go_into_the_runs_and_are_found_by_name_and_by_place(
    tiny: Any, shipped: Path, exported: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    where = {"manifest": tiny.manifest, "root": tiny.folders.train_images.parent}
    first = api.evaluate(DEFAULT, **where)
    home = Path("runs") / DEFAULT
    assert (first.folder, first.name) == (home, DEFAULT)
    assert json.loads((home / "run.json").read_text())[SCORES_OF] == DEFAULT
    told = json.loads((shipped / FACTS).read_text())["scores"]["means"]["int8"]["dice"]
    assert first.summary["means"]["dice"] == pytest.approx(told[0], abs=1e-4)
    assert not list(shipped.glob("evaluation"))
    written = (home / "evaluation/test/summary.json").stat().st_mtime_ns
    results, _ = api.compare([exported[0], home], "report", **where)
    assert [result.name for result in results] == ["one", DEFAULT]
    assert (home / "evaluation/test/summary.json").stat().st_mtime_ns == written, "used again"
    assert find_model(home) == shipped
    shutil.rmtree(home / "evaluation")
    assert api.evaluate(home, **where).folder == home


def test_a_training_of_the_same_name_is_not_overwritten(
    tiny: Any, shipped: Path, exported: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    home = Path("runs") / DEFAULT
    home.mkdir(parents=True)
    shutil.copy(exported[0] / "run.json", home)
    with pytest.raises(OutputError, match="holds something else than these scores"):
        api.evaluate(DEFAULT, manifest=tiny.manifest, root=tiny.folders.train_images.parent)
    assert (home / "run.json").read_bytes() == (exported[0] / "run.json").read_bytes()


def test_the_benchmark_takes_names(shipped: Path, tmp_path: Path) -> None:
    (row,) = api.benchmark([shipped], tmp_path, rounds=1).rows
    assert (row["model"], row["precision"]) == (DEFAULT, "int8")
    assert row["megabytes"] == pytest.approx((shipped / INT8).stat().st_size / 1e6)


def test_other_precisions_are_made_of_it(
    shipped: Path, exported: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(module: Any, info: ExportInfo, _: object) -> Built:
        # As it was traced before: of the same weights, before they were float16.
        data = with_metadata(onnx.load(exported[1]), info.to_metadata())
        return Built({".onnx": data}, OnnxPredictor(data, exported[1], threads=1).infer)

    monkeypatch.setitem(publish.FORMATS, "onnx", replace(publish.FORMATS["onnx"], build=build))
    # Rounding of the stand-in's weights.
    monkeypatch.setattr(publish, "_LARGEST", 1e-2)
    monkeypatch.chdir(tmp_path)
    made = api.export(DEFAULT)
    assert made.path == Path(f"{DEFAULT}-float32.onnx")
    photos = generated_photos(1, 64, 96)
    one, other = load_onnx(made.path), load_torch(exported[0], device="cpu")
    np.testing.assert_allclose(one.infer(photos), other.infer(photos), atol=1e-2)
    assert one.quality is not None
    assert (one.info.run["name"], one.info.weights_sha256) == ("one", open_bundle(shipped).digest(WEIGHTS))
    with pytest.raises(ConfigError, match=rf"use .*{INT8}, which is int8"):
        api.export(DEFAULT, precision="int8")
