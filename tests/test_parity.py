"""The same masks scored by the ISIC challenge's own package, by scikit-learn and by MONAI."""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from isic_challenge_scoring import metrics as isic
from isic_challenge_scoring.confusion import create_binary_confusion_matrix
from isic_challenge_scoring.segmentation import SegmentationScore
from scipy import ndimage
from sklearn.metrics import accuracy_score, f1_score, jaccard_score, recall_score

from lesionseg.data.images import encode_mask_png, read_mask
from lesionseg.evaluation.metrics import METRICS, confusion

CHALLENGE = {
    "dice": isic.binary_dice,
    "iou": isic.binary_jaccard,
    "accuracy": isic.binary_accuracy,
    "sensitivity": isic.binary_sensitivity,
    "specificity": isic.binary_specificity,
    "thresholded_iou": isic.binary_threshold_jaccard,
}
NAMES = {"iou": "jaccard", "thresholded_iou": "threshold_jaccard"}


def draw(picture: str) -> np.ndarray:
    return np.array([[character == "#" for character in line] for line in picture.split()])


HAND_MADE = {
    "both empty": ("....\n....", "....\n...."),
    "truth empty": ("#...\n....", "....\n...."),
    "prediction empty": ("....\n....", ".##.\n...."),
    "both full": ("####\n####", "####\n####"),
    "truth full": ("##..\n##..", "####\n####"),
    "prediction full": ("####\n####", ".##.\n...."),
    "apart": ("##..\n....", "...#\n...#"),
    "overlap": (".###\n.#..", "..##\n.##."),
    "at the threshold": ("#" * 20, "#" * 13 + "." * 7),
    "below the threshold": ("#" * 20, "#" * 12 + "." * 8),
}


def ours(prediction: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    score = confusion("x", prediction, truth)
    return {name: metric(score) for name, metric in METRICS.items()}


def challenge(prediction: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    counts = create_binary_confusion_matrix(truth, prediction)
    return {name: float(metric(counts)) for name, metric in CHALLENGE.items()}


def sklearn(prediction: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    t, p = truth.ravel(), prediction.ravel()
    return {
        "dice": f1_score(t, p, zero_division=1),
        "iou": jaccard_score(t, p, zero_division=1),
        "accuracy": accuracy_score(t, p),
        "sensitivity": recall_score(t, p, zero_division=1),
        "specificity": recall_score(t, p, pos_label=False, zero_division=1),
    }


def monai(prediction: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    import torch
    from monai.metrics import DiceMetric, MeanIoU

    p, t = (torch.from_numpy(mask)[None, None].float() for mask in (prediction, truth))
    found = {"dice": DiceMetric(ignore_empty=False), "iou": MeanIoU(ignore_empty=False)}
    return {name: float(metric(p, t)) for name, metric in found.items()}


@pytest.mark.parametrize("case", HAND_MADE)
def test_hand_made_masks(case: str) -> None:
    prediction, truth = map(draw, HAND_MADE[case])
    found = ours(prediction, truth)
    assert found.keys() == CHALLENGE.keys()
    assert found == pytest.approx(challenge(prediction, truth), abs=1e-12)
    known = sklearn(prediction, truth)
    assert {name: found[name] for name in known} == pytest.approx(known, abs=1e-12)
    # MONAI computes in float32.
    assert {name: found[name] for name in ("dice", "iou")} == pytest.approx(monai(prediction, truth), abs=1e-6)


@given(arrays(np.bool_, (3, 4)), arrays(np.bool_, (3, 4)))
@settings(max_examples=60, deadline=None)
def test_any_masks(prediction: np.ndarray, truth: np.ndarray) -> None:
    found = ours(prediction, truth)
    assert found == pytest.approx(challenge(prediction, truth), abs=1e-12)
    with warnings.catch_warnings():
        # Scikit-learn remarks on masks of one class, whose scores zero_division settles.
        warnings.simplefilter("ignore")
        known = sklearn(prediction, truth)
    assert {name: found[name] for name in known} == pytest.approx(known, abs=1e-12)


# The package still writes for an older pandas.
@pytest.mark.filterwarnings("ignore:The inplace keyword")
def test_the_challenge_package_reads_the_same_from_files(tmp_path: Path) -> None:
    rng, folders = np.random.default_rng(3), (tmp_path / "truth", tmp_path / "predicted")
    for folder in folders:
        folder.mkdir()
        for index in range(4):
            mask = ndimage.gaussian_filter(rng.standard_normal((40, 60)), 6) > 0.02
            (folder / f"ISIC_000000{index}_segmentation.png").write_bytes(encode_mask_png(mask))
    reference = SegmentationScore.from_dir(*folders).macro_average
    rows = [ours(read_mask(folders[1] / path.name), read_mask(path)) for path in sorted(folders[0].iterdir())]
    means = {NAMES.get(name, name): float(np.mean([row[name] for row in rows])) for name in METRICS}
    assert means == pytest.approx(reference.to_dict(), abs=1e-12)


@pytest.mark.real
def test_real_masks() -> None:
    folder = Path(os.environ["LESIONSEG_DATA"]) / "isic2016/ISBI2016_ISIC_Part1_Test_GroundTruth"
    paths = sorted(folder.glob("*.png"))[::8]
    assert len(paths) > 40
    for index, path in enumerate(paths):
        truth = read_mask(path)
        # A prediction as networks make them: shifted, and too large or too small.
        grow = ndimage.binary_dilation if index % 2 else ndimage.binary_erosion
        prediction = grow(np.roll(truth, (index % 7, -index % 11), (0, 1)), iterations=1 + index % 9)
        found = ours(prediction, truth)
        assert found == pytest.approx(challenge(prediction, truth), abs=1e-12), path.name
        known = sklearn(prediction, truth)
        assert {name: found[name] for name in known} == pytest.approx(known, abs=1e-12)
        assert {name: found[name] for name in ("dice", "iou")} == pytest.approx(monai(prediction, truth), abs=1e-6)
