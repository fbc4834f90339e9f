from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import lesionseg
from lesionseg.errors import ConfigError, ImageError


@pytest.fixture
def here(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the tiny data set's photos below ``photos``."""
    (tmp_path / "photos").symlink_to(tiny.folders.train_images.parent)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_text_will_do_for_every_path(here: Path) -> None:
    (here / "dx.csv").write_text("SYNTH_0000000,malignant\n")
    (here / "who.csv").write_text("case_id,patient\nSYNTH_0000000,p1\nSYNTH_0000001,p1\n")
    pairs = lesionseg.pair("photos/train_images", "photos/train_masks", "m.csv", labels="dx.csv", groups="who.csv")
    assert pairs.cases[0].labels == {"diagnosis": "malignant"}
    found, files = lesionseg.audit("m.csv", "audit")
    assert found.fingerprint.cases == 10
    assert files.html == Path("audit/audit.html")
    assert files.html.is_file()
    folds = lesionseg.split("m.csv", "cv.csv", folds=3)
    assert list(folds) == [Path(f"cv-fold{number}.csv") for number in (1, 2, 3)]
    for fold in folds.values():
        assert len(fold.split("train")) + len(fold.split("val")) == 10
        assert len({case.split for case in fold.cases if case.group == "p1"}) == 1


def test_one_column_links_as_a_list_of_one_does(here: Path) -> None:
    (here / "dx.csv").write_text("".join(f"SYNTH_{n:07d},{'malignant' if n < 6 else 'benign'}\n" for n in range(10)))
    lesionseg.pair("photos/train_images", "photos/train_masks", "m.csv", labels=["dx.csv"])
    one, same = (lesionseg.split("m.csv", "s.csv", hold_out=0.4, links=links) for links in ("diagnosis", ["diagnosis"]))
    assert one == same
    assert len({case.labels["diagnosis"] for case in one[Path("s.csv")].split("val")}) == 1


def test_split_takes_one_way(here: Path) -> None:
    lesionseg.pair("photos/train_images", "photos/train_masks", "m.csv")
    with pytest.raises(ConfigError, match="nothing is asked for"):
        lesionseg.split("m.csv", "s.csv")


def test_audit_takes_a_manifest_or_folders(here: Path) -> None:
    told: list[tuple[int, int]] = []
    folders = {"images": "photos/train_images", "masks": "photos/train_masks"}
    found, _ = lesionseg.audit(None, "audit", **folders, progress=lambda *n: told.append(n))
    assert (len(found.cases), told[-1]) == (10, (10, 10))
    for more in ({}, folders | {"root": "photos"}, {"images": "photos/train_images"}):
        with pytest.raises(ConfigError, match="either a manifest or two folders"):
            lesionseg.audit(None, "audit", **more)
    with pytest.raises(ConfigError, match="either a manifest or two folders"):
        lesionseg.audit("m.csv", "audit", **folders)


def test_synth_pairs_what_it_makes(here: Path) -> None:
    made = lesionseg.synth("made", train=3, test=2, seed=5, size=(48, 40))
    assert made.test_images == Path("made/test_images")
    manifest = lesionseg.split("made/manifest.csv", "s.csv", hold_out=0.4)[Path("s.csv")]
    assert [len(manifest.split(name)) for name in ("train", "val", "test")] == [2, 1, 2]
    assert {(case.width, case.height) for case in manifest.cases} == {(48, 40)}
    lesionseg.synth("tests", train=0, test=1, size=(48, 40))
    assert not (here / "tests/manifest.csv").exists()


@pytest.mark.parametrize("size", [(8192, 64), (9000, 8000)])
def test_synth_makes_nothing_that_would_not_be_read(here: Path, size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match=f"{size[0]} x {size[1]}"):
        lesionseg.synth("made", train=1, test=0, size=size)
    assert not (here / "made").exists()


def test_photos_are_read_upright_and_masks_of_every_kind(here: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (40, 30), "brown").save("photo.jpg", exif=turned)
    mask = np.zeros((40, 30), bool)
    mask[10:20, 5:25] = True
    Image.fromarray(mask.astype(np.uint8) * 255).convert("RGBA").save("rgba.png")
    Image.fromarray(mask.astype(np.uint8)).save("ones.png")
    assert lesionseg.read_image("photo.jpg").shape == (40, 30, 3)
    for name in ("rgba.png", "ones.png"):
        np.testing.assert_array_equal(lesionseg.read_mask(name), mask)


@pytest.mark.parametrize("wrong", [{"train": -1}, {"test": -1}, {"seed": -1}, {"size": (31, 64)}, {"size": (64, 31)}])
def test_synth_refuses_what_cannot_be(here: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="from 32 pixels up"):
        lesionseg.synth("made", **wrong)  # type: ignore[arg-type]
    assert not (here / "made").exists()
