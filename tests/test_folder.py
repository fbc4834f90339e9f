"""Folders of photos: what is written, what is used again, what is refused, and what a kill leaves behind."""

import csv
import hashlib
import io
import json
import os
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from red_channel import RedChannel, save, tree

from lesionseg.data.images import read_mask, read_probability
from lesionseg.errors import ConfigError, DataError, OutputError
from lesionseg.inference.folder import PredictOptions, predict_folder
from lesionseg.inference.measurements import Measuring
from lesionseg.inference.photos import list_photos
from lesionseg.inference.table import COLUMNS, TABLE

JOURNAL = "predictions.jsonl"


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


def records_of(path):
    """The whole lines of a journal after its first."""
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[1:-1]]


def stamps(folder):
    return {name: (folder / name).stat().st_mtime_ns for name in tree(folder) if not name.endswith(".csv")}


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "photos"
    save(folder / "b.jpg", 1, height=120, width=90)
    save(folder / "a.png", 2)
    save(folder / "clinic 1" / "a.JPG".lower(), 3)
    save(folder / "clinic 1" / "deep" / "ü.png", 4)
    return folder


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out"


def test_masks_mirror_the_folders_and_have_the_photos_sizes(source, output):
    result = predict_folder(source, RedChannel(), output)
    assert (result.done, result.reused, result.failed) == (4, 0, 0)
    assert tree(output) == sorted(
        [
            "a_segmentation.png",
            "b_segmentation.png",
            "clinic 1/a_segmentation.png",
            "clinic 1/deep/ü_segmentation.png",
            "predictions.csv",
        ]
    )
    with Image.open(output / "b_segmentation.png") as mask:
        assert (mask.size, mask.mode) == ((90, 120), "L")
        values = np.asarray(mask)
    assert set(np.unique(values)) == {0, 255}
    # The strong red box is found where it is.
    assert (values[34:56, 26:41] == 255).all()
    assert (values[70:] == 0).all()


def test_the_table_says_what_the_files_hold(source, output):
    result = predict_folder(source, RedChannel(), output, PredictOptions(threshold=0.4))
    rows = rows_of(result.table)
    assert tuple(rows[0]) == COLUMNS
    assert [row["file"] for row in rows] == ["a.png", "b.jpg", "clinic 1/a.jpg", "clinic 1/deep/ü.png"]
    row = rows[1]
    mask = read_mask(output / "b_segmentation.png")
    assert (row["width"], row["height"]) == ("90", "120")
    assert int(row["lesion_pixels"]) == mask.sum() > 0
    assert float(row["lesion_fraction"]) == mask.sum() / mask.size
    assert 0.4 <= float(row["mean_probability"]) <= 1
    assert float(row["seconds"]) > 0
    assert row["model_sha256"] == "a" * 64
    assert row["photo_sha256"] == hashlib.sha256((source / "b.jpg").read_bytes()).hexdigest()
    assert row["mask_sha256"] == hashlib.sha256((output / "b_segmentation.png").read_bytes()).hexdigest()
    assert (row["overlay_sha256"], row["probability_sha256"]) == ("", "")
    assert (row["threshold"], row["status"], row["error"]) == ("0.4", "ok", "")


def test_the_inputs_are_left_alone(source, output):
    before = stamps(source)
    predict_folder(source, RedChannel(), output, PredictOptions(overlays=("contour",)))
    assert stamps(source) == before


def test_all_outputs(source, output):
    options = PredictOptions(formats=("nifti",), overlays=("contour",), save_probabilities=True)
    predict_folder(source, RedChannel(), output, options)
    assert [name for name in tree(output) if name.startswith("b_")] == [
        "b_overlay.jpg",
        "b_probability.png",
        "b_segmentation.nii.gz",
    ]
    mask = read_mask(output / "b_segmentation.nii.gz")
    assert mask.shape == (120, 90)
    # 8 bits of probability decide as the floats did, as the mask has no pixel at the threshold.
    np.testing.assert_array_equal(read_probability(output / "b_probability.png") >= 0.5, mask)
    with Image.open(output / "b_overlay.jpg") as overlay:
        assert overlay.size == (90, 120)


def test_no_lesion_has_no_mean_probability(source, output):
    rows = rows_of(predict_folder(source, RedChannel(), output, PredictOptions(threshold=1.0)).table)
    assert {(row["lesion_pixels"], row["lesion_fraction"], row["mean_probability"]) for row in rows} == {
        ("0", "0.0", "")
    }


def test_one_photo(source, output):
    result = predict_folder(source / "clinic 1" / "a.jpg", RedChannel(), output)
    assert result.done == 1
    assert tree(output) == ["a_segmentation.png", "predictions.csv"]


def test_a_bad_photo_is_recorded_and_the_others_go_on(source, output):
    (source / "bad.jpg").write_bytes(b"no picture")
    (source / "empty.png").touch()
    (source / "folder.jpg").mkdir()
    (source / "link.jpg").symlink_to(source / "nowhere.jpg")
    torn = (source / "b.jpg").read_bytes()
    (source / "torn.jpg").write_bytes(torn[: len(torn) // 2])
    save(source / ("n" * 245 + ".jpg"))
    result = predict_folder(source, RedChannel(), output)
    assert (result.done, result.failed) == (4, 5)
    failed = {row["file"]: row["error"] for row in rows_of(result.table) if row["status"] == "failed"}
    assert "not a picture in a supported format" in failed["bad.jpg"]
    assert "zero bytes" in failed["empty.png"]
    assert "not a regular file" in failed["link.jpg"]
    assert "damaged" in failed["torn.jpg"]
    assert "too long" in failed["n" * 245 + ".jpg"]
    assert not (output / "torn_segmentation.png").exists()


def test_a_photo_that_vanishes_is_recorded(source, output):
    for number in range(30):
        save(source / "z" / f"{number:02}.png", number)
    last = source / "z" / "29.png"
    predictor = RedChannel(before=lambda calls: last.unlink(missing_ok=True))
    result = predict_folder(source, predictor, output)
    assert (result.done, result.failed) == (33, 1)
    assert "does not exist" in rows_of(result.table)[-1]["error"]


def test_a_second_run_uses_everything_again(source, output):
    options = PredictOptions(overlays=("contour",), save_probabilities=True)
    first = predict_folder(source, RedChannel(), output, options)
    before, table = stamps(output), first.table.read_bytes()
    predictor = RedChannel()
    second = predict_folder(source, predictor, output, options)
    assert (second.done, second.reused, second.failed, predictor.calls) == (0, 4, 0, 0)
    assert stamps(output) == before
    assert second.table.read_bytes() == table


def test_a_failed_photo_is_tried_again(source, output):
    good = (source / "b.jpg").read_bytes()
    (source / "b.jpg").write_bytes(good[:500])
    assert predict_folder(source, RedChannel(), output).failed == 1
    assert predict_folder(source, RedChannel(), output).failed == 1
    (source / "b.jpg").write_bytes(good)
    result = predict_folder(source, RedChannel(), output)
    assert (result.done, result.reused, result.failed) == (1, 3, 0)


def change_photo(source, output):
    save(source / "b.jpg", 77, height=120, width=90)


def remove_mask(source, output):
    (output / "b_segmentation.png").unlink()


def damage_overlay(source, output):
    (output / "b_overlay.jpg").write_bytes(b"")


def damage_probability(source, output):
    (output / "b_probability.png").write_bytes(b"")


@pytest.mark.parametrize("change", [change_photo, remove_mask, damage_overlay, damage_probability])
def test_what_changed_is_done_again_and_nothing_else(source, output, change):
    options = PredictOptions(overlays=("contour",), save_probabilities=True)
    predict_folder(source, RedChannel(), output, options)
    right = {name: (output / name).read_bytes() for name in tree(output)}
    before = stamps(output)
    change(source, output)
    result = predict_folder(source, RedChannel(), output, options)
    assert (result.done, result.reused) == (1, 3)
    after = stamps(output)
    assert {name for name in after if after[name] != before[name]} == {n for n in before if n.startswith("b_")}
    if change is not change_photo:
        assert {name: (output / name).read_bytes() for name in before} == {name: right[name] for name in before}


def test_another_model_or_threshold_or_a_new_wish_does_all_again(source, output):
    options = PredictOptions()
    predict_folder(source, RedChannel(), output, options)
    for predictor, wish in [
        (RedChannel("b" * 64), options),
        (RedChannel("b" * 64), replace(options, threshold=0.3)),
        (RedChannel("b" * 64), replace(options, threshold=0.3, formats=("nifti",))),
        (RedChannel("b" * 64), replace(options, threshold=0.3, formats=("nifti",), overlays=("contour",))),
        (
            RedChannel("b" * 64),
            replace(options, threshold=0.3, formats=("nifti",), overlays=("contour",), save_probabilities=True),
        ),
    ]:
        result = predict_folder(source, predictor, output, wish)
        assert (result.done, result.reused, predictor.calls) == (4, 0, 4)
    fewer = predict_folder(source, RedChannel("b" * 64), output, replace(options, threshold=0.3, formats=("nifti",)))
    assert (fewer.done, fewer.reused) == (0, 4)


def test_an_overlay_never_outlives_its_model(source, output):
    predict_folder(source, RedChannel(), output, PredictOptions(overlays=("contour",)))
    old = (output / "b_overlay.jpg").read_bytes()
    predict_folder(source, RedChannel("b" * 64), output, PredictOptions(threshold=0.2))
    assert (output / "b_overlay.jpg").read_bytes() != old
    result = predict_folder(source, RedChannel("b" * 64), output, PredictOptions(threshold=0.2, overlays=("contour",)))
    assert result.reused == 4


KILLED = """
import os, sys
from pathlib import Path
import numpy as np
from lesionseg.inference.folder import predict_folder

class Dying:
    name, checkpoint, sha256, height, width, calls = "red", "epoch-0001", "a" * 64, 32, 32, 0
    quality = None

    def infer(self, batch):
        self.calls += 1
        if self.calls > 14:
            os._exit(9)
        return batch[..., 0].astype(np.float32) / 255

predict_folder(Path(sys.argv[1]), Dying(), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("torn", ["", '{"file": "z/25.png", "wid', "\0" * 5000, '{"file": "z/25.png"}\n', "[]\n7\n"])
def test_a_killed_run_goes_on_where_it_was(source, output, torn):
    for number in range(26):
        save(source / "z" / f"{number:02}.png", number)
    code = subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), source, output], check=False).returncode
    assert code == 9
    assert not (output / TABLE).exists()
    recorded = records_of(output / JOURNAL)
    masks = [name for name in tree(output) if name.endswith("_segmentation.png") and "/." not in name]
    assert 6 <= len(recorded) <= len(masks) <= 14
    # The kill may also have torn the last row.
    with (output / JOURNAL).open("ab") as file:
        file.write(torn.encode())
    predictor = RedChannel()
    result = predict_folder(source, predictor, output)
    assert (result.reused, predictor.calls) == (len(recorded), 30 - len(recorded))
    assert len(rows_of(result.table)) == 30
    assert not (output / JOURNAL).exists()


def test_an_interrupted_run_records_all_that_it_wrote(source, output):
    for number in range(26):
        save(source / "z" / f"{number:02}.png", number)

    def stop(done, total):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_folder(source, RedChannel(), output, progress=stop)
    written = [name for name in tree(output) if name.endswith("_segmentation.png")]
    assert 5 <= len(written) < 30
    assert len(records_of(output / JOURNAL)) == len(written)
    # Stopped a second time before the old rows were reached, it still knows them.
    with pytest.raises(KeyboardInterrupt):
        predict_folder(source, RedChannel(), output, progress=lambda done, total: stop(5, total))
    result = predict_folder(source, RedChannel(), output)
    assert result.reused >= len(written)


def test_a_stopped_second_run_keeps_the_finished_table(source, output):
    table = predict_folder(source, RedChannel(), output).table.read_bytes()

    def fail(calls):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        predict_folder(source, RedChannel("b" * 64, fail), output)
    assert (output / TABLE).read_bytes() == table
    assert predict_folder(source, RedChannel(), output).reused == 4


def test_photos_that_would_share_a_mask_are_refused_together(source, output):
    save(source / "b.png")
    save(source / "clinic 1" / "A.png")
    with pytest.raises(DataError, match="share one mask") as caught:
        predict_folder(source, RedChannel(), output)
    assert sorted(caught.value.problems) == ["b.jpg, b.png", "clinic 1/A.png, clinic 1/a.jpg"]
    assert "rename" in caught.value.fix
    assert not output.exists()


@pytest.mark.parametrize("place", [".", "..", "clinic 1/.."])
def test_an_output_folder_around_the_photos_is_refused(source, place):
    before = tree(source)
    with pytest.raises(DataError, match="output folder"):
        predict_folder(source, RedChannel(), source / place)
    with pytest.raises(DataError, match="output folder"):
        predict_folder(source / "b.jpg", RedChannel(), source)
    assert tree(source) == before


def test_outputs_inside_the_source_are_never_photos(source):
    options = PredictOptions(overlays=("contour",), save_probabilities=True)
    for name, reused in (("out", 0), ("out", 4), ("other/out", 0)):
        result = predict_folder(source, RedChannel(), source / name, options)
        assert (result.done + result.reused, result.reused) == (4, reused)
    # Not even when nothing in it says what it is.
    (source / "out" / TABLE).unlink()
    (source / "way").symlink_to(source / "out")
    assert len(list_photos(source, source / "out").names) == 4


def test_what_is_no_photo_is_left_out(source, output):
    for name in (".hidden.jpg", ".trash/x.jpg", "x_superpixels.png", "notes.txt"):
        save(source / "more" / name) if "txt" not in name else (source / "more" / name).touch()
    save(source / "more" / "Y.PNG")
    (source / "more" / "up").symlink_to(source)
    (source / "linked").symlink_to(source / "clinic 1" / "deep")
    names = list_photos(source, output).names
    assert names == sorted(names)
    assert set(names) == {"a.png", "b.jpg", "clinic 1/a.jpg", "clinic 1/deep/ü.png", "more/Y.PNG"}


def test_companion_and_system_files_are_recorded(source, output):
    save(source / "clinic 1" / "a_superpixels.png")
    for name in ("._a.png", ".DS_Store", "Thumbs.db", "clinic 1/desktop.ini"):
        (source / name).write_bytes(b"junk")
    result = predict_folder(source, RedChannel(), output)
    assert (result.done, result.reused, result.failed) == (4, 0, 0)
    rows = rows_of(result.table)
    assert [row["file"] for row in rows] == sorted(row["file"] for row in rows)
    skipped = {row["file"]: row["error"] for row in rows if row["status"] == "skipped"}
    assert set(skipped) == {"._a.png", ".DS_Store", "Thumbs.db", "clinic 1/a_superpixels.png", "clinic 1/desktop.ini"}
    assert set(skipped.values()) == {"a companion or system file"}
    assert predict_folder(source, RedChannel(), output).reused == 4


def test_an_output_that_is_a_link_to_itself_is_refused(source, output):
    output.symlink_to(output)
    with pytest.raises(OutputError, match="cannot be"):
        predict_folder(source, RedChannel(), output)


def test_sources_without_photos(tmp_path, output):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no photo"):
        predict_folder(tmp_path / "empty", RedChannel(), output)
    with pytest.raises(DataError, match="does not exist"):
        predict_folder(tmp_path / "nowhere", RedChannel(), output)
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(DataError, match="neither a photo nor a folder"):
        predict_folder(tmp_path / "pipe.jpg", RedChannel(), output)
    assert not output.exists()


def test_hostile_names_are_harmless_and_found_again(tmp_path, output):
    names = [
        "=1+1.jpg",
        "+1 b.jpg",
        "-ü.jpg",
        "@x\ny.jpg",
        "c\rd.jpg",
        'q",u.jpg',
        "[red]b.jpg",
        "\udcff.jpg",
        "日本.jpg",
    ]
    for name in names:
        save(tmp_path / "photos" / name)
    result = predict_folder(tmp_path / "photos", RedChannel(), output)
    assert result.done == len(names)
    rows = rows_of(result.table)
    assert len(rows) == len(names)
    assert not [row["file"] for row in rows if row["file"][0] in "=+-@"]
    table = result.table.read_bytes()
    second = predict_folder(tmp_path / "photos", RedChannel(), output)
    assert (second.reused, second.table.read_bytes()) == (len(names), table)
    assert (output / "=1+1_segmentation.png").is_file()


def test_errors_in_the_table_are_harmless_too(tmp_path, output, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = type(tmp_path)("=photos")
    save(source / "good.png")
    (source / "bad.jpg").write_bytes(b"x")
    row = rows_of(predict_folder(source, RedChannel(), output).table)[0]
    assert row["status"] == "failed"
    assert row["error"].startswith("'=photos/bad.jpg")


def test_a_table_of_something_else_is_not_overwritten(source, output):
    output.mkdir()
    (output / TABLE).write_text("patient,age\nx,1\n")
    with pytest.raises(OutputError, match=r"not written by lesionseg(.|\n)*predictions\.csv"):
        predict_folder(source, RedChannel(), output)
    assert tree(output) == [TABLE]
    assert (output / TABLE).read_text() == "patient,age\nx,1\n"


def test_a_table_that_a_spreadsheet_saved_again_still_counts(source, output):
    table = predict_folder(source, RedChannel(), output).table
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerows(list(csv.reader(io.StringIO(table.read_text(encoding="utf-8"), newline=""))))
    table.write_bytes(b"\xef\xbb\xbf" + text.getvalue().encode())
    assert predict_folder(source, RedChannel(), output).reused == 4


def test_an_output_that_cannot_be_written_ends_the_run(source, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        predict_folder(source, RedChannel(), tmp_path / "file")
    (tmp_path / "out" / "b_segmentation.png").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"b_segmentation\.png"):
        predict_folder(source, RedChannel(), tmp_path / "out")


def test_progress_counts_every_photo(source, output):
    (source / "bad.jpg").write_bytes(b"x")
    calls = []
    predict_folder(source, RedChannel(), output, progress=lambda *call: calls.append(call))
    assert calls == [(n, 5) for n in range(1, 6)]


def test_wrong_options_come_before_any_work(source, output):
    with pytest.raises(ConfigError):
        predict_folder(source, RedChannel(), output, PredictOptions(threshold=2))
    assert not output.exists()


def test_every_form_is_written_and_found_again(source, output):
    options = PredictOptions(
        formats=("png", "nifti", "rle", "geojson", "svg"), overlays=("contour", "heat", "focus", "strip")
    )
    rows = rows_of(predict_folder(source, RedChannel(), output, options).table)
    assert [name for name in tree(output) if name.startswith("b_")] == sorted(
        f"b{ending}" for ending in options.endings.values()
    )
    row = next(row for row in rows if row["file"] == "b.jpg")
    for kind, ending in options.endings.items():
        assert row[f"{kind}_sha256"] == hashlib.sha256((output / f"b{ending}").read_bytes()).hexdigest()
    assert predict_folder(source, RedChannel(), output, options).reused == 4
    (output / "b_heat.jpg").unlink()
    assert predict_folder(source, RedChannel(), output, options).done == 1


def test_measurements_are_in_the_table(source, output):
    rows = rows_of(predict_folder(source, RedChannel(), output).table)
    assert all(float(row["perimeter_px"]) > 0 and row["lesion_l"] == row["area_mm2"] == "" for row in rows)
    more = PredictOptions(measuring=Measuring(more=True, mm_per_pixel=0.1))
    result = predict_folder(source, RedChannel(), output, more)
    assert result.done == 4
    for row in rows_of(result.table):
        assert float(row["area_mm2"]) == pytest.approx(float(row["area_px"]) / 100, rel=1e-5)
        assert (row["mm_source"], row["options"]) == ("given", "bits=8 measure mm_per_pixel=0.1")
        assert 0 <= float(row["lesion_l"]) <= 100
    assert predict_folder(source, RedChannel(), output, more).reused == 4
