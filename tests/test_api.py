from pathlib import Path

import pytest

from lesionseg import api
from lesionseg.errors import ConfigError, ManifestError, RunError


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


def test_half_a_test_split_is_refused(tiny, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="go together"):
        api.pair(tiny.folders.train_images, tiny.folders.train_masks, tmp_path / "m.csv", test_images=tmp_path)


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


def test_compare_writes_a_report_of_one_run(run: Path, tmp_path: Path) -> None:
    results, files = api.compare([run], tmp_path / "report")
    assert [result.name for result in results] == ["one"]
    assert files.html.is_file()


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
