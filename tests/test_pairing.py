"""Photos and masks meet by id; whatever does not fit is listed."""

import hashlib
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lesionseg.data.case_ids import case_id_of
from lesionseg.data.images import encode_mask_nifti
from lesionseg.data.label_tables import read_labels
from lesionseg.data.pairing import Folders, list_pictures, pair_folders
from lesionseg.errors import PairingError
from lesionseg.records import Case

Draw = Callable[..., Path]


@pytest.fixture
def draw(tmp_path: Path) -> Draw:
    """Writes photos below ``photos*/`` and masks below ``masks*/``."""

    def write(place: str, width: int = 12, height: int = 9) -> Path:
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.zeros((height, width), np.uint8)
        pixels[2:5, 3:6] = 255
        if place.startswith("photos"):
            # Photos of one name are alike, all others are not.
            seed = zlib.crc32(Path(place).stem.encode())
            noise = np.random.default_rng(seed).integers(0, 256, pixels.shape, np.uint8)
            pixels = np.dstack([pixels, pixels // 2, noise])
        Image.fromarray(pixels).save(path)
        return path

    return write


def pair(folder: Path, **options: dict[str, str]) -> list[Case]:
    return pair_folders([Folders("train", folder / "photos", folder / "masks")], **options)


def warnings_of(folder: Path, **options: dict[str, str]) -> list[str]:
    told: list[str] = []
    pair_folders([Folders("train", folder / "photos", folder / "masks")], warn=told.append, **options)
    return told


def problems_of(*folders: Folders) -> tuple[str, ...]:
    with pytest.raises(PairingError) as caught:
        pair_folders(folders)
    assert f"({len(caught.value.problems)} problems)" in caught.value.message
    return caught.value.problems


@pytest.mark.parametrize(
    ("name", "case_id"),
    [
        ("ISIC_0000000.jpg", "ISIC_0000000"),
        ("ISIC_0000000_Segmentation.png", "ISIC_0000000"),
        ("ISIC_0000000_segmentation.png", "ISIC_0000000"),
        ("ISIC_0000000_MASK.PNG", "ISIC_0000000"),
        ("ISIC_0000000_mask.nii.gz", "ISIC_0000000"),
        ("ISIC_0000000.NII.GZ", "ISIC_0000000"),
        ("ISIC_0000000.nii", "ISIC_0000000"),
        ("0000012.png", "0000012"),
        ("a.b.c_mask.png", "a.b.c"),
        ("x.nii.gz.png", "x.nii.gz"),
        ("mask.png", "mask"),
        ("unmask.png", "unmask"),
        ("a_mask_2.png", "a_mask_2"),
        ("a_masks.png", "a_masks"),
        ("_mask.png", "_mask"),
        ("NA.png", "NA"),
        ("Läsion 3, links.png", "Läsion 3, links"),
    ],
)
def test_ids(name: str, case_id: str) -> None:
    assert case_id_of(Path("folder") / name) == case_id


def test_masks_are_found_whatever_their_ending_and_case_is_complete(tmp_path: Path, draw: Draw) -> None:
    names = ["a_Segmentation.png", "b_segmentation.png", "c_mask.png", "d.png", "e_Mask.bmp"]
    for number, name in enumerate(names):
        draw(f"masks/{name}", 12 + number)
        draw(f"photos/{name[0]}.png", 12 + number)
    cases = pair(tmp_path, labels={"b": "malignant", "zzz": "benign"}, groups={"c": "patient-1"})
    assert [(case.case_id, case.mask and case.mask.name) for case in cases] == [(name[0], name) for name in names]
    assert [(case.width, case.height) for case in cases] == [(12 + number, 9) for number in range(5)]
    assert [case.labels["diagnosis"] for case in cases] == ["", "malignant", "", "", ""]
    assert [case.group for case in cases] == ["a", "b", "patient-1", "d", "e"]
    assert {case.split for case in cases} == {"train"}
    assert cases[0].sha256 == hashlib.sha256((tmp_path / "photos" / "a.png").read_bytes()).hexdigest()


def test_position_plays_no_part(tmp_path: Path, draw: Draw) -> None:
    # In the order of names, photos are 2, 10 and masks 10_, 2_.
    for number in ("2", "10"):
        draw(f"photos/{number}.png", int(number) + 10)
        draw(f"masks/{number}_mask.png", int(number) + 10)
    assert [(case.case_id, case.mask and case.mask.name) for case in pair(tmp_path)] == [
        ("10", "10_mask.png"),
        ("2", "2_mask.png"),
    ]


def test_nifti_masks(tmp_path: Path, draw: Draw) -> None:
    draw("photos/a.png", 12, 9)
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "a_mask.nii.gz").write_bytes(encode_mask_nifti(np.eye(9, 12, dtype=np.bool_)))
    assert [case.case_id for case in pair(tmp_path)] == ["a"]


def test_one_folder_for_both(tmp_path: Path, draw: Draw) -> None:
    for name in ("a", "b"):
        draw(f"photos/{name}.png")
        draw(f"masks/{name}_Segmentation.png").rename(tmp_path / "photos" / f"{name}_Segmentation.png")
    both = tmp_path / "photos"
    assert [(c.image.name, c.mask and c.mask.name) for c in pair_folders([Folders("train", both, both)])] == [
        ("a.png", "a_Segmentation.png"),
        ("b.png", "b_Segmentation.png"),
    ]


def test_masks_named_as_in_ph2(tmp_path: Path, draw: Draw) -> None:
    for name in ("IMD002", "IMD003"):
        draw(f"photos/{name}.png")
        draw(f"masks/{name}_lesion.png")
    assert [(case.case_id, case.mask and case.mask.name) for case in pair(tmp_path)] == [
        ("IMD002", "IMD002_lesion.png"),
        ("IMD003", "IMD003_lesion.png"),
    ]
    for path in list((tmp_path / "masks").iterdir()):
        path.rename(tmp_path / "photos" / path.name)
    both = tmp_path / "photos"
    assert [case.case_id for case in pair_folders([Folders("train", both, both)])] == ["IMD002", "IMD003"]


@pytest.mark.parametrize("together", [False, True])
def test_photos_called_lesion_keep_their_names(tmp_path: Path, draw: Draw, together: bool) -> None:
    photos, masks = ("both", "both") if together else ("photos", "masks")
    for name in ("back_lesion", "back"):
        draw(f"{photos}/{name}.png", 12 + len(name))
        draw(f"{masks}/{name}_mask.png", 12 + len(name))
    cases = pair_folders([Folders("train", tmp_path / photos, tmp_path / masks)])
    assert [(case.case_id, case.mask and case.mask.name) for case in cases] == [
        ("back", "back_mask.png"),
        ("back_lesion", "back_lesion_mask.png"),
    ]


def test_the_fix_tells_how_masks_are_called(tmp_path: Path, draw: Draw) -> None:
    draw("photos/a.png")
    draw("masks/gt_a.png")
    with pytest.raises(PairingError) as caught:
        pair(tmp_path)
    assert "ID_mask, ID_segmentation or ID_lesion" in caught.value.fix


def test_labels_of_no_photo_at_all_are_refused(tmp_path: Path, draw: Draw) -> None:
    draw("photos/a.png")
    draw("masks/a.png")
    with pytest.raises(PairingError) as caught:
        pair(tmp_path, labels={"x": "nevus", "y": "nevus"})
    assert caught.value.problems == (
        "none of the 2 ids with a label is that of a photo: x, y, ... in the table, a, ... here",
    )


def test_ids_that_look_like_files_still_find_their_labels(tmp_path: Path, draw: Draw) -> None:
    draw("photos/a.jpg.png")
    draw("masks/a.jpg.png")
    assert pair(tmp_path, labels={"a": "nevus"})[0].labels["diagnosis"] == "nevus"


def test_companions_and_system_files_are_no_data(tmp_path: Path, draw: Draw) -> None:
    draw("photos/a.png")
    draw("masks/a_Segmentation.png")
    draw("photos/a_superpixels.png")
    for name in ("Thumbs.db", "thumbs.db", "desktop.ini", "._a.png", ".hidden.png", "ATTRIBUTION.txt", "list.csv"):
        for folder in ("photos", "masks"):
            (tmp_path / folder / name).write_bytes(b"junk")
    assert [path.name for path in list_pictures(tmp_path / "photos")] == ["a.png"]
    assert [case.case_id for case in pair(tmp_path)] == ["a"]


def test_splits_come_in_their_order(tmp_path: Path, draw: Draw) -> None:
    folders = []
    for split in ("test", "extra", "val", "train"):
        draw(f"photos-{split}/{split}.png")
        draw(f"masks-{split}/{split}.png")
        folders.append(Folders(split, tmp_path / f"photos-{split}", tmp_path / f"masks-{split}"))
    assert [case.split for case in pair_folders(folders)] == ["train", "val", "test", "extra"]


def test_every_problem_is_listed_at_once(tmp_path: Path, draw: Draw) -> None:
    for name in ("fine", "small", "twice", "both", "broken", "text", "Case", "case"):
        draw(f"photos/{name}.png")
        draw(f"masks/{name}_mask.png")
    draw("photos/lonely.png")
    draw("masks/orphan_mask.png")
    draw("masks/small_mask.png", 11, 9)
    draw("photos/twice.jpg")
    draw("masks/fine.png")
    draw("photos-test/both.png")
    draw("masks-test/both.png")
    (tmp_path / "photos" / "broken.png").write_bytes((tmp_path / "photos" / "broken.png").read_bytes()[:60])
    (tmp_path / "masks" / "text_mask.png").write_bytes(b"<html>not found</html>")
    (tmp_path / "photos" / "folder.png").mkdir()
    draw("masks/folder_mask.png")
    found = problems_of(
        Folders("train", tmp_path / "photos", tmp_path / "masks"),
        Folders("test", tmp_path / "photos-test", tmp_path / "masks-test"),
    )
    expected = [
        f"lonely: no mask for {tmp_path / 'photos' / 'lonely.png'}",
        "twice: 2 photos: twice.jpg, twice.png",
        "fine: 2 masks: fine.png, fine_mask.png",
        "case and Case: photo ids that differ only in upper and lower case",
        "case and Case: mask ids that differ only in upper and lower case",
        "both: in the train and in the test folder",
        f"small: the mask is 11 x 9, the photo 12 x 9 ({tmp_path / 'masks' / 'small_mask.png'})",
        f"broken: {tmp_path / 'photos' / 'broken.png'} is damaged",
        f"text: {tmp_path / 'masks' / 'text_mask.png'} is not a picture in a supported format",
        f"folder: {tmp_path / 'photos' / 'folder.png'} is not a regular file",
    ]
    assert [line for line in expected if not any(problem.startswith(line) for problem in found)] == []
    assert len(found) == len(expected)


def test_a_bad_photo_and_a_bad_mask_of_one_case_are_both_listed(tmp_path: Path, draw: Draw) -> None:
    draw("photos/a.png").write_bytes(b"")
    draw("masks/a.png").write_bytes(b"")
    found = problems_of(Folders("train", tmp_path / "photos", tmp_path / "masks"))
    assert len(found) == 2
    assert all("is empty" in problem for problem in found)


def test_a_mask_turned_on_its_side_is_a_mismatch(tmp_path: Path, draw: Draw) -> None:
    draw("photos/a.png", 12, 9)
    draw("masks/a.png", 9, 12)
    assert (
        "the mask is 9 x 12, the photo 12 x 9"
        in problems_of(Folders("train", tmp_path / "photos", tmp_path / "masks"))[0]
    )


def test_the_same_folder_as_train_and_test(tmp_path: Path, draw: Draw) -> None:
    draw("photos/a.png")
    draw("masks/a.png")
    folder = (tmp_path / "photos", tmp_path / "masks")
    assert problems_of(Folders("train", *folder), Folders("test", *folder)) == (
        "a: in the train and in the test folder",
    )


@pytest.mark.parametrize(
    ("folder", "said"), [("none", "cannot be listed"), ("file", "cannot be listed"), ("empty", "holds no picture")]
)
def test_folders_without_pictures(tmp_path: Path, folder: str, said: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "readme.txt").touch()
    with pytest.raises(PairingError, match=said) as caught:
        list_pictures(tmp_path / folder)
    assert str(tmp_path / folder) in caught.value.message


def test_pictures_of_sub_folders_are_not_listed(tmp_path: Path, draw: Draw) -> None:
    draw("photos/a.png")
    draw("photos/deeper/b.png")
    assert [path.name for path in list_pictures(tmp_path / "photos")] == ["a.png"]


def test_pictures_that_are_only_in_sub_folders_are_named(tmp_path: Path, draw: Draw) -> None:
    # As the PH2 data set is unpacked.
    draw("PH2/IMD002/IMD002_Dermoscopic_Image/IMD002.bmp")
    with pytest.raises(PairingError, match="holds no picture") as caught:
        list_pictures(tmp_path / "PH2")
    assert "IMD002.bmp is in a folder below it" in caught.value.problems[0]
    assert "into one folder" in (caught.value.fix or "")


# --- warnings ---------------------------------------------------------------------------------------------------------


def test_a_plain_folder_gives_no_warning(tmp_path: Path, draw: Draw) -> None:
    draw("photos/a.png")
    draw("masks/a.png")
    assert warnings_of(tmp_path, labels={"a": "benign"}, groups={"a": "p"}) == []


def test_masks_without_photo_and_files_left_out_are_told(tmp_path: Path, draw: Draw) -> None:
    draw("photos/a.png")
    draw("photos/a_superpixels.png")
    draw("photos/._a.png")
    draw("masks/a_mask.png")
    draw("masks/b_mask.png")
    (tmp_path / "masks" / "Thumbs.db").touch()
    assert warnings_of(tmp_path) == [
        f"{tmp_path / 'photos' / '._a.png'} left out: a companion or system file",
        f"{tmp_path / 'photos' / 'a_superpixels.png'} left out: a companion or system file",
        f"{tmp_path / 'masks' / 'Thumbs.db'} left out: a companion or system file",
        f"b: no photo for {tmp_path / 'masks' / 'b_mask.png'}, which was left out",
    ]


def test_folders_of_pictures_within_the_folder_are_told(tmp_path: Path, draw: Draw) -> None:
    draw("photos/a.png")
    draw("photos/benign/b.png")
    draw("masks/a.png")
    (tmp_path / "photos" / "notes").mkdir()
    told = f"{tmp_path / 'photos' / 'benign'} left out: a folder within the folder, which holds pictures of its own"
    assert warnings_of(tmp_path) == [told]


def test_patients_that_are_not_known_are_not_one(tmp_path: Path, draw: Draw) -> None:
    for name in "abcd":
        draw(f"photos/{name}.png")
        draw(f"masks/{name}.png")
    groups = {"a": "unknown", "b": "NA", "c": "0", "d": "0"}
    cases = pair_folders([Folders("train", tmp_path / "photos", tmp_path / "masks")], groups=groups)
    assert [case.group for case in cases] == ["a", "b", "0", "0"]


def test_odd_masks_are_told_with_their_id_and_file(tmp_path: Path, draw: Draw) -> None:
    draw("photos/a.png")
    draw("masks/a.png")
    Image.fromarray(np.full((9, 12), 255, np.uint8)).save(tmp_path / "masks" / "a.png")
    assert warnings_of(tmp_path) == [f"a: {tmp_path / 'masks' / 'a.png'}: the mask is full: every pixel is lesion"]


def test_the_same_photo_under_two_ids_is_told(tmp_path: Path, draw: Draw) -> None:
    for name in ("a", "b", "c"):
        draw(f"photos/{name}.png")
        draw(f"masks/{name}.png")
    (tmp_path / "photos" / "c.png").write_bytes((tmp_path / "photos" / "a.png").read_bytes())
    assert warnings_of(tmp_path) == ["a (train) and c (train): the same photo, byte for byte"]


def test_the_same_photo_under_two_ids_in_two_splits_is_refused(tmp_path: Path, draw: Draw) -> None:
    for split in ("", "-test"):
        draw(f"photos{split}/x{split}.png")
        draw(f"masks{split}/x{split}.png")
    (tmp_path / "photos-test" / "x-test.png").write_bytes((tmp_path / "photos" / "x.png").read_bytes())
    found = problems_of(
        Folders("train", tmp_path / "photos", tmp_path / "masks"),
        Folders("test", tmp_path / "photos-test", tmp_path / "masks-test"),
    )
    assert found == ("x (train) and x-test (test): the same photo, byte for byte, in more than one split",)


def test_labels_and_groups_that_meet_no_photo_are_told_and_the_other_way_round(tmp_path: Path, draw: Draw) -> None:
    for name in ("a", "b"):
        draw(f"photos/{name}.png")
        draw(f"masks/{name}.png")
    many = {f"x{number}": "benign" for number in range(9)}
    assert warnings_of(tmp_path, labels={"a": "benign", "A": "benign"}, groups={"b": "p", "a": "p"} | many) == [
        "1 labels have no photo: A",
        "1 photos have no label: b",
        "9 groups have no photo: x0, x1, x2, x3, x4, x5, x6, x7, ...",
    ]


@pytest.mark.real
def test_isic_2016_pairs_without_a_problem() -> None:
    root = Path(os.environ["LESIONSEG_DATA"]) / "isic2016"
    folders = [
        Folders(split, root / f"ISBI2016_ISIC_Part1_{name}_Data", root / f"ISBI2016_ISIC_Part1_{name}_GroundTruth")
        for split, name in (("train", "Training"), ("test", "Test"))
    ]
    labels = {
        key: label
        for name in ("Training", "Test")
        for key, label in read_labels(root / f"ISBI2016_ISIC_Part3_{name}_GroundTruth.csv").items()
    }
    cases = pair_folders(folders, labels=labels)
    assert len(cases) == 1145
    assert len({case.case_id for case in cases}) == 1145
    assert [sum(case.split == split for case in cases) for split in ("train", "test")] == [806, 339]
    assert {case.labels["diagnosis"] for case in cases} == {"benign", "malignant"}
    assert {max(case.width, case.height) for case in cases} == {256}
