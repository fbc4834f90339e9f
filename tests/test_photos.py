"""Listing photos: shares, and half a million names."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from red_channel import RedChannel, save

from lesionseg.errors import DataError
from lesionseg.inference.folder import predict_folder
from lesionseg.inference.kinds import OTHER, Skipped
from lesionseg.inference.photos import Listing, list_photos, output_stem
from lesionseg.inference.table import Part
from lesionseg.io.writing import make_folder

NAMES = [f"clinic {number % 7}/{number:04}.jpg" for number in range(1000)]


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_shares_are_all_without_overlap_and_even(count: int) -> None:
    listing = Listing(Path("x"), sorted(NAMES), [Skipped("a.db", OTHER), Skipped("b.db", OTHER)])
    shares = [listing.share(Part(number, count)) for number in range(1, count + 1)]
    assert sorted(name for share in shares for name in share.names) == sorted(NAMES)
    assert sorted(one.name for share in shares for one in share.skipped) == ["a.db", "b.db"]
    assert all(share.names == sorted(share.names) for share in shares)
    assert all(abs(len(share.names) - 1000 / count) < 100 for share in shares)


def test_a_new_photo_moves_no_other() -> None:
    before = Listing(Path("x"), sorted(NAMES), [])
    after = Listing(Path("x"), sorted([*NAMES, "0.jpg", "clinic 3/x.jpg"]), [])
    for number in range(1, 5):
        assert set(before.share(Part(number, 4)).names) <= set(after.share(Part(number, 4)).names)


def test_stems_as_paths_have_them() -> None:
    for name in ("a.jpg", "a.b.jpg", "x.y/a.tar.png", "x.y/a", "a..jpg"):
        assert output_stem(name) == Path(name).with_suffix("").as_posix()


def test_numbers_are_no_endings() -> None:
    for name in ("1.2.840.113619.2", "x.y/IM0001", "scan 1.5 mm"):
        assert output_stem(name) == name


def test_a_photo_without_a_known_ending_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "photo").touch()
    assert list_photos(tmp_path / "photo", tmp_path / "out") == Listing(tmp_path, ["photo"], [])


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_photos_without_an_ending_are_told_by_their_bytes_and_the_rest_is_named(tmp_path: Path) -> None:
    photo = save(tmp_path / "in" / "a.jpg").read_bytes()
    for name in ("IM0001", "x/1.2.840.5", "x/1.2.840.6"):
        put(tmp_path / "in" / name, photo)
    files = {
        "b.jpg.download": photo,
        "c.DNG": photo,
        "d.bak": photo,
        "IM0002": b"\0" * 128 + b"DICM" + b"\0" * 500,
        "notes.txt": photo,
        "BMI": b"BMI of the patients",
        "empty": b"",
        "Thumbs.db": b"x",
    }
    for name, data in files.items():
        put(tmp_path / "in" / name, data)
    os.mkfifo(tmp_path / "in" / "pipe")
    found = list_photos(tmp_path / "in", tmp_path / "out")
    assert found.names == ["IM0001", "a.jpg", "x/1.2.840.5", "x/1.2.840.6"]
    reasons = dict(found.skipped)
    assert reasons.keys() == files.keys() | {"pipe"}
    assert "unfinished download" in reasons["b.jpg.download"]
    assert "raw file of a camera" in reasons["c.DNG"]
    assert "JPEG data under the ending .bak" in reasons["d.bak"]
    assert "DICOM" in reasons["IM0002"]
    assert reasons["pipe"] == "not a regular file"
    assert {reasons[name] for name in ("notes.txt", "BMI", "empty")} == {OTHER}
    pictures = {one.name for one in found.skipped if one.is_picture}
    assert pictures == {"b.jpg.download", "c.DNG", "d.bak", "IM0002", "pipe"}


def test_a_folder_without_photos_lists_the_pictures_that_are_left_out(tmp_path: Path) -> None:
    put(tmp_path / "a.NEF", b"x")
    put(tmp_path / "notes.txt", b"x")
    with pytest.raises(DataError, match="holds no photo") as caught:
        list_photos(tmp_path, tmp_path / "out")
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["a.NEF"]


def test_a_photo_without_ending_shares_a_mask_with_its_namesake(tmp_path: Path) -> None:
    photo = save(tmp_path / "v.1" / "a.png").read_bytes()
    put(tmp_path / "v.1" / "a", photo)
    with pytest.raises(DataError, match="share one mask") as caught:
        list_photos(tmp_path, tmp_path / "out")
    assert caught.value.problems == ("v.1/a, v.1/a.png",)


def test_photos_in_an_output_folder_below_the_source_are_refused(tmp_path: Path) -> None:
    for name in ("a.png", "clinic/b.png", "clinic/deep/c.png", "clinic/b_segmentation.png"):
        put(tmp_path / name, b"x")
    with pytest.raises(DataError, match="would not be predicted") as caught:
        list_photos(tmp_path, tmp_path / "clinic")
    assert caught.value.problems == (str(tmp_path / "clinic/b.png"), str(tmp_path / "clinic/deep/c.png"))


@pytest.mark.parametrize("first", ["a", "b"])
def test_folders_with_two_names_are_listed_once_under_their_own(tmp_path: Path, first: str) -> None:
    names = {"a": "b", "b": "a"}
    put(tmp_path / first / "x.png", b"x")
    (tmp_path / names[first]).symlink_to(first)
    assert list_photos(tmp_path, tmp_path / "out").names == [f"{first}/x.png"]


def test_links_that_multiply_are_followed_once(tmp_path: Path) -> None:
    for number in range(18):
        folder = tmp_path / f"d{number:02}"
        put(folder / "x.png", b"x")
        if number < 17:
            for name in ("one", "two"):
                (folder / name).symlink_to(tmp_path / f"d{number + 1:02}")
    assert list_photos(tmp_path / "d00", tmp_path / "out").names == sorted(
        "one/" * depth + "x.png" for depth in range(18)
    )


def test_folders_nested_deeply(tmp_path: Path) -> None:
    inside = "a/" * 1500
    make_folder(tmp_path / "in" / inside)
    save(tmp_path / "x.png").rename(tmp_path / "in" / inside / "x.png")
    try:
        result = predict_folder(tmp_path / "in", RedChannel(), tmp_path / "out")
        assert (result.done, result.failed) == (1, 0)
        assert (tmp_path / "out" / inside / "x_segmentation.png").is_file()
    finally:
        # pytest's own way of removing folders calls itself for each of them.
        for folder in ("in", "out"):
            subprocess.run(["rm", "-r", str(tmp_path / folder)], check=True)


def test_links_that_go_round_in_circles(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.jpg").touch()
    (tmp_path / "a" / "self").symlink_to("self")
    (tmp_path / "a" / "self.jpg").symlink_to("self.jpg")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    assert list_photos(tmp_path, tmp_path / "out").names == ["a/self.jpg", "a/x.jpg"]


MEASURED = """
import sys, time
from pathlib import Path
from lesionseg.inference.photos import list_photos

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

before = peak()
started = time.process_time()
found = list_photos(Path(sys.argv[1]), Path(sys.argv[2]))
print(len(found.names), time.process_time() - started, (peak() - before) / 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells the peak of memory there")
def test_half_a_million_names(tmp_path: Path) -> None:
    for number in range(500):
        (tmp_path / "photos" / f"{number:03}").mkdir(parents=True)
    for number in range(500_000):
        os.close(os.open(tmp_path / "photos" / f"{number % 500:03}" / f"ISIC_{number:07}.jpg", os.O_CREAT))
    script = [sys.executable, "-c", MEASURED, str(tmp_path / "photos"), str(tmp_path / "out")]
    count, seconds, megabytes = subprocess.run(script, check=True, capture_output=True, text=True).stdout.split()
    assert int(count) == 500_000
    assert float(megabytes) < 100
    sys.stdout.write(f"{count} names: {seconds} s of processor time, {megabytes} MB\n")
