import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from lesionseg import api
from lesionseg.data.images import read_image
from lesionseg.data.manifest import write_manifest
from lesionseg.data.pairing import Folders, pair_folders
from lesionseg.errors import ComparisonError, ConfigError, DataError, ManifestError, RunError
from lesionseg.evaluation.comparable import check_comparable


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "one"
    result = api.train(tiny.config("loop.epochs=1"), folder)
    assert result.status == "finished"
    return folder


def test_pair_reads_labels_and_groups(tiny, tmp_path: Path) -> None:
    (tmp_path / "dx.csv").write_text("SYNTH_0000000,malignant\nSYNTH_0000001,0\n")
    (tmp_path / "patients.csv").write_text("case_id,patient\nSYNTH_0000000,p1\nSYNTH_0000001,p1\n")
    manifest = api.pair(
        tiny.folders.train_images,
        tiny.folders.train_masks,
        tmp_path / "m.csv",
        labels=[tmp_path / "dx.csv"],
        groups=tmp_path / "patients.csv",
    )
    first, second, third = manifest.cases[:3]
    assert [case.labels["diagnosis"] for case in (first, second, third)] == ["malignant", "benign", ""]
    assert [case.group for case in (first, second, third)] == ["p1", "p1", "SYNTH_0000002"]


def test_pair_tells_warnings_and_records_them(tiny, tmp_path: Path) -> None:
    (tmp_path / "dx.csv").write_text("SYNTH_0000000;malignant\nno\tsuch;benign\n")
    folders, told = (tiny.folders.train_images, tiny.folders.train_masks), []
    api.pair(*folders, tmp_path / "m.csv", labels=[tmp_path / "dx.csv"], warn=told.append)
    assert told[0] == r"1 labels have no photo: no\tsuch"
    assert told[1].startswith("9 photos have no label: SYNTH_0000001, ")
    assert (tmp_path / "m.warnings.txt").read_text().splitlines() == told
    api.pair(*folders, tmp_path / "m.csv")
    assert not (tmp_path / "m.warnings.txt").exists(), "none are left of an earlier pairing"


def test_half_a_test_split_is_refused(tiny, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="go together"):
        api.pair(tiny.folders.train_images, tiny.folders.train_masks, tmp_path / "m.csv", test_images=tmp_path)


@pytest.mark.long
def test_evaluation_is_used_again_until_the_weights_or_data_change(tiny, run: Path) -> None:
    first = api.evaluate(run)
    assert list(first.per_image["case_id"]) == [f"SYNTH_{i:07d}" for i in range(10, 14)]
    table = run / "evaluation/test/per_image.csv"
    before = table.stat().st_mtime_ns
    api.evaluate(run)
    assert table.stat().st_mtime_ns == before
    counted: list[tuple[int, int]] = []
    summary = run / "evaluation/test/summary.json"
    summary.write_text(summary.read_text().replace(first.summary["model_sha256"], "0" * 64))
    api.evaluate(run, progress=lambda *n: counted.append(n))
    assert counted[-1] == (4, 4)
    assert table.stat().st_mtime_ns > before


def test_scores_are_of_the_bytes_that_the_manifest_named(tiny, run: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(run, tmp_path / "run"))
    place = copied / "evaluation/test"
    first = api.evaluate(copied, root=tiny.folders.train_images.parent)
    moved = tmp_path / "moved"
    shutil.copytree(tiny.folders.train_images.parent, moved)
    written = (place / "summary.json").stat().st_mtime_ns
    api.evaluate(copied, root=moved)
    assert (place / "summary.json").stat().st_mtime_ns == written
    mask = moved / "test_masks" / "SYNTH_0000010_Segmentation.png"
    mask.write_bytes((moved / "test_masks" / "SYNTH_0000011_Segmentation.png").read_bytes())
    again = api.evaluate(copied, root=moved)
    assert again.summary["files_sha256"] != first.summary["files_sha256"]
    assert again.per_image["lesion_fraction"][0] == again.per_image["lesion_fraction"][1]
    with pytest.raises(ComparisonError, match="files_sha256"):
        check_comparable([first, replace(again, name="other")])


@pytest.mark.long
def test_compare_writes_a_report_of_one_run(run: Path, tmp_path: Path) -> None:
    results, files = api.compare([run], tmp_path / "report")
    assert [result.name for result in results] == ["one"]
    assert files.html.is_file()
    again, files = api.compare(str(run), str(tmp_path / "other"), formats="md")
    assert [result.name for result in again] == ["one"]
    assert files.documents == (tmp_path / "other/report.md",)


def test_unknown_split_names_the_known(run: Path) -> None:
    with pytest.raises(ManifestError, match=r"(?s)no 'validation' split.*test, train"):
        api.evaluate(run, split="validation")


def test_predict_and_load(tiny, run: Path, tmp_path: Path) -> None:
    predictor = api.load(run)
    assert (predictor.height, predictor.width) == (64, 64)
    result = api.predict(tiny.folders.test_images, run, tmp_path / "out")
    assert (result.done, result.failed) == (4, 0)


def test_missing_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="nowhere"):
        api.compare([tmp_path / "nowhere"], tmp_path / "report")


@pytest.fixture
def copied(tiny, tmp_path: Path) -> Path:
    """A training photo as PNG under another name, as a test case."""
    source = tiny.folders.train_images / "SYNTH_0000003.jpg"
    photos, masks = tmp_path / "photos", tmp_path / "masks"
    for split in ("test", "other"):
        (photos / split).mkdir(parents=True)
        (masks / split).mkdir(parents=True)
    for folder, target in ((tiny.folders.test_images, photos), (tiny.folders.test_masks, masks)):
        for path in folder.glob("S*"):
            (target / "test" / path.name).write_bytes(path.read_bytes())
    Image.fromarray(read_image(source)).save(photos / "test" / "new.png")
    mask = next(tiny.folders.train_masks.glob("SYNTH_0000003*"))
    (masks / "test" / "new.png").write_bytes(mask.read_bytes())
    cases = pair_folders([Folders("test", photos / "test", masks / "test")])
    write_manifest(cases, tmp_path / "m.csv")
    return tmp_path / "m.csv"


def test_photos_of_the_training_are_refused_in_an_evaluation(tiny, run: Path, copied: Path) -> None:
    with pytest.raises(DataError, match="test holds photos that the run was trained with, by their pixels") as caught:
        api.evaluate(run, manifest=copied)
    (problem,) = caught.value.problems
    assert problem.startswith("new (")
    assert "is SYNTH_0000003 (" in problem
    assert "take them out" in caught.value.fix


def test_a_manifest_without_them_is_scored_and_so_is_the_training_split_by_name(
    tiny, run: Path, copied: Path, tmp_path: Path
) -> None:
    rows = copied.read_text().splitlines()
    (tmp_path / "clean.csv").write_text("\n".join(row for row in rows if not row.startswith("new,")))
    told: list[str] = []
    result = api.evaluate(run, manifest=tmp_path / "clean.csv", root=tmp_path, warn=told.append)
    assert (len(result.per_image), told) == (4, [])
    assert len(api.evaluate(run, split="train").per_image) == 10


def test_training_photos_that_are_gone_are_told(tiny, run: Path, copied: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(run, moved)
    info = json.loads((moved / "run.json").read_text())
    info["config"]["data"]["manifest"] = str(tmp_path / "gone.csv")
    (moved / "run.json").write_text(json.dumps(info))
    told: list[str] = []
    assert len(api.evaluate(moved, manifest=copied, warn=told.append).per_image) == 5
    (line,) = told
    assert "not searched for training photos" in line
    assert "gone.csv" in line
