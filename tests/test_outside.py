"""Another tool's masks and maps: matched by id, scored as runs are, and set beside them in one report."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from pictures import nifti

from lesionseg import api
from lesionseg.data.images import encode_mask_png, encode_probability_png, read_mask
from lesionseg.data.manifest import read_manifest
from lesionseg.errors import ComparisonError, ConfigError, DataError, OutputError, PairingError


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "one"
    api.train(tiny.config("loop.epochs=1"), folder)
    return folder


@pytest.fixture
def tool(tiny, tmp_path: Path) -> Path:
    """Masks that are the true ones, moved by two pixels."""
    folder = tmp_path / "tool"
    folder.mkdir()
    for path in tiny.folders.test_masks.glob("*.png"):
        case_id = path.name.partition("_segmentation")[0].partition("_Segmentation")[0]
        moved = np.roll(read_mask(path), 2, axis=1)
        (folder / f"{Path(case_id).stem}_mask.png").write_bytes(encode_mask_png(moved))
    return folder


def test_masks_against_masks(tiny, tool: Path, tmp_path: Path) -> None:
    result = api.evaluate_predictions(tool, tmp_path / "runs" / "tool", masks=tiny.folders.test_masks)
    assert (result.name, result.trained, result.history.empty) == ("tool", False, True)
    assert result.per_image["dice"].between(0.5, 0.999).all()
    assert result.per_image["hausdorff95"].between(1, 4).all()
    assert result.per_image[["hair", "ita"]].isna().all(axis=None)
    assert (result.calibration, result.thresholds) == (None, None)
    assert "ece" not in result.summary["means"]
    results, files = api.compare([tmp_path / "runs" / "tool"], tmp_path / "report", formats=["html", "md"])
    assert results[0].name == "tool"
    text = files.html.read_text(encoding="utf-8")
    assert "Predictions of another tool" in text
    assert "Training</h2>" not in text
    assert {"samples_best.png", "calibration.png", "loss.png"} & {path.name for path in files.figures} == set()


@pytest.mark.long
def test_in_one_report_with_a_run(tiny, run: Path, tool: Path, tmp_path: Path) -> None:
    for how, more in (("manifest", {"manifest": tiny.manifest}), ("folders", {"masks": tiny.folders.test_masks})):
        api.evaluate_predictions(tool, tmp_path / how, **more)
        formats = ["md"] if how == "folders" else ["csv"]
        results, files = api.compare([run, tmp_path / how], tmp_path / f"report-{how}", formats=formats)
        assert [r.trained for r in results] == [True, False]
        assert ("samples_best.png" in {path.name for path in files.figures}) == (how == "folders")
        rows = (tmp_path / f"report-{how}" / "paired.csv").read_text().splitlines()
        assert rows[1].startswith(f"dice,{how},one,4,")
    # With the manifest the photos are known, and so are their traits.
    assert (
        api.compare([tmp_path / "manifest"], tmp_path / "alone", formats=["csv"])[0][0].per_image["ita"].notna().all()
    )


@pytest.mark.long
def test_other_masks_are_not_comparable(tiny, run: Path, tool: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    shutil.copytree(tiny.folders.test_masks, masks)
    first = min(masks.glob("*.png"))
    first.write_bytes(encode_mask_png(np.roll(read_mask(first), 1, axis=0)))
    api.evaluate_predictions(tool, tmp_path / "tool-run", masks=masks)
    with pytest.raises(ComparisonError, match="its masks_sha256 is"):
        api.compare([run, tmp_path / "tool-run"], tmp_path / "report")


def test_photos_bring_pictures_and_traits(tiny, tool: Path, tmp_path: Path) -> None:
    more = {"masks": tiny.folders.test_masks, "images": tiny.folders.test_images}
    result = api.evaluate_predictions(tool, tmp_path / "t", **more)
    assert result.per_image["ita"].notna().all()
    _, files = api.compare([tmp_path / "t"], tmp_path / "report", formats=["md"])
    assert "samples_worst.png" in {path.name for path in files.figures}


@pytest.mark.long
def test_probability_maps_and_the_outputs_of_predict(tiny, run: Path, tmp_path: Path) -> None:
    from lesionseg.inference.folder import PredictOptions

    options = PredictOptions(overlays=("contour",), save_probabilities=True)
    api.predict(tiny.folders.test_images, run, tmp_path / "out", options)
    own = api.evaluate(run)
    told: list[str] = []
    for kind, probabilities in (("masks", False), ("maps", True)):
        result = api.evaluate_predictions(
            tmp_path / "out", tmp_path / kind, manifest=tiny.manifest, probabilities=probabilities, warn=told.append
        )
        assert result.per_image["dice"].tolist() == own.per_image["dice"].tolist()
        assert (result.thresholds is None) == (kind == "masks")
    assert result.calibration.equals(own.calibration)
    assert told == []


def test_maps_taken_for_masks_are_told_which_option_reads_them(tiny, tool: Path, tmp_path: Path) -> None:
    for path in list(tool.iterdir()):
        soft = np.linspace(0, 1, 72 * 96, dtype=np.float32).reshape(72, 96)
        path.write_bytes(encode_probability_png(soft))
    with pytest.raises(DataError) as refused:
        api.evaluate_predictions(tool, tmp_path / "t", masks=tiny.folders.test_masks)
    assert all("--probabilities" in problem for problem in refused.value.problems)
    for path in list(tool.iterdir()):
        path.rename(path.with_name(path.name.replace("_mask.png", "_segmentation.png")))
    # The option works on the very files that the message was about.
    result = api.evaluate_predictions(tool, tmp_path / "maps", masks=tiny.folders.test_masks, probabilities=True)
    assert result.thresholds is not None
    for path in list(tool.iterdir()):
        path.rename(path.with_name(path.name.replace("_segmentation.png", "_probability.png")))
    with pytest.raises(PairingError) as caught:
        api.evaluate_predictions(tool, tmp_path / "t", masks=tiny.folders.test_masks)
    assert "--probabilities" in caught.value.fix


def test_masks_and_predictions_named_as_in_ph2(tiny, tool: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    for path in tiny.folders.test_masks.glob("*.png"):
        name = path.name.partition("_segmentation")[0].partition("_Segmentation")[0]
        (masks / f"{name}_lesion.png").write_bytes(path.read_bytes())
    plain = api.evaluate_predictions(tool, tmp_path / "a", masks=masks).per_image
    for path in list(tool.iterdir()):
        path.rename(path.with_name(path.name.replace("_mask.png", "_lesion.png")))
    assert api.evaluate_predictions(tool, tmp_path / "b", masks=masks).per_image.equals(plain)
    assert api.evaluate_predictions(tool, tmp_path / "c", masks=tiny.folders.test_masks).per_image.equals(plain)


def test_a_report_is_made_in_any_folder(tiny, tool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folders = {"masks": tiny.folders.test_masks, "images": tiny.folders.test_images}
    relative = {name: os.path.relpath(path, tmp_path) for name, path in folders.items()}
    api.evaluate_predictions("tool", "runs/t", **relative)
    info = json.loads((tmp_path / "runs" / "t" / "run.json").read_text())
    assert all(Path(info[name]).is_absolute() for name in ("predictions", "masks", "images"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    _, files = api.compare(["../runs/t"], "report", formats=["md"])
    assert "samples_worst.png" in {path.name for path in files.figures}


def test_masks_whose_axes_are_not_said_are_told(tiny, tool: Path, tmp_path: Path) -> None:
    for path in list(tool.iterdir()):
        mask = read_mask(path)
        path.with_name(path.name.replace(".png", ".nii")).write_bytes(nifti(mask.T.astype(np.uint8), np.eye(4)))
        path.unlink()
    told: list[str] = []
    api.evaluate_predictions(tool, tmp_path / "t", masks=tiny.folders.test_masks, warn=told.append)
    assert len(told) == 1
    assert told[0].startswith("4 masks: the NIfTI header does not say how its axes run")


def test_every_missing_prediction_is_listed(tiny, tool: Path, tmp_path: Path) -> None:
    gone = sorted(tool.glob("*.png"))[1:3]
    for path in gone:
        path.unlink()
    with pytest.raises(PairingError, match="lacks a prediction for 2 of 4 cases") as caught:
        api.evaluate_predictions(tool, tmp_path / "t", masks=tiny.folders.test_masks)
    assert [problem in path.name for problem, path in zip(caught.value.problems, gone, strict=True)] == [True, True]
    assert not (tmp_path / "t").exists()


def test_extra_doubled_and_misfit_predictions(tiny, tool: Path, tmp_path: Path) -> None:
    (tool / "other.png").write_bytes(encode_mask_png(np.ones((4, 4), bool)))
    told: list[str] = []
    api.evaluate_predictions(tool, tmp_path / "t", masks=tiny.folders.test_masks, warn=told.append)
    assert told == ["1 predictions belong to no case: other"]
    first = min(tool.glob("*.png"))
    first.write_bytes(encode_mask_png(np.ones((4, 4), bool)))
    with pytest.raises(DataError) as refused:
        api.evaluate_predictions(tool, tmp_path / "t", masks=tiny.folders.test_masks)
    assert "the prediction is 4 x 4, the true mask 96 x 72" in refused.value.problems[0]
    (tool / first.name.replace("_mask", "")).write_bytes(first.read_bytes())
    with pytest.raises(PairingError, match="several files of one id"):
        api.evaluate_predictions(tool, tmp_path / "t", masks=tiny.folders.test_masks)


def test_what_cannot_be(tiny, run: Path, tool: Path, tmp_path: Path) -> None:
    for more in ({}, {"masks": tiny.folders.test_masks, "manifest": tiny.manifest}):
        with pytest.raises(ConfigError, match="against true masks"):
            api.evaluate_predictions(tool, tmp_path / "t", **more)
    with pytest.raises(OutputError, match="is the run of a training"):
        api.evaluate_predictions(tool, run, masks=tiny.folders.test_masks)


@pytest.mark.long
def test_at_model_size(tiny, run: Path, tmp_path: Path) -> None:
    own, small = api.evaluate(run), api.evaluate(run, at_model_size=True)
    assert api.evaluate(run).per_image["dice"].equals(own.per_image["dice"])
    assert (small.summary["size"], small.summary["split"]) == ([64, 64], "test-at-model-size")
    counted = small.per_image[["tp", "fp", "fn", "tn"]].sum(axis=1)
    assert set(counted) == {64 * 64}
    assert (own.per_image[["tp", "fp", "fn", "tn"]].sum(axis=1) == 96 * 72).all()
    results, files = api.compare([run], tmp_path / "report", at_model_size=True, formats=["md"])
    assert results[0].summary["size"] == [64, 64]
    assert "samples_best.png" in {path.name for path in files.figures}
    cases = read_manifest(tiny.manifest).split("test")
    assert len(small.per_image) == len(cases)


def test_an_evaluation_of_an_earlier_version_is_read_and_made_anew(run: Path) -> None:
    place = run / "evaluation" / "test"
    api.evaluate(run)
    table, summary = place / "per_image.csv", json.loads((place / "summary.json").read_text())
    lines = [line.split(",") for line in table.read_text().splitlines()]
    keep = [i for i, name in enumerate(lines[0]) if name not in ("hausdorff95", "ece", "hair", "boundary_iou")]
    table.write_text("".join(",".join(line[i] for i in keep) + "\n" for line in lines))
    del summary["masks_sha256"], summary["files_sha256"]
    (place / "summary.json").write_text(json.dumps(summary))
    from lesionseg.evaluation.runs import load_run

    old = load_run(run, "test")
    assert old.per_image["hausdorff95"].isna().all()
    assert api.evaluate(run).per_image["hausdorff95"].notna().all()


def test_low_probabilities_are_below_the_threshold(tiny, tool: Path, tmp_path: Path) -> None:
    for path in tool.glob("*.png"):
        path.write_bytes(encode_probability_png(np.full((72, 96), 0.3, np.float32)))
    result = api.evaluate_predictions(tool, tmp_path / "t", masks=tiny.folders.test_masks, probabilities=True)
    assert (result.per_image["dice"] == 0).all()
    assert result.per_image["soft_dice"].gt(0).all()
