"""The stages under Ray: the same bytes as on one machine, also when a worker dies."""

import csv
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from object_store import address, bucket, upload
from red_channel import save, tree

from lesionseg.errors import ConfigError, DataError, OutputError
from lesionseg.inference.distributed import next_save, predict_distributed
from lesionseg.inference.folder import predict_folder
from lesionseg.inference.onnx_predictor import load_onnx
from lesionseg.inference.store import Store, open_store

LOG = ".predictions.written.jsonl"

ray = pytest.importorskip("ray", reason="needs the extra [ray]")

pytestmark = [
    pytest.mark.slow,
    # Ray's own, of its own code.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def model(exported) -> Path:
    return exported[1]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(40):
        save(folder / f"clinic {number % 3}" / f"{number:03d}.jpg", number)
    (folder / "broken.jpg").write_bytes(b"no photo")
    return folder


@pytest.fixture(scope="module", autouse=True)
def cluster():
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def contents(folder: Path) -> dict[str, object]:
    """Every file's bytes; of the table, all but the seconds."""
    found: dict[str, object] = {name: (folder / name).read_bytes() for name in tree(folder)}
    with (folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
        found["predictions.csv"] = [{**row, "seconds": ""} for row in csv.DictReader(file)]
    return found


@pytest.fixture(scope="module")
def expected(model: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    output = tmp_path_factory.mktemp("local")
    assert predict_folder(photos, load_onnx(model, threads=1), output).failed == 1
    return contents(output)


def test_the_same_bytes_and_nothing_twice(model, photos, expected, tmp_path) -> None:
    seen: list[tuple[int, int]] = []
    result = predict_distributed(photos, model, tmp_path / "out", progress=lambda *n: seen.append(n), workers=2)
    assert (result.done, result.reused, result.failed) == (40, 0, 1)
    assert seen[-1] == (41, 41)
    assert contents(tmp_path / "out") == expected
    again = predict_distributed(photos, model, tmp_path / "out", workers=2)
    assert (again.done, again.reused, again.failed) == (0, 40, 1)


def test_a_worker_that_is_killed_changes_nothing(model, photos, expected, tmp_path) -> None:
    killed = threading.Event()

    def kill(done: int, total: int) -> None:
        if done >= 8 and not killed.is_set():
            found = subprocess.run(["pgrep", "-f", "ray::.*_Actor"], capture_output=True, text=True, check=False)
            for number in found.stdout.split()[:1]:
                os.kill(int(number), signal.SIGKILL)
                killed.set()
        time.sleep(0.02)

    result = predict_distributed(photos, model, tmp_path / "out", progress=kill, workers=2)
    assert killed.is_set()
    assert (result.done, result.failed) == (40, 1)
    assert contents(tmp_path / "out") == expected


def test_an_address_in_place_of_a_path(model, photos, expected, tmp_path) -> None:
    predict_distributed(photos.as_uri(), model, (tmp_path / "out").as_uri(), workers=1)
    assert contents(tmp_path / "out") == expected


def fetched(place: str, folder: Path) -> dict[str, object]:
    """``contents`` of what lies under an address."""
    from pyarrow import fs

    files, base = fs.FileSystem.from_uri(place)
    folder.mkdir()
    fs.copy_files(base, str(folder), source_filesystem=files)
    return contents(folder)


def without_messages(found: dict[str, object]) -> dict[str, object]:
    """Messages name a photo by its address."""
    return {**found, "predictions.csv": [{**row, "error": ""} for row in found["predictions.csv"]]}


def test_from_bucket_to_bucket(model, photos, expected, tmp_path) -> None:
    with bucket() as options:
        source, output = upload(photos, "in", options), address("out", options)

        def stop(done: int, total: int) -> None:
            if done == 20:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            predict_distributed(source, model, output, progress=stop, workers=2)
        # What a stopped run has recorded lies in the bucket, and the next one goes on from it.
        result = predict_distributed(source, model, output, workers=2)
        assert (result.done + result.reused, result.failed) == (40, 1)
        assert result.reused >= 19
        assert (result.output, result.table) == ("s3://bucket/out", "s3://bucket/out/predictions.csv")
        found = fetched(output, tmp_path / "out")
        assert without_messages(found) == without_messages(expected)
        assert "secret" not in str(found["predictions.csv"])
        assert predict_distributed(source, model, output, workers=2).reused == 40


def test_a_table_that_cannot_be_sent_costs_nothing_done(model, photos, tmp_path, monkeypatch) -> None:
    sent: list[str] = []

    def refuse(store: Store, path: Path) -> None:
        sent.append(path.name)
        if path.name == "predictions.csv":
            raise OutputError("the key has expired", fix="renew it")
        upload_file(store, path)

    upload_file = Store.upload
    with bucket() as options:
        output = address("out", options)
        monkeypatch.setattr(Store, "upload", refuse)
        with pytest.raises(OutputError, match="expired"):
            predict_distributed(photos, model, output, workers=2)
        assert sent == [*["predictions.jsonl", LOG] * 2, "predictions.csv", LOG]
        monkeypatch.undo()
        assert predict_distributed(photos, model, output, workers=2).reused == 40


@pytest.mark.parametrize(("source", "output"), [("in", "in"), ("in/clinic", "in")])
def test_photos_and_masks_do_not_mix_in_a_bucket(model, photos, source, output) -> None:
    with bucket() as options:
        upload(photos, "in", options)
        with pytest.raises(DataError, match=f"s3://bucket/{source} lies in the output folder s3://bucket/{output}"):
            predict_distributed(address(source, options), model, address(output, options))


def test_masks_in_a_folder_of_the_photos_are_no_photos(model, photos) -> None:
    with bucket() as options:
        source = upload(photos, "in", options)
        output = address("in/masks", options)
        for _ in range(2):
            result = predict_distributed(source, model, output, workers=2)
            assert (result.done + result.reused, result.failed) == (40, 1)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_cluster_of_its_own(model, photos, expected, tmp_path, workers) -> None:
    """In a process that has joined none: also on a single core, where photos must still be read."""
    code = (
        "import sys\n"
        "from lesionseg.inference.distributed import predict_distributed\n"
        "import ray\n"
        "def check(*_):\n"
        "    assert ray.cluster_resources()['CPU'] == int(sys.argv[4])\n"
        "predict_distributed(*sys.argv[1:4], progress=check, workers=int(sys.argv[4]))\n"
    )
    words = [sys.executable, "-W", "ignore", "-c", code, photos, model, tmp_path / "out", workers]
    subprocess.run([*map(str, words)], check=True, timeout=120, cwd=tmp_path)
    assert contents(tmp_path / "out") == expected


def test_a_cluster_that_does_not_answer(model, photos, tmp_path, monkeypatch) -> None:
    joined = SimpleNamespace(is_initialized=lambda: False)
    monkeypatch.setattr("lesionseg.inference.distributed.require_ray", lambda: joined)
    for given in ({"address": "127.0.0.1:9"}, {"address": "ray://127.0.0.1:9"}):
        with pytest.raises(ConfigError, match=r"127\.0\.0\.1:9 cannot be joined: .*refused"):
            predict_distributed(photos, model, tmp_path / "out", **given)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1:9 cannot be joined"):
        predict_distributed(photos, model, tmp_path / "out", workers=2)
    with pytest.raises(ConfigError, match="the number of workers is 0"):
        predict_distributed(photos, model, tmp_path / "out", workers=0)


def test_copies_of_the_journal_stay_few() -> None:
    copied, saved = 0, 1000
    while saved <= 1_000_000:
        copied, saved = copied + saved, next_save(saved)
    assert copied + 1_000_000 < 12 * 1_000_000


def test_what_cannot_be_sent_is_refused(photos, tmp_path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(ConfigError, match="cannot be sent"):
        predict_distributed(photos, tmp_path / "run", tmp_path / "out")


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_what_belongs_to_the_user_is_kept(model, photos, expected, tmp_path, kind) -> None:
    with bucket() as options:
        output = address("out", options) if kind == "bucket" else str(tmp_path / "out")
        store = open_store(output)
        name = "clinic 0/000_segmentation.png"
        store.write(name, b"mine")
        with pytest.raises(OutputError, match="not written by lesionseg") as caught:
            predict_distributed(photos, model, output, workers=2)
        assert caught.value.problems == (f"{store.uri}/{name}",)
        assert predict_distributed(photos, model, output, workers=2, overwrite=True).done == 40
        store.write(name, b"corrected")
        for _ in range(2):
            result = predict_distributed(photos, model, output, workers=2)
            assert (result.kept, result.reused) == ([name], 39)
            assert store.read(name) == b"corrected"
        assert predict_distributed(photos, model, output, workers=2, overwrite=True).done == 1
        table = store.read("predictions.csv")
        store.write("predictions.csv", table + b"mine")
        with pytest.raises(OutputError, match="changed since"):
            predict_distributed(photos, model, output, workers=2)


def test_a_single_photo(model, photos, expected, tmp_path) -> None:
    result = predict_distributed(photos / "clinic 0" / "000.jpg", model, tmp_path / "out", workers=2)
    assert (result.done, result.failed) == (1, 0)
    mask = (tmp_path / "out" / "000_segmentation.png").read_bytes()
    assert mask == expected["clinic 0/000_segmentation.png"]


def test_an_empty_folder(model, tmp_path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(DataError, match="holds no photo"):
        predict_distributed(tmp_path / "in", model, tmp_path / "out")
