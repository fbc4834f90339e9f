from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lesionseg.data.manifest import Manifest, read_manifest, write_manifest
from lesionseg.data.resplit import SplitOptions, split_manifest
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
    from lesionseg.data.synthetic import write_dataset

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


@pytest.mark.parametrize("options", [{}, {"folds": 2, "fraction": 0.5}])
def test_exactly_one_way_is_needed(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="is asked for"):
        SplitOptions(**options)
