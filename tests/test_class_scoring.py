import csv
import json

import numpy as np
import pytest
from PIL import Image

from lesionseg.data.labels import Labels
from lesionseg.errors import DataError
from lesionseg.inference.class_scoring import score_classes
from lesionseg.records import Case


class GreyLevels:
    """A predictor without a network: grey levels below 85 are class 0, below 170 class 1, the rest class 2."""

    name, checkpoint, sha256, height, width = "grey", "epoch-0001", "b" * 64, 32, 32
    labels = Labels(("skin", "border", "lesion"), {"skin": 0, "border": 1, "lesion": 2})

    def infer_classes(self, batch):
        assert batch.shape == (1, 32, 32, 3)
        return np.eye(3, dtype=np.float32)[batch[..., 0] // 85 % 3].transpose(0, 3, 1, 2)


def make(folder, name, found, truth):
    Image.fromarray(np.repeat((found * np.uint8(100))[..., None], 3, 2)).save(folder / f"{name}.png")
    Image.fromarray(truth).save(folder / f"{name}_mask.png")
    return Case(name, folder / f"{name}.png", folder / f"{name}_mask.png", split="test")


def halves(left, right):
    mask = np.full((32, 32), left, np.uint8)
    mask[:, 16:] = right
    return mask


def test_tables_and_totals(tmp_path):
    cases = [make(tmp_path, "a", halves(0, 2), halves(0, 2)), make(tmp_path, "b", halves(0, 1), halves(0, 0))]
    seen = []
    summary = score_classes(GreyLevels(), cases, tmp_path / "out", progress=lambda *counts: seen.append(counts))
    assert seen == [(1, 2), (2, 2)]
    assert summary == json.loads((tmp_path / "out" / "classes.json").read_text())
    assert summary["pixel_accuracy"] == 0.75
    assert summary["iou"] == {"skin": pytest.approx(2 / 3), "border": 0.0, "lesion": 1.0}
    assert summary["mean_iou"] == pytest.approx(5 / 9)
    with (tmp_path / "out" / "per_image_classes.csv").open(newline="") as file:
        a, b = csv.DictReader(file)
    assert (a["case_id"], float(a["accuracy"]), float(a["mean_iou"]), a["iou_border"]) == ("a", 1.0, 1.0, "")
    assert (float(b["accuracy"]), float(b["iou_skin"]), b["iou_lesion"]) == (0.5, 0.5, "")


def test_values_that_no_class_has_are_listed(tmp_path):
    cases = [make(tmp_path, name, halves(0, 2), halves(0, 7)) for name in "ab"]
    with pytest.raises(DataError) as caught:
        score_classes(GreyLevels(), cases, tmp_path / "out")
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["a", "b"]
    assert not (tmp_path / "out").exists()
