"""The page and its model as one set of files."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lesionseg import RESEARCH_USE
from lesionseg.app.site import check_photo, default_model, find_file, make_site, write_site
from lesionseg.errors import ConfigError, LesionsegError, OutputError, RunError
from lesionseg.inference.onnx_predictor import load_onnx
from lesionseg.shipped_models import shipped_models


@pytest.fixture
def page(tmp_path: Path) -> Path:
    folder = tmp_path / "page"
    (folder / "ort").mkdir(parents=True)
    for name in ("index.html", "main.js", "sw.js", "ort/run.wasm", "version.txt"):
        (folder / name).write_text(name)
    return folder


def test_the_model_is_described(exported: tuple[Path, Path], page: Path) -> None:
    site = make_site(exported[1], page)
    assert set(site) == {"index.html", "main.js", "sw.js", "ort/run.wasm", "model.onnx", "model.json"}
    told = json.loads(site["model.json"])
    data = exported[1].read_bytes()
    assert site["model.onnx"] == data
    assert (told["bytes"], told["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert (told["height"], told["width"], told["threshold"]) == (64, 96, 0.5)
    assert (told["input"], told["output"], told["precision"]) == ("photos", "probability", "float32")
    assert told["notice"] == RESEARCH_USE
    assert told["quality"] is None
    answer = load_onnx(exported[1]).infer(check_photo(64, 96)[None])[0]
    assert told["check"] == pytest.approx(
        [answer[y : y + 16, x : x + 16].mean() for y in range(0, 64, 16) for x in range(0, 96, 16)], abs=1e-4
    )


def test_the_service_worker_knows_every_file(exported: tuple[Path, Path], page: Path) -> None:
    site = make_site(exported[1], page)
    first, rest = site["sw.js"].split(b"\n", 1)
    assert rest == b"sw.js"
    files = json.loads(first.removeprefix(b"self.FILES=").removesuffix(b";"))
    assert files.keys() == site.keys() - {"sw.js"}
    assert files["main.js"] == hashlib.sha256(b"main.js").hexdigest()[:16]
    (page / "main.js").write_text("changed")
    assert make_site(exported[1], page)["sw.js"] != site["sw.js"]


@pytest.mark.parametrize("size", [(64, 96), (192, 256), (33, 47)])
def test_the_check_has_something_to_find(size: tuple[int, int]) -> None:
    photo = check_photo(*size)
    assert (photo.shape, photo.dtype) == ((*size, 3), np.uint8)
    assert 0.05 < (photo[..., 0] < 130).mean() < 0.3


def test_models_are_found(exported: tuple[Path, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "export").mkdir(parents=True)
    assert find_file(str(exported[1])) == exported[1]
    with pytest.raises(ConfigError, match=r"holds no exported model\nFix: 'lesionseg export .*run --precision int8'"):
        find_file(str(run))
    (run / "export" / "run-int8.onnx").write_bytes(b"1")
    assert find_file(str(run)) == run / "export" / "run-int8.onnx"
    (run / "export" / "run-float32.onnx").write_bytes(b"1")
    with pytest.raises(ConfigError, match=r"several models:\n  - .*float32.onnx\n  - .*int8.onnx\nFix: name one"):
        find_file(str(run))
    with pytest.raises(RunError, match=r"there is no model 'no-such-model'\nFix: name a run folder"):
        find_file("no-such-model")


def test_a_model_that_ships_brings_its_calibration(shipped: Path, page: Path) -> None:
    file = find_file("lesionseg-base")
    assert file == shipped / "model-int8.onnx"
    told = json.loads(make_site(file, page)["model.json"])
    quality = json.loads((shipped / "model.json").read_text())["quality"]
    assert (told["name"], told["quality"], quality["photos"]) == ("lesionseg-base", quality, 3)


def test_what_is_no_model_is_refused(tmp_path: Path, page: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    with pytest.raises(RunError, match="is no intact model that"):
        make_site(tmp_path / "bad.onnx", page)


def test_writing_spares_what_is_not_its_own(tmp_path: Path) -> None:
    site = {"index.html": b"1", "ort/run.wasm": b"2"}
    folder = tmp_path / "out"
    write_site(site, folder)
    assert (folder / "ort" / "run.wasm").read_bytes() == b"2"
    assert RESEARCH_USE in (folder / "lesionseg-app.txt").read_text()
    write_site({"index.html": b"3"}, folder)
    assert (folder / "index.html").read_bytes() == b"3"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(OutputError, match="holds something else"):
        write_site(site, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    with pytest.raises(LesionsegError):
        write_site(site, tmp_path / "mine" / "thesis.txt")


def test_the_list_of_digests_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr("lesionseg.app.site.write_output", lambda path, _: written.append(path.name))
    write_site({"sw.js": b"0", "index.html": b"1", "ort/run.wasm": b"2"}, tmp_path)
    assert sorted(written) == ["index.html", "lesionseg-app.txt", "run.wasm", "sw.js"]
    assert written[-1] == "sw.js"


def test_the_lightest_model_is_the_default(shipped: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from lesionseg import shipped_models

    assert default_model() == shipped.name
    for name in (shipped.name, "lesionseg-lite"):
        shutil.copytree(shipped, tmp_path / name)
    monkeypatch.setattr(shipped_models, "_FOLDER", tmp_path)
    assert default_model() == "lesionseg-lite"
    assert find_file(default_model()) == tmp_path / "lesionseg-lite" / "model-int8.onnx"


@pytest.mark.skipif("lesionseg-lite" not in shipped_models(), reason="this copy ships no model for phones")
def test_models_that_ship_are_small() -> None:
    sizes = {name: find_file(name).stat().st_size for name in shipped_models()}
    assert sizes["lesionseg-lite"] < 1_500_000
    assert max(sizes.values()) < 4_000_000
