"""Metrics on masks small enough to count by hand, and the identities that hold between them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lesionseg.evaluation.metrics import (
    METRICS,
    accuracy,
    confusion,
    dice,
    jaccard,
    score_row,
    sensitivity,
    soft_dice,
    soft_iou,
    specificity,
    thresholded_jaccard,
)
from lesionseg.records import CaseScore


def draw(picture: str) -> np.ndarray:
    return np.array([[character == "#" for character in line] for line in picture.split()])


EMPTY = draw(".... .... .... ....")
FULL = draw("#### #### #### ####")
TRUTH = draw(".... .##. .##. ....")
ONE_SHORT = draw(".... .##. .#.. ....")
SHIFTED = draw(".... ..## ..## ....")
AWAY = draw("##.. #... .... ....")
TALL = draw(".##. .##. .##. .##.")

COUNTED = [
    # prediction, dice, jaccard, accuracy, sensitivity, specificity, thresholded jaccard; the truth is TRUTH
    pytest.param(TRUTH, 1, 1, 1, 1, 1, 1, id="perfect"),
    pytest.param(ONE_SHORT, 6 / 7, 3 / 4, 15 / 16, 3 / 4, 1, 3 / 4, id="one short"),
    pytest.param(SHIFTED, 4 / 8, 2 / 6, 12 / 16, 2 / 4, 10 / 12, 0, id="shifted"),
    pytest.param(AWAY, 0, 0, 9 / 16, 0, 9 / 12, 0, id="away"),
    pytest.param(TALL, 8 / 12, 4 / 8, 12 / 16, 1, 8 / 12, 0, id="tall"),
    pytest.param(EMPTY, 0, 0, 12 / 16, 0, 1, 0, id="nothing found"),
    pytest.param(FULL, 8 / 20, 4 / 16, 4 / 16, 1, 0, 0, id="everything found"),
]


@pytest.mark.parametrize(("prediction", "d", "j", "a", "se", "sp", "tj"), COUNTED)
def test_counted_by_hand(prediction, d, j, a, se, sp, tj):
    score = confusion("case", prediction, TRUTH)
    found = [f(score) for f in (dice, jaccard, accuracy, sensitivity, specificity, thresholded_jaccard)]
    assert found == pytest.approx([d, j, a, se, sp, tj], abs=1e-15)


def test_counts():
    assert confusion("x", SHIFTED, TRUTH) == CaseScore("x", tp=2, fp=2, fn=2, tn=10)
    assert confusion("x", TALL, TRUTH) == CaseScore("x", tp=4, fp=4, fn=0, tn=8)
    assert confusion("x", TRUTH, TALL) == CaseScore("x", tp=4, fp=0, fn=4, tn=8)


def test_empty_masks_follow_the_isic_policy():
    both, only_prediction = confusion("a", EMPTY, EMPTY), confusion("b", AWAY, EMPTY)
    assert {name: metric(both) for name, metric in METRICS.items()} == dict.fromkeys(METRICS, 1.0)
    assert dice(only_prediction) == jaccard(only_prediction) == thresholded_jaccard(only_prediction) == 0
    assert sensitivity(only_prediction) == 1
    assert specificity(only_prediction) == 13 / 16
    assert specificity(confusion("c", TRUTH, FULL)) == 1


def test_jaccard_threshold_is_inclusive():
    score = CaseScore("x", tp=13, fp=7, fn=0, tn=80)
    assert thresholded_jaccard(score) == 0.65
    assert thresholded_jaccard(CaseScore("x", tp=12, fp=8, fn=0, tn=80)) == 0
    assert thresholded_jaccard(CaseScore("x", tp=12, fp=8, fn=0, tn=80), threshold=0.5) == 0.6


@pytest.mark.parametrize(
    ("prediction", "truth"),
    [
        (TRUTH, TRUTH[:3]),
        (TRUTH.astype(np.uint8) * 255, TRUTH),
        (TRUTH, TRUTH.astype(np.uint8)),
        (np.zeros((0, 4), bool), np.zeros((0, 4), bool)),
        (TRUTH[None], TRUTH[None]),
    ],
    ids=["shape", "uint8 prediction", "uint8 truth", "no pixels", "three dimensions"],
)
def test_unfit_masks_are_refused(prediction, truth):
    with pytest.raises(ValueError, match="ISIC_7"):
        confusion("ISIC_7", prediction, truth)


def test_soft_overlap_by_hand():
    half = np.full((4, 4), 0.5, np.float32)
    # sum(p t) = 2, sum(p) = 8, sum(t) = 4
    assert soft_dice(half, TRUTH) == 4 / 12
    assert soft_iou(half, TRUTH) == 2 / 10
    sure = SHIFTED.astype(np.float32)
    assert (soft_dice(sure, TRUTH), soft_iou(sure, TRUTH)) == (4 / 8, 2 / 6)


def test_soft_overlap_of_empty_masks():
    nothing, little = np.zeros((4, 4), np.float32), np.full((4, 4), 0.01, np.float32)
    assert soft_dice(nothing, EMPTY) == soft_iou(nothing, EMPTY) == 1
    assert soft_dice(little, EMPTY) == soft_iou(little, EMPTY) == 0
    with pytest.raises(ValueError, match="differ in shape"):
        soft_dice(nothing, TRUTH[:2])


def test_soft_sums_do_not_lose_digits():
    truth = np.zeros((3000, 3000), bool)
    truth[:1500] = True
    probability = np.full(truth.shape, 0.1, np.float32)
    p = float(np.float32(0.1))
    assert soft_dice(probability, truth) == pytest.approx(2 * p * 0.5 / (p + 0.5), rel=1e-12)


def test_score_row():
    row = score_row(confusion("0012", ONE_SHORT, TRUTH))
    assert list(row) == ["case_id", *METRICS, "tp", "fp", "fn", "tn"]
    assert (row["case_id"], row["iou"], row["tp"], row["tn"]) == ("0012", 0.75, 3, 12)


MASKS = arrays(np.bool_, (4, 5))


@given(MASKS, MASKS)
def test_identities(prediction, truth):
    score, swapped = confusion("x", prediction, truth), confusion("x", truth, prediction)
    values = {name: metric(score) for name, metric in METRICS.items()}
    assert all(0 <= value <= 1 for value in values.values())
    assert values["iou"] == pytest.approx(values["dice"] / (2 - values["dice"]))
    assert (dice(score), jaccard(score), accuracy(score)) == (dice(swapped), jaccard(swapped), accuracy(swapped))
    assert (values["dice"] == 1) == bool((prediction == truth).all())
    assert values["thresholded_iou"] in (0, values["iou"])
    assert score.tp + score.fp + score.fn + score.tn == 20
    # Swapping lesion and skin swaps sensitivity and specificity.
    assert sensitivity(confusion("x", ~prediction, ~truth)) == values["specificity"]


@given(MASKS, MASKS)
def test_soft_overlap_of_certain_masks_is_the_hard_one(prediction, truth):
    score, certain = confusion("x", prediction, truth), prediction.astype(np.float32)
    assert soft_dice(certain, truth) == pytest.approx(dice(score))
    assert soft_iou(certain, truth) == pytest.approx(jaccard(score))


@given(arrays(np.float32, (4, 5), elements=st.floats(0, 1, width=32)), MASKS)
def test_soft_overlap_range(probability, truth):
    d, j = soft_dice(probability, truth), soft_iou(probability, truth)
    assert 0 <= j <= d <= 1
    assert j == pytest.approx(d / (2 - d))


def test_agrees_with_monai():
    torch = pytest.importorskip("torch")
    metrics = pytest.importorskip("monai.metrics")
    rng = np.random.default_rng(3)
    levels = rng.random(40)
    predictions, truths = (rng.random((40, 12, 9)) < levels[:, None, None] for _ in range(2))
    predictions[0], truths[0] = False, False
    predictions[1], truths[1] = True, False
    as_tensor = [torch.from_numpy(masks[:, None].astype(np.float32)) for masks in (predictions, truths)]
    theirs = metrics.DiceMetric(include_background=True, ignore_empty=False)(*as_tensor).flatten().numpy()
    ours = [dice(confusion("x", p, t)) for p, t in zip(predictions, truths, strict=True)]
    # MONAI scores a prediction on an empty truth 0, and two empty masks 1, as ISIC does.
    assert ours == pytest.approx(theirs.tolist(), abs=1e-6)
