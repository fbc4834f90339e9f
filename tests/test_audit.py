"""Every kind of finding, each from files that are made to have it, and clean files that give none."""

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lesionseg.data.audit import QUANTILES, Audit, _repeated, audit, examine_cases, gather_folders
from lesionseg.data.findings import KINDS, Finding, Severity, found
from lesionseg.data.manifest import read_manifest
from lesionseg.data.synthetic import DatasetFolders, write_dataset
from lesionseg.errors import PairingError
from lesionseg.records import Case

COUNT = 24


@pytest.fixture
def folders(tmp_path: Path, clean: DatasetFolders) -> DatasetFolders:
    """A copy of the clean set to spoil."""
    places = {}
    for name in ("train_images", "train_masks"):
        places[name] = tmp_path / name
        places[name].mkdir()
        for path in getattr(clean, name).iterdir():
            (places[name] / path.name).write_bytes(path.read_bytes())
    return replace(clean, **places)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> DatasetFolders:
    return write_dataset(tmp_path_factory.mktemp("clean"), train=COUNT, test=0, seed=4, width=128, height=96)


@pytest.fixture(scope="module")
def clean_audit(clean: DatasetFolders) -> Audit:
    return run(clean)


def photo(folders: DatasetFolders, index: int) -> Path:
    return folders.train_images / f"SYNTH_{index:07d}.jpg"


def mask(folders: DatasetFolders, index: int) -> Path:
    return folders.train_masks / f"SYNTH_{index:07d}_Segmentation.png"


def pixels(path: Path) -> np.ndarray:
    return np.array(Image.open(path))


def run(folders: DatasetFolders) -> Audit:
    cases, known = gather_folders(folders.train_images, folders.train_masks)
    return audit(examine_cases(cases), known)


def kinds(result: Audit, *, ignore: str = "misfit") -> Counter[str]:
    """Kinds and their numbers. Generated lesions are at times as pale as skin, so that no mask can fit them."""
    return Counter(finding.kind for finding in result.findings if finding.kind != ignore)


def only(result: Audit, kind: str) -> Finding:
    """The one finding besides faint lesions."""
    assert kinds(result) == Counter({kind: 1})
    (finding,) = [finding for finding in result.findings if finding.kind == kind]
    return finding


# --- clean ------------------------------------------------------------------------------------------------------------


def test_clean_files_give_no_finding_but_faint_lesions(clean_audit: Audit) -> None:
    assert kinds(clean_audit) == Counter()
    assert len(clean_audit.findings) <= 1
    assert [case.case_id for case in clean_audit.cases] == [f"SYNTH_{index:07d}" for index in range(COUNT)]


def test_the_fingerprint(clean: DatasetFolders, clean_audit: Audit) -> None:
    told = clean_audit.fingerprint
    photos = np.stack([pixels(photo(clean, index)) for index in range(COUNT)]) / 255
    masks = [pixels(mask(clean, index)).mean() / 255 for index in range(COUNT)]
    assert (told.cases, told.photos, told.masks) == (COUNT, COUNT, COUNT)
    assert told.sizes == {(128, 96): COUNT}
    assert (told.splits, told.diagnoses) == ({}, {})
    assert told.mean == pytest.approx(photos.mean((0, 1, 2)), abs=1e-6)
    assert told.std == pytest.approx(photos.std((0, 1, 2)), abs=1e-6)
    assert told.lesion == pytest.approx(np.quantile(masks, QUANTILES))


def test_the_digest_depends_on_ids_photos_and_masks_alone(folders: DatasetFolders, clean_audit: Audit) -> None:
    digest = clean_audit.fingerprint.digest
    assert run(folders).fingerprint.digest == digest
    cases, _ = gather_folders(folders.train_images, folders.train_masks)
    assert audit(examine_cases(cases[::-1])).fingerprint.digest == digest
    Image.fromarray(pixels(mask(folders, 3))).save(mask(folders, 3), compress_level=1)
    assert run(folders).fingerprint.digest != digest


def test_progress_counts_every_case(clean: DatasetFolders) -> None:
    told: list[tuple[int, int]] = []
    cases, _ = gather_folders(clean.train_images, clean.train_masks)
    looks = examine_cases(cases, lambda done, total: told.append((done, total)))
    assert told == [(k + 1, COUNT) for k in range(COUNT)]
    assert [look.case for look in looks] == cases


# --- one case at a time -----------------------------------------------------------------------------------------------

Spoil = Callable[[DatasetFolders], None]


def spoil_mask(change: Callable[[np.ndarray], np.ndarray]) -> Spoil:
    def spoil(folders: DatasetFolders) -> None:
        Image.fromarray(change(pixels(mask(folders, 1)))).save(mask(folders, 1))

    return spoil


def spoil_photo(change: Callable[[np.ndarray], np.ndarray]) -> Spoil:
    def spoil(folders: DatasetFolders) -> None:
        Image.fromarray(change(pixels(photo(folders, 1)))).save(photo(folders, 1), quality=95)

    return spoil


def square(top: int, left: int, side: int) -> np.ndarray:
    drawn = np.zeros((96, 128), np.uint8)
    drawn[top : top + side, left : left + side] = 255
    return drawn


def fringed(levels: np.ndarray) -> np.ndarray:
    spread = levels.copy()
    spread[0, :100] = np.arange(60, 160)
    return spread


def photo_with_square(folders: DatasetFolders, shown: np.ndarray, drawn: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    picture = np.where(shown[..., None] > 0, (110, 62, 40), (214, 170, 150)) + rng.normal(0, 3, (96, 128, 3))
    Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(photo(folders, 1), quality=95)
    Image.fromarray(drawn).save(mask(folders, 1))


SPOILT: dict[str, tuple[str, Spoil, str]] = {
    "cut photo": ("unreadable", lambda f: photo(f, 1).write_bytes(photo(f, 1).read_bytes()[:900]) and None, "damaged"),
    "mask of zero bytes": ("unreadable", lambda f: mask(f, 1).write_bytes(b"") and None, "empty"),
    "photo in place of a mask": (
        "unreadable",
        lambda f: Image.open(photo(f, 1)).save(mask(f, 1)),
        "coloured, not a mask",
    ),
    "photo without mask": ("unpaired", lambda f: mask(f, 1).unlink(), "no mask for"),
    "mask without photo": ("unpaired", lambda f: photo(f, 1).unlink(), "no photo for"),
    "empty": ("empty-mask", spoil_mask(np.zeros_like), "no pixel"),
    "full": ("full-mask", spoil_mask(lambda m: np.full_like(m, 255)), "every pixel"),
    "inverted": ("inverted-mask", lambda f: photo_with_square(f, square(30, 40, 30), 255 - square(30, 40, 30)), "100%"),
    "fringed": ("grey-fringe", spoil_mask(fringed), "0.81%"),
    "turned": ("mask-orientation", spoil_mask(lambda m: np.rot90(m).copy()), "128 x 96, the mask 96 x 128"),
    "half size": ("mask-size", spoil_mask(lambda m: m[::2, ::2].copy()), "128 x 96, the mask 64 x 48"),
    "one row too few": ("mask-size", spoil_mask(lambda m: m[1:].copy()), "the mask 128 x 95"),
    "two pieces": (
        "mask-pieces",
        lambda f: photo_with_square(
            f, square(10, 10, 20) | square(60, 60, 30), square(10, 10, 20) | square(60, 60, 30)
        ),
        "69%, 31%",
    ),
    "hole": (
        "mask-hole",
        lambda f: photo_with_square(f, square(10, 10, 60), square(10, 10, 60) & ~square(30, 30, 20)),
        "12%",
    ),
    "blank": ("blank-photo", spoil_photo(lambda p: np.full_like(p, 99)), "one colour"),
    "blue": ("photo-colour", spoil_photo(lambda p: (p * (0.05, 0.05, 1)).astype(np.uint8)), "usual is L*"),
    "beside": ("misfit", lambda f: photo_with_square(f, square(30, 10, 30), square(30, 80, 25)), "misses"),
    "far too large": ("misfit", lambda f: photo_with_square(f, square(45, 60, 10), square(8, 8, 80)), "far larger"),
    "no end": ("odd-file", lambda f: photo(f, 1).write_bytes(photo(f, 1).read_bytes()[:-2]) and None, "end marker"),
}


@pytest.mark.long
@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_case_is_found_and_no_other(folders: DatasetFolders, clean_audit: Audit, name: str) -> None:
    kind, spoil, words = SPOILT[name]
    before = {finding.case_ids for finding in clean_audit.findings}
    spoil(folders)
    # A file that is seconds old and has no end counts as one that is still being copied.
    for path in (photo(folders, 1), mask(folders, 1)):
        if path.exists():
            os.utime(path, (1, 1))
    found_now = [finding for finding in run(folders).findings if finding.case_ids not in before]
    assert [(finding.kind, finding.case_ids) for finding in found_now] == [(kind, ("SYNTH_0000001",))]
    assert words in found_now[0].message
    assert found_now[0].fix
    assert found_now[0].severity is KINDS[kind].severity


def test_a_mask_that_the_decoder_doubts_is_told_once(folders: DatasetFolders) -> None:
    """A border full of lesion may be an inverted mask or a large lesion; the photo decides, and nothing is repeated."""
    shown = 255 - square(40, 50, 8)
    photo_with_square(folders, shown, shown)
    assert kinds(run(folders))["inverted-mask"] == 0
    assert kinds(run(folders))["odd-file"] == 0


def test_a_peculiar_mask_file(folders: DatasetFolders) -> None:
    """A palette that does not tell lesion from skin."""
    picture = Image.fromarray((pixels(mask(folders, 1)) > 0).astype(np.uint8), "P")
    picture.putpalette([200, 10, 10, 10, 200, 10])
    picture.save(mask(folders, 1))
    finding = only(run(folders), "odd-file")
    assert "palette" in finding.message
    assert finding.severity is Severity.WARNING


def test_two_files_for_one_id(folders: DatasetFolders) -> None:
    Image.open(photo(folders, 1)).save(photo(folders, 1).with_suffix(".png"))
    finding = only(run(folders), "id-collision")
    assert "SYNTH_0000001.jpg" in finding.message
    assert "SYNTH_0000001.png" in finding.message


def test_a_file_that_changed_since_it_was_paired(folders: DatasetFolders) -> None:
    cases, _ = gather_folders(folders.train_images, folders.train_masks)
    looks = examine_cases(cases)
    recorded = [replace(look, case=replace(look.case, sha256=look.photo_sha256)) for look in looks]
    assert kinds(audit(recorded))["changed"] == 0
    recorded[2] = replace(recorded[2], case=replace(recorded[2].case, sha256="0" * 64))
    assert only(audit(recorded), "changed").case_ids == (cases[2].case_id,)


def test_a_set_without_any_mask_is_one_for_inference(folders: DatasetFolders) -> None:
    cases, _ = gather_folders(folders.train_images, folders.train_masks)
    looks = examine_cases([replace(case, mask=None) for case in cases[:3]])
    assert kinds(audit(looks)) == Counter()
    looks += examine_cases(cases[3:4])
    assert kinds(audit(looks)) == Counter({"unpaired": 3})


def test_masks_that_are_shifted_by_one_stand_out(folders: DatasetFolders) -> None:
    """What pairing by list position does after one missing mask."""
    cases, _ = gather_folders(folders.train_images, folders.train_masks)
    shifted = [replace(case, mask=other.mask) for case, other in zip(cases, cases[1:] + cases[:1], strict=True)]
    right, wrong = (kinds(audit(examine_cases(some)), ignore="")["misfit"] for some in (cases, shifted))
    assert right <= 1
    assert wrong >= 3


# --- the whole set ----------------------------------------------------------------------------------------------------


def copy_of(folders: DatasetFolders, index: int, name: str, change: Callable[[Image.Image], Image.Image]) -> None:
    for path in (photo(folders, index), mask(folders, index)):
        made = path.with_name(path.name.replace(f"SYNTH_{index:07d}", name))
        change(Image.open(path)).save(made, **({"quality": 70} if made.suffix == ".jpg" else {}))


def mirrored(picture: Image.Image) -> Image.Image:
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def with_splits(folders: DatasetFolders, splits: dict[str, str]) -> Audit:
    cases, _ = gather_folders(folders.train_images, folders.train_masks)
    return audit(examine_cases([replace(case, split=splits.get(case.case_id, "train")) for case in cases]))


def test_the_same_bytes_under_two_ids(folders: DatasetFolders) -> None:
    (folders.train_images / "COPY.jpg").write_bytes(photo(folders, 2).read_bytes())
    (folders.train_masks / "COPY_Segmentation.png").write_bytes(mask(folders, 2).read_bytes())
    finding = only(run(folders), "same-bytes")
    assert set(finding.case_ids) == {"COPY", "SYNTH_0000002"}
    assert only(with_splits(folders, {"COPY": "test"}), "split-leak").severity is Severity.ERROR


def test_copies_within_a_split_make_no_leak_surer() -> None:
    def look(case_id: str, sha256: str, split: str) -> Any:
        return SimpleNamespace(case=Case(case_id, Path("x"), None, split=split), photo_sha256=sha256)

    found = _repeated([look("a", "x", "train"), look("copy", "x", "train"), look("b", "y", "test")], 0.66)
    assert (found.severity, "byte for byte" in found.message) == (Severity.WARNING, False)
    found = _repeated([look("a", "x", "train"), look("copy", "x", "test")], 0.0)
    assert (found.severity, "byte for byte" in found.message) == (Severity.ERROR, True)


def test_another_picture_of_one_lesion(folders: DatasetFolders) -> None:
    copy_of(folders, 2, "COPY", mirrored)
    finding = only(run(folders), "near-duplicate")
    assert set(finding.case_ids) == {"COPY", "SYNTH_0000002"}
    leak = only(with_splits(folders, {"COPY": "test"}), "split-leak")
    assert set(leak.case_ids) == {"COPY", "SYNTH_0000002"}
    assert leak.severity is Severity.ERROR
    assert "in test and train" in leak.message
    assert kinds(with_splits(folders, {}))["near-duplicate"] == 1


def test_copies_and_near_copies_are_one_finding(folders: DatasetFolders) -> None:
    copy_of(folders, 2, "MIRRORED", mirrored)
    for path in (folders.train_images / "MIRRORED.jpg", folders.train_masks / "MIRRORED_Segmentation.png"):
        path.with_name(path.name.replace("MIRRORED", "AGAIN")).write_bytes(path.read_bytes())
    finding = only(run(folders), "near-duplicate")
    assert set(finding.case_ids) == {"AGAIN", "MIRRORED", "SYNTH_0000002"}
    assert "byte for byte" in finding.message
    assert "correlates" in finding.message


def test_a_group_in_two_splits(folders: DatasetFolders) -> None:
    cases, _ = gather_folders(folders.train_images, folders.train_masks)
    cases = [
        replace(case, group=f"p{k // 2}", split="test" if k in (5, 8, 9) else "train") for k, case in enumerate(cases)
    ]
    finding = only(audit(examine_cases(cases)), "split-leak")
    assert finding.case_ids == ("SYNTH_0000004", "SYNTH_0000005")
    assert "group p2" in finding.message


def test_photos_of_unusual_size_and_shape(folders: DatasetFolders) -> None:
    for path in (photo(folders, 1), mask(folders, 1)):
        Image.open(path).rotate(90, expand=True).save(path)
    for path in (photo(folders, 2), mask(folders, 2)):
        Image.open(path).resize((512, 384), Image.Resampling.NEAREST).save(path)
    found_now = [f for f in run(folders).findings if f.kind == "photo-size"]
    assert [finding.case_ids for finding in found_now] == [("SYNTH_0000001",), ("SYNTH_0000002",)]
    assert "96 x 128 pixels; usual is 128 x 96" in found_now[0].message


def test_a_lesion_of_unusual_size(folders: DatasetFolders) -> None:
    for index in range(COUNT):
        Image.fromarray(square(20, 20, 40 + index % 4)).save(mask(folders, index))
    Image.fromarray(square(40, 40, 2)).save(mask(folders, 7))
    assert only(run(folders), "lesion-size").case_ids == ("SYNTH_0000007",)


def test_few_photos_have_no_outliers(folders: DatasetFolders) -> None:
    for index in range(10, COUNT):
        photo(folders, index).unlink()
        mask(folders, index).unlink()
    spoil_photo(lambda p: (p * (0.05, 0.05, 1)).astype(np.uint8))(folders)
    assert kinds(run(folders))["photo-colour"] == 0


def test_the_gravest_come_first(folders: DatasetFolders) -> None:
    spoil_mask(lambda m: square(10, 10, 20) | square(60, 60, 30))(folders)
    Image.fromarray(np.zeros((96, 128), np.uint8)).save(mask(folders, 5))
    mask(folders, 9).unlink()
    result = run(folders)
    order = [list(Severity).index(finding.severity) for finding in result.findings]
    assert order == sorted(order)
    assert result.findings[0].kind == "unpaired"
    assert [result.count(severity) for severity in Severity] == [order.count(k) for k in range(3)]


# --- folders ----------------------------------------------------------------------------------------------------------


def test_one_folder_for_photos_and_masks(tmp_path: Path) -> None:
    for name in ("a.png", "a_mask.png", "b.png", "c_mask.png"):
        Image.fromarray(np.eye(4, dtype=np.uint8)).save(tmp_path / name)
    cases, findings = gather_folders(tmp_path, tmp_path)
    assert [(case.case_id, case.mask and case.mask.name) for case in cases] == [("a", "a_mask.png"), ("b", None)]
    assert [(finding.kind, finding.case_ids) for finding in findings] == [("unpaired", ("b",)), ("unpaired", ("c",))]
    assert len(audit(examine_cases(cases), findings).findings) >= 2


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PairingError, match="holds no picture"):
        gather_folders(tmp_path, tmp_path)


def test_a_finding_needs_a_known_kind_and_a_case() -> None:
    with pytest.raises(ValueError, match="known kind"):
        Finding("nonsense", Severity.NOTE, ("a",), "m", "f")
    with pytest.raises(ValueError, match="at least one case"):
        found("misfit", [], "m")


# --- the real ones ----------------------------------------------------------------------------------------------------


def test_of_a_kind_the_clearest_come_first(clean: DatasetFolders) -> None:
    looks = examine_cases(gather_folders(clean.train_images, clean.train_masks)[0])
    known = [found("misfit", [f"x{k}"], "m", strength=k) for k in (9.0, 30.0, 12.0)]
    told = [finding.case_ids[0] for finding in audit(looks, known).findings]
    assert told[:3] == ["x30.0", "x12.0", "x9.0"]


@pytest.mark.real
def test_the_broken_label_and_a_published_duplicate_are_found() -> None:
    """The cases around two that are known to be wrong in ISIC 2018, and 60 ordinary ones."""
    data = Path(os.environ["LESIONSEG_DATA"])
    folder = data / "isic2018-extra"
    photos = sorted((folder / "ISIC2018_Task1-2_Training_Input").glob("*.jpg"))
    names = [path.stem for path in photos]
    wanted = {"ISIC_0012290", "ISIC_0013594", *names[names.index("ISIC_0015251") - 10 :][:20]}
    masks = folder / "ISIC2018_Task1_Training_GroundTruth"
    cases = [Case(p.stem, p, masks / f"{p.stem}_segmentation.png", "train") for p in photos if p.stem in wanted]
    cases += read_manifest("isic2016", data / "isic2016").cases[:60]
    result = audit(examine_cases([replace(case, split="train") for case in cases]))
    told = {(finding.kind, finding.case_ids) for finding in result.findings}
    assert ("misfit", ("ISIC_0015251",)) in told
    assert ("near-duplicate", ("ISIC_0012290", "ISIC_0013594")) in told
    assert sum(kind in ("misfit", "near-duplicate") for kind, _ in told) == 2
