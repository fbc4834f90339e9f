"""What predict may replace in its output folder, and what belongs to the user."""

import csv
from pathlib import Path

import pytest
from red_channel import RedChannel, save, tree
from typer.testing import CliRunner

from lesionseg import cli
from lesionseg.errors import DataError, OutputError
from lesionseg.inference.folder import PredictOptions, plan_folder, predict_folder
from lesionseg.inference.journal import journal_path
from lesionseg.inference.outputs import output_of
from lesionseg.inference.table import TABLE, Part
from lesionseg.inference.written import log_path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for number, name in enumerate(("a.png", "b.jpg", "clinic/a.b.jpg", "clinic/c")):
        save(tmp_path / "photos" / name, number)
    return tmp_path / "photos"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"


def rows_of(output: Path) -> dict[str, dict[str, str]]:
    with (output / TABLE).open(encoding="utf-8", newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def put(path: Path, text: str = "mine") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_every_file_in_the_way_is_listed_before_anything_is_written(source: Path, output: Path) -> None:
    names = ("a_segmentation.png", "clinic/a.b_segmentation.png", "clinic/c_segmentation.png")
    paths = [put(output / name) for name in names]
    others = [put(output / name) for name in ("x_segmentation.png", "clinic/a_segmentation.png", "a_overlay.jpg")]
    before = tree(output)
    with pytest.raises(OutputError, match="not written by lesionseg") as caught:
        predict_folder(source, RedChannel(), output)
    assert caught.value.problems == tuple(map(str, paths))
    assert "--overwrite" in caught.value.fix
    assert tree(output) == before
    assert predict_folder(source, RedChannel(), output, overwrite=True).done == 4
    assert all(path.read_bytes() != b"mine" for path in paths)
    assert all(path.read_bytes() == b"mine" for path in others)


def test_a_folder_or_a_dangling_link_is_in_the_way_too(source: Path, output: Path) -> None:
    (output / "b_segmentation.png").mkdir(parents=True)
    (output / "a_segmentation.png").symlink_to("nowhere")
    with pytest.raises(OutputError, match="not written by lesionseg") as caught:
        predict_folder(source, RedChannel(), output)
    assert [Path(problem).name for problem in caught.value.problems] == ["a_segmentation.png", "b_segmentation.png"]


def test_a_corrected_mask_stays_through_other_models_and_options(source: Path, output: Path) -> None:
    predict_folder(source, RedChannel(), output)
    mask = put(output / "b_segmentation.png", "corrected")
    for predictor, options in (
        (RedChannel(), PredictOptions()),
        (RedChannel(), PredictOptions()),
        (RedChannel("b" * 64), PredictOptions(threshold=0.3, overlays=("contour",))),
    ):
        result = predict_folder(source, predictor, output, options)
        assert result.kept == ["b_segmentation.png"]
        assert result.done + result.reused == 3
        assert mask.read_text() == "corrected"
        row = rows_of(output)["b.jpg"]
        assert (row["status"], row["lesion_pixels"], row["mask_sha256"]) == ("kept", "", "")
        assert "b_segmentation.png" in row["error"]
    assert (output / "b_overlay.jpg").is_file()
    result = predict_folder(source, RedChannel(), output, overwrite=True)
    assert (result.done, result.kept, rows_of(output)["b.jpg"]["status"]) == (4, [], "ok")
    assert mask.read_bytes() != b"corrected"


def test_a_correction_that_is_taken_back_ends(source: Path, output: Path) -> None:
    predict_folder(source, RedChannel(), output)
    mask = output / "b_segmentation.png"
    own = mask.read_bytes()
    put(mask, "corrected")
    assert predict_folder(source, RedChannel(), output).kept
    mask.write_bytes(own)
    result = predict_folder(source, RedChannel(), output)
    assert (result.kept, rows_of(output)["b.jpg"]["status"]) == ([], "ok")
    mask.unlink()
    assert predict_folder(source, RedChannel(), output).done == 1


def test_files_that_were_not_asked_for_are_left_alone(source: Path, output: Path) -> None:
    mine = [put(output / name) for name in ("b_overlay.jpg", "b_segmentation.svg", "clinic/c_heat.jpg")]
    for predictor in (RedChannel(), RedChannel("b" * 64)):
        result = predict_folder(source, predictor, output, overwrite=predictor.sha256[0] == "b")
        assert (result.done, result.kept) == (4, [])
        assert all(path.read_text() == "mine" for path in mine)


@pytest.mark.parametrize("change", ["number", "row", "line"])
def test_a_table_that_was_changed_is_refused_and_nothing_of_it_is_carried_over(
    source: Path, output: Path, change: str
) -> None:
    predict_folder(source, RedChannel(), output)
    table = output / TABLE
    right = table.read_text()
    pixels = rows_of(output)["b.jpg"]["lesion_pixels"]
    lines = right.splitlines(keepends=True)
    changed = {
        "number": right.replace(f",{pixels},", ",123456,"),
        "row": "".join(lines[:-1]),
        "line": right + "checked by hand\n",
    }[change]
    assert changed != right
    table.write_text(changed)
    with pytest.raises(OutputError, match="changed since") as caught:
        predict_folder(source, RedChannel(), output)
    assert caught.value.problems == (str(table),)
    assert table.read_text() == changed
    # Renamed, it is out of the way, and the masks are known without it.
    table.rename(output / "mine.csv")
    result = predict_folder(source, RedChannel(), output)
    assert (result.done, result.kept) == (4, [])
    assert rows_of(output)["b.jpg"]["lesion_pixels"] == pixels
    table.write_text(changed)
    result = predict_folder(source, RedChannel(), output, overwrite=True)
    assert (result.done, rows_of(output)["b.jpg"]["lesion_pixels"]) == (4, pixels)


def test_the_masks_of_another_source_are_known_though_the_table_has_them_no_more(
    source: Path, output: Path, tmp_path: Path
) -> None:
    predict_folder(source, RedChannel(), output)
    save(tmp_path / "other" / "z.png")
    predict_folder(tmp_path / "other", RedChannel(), output)
    assert list(rows_of(output)) == ["z.png"]
    result = predict_folder(source, RedChannel("b" * 64), output)
    assert (result.done, result.kept) == (4, [])


def test_masks_beside_a_photo_that_fails_now_are_removed_and_corrected_ones_kept(source: Path, output: Path) -> None:
    predict_folder(source, RedChannel(), output, PredictOptions(formats=("png", "svg")))
    put(output / "b_segmentation.svg", "corrected")
    for name in ("a.png", "b.jpg"):
        put(source / name, "no photo")
    result = predict_folder(source, RedChannel(), output)
    assert (result.failed, result.removed, result.kept) == (2, 3, ["b_segmentation.svg"])
    assert not list(output.glob("a_*"))
    assert [path.name for path in output.glob("b_*")] == ["b_segmentation.svg"]
    assert "removed what an earlier run wrote: a_segmentation.png" in rows_of(output)["a.png"]["error"]


def test_what_a_killed_run_wrote_is_its_own(source: Path, output: Path) -> None:
    predict_folder(source, RedChannel(), output)
    # Killed between a file and its row: the log has the file.
    journal = journal_path(output, None)
    (output / TABLE).unlink()
    result = predict_folder(source, RedChannel("b" * 64), output)
    assert (result.done, result.kept) == (4, [])
    # After a power cut, with lines of both lost: what is there is looked at one by one.
    journal.write_bytes(b'{"lesionseg": "predictions", "version": 1}\n')
    (output / TABLE).unlink()
    log_path(output).unlink()
    put(output / "b_segmentation.png", "corrected")
    result = predict_folder(source, RedChannel("b" * 64), output)
    assert (result.done, result.kept) == (3, ["b_segmentation.png"])


def test_parts_know_what_other_parts_wrote_and_refuse_a_changed_table(source: Path, output: Path) -> None:
    for number in (1, 2):
        predict_folder(source, RedChannel(), output, part=Part(number, 2))
    for number in (1, 2, 3):
        assert not predict_folder(source, RedChannel("b" * 64), output, part=Part(number, 3)).kept
    table = output / "predictions.part-2-of-3.csv"
    table.write_text(table.read_text() + "mine\n")
    assert list(predict_folder(source, RedChannel("b" * 64), output, part=Part(1, 3)).missing) == [2]
    with pytest.raises(OutputError, match="changed since") as caught:
        predict_folder(source, RedChannel("b" * 64), output, part=Part(2, 3))
    assert caught.value.problems == (str(table),)


def test_a_part_looks_at_its_own_photos_alone(source: Path, output: Path) -> None:
    put(output / "a_segmentation.png")
    refused = 0
    for number in (1, 2, 3):
        try:
            predict_folder(source, RedChannel(), output, part=Part(number, 3))
        except OutputError:
            refused += 1
    assert refused == 1


def test_links_from_the_output_to_the_photos_are_refused(source: Path, output: Path) -> None:
    output.mkdir()
    (output / "clinic").symlink_to(source / "clinic")
    for overwrite in (False, True):
        with pytest.raises(DataError, match="folders of the photos") as caught:
            plan_folder(source, output, overwrite=overwrite)
        assert caught.value.problems == (f"{output}/clinic",)


def test_names_are_told_from_longer_ones() -> None:
    names = sorted(["a", "a.b.jpg", "a.jpg.png", "b-c.jpg", "b.jpg", "x/1.2.3"])
    assert [output_of(names, stem) for stem in ("a", "a.b", "a.jpg", "b", "b-c", "x/1.2.3")] == [True] * 6
    assert not any(output_of(names, stem) for stem in ("a.b.jpg", "b-", "x/1.2", "c", ""))


def test_kept_files_on_the_command_line(exported: tuple[Path, Path], source: Path, output: Path) -> None:
    words = ["predict", str(source), "--model", str(exported[1]), "--output", str(output)]
    assert CliRunner().invoke(cli.app, words).exit_code == 0
    put(output / "b_segmentation.png", "corrected")
    told = CliRunner().invoke(cli.app, words)
    assert told.exit_code == 3
    assert "changed since (1):\n" in told.output
    assert "  b_segmentation.png\n" in told.output
    assert "--overwrite" in told.output
    assert CliRunner().invoke(cli.app, [*words, "--overwrite"]).exit_code == 0
