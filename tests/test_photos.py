"""Listing photos: shares, and half a million names."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lesionseg.inference.journal import Part
from lesionseg.inference.photos import Listing, list_photos, output_stem

NAMES = [f"clinic {number % 7}/{number:04}.jpg" for number in range(1000)]


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_shares_are_all_without_overlap_and_even(count: int) -> None:
    listing = Listing(Path("x"), sorted(NAMES), ["a.db", "b.db"])
    shares = [listing.share(Part(number, count)) for number in range(1, count + 1)]
    assert sorted(name for share in shares for name in share.names) == sorted(NAMES)
    assert sorted(name for share in shares for name in share.skipped) == ["a.db", "b.db"]
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


def test_a_photo_without_a_known_ending_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "photo").touch()
    assert list_photos(tmp_path / "photo", tmp_path / "out") == Listing(tmp_path, ["photo"], [])


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
