from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lesionseg.data.audit import audit, examine_cases
from lesionseg.data.manifest import Manifest, read_manifest, write_manifest
from lesionseg.data.pairing import Folders, pair_folders
from lesionseg.data.resplit import SplitOptions, split_manifest
from lesionseg.data.synthetic import write_dataset
from lesionseg.errors import ConfigError, DataError
from lesionseg.records import Case


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Twelve training photos of six patients, two test photos of two others."""
    rng = np.random.default_rng(0)
    cases = []
    for i in range(14):
        for kind, picture in (
            ("photo", rng.integers(0, 255, (8, 8, 3), np.uint8)),
            ("mask", np.eye(8, dtype=np.uint8)),
        ):
            Image.fromarray(picture).save(tmp_path / f"{kind}{i}.png")
        split = "train" if i < 12 else "test"
        labels = {
            "diagnosis": "malignant" if i % 4 == 0 else "benign",
            "patient_id": f"p{i // 2}" if i < 12 else f"t{i}",
        }
        cases.append(Case(f"c{i}", tmp_path / f"photo{i}.png", tmp_path / f"mask{i}.png", split, labels=labels))
    write_manifest(cases, tmp_path / "all.csv")
    return read_manifest(tmp_path / "all.csv")


def patients(cases: tuple[Case, ...]) -> set[str]:
    return {case.labels["patient_id"] for case in cases}


def test_folds_cover_everything_once_and_keep_patients_whole(manifest: Manifest, tmp_path: Path) -> None:
    options = SplitOptions(folds=3, links=("patient_id",), stratify="diagnosis")
    paths = split_manifest(manifest, tmp_path / "out" / "cv.csv", options)
    assert [path.name for path in paths] == ["cv-fold1.csv", "cv-fold2.csv", "cv-fold3.csv"]
    held: Counter[str] = Counter()
    for path in paths:
        made = read_manifest(path)
        train, val, test = (made.split(name) for name in ("train", "val", "test"))
        assert not patients(train) & patients(val)
        assert {case.case_id for case in test} == {"c12", "c13"}
        assert len(train) + len(val) == 12
        held.update(case.case_id for case in val)
        assert [case.labels["diagnosis"] for case in val].count("malignant") == 1
    assert held == Counter({f"c{i}": 1 for i in range(12)})


def test_hold_out_is_reproducible(manifest: Manifest, tmp_path: Path) -> None:
    texts = []
    for seed in (1, 1, 2):
        (path,) = split_manifest(manifest, tmp_path / "h.csv", SplitOptions(fraction=0.25, seed=seed))
        texts.append(path.read_text())
        assert len(read_manifest(path).split("val")) == 3
    assert texts[0] == texts[1] != texts[2]


def test_groups_that_touch_the_test_split_are_refused(manifest: Manifest, tmp_path: Path) -> None:
    text = (tmp_path / "all.csv").read_text().replace(",t13", ",p0")
    (tmp_path / "leak.csv").write_text(text)
    leaking = read_manifest(tmp_path / "leak.csv", tmp_path)
    with pytest.raises(DataError, match=r"c13 \(test\) with c0, c1"):
        split_manifest(leaking, tmp_path / "x.csv", SplitOptions(folds=2, links=("patient_id",)))


def test_near_duplicates_stay_together(tmp_path: Path) -> None:
    folders = write_dataset(tmp_path, train=8, test=0, width=160, height=120)
    photo = Image.open(folders.train_images / "SYNTH_0000003.jpg")
    mask = Image.open(folders.train_masks / "SYNTH_0000003_Segmentation.png")
    photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folders.train_images / "COPY.jpg", quality=80)
    mask.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folders.train_masks / "COPY_Segmentation.png")
    from lesionseg.api import pair

    manifest = pair(folders.train_images, folders.train_masks, tmp_path / "m.csv")
    options = SplitOptions(fraction=0.3, near_duplicates=True)
    made = read_manifest(split_manifest(manifest, tmp_path / "s.csv", options)[0])
    split_of = {case.case_id: case.split for case in made.cases}
    group_of = {case.case_id: case.group for case in made.cases}
    assert group_of["COPY"] == group_of["SYNTH_0000003"]
    assert split_of["COPY"] == split_of["SYNTH_0000003"]
    assert len(set(group_of.values())) == 8


def test_official_split_by_id(manifest: Manifest, tmp_path: Path) -> None:
    lists = tmp_path / "official.csv"
    lists.write_text("case_id,split\n" + "".join(f"c{i},{'test' if i % 2 else 'train'}\n" for i in range(14)))
    (path,) = split_manifest(manifest, tmp_path / "o.csv", SplitOptions(official=str(lists)))
    assert {case.case_id for case in read_manifest(path).split("test")} == {f"c{i}" for i in range(1, 14, 2)}


@pytest.mark.parametrize("options", [{}, {"folds": 2, "fraction": 0.5}, {"folds": 10**30}])
def test_exactly_one_way_is_needed(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"is asked for|there are no"):
        SplitOptions(**options)


@pytest.mark.parametrize("more", [{"links": ("patient_id",)}, {"near_duplicates": True}, {"stratify": "diagnosis"}])
def test_an_official_split_takes_no_other_option(more: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="is taken as it is"):
        SplitOptions(official="isic2016", **more)


CHANGES: tuple[Callable[[Image.Image], Image.Image], ...] = (
    lambda picture: picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    lambda picture: picture.transpose(Image.Transpose.ROTATE_270),
    lambda picture: picture.crop((12, 6, picture.width - 2, picture.height - 10)),
    lambda picture: picture.rotate(6, Image.Resampling.BILINEAR).resize((200, 150)),
)


@pytest.fixture(scope="module")
def leaky(tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, list[set[str]]]:
    """24 photos of patients with two each; of eight photos there is a changed copy, which no patient is known of."""
    home = tmp_path_factory.mktemp("leaky")
    folders = write_dataset(home, train=24, test=0, seed=8, width=192, height=144)
    together = [{f"SYNTH_{k:07d}", f"SYNTH_{k + 1:07d}"} for k in range(0, 24, 2)]
    for k in range(8):
        change = CHANGES[k % len(CHANGES)]
        photo = change(Image.open(folders.train_images / f"SYNTH_{3 * k:07d}.jpg"))
        photo.point(lambda level: 15 + level * 0.9).save(folders.train_images / f"COPY{k}.jpg", quality=70)
        mask = change(Image.open(folders.train_masks / f"SYNTH_{3 * k:07d}_Segmentation.png"))
        mask.point(lambda level: 255 * (level > 127)).save(folders.train_masks / f"COPY{k}_Segmentation.png")
        together.append({f"SYNTH_{3 * k:07d}", f"COPY{k}"})
    cases = pair_folders([Folders("train", folders.train_images, folders.train_masks)])
    patients = {name: f"p{k}" for k, names in enumerate(together[:12]) for name in names}
    named = [replace(case, labels={"patient_id": patients.get(case.case_id, "")}) for case in cases]
    write_manifest(named, home / "all.csv")
    return read_manifest(home / "all.csv"), together


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("way", [{"folds": 3}, {"fraction": 0.4}], ids=["folds", "hold-out"])
def test_no_patient_and_no_copy_straddles_a_split(
    leaky: tuple[Manifest, list[set[str]]], tmp_path: Path, way: dict[str, float], seed: int
) -> None:
    manifest, together = leaky

    def divided(*, near_duplicates: bool) -> int:
        options = SplitOptions(**way, links=("patient_id",), near_duplicates=near_duplicates, seed=seed)
        count = 0
        for path in split_manifest(manifest, tmp_path / "s.csv", options):
            split_of = {case.case_id: case.split for case in read_manifest(path).cases}
            assert set(split_of.values()) == {"train", "val"}
            assert len(split_of) == 32
            count += sum(len({split_of[name] for name in names}) > 1 for names in together)
        return count

    assert divided(near_duplicates=True) == 0
    # Without the search, copies do leak: the photos are not kept together by chance.
    assert divided(near_duplicates=False) > 0


@pytest.mark.long
def test_the_audit_finds_no_leak_after_the_split(leaky: tuple[Manifest, list[set[str]]], tmp_path: Path) -> None:
    manifest, _ = leaky
    leaks = []
    for near_duplicates in (False, True):
        options = SplitOptions(fraction=0.4, links=("patient_id",), near_duplicates=near_duplicates)
        (path,) = split_manifest(manifest, tmp_path / "s.csv", options)
        found = audit(examine_cases(read_manifest(path).cases)).findings
        leaks.append(sum(finding.kind == "split-leak" for finding in found))
    assert leaks[0] > 0
    assert leaks[1] == 0
