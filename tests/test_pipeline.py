"""Stopping, killing, filling the disk, sharing the work: nothing is lost, done twice, or taken for whole when torn."""

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from red_channel import RedChannel, save, tree
from typer.testing import CliRunner

from lesionseg import cli
from lesionseg.data import writing
from lesionseg.data.images import read_mask
from lesionseg.errors import ConfigError, OutputError, RunError
from lesionseg.inference.folder import Part, PredictOptions, predict_folder
from lesionseg.inference.parts import claim
from lesionseg.inference.table import TABLE

JOURNAL = "predictions.jsonl"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for number in range(40):
        save(tmp_path / "photos" / f"{number % 3}" / f"{number:03}.jpg", number)
    return tmp_path / "photos"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"


def table_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [{**row, "seconds": ""} for row in csv.DictReader(file, strict=True)]


def same_outputs(one: Path, other: Path) -> bool:
    assert table_of(one / TABLE) == table_of(other / TABLE)
    names = [name for name in tree(one) if not name.startswith("predictions.")]
    assert names == [name for name in tree(other) if not name.startswith("predictions.")]
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in names)


def kill(folder: Path, photos: int, kills: int) -> None:
    script = Path(__file__).with_name("killing_folder.py")
    words = [sys.executable, str(script), str(folder), str(photos), str(kills)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=1800)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["kills"] == kills
    assert same_outputs(folder / "whole", folder / "broken")
    assert not list(folder.rglob("*.unfinished"))


@pytest.mark.long
def test_some_kills(tmp_path: Path) -> None:
    kill(tmp_path, 400, 5)


@pytest.mark.slow
def test_a_hundred_kills(tmp_path: Path) -> None:
    kill(tmp_path, 8000, 100)


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_what_is_under_way(
    exported: tuple[Path, Path], source: Path, output: Path, number: signal.Signals
) -> None:
    for more in range(600):
        save(source / "more" / f"{more:03}.jpg", more)
    command = [
        sys.executable,
        "-c",
        "from lesionseg.cli import main; main()",
        "predict",
        source,
        "--model",
        exported[1],
        "--output",
        output,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len(list(output.rglob("*_segmentation.png"))) < 5:
        time.sleep(0.01)
    process.send_signal(number)
    told, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "the same command goes on where it was" in told
    assert "Traceback" not in told + errors
    lines = (output / JOURNAL).read_bytes().split(b"\n")[1:-1]
    assert 5 <= len(lines) == len([name for name in tree(output) if name.endswith(".png")]) < 640
    assert not list(output.glob(".*.unfinished"))


def test_a_full_disk_stops_the_run_and_loses_nothing(
    source: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, calls = Path.replace, 0

    def full(self: Path, target: Path) -> Path:
        nonlocal calls
        calls += str(target).endswith("_segmentation.png")
        if calls > 12:
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OutputError, match=r"_segmentation\.png cannot be written: No space left"):
        predict_folder(source, RedChannel(), output)
    monkeypatch.undo()
    written = [name for name in tree(output) if name.endswith(".png")]
    assert 5 <= len(written) <= 12
    result = predict_folder(source, RedChannel(), output)
    assert (result.done, result.reused) == (40 - len(written), len(written))
    predict_folder(source, RedChannel(), output.with_name("whole"))
    assert same_outputs(output.with_name("whole"), output)


def test_two_runs_keep_out_of_each_others_way(source: Path, output: Path) -> None:
    first, both = threading.Event(), threading.Event()

    def wait(calls: int) -> None:
        first.set()
        assert both.wait(30)

    worker = threading.Thread(target=predict_folder, args=(source, RedChannel(before=wait), output))
    worker.start()
    try:
        assert first.wait(30)
        with pytest.raises(RunError, match=f"in use by another prediction: process {os.getpid()}"):
            predict_folder(source, RedChannel(), output)
    finally:
        both.set()
        worker.join()
    assert predict_folder(source, RedChannel(), output).reused == 40


def test_parts_exclude_the_same_part_and_the_whole(output: Path) -> None:
    with claim(output, Part(1, 2)):
        for other in (None, Part(1, 2)):
            with pytest.raises(RunError, match="another prediction"), claim(output, other):
                pass
        with claim(output, Part(2, 2)):
            pass
    with claim(output, None):
        pass


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
def test_parts_make_what_a_whole_run_makes(source: Path, output: Path, order: tuple[int, ...]) -> None:
    (source / "0" / "bad.jpg").write_bytes(b"no picture")
    (source / "1" / "=odd ü.jpg").write_bytes((source / "1" / "001.jpg").read_bytes())
    (source / "1" / "Thumbs.db").write_bytes(b"x")
    whole = output.with_name("whole")
    predict_folder(source, RedChannel(), whole)
    done = 0
    for place, number in enumerate(order):
        assert not (output / TABLE).exists()
        result = predict_folder(source, RedChannel(), output, part=Part(number, 3))
        done += result.done
        assert list(result.missing) == sorted(order[place + 1 :])
    assert result.table == output / TABLE
    assert done == 41
    assert same_outputs(whole, output)
    # A part that is run again does nothing, and makes the same table again.
    table = (output / TABLE).read_bytes()
    (output / TABLE).unlink()
    again = predict_folder(source, RedChannel(), output, part=Part(2, 3))
    assert (again.done, (output / TABLE).read_bytes()) == (0, table)
    # A whole run afterwards takes over what they did.
    assert predict_folder(source, RedChannel(), output).reused == 41


def test_parts_of_another_model_are_not_mixed(source: Path, output: Path) -> None:
    for number in (1, 2):
        predict_folder(source, RedChannel(), output, part=Part(number, 2))
    table = (output / TABLE).read_bytes()
    first = predict_folder(source, RedChannel("b" * 64), output, part=Part(1, 2))
    assert list(first.missing) == [2]
    assert (output / TABLE).read_bytes() == table
    assert not predict_folder(source, RedChannel("b" * 64), output, part=Part(2, 2)).missing
    assert {row["model_sha256"] for row in table_of(output / TABLE)} == {"b" * 64}


def test_a_table_of_other_photos_is_not_taken_for_a_part(source: Path, output: Path) -> None:
    for number in (1, 2):
        predict_folder(source, RedChannel(), output, part=Part(number, 2))
    table = (output / TABLE).read_bytes()
    for path in sorted(source.rglob("*.jpg")):
        path.rename(path.with_stem(f"new {path.stem}"))
    first = predict_folder(source, RedChannel(), output, part=Part(1, 2))
    assert list(first.missing) == [2]
    assert (output / TABLE).read_bytes() == table
    assert not predict_folder(source, RedChannel(), output, part=Part(2, 2)).missing
    assert all("new " in row["file"] for row in table_of(output / TABLE))


def test_a_part_that_wrote_less_is_to_come_again(source: Path, output: Path) -> None:
    for number in (1, 2):
        predict_folder(source, RedChannel(), output, part=Part(number, 2))
    more = PredictOptions(overlays=("contour",))
    assert list(predict_folder(source, RedChannel(), output, more, part=Part(1, 2)).missing) == [2]
    assert not predict_folder(source, RedChannel(), output, more, part=Part(2, 2)).missing
    assert all(row[f"{kind}_sha256"] for row in table_of(output / TABLE) for kind in more.endings)


@pytest.mark.parametrize("between", [None, (1, 3)])
def test_parts_are_to_come_again_where_others_may_have_written_their_masks(
    source: Path, output: Path, between: tuple[int, int] | None
) -> None:
    for number in (1, 2):
        predict_folder(source, RedChannel(), output, part=Part(number, 2))
    predict_folder(source, RedChannel("b" * 64), output, part=Part(*between) if between else None)
    assert list(predict_folder(source, RedChannel(), output, part=Part(1, 2)).missing) == [2]
    assert not predict_folder(source, RedChannel(), output, part=Part(2, 2)).missing
    assert {row["model_sha256"] for row in table_of(output / TABLE)} == {RedChannel().sha256}


def test_what_parts_have_done_is_not_done_again_after_others(source: Path, output: Path) -> None:
    for number in (1, 2):
        predict_folder(source, RedChannel(), output, part=Part(number, 3))
    predict_folder(source, RedChannel(), output, part=Part(1, 2))
    again = predict_folder(source, RedChannel(), output, part=Part(2, 3))
    assert (again.done, again.failed, list(again.missing)) == (0, 0, [1, 3])


def test_a_part_without_photos_is_done_at_once(tmp_path: Path, output: Path) -> None:
    save(tmp_path / "photos" / "a.png")
    results = [predict_folder(tmp_path / "photos", RedChannel(), output, part=Part(k, 4)) for k in (1, 2, 3, 4)]
    assert sum(result.done for result in results) == 1
    assert len(table_of(output / TABLE)) == 1


def test_parts_on_the_command_line(exported: tuple[Path, Path], source: Path, output: Path) -> None:
    words = ["predict", str(source), "--model", str(exported[1]), "--output", str(output), "--num-parts", "2"]
    first = CliRunner().invoke(cli.app, [*words, "--part-id", "1", "--workers", "1"], catch_exceptions=False)
    assert "still to come: 2" in first.output
    second = CliRunner().invoke(cli.app, [*words, "--part-id", "2"], catch_exceptions=False)
    assert "still to come" not in second.output
    assert len(table_of(output / TABLE)) == 40
    with pytest.raises(ConfigError, match="--part-id"):
        CliRunner().invoke(cli.app, words, catch_exceptions=False)
    with pytest.raises(ConfigError, match="no part 3 of 2"):
        CliRunner().invoke(cli.app, [*words, "--part-id", "3"], catch_exceptions=False)


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2, 7])
def test_any_number_of_workers_gives_the_same_bytes(
    exported: tuple[Path, Path], source: Path, output: Path, workers: int
) -> None:
    from lesionseg import api

    api.predict(source, exported[1], output, workers=workers)
    api.predict(source, exported[1], output.with_name("one"), workers=1)
    assert same_outputs(output.with_name("one"), output)


def test_workers_are_positive(source: Path, output: Path) -> None:
    with pytest.raises(ConfigError, match="number of workers"):
        predict_folder(source, RedChannel(), output, workers=0)


def test_one_bit_masks_hold_the_same(source: Path, output: Path) -> None:
    predict_folder(source, RedChannel(), output)
    result = predict_folder(source, RedChannel(), output.with_name("small"), PredictOptions(bits=1))
    for row in table_of(result.table):
        name = row["file"].replace(".jpg", "_segmentation.png")
        with Image.open(output.with_name("small") / name) as picture:
            assert picture.mode == "1"
        np.testing.assert_array_equal(read_mask(output.with_name("small") / name), read_mask(output / name))
    # Another number of bits is another wish.
    assert predict_folder(source, RedChannel(), output, PredictOptions(bits=1)).reused == 0


def test_without_the_fast_deflate_the_masks_are_the_same(
    source: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import zlib

    predict_folder(source, RedChannel(), output)
    monkeypatch.setattr(writing, "deflate", zlib)
    predict_folder(source, RedChannel(), output.with_name("zlib"))
    for name in tree(output):
        if name.endswith(".png"):
            np.testing.assert_array_equal(read_mask(output / name), read_mask(output.with_name("zlib") / name))


FLAT = """
import sys
from pathlib import Path
from red_channel import RedChannel
from lesionseg.inference.folder import predict_folder

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024

seen = {}
def note(done, total):
    if done in (500, total):
        seen[done] = peak()

predict_folder(Path(sys.argv[1]), RedChannel(), Path(sys.argv[2]), progress=note)
print(seen[500], peak())
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells the peak of memory there")
def test_memory_does_not_grow_with_the_photos(tmp_path: Path) -> None:
    first = save(tmp_path / "photos" / "00000.jpg")
    for number in range(1, 10_000):
        (tmp_path / "photos" / f"{number:05}.jpg").write_bytes(first.read_bytes())
    script = [sys.executable, "-c", FLAT, str(tmp_path / "photos"), str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}"}
    told = subprocess.run(script, check=True, capture_output=True, text=True, env=environment).stdout
    early, late = map(float, told.split())
    sys.stdout.write(f"peak after 500 photos {early:.1f} MB, after 10,000 and the table {late:.1f} MB\n")
    assert late - early < 10


@pytest.mark.real
def test_scaled_decoding_hardly_moves_a_mask(tmp_path: Path) -> None:
    """A stand-in for a network, as sharp as one: how much darker a photo is than its border, smoothed."""
    from skimage.filters import gaussian

    from lesionseg.data.images import decode_fitted, decode_photo, fit_photo
    from lesionseg.data.upsampling import threshold_at_size

    def probability(pixels: np.ndarray) -> np.ndarray:
        grey = gaussian(pixels.astype(np.float32).mean(axis=2), 2)
        level = (np.percentile(grey, 10) + np.percentile(grey, 75)) / 2
        return (1 / (1 + np.exp((grey - level) / 4))).astype(np.float32)

    scores = []
    for path in sorted((Path(os.environ["LESIONSEG_DATA"]) / "photos").iterdir()):
        data = path.read_bytes()
        whole = decode_photo(data, path.name)
        fast = decode_fitted(data, path.name, 256, 256)
        one, other = (
            threshold_at_size(probability(pixels), whole.height, whole.width, 0.5).mask
            for pixels in (fit_photo(whole, 256, 256), fast.pixels)
        )
        scores.append(2 * (one & other).sum() / (one.sum() + other.sum()))
    assert len(scores) == 60
    assert np.mean(scores) >= 0.995
    assert min(scores) >= 0.98


@pytest.mark.real
@pytest.mark.skipif("LESIONSEG_MODEL" not in os.environ, reason="LESIONSEG_MODEL names no run that learned from photos")
def test_scaled_decoding_hardly_moves_the_mask_of_a_trained_network() -> None:
    """Networks that have hardly been trained are undecided along the outline, where every grey level counts."""
    from lesionseg import api
    from lesionseg.data.images import decode_fitted, decode_photo, fit_photo
    from lesionseg.data.upsampling import threshold_at_size

    model = api.load(os.environ["LESIONSEG_MODEL"], threads=1)
    scores = []
    for path in sorted((Path(os.environ["LESIONSEG_DATA"]) / "photos").iterdir()):
        data = path.read_bytes()
        whole = decode_photo(data, path.name)
        fast = decode_fitted(data, path.name, model.height, model.width)
        one, other = (
            threshold_at_size(model.infer(pixels[None])[0], whole.height, whole.width, 0.5).mask
            for pixels in (fit_photo(whole, model.height, model.width), fast.pixels)
        )
        both = one.sum() + other.sum()
        scores.append(2 * (one & other).sum() / both if both else 1.0)
    sys.stdout.write(f"Dice with full decoding {np.mean(scores):.4f}, smallest {min(scores):.4f}\n")
    assert len(scores) == 60
    assert np.mean(scores) >= 0.995
