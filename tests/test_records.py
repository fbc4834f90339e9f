"""Records are frozen, and refuse to be half-filled."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lesionseg.records import THRESHOLD, Case, CaseScore, Checkpoint, Pair, Prediction

RGB = np.zeros((4, 6, 3), np.uint8)
MASK = np.zeros((4, 6), np.bool_)
CHECKPOINT: dict[str, Any] = {
    "config": {},
    "model_spec": {},
    "model_state": {},
    "optim_state": {},
    "optim_groups": (),
    "epoch": 1,
    "step": 0,
    "best": {},
    "history": ({"epoch": 1},),
    "partial": {},
}


@pytest.mark.parametrize(
    "record",
    [
        Case("a", Path("a.jpg")),
        Pair("a", RGB, MASK),
        Prediction("a", np.zeros((2, 2), np.float32)),
        CaseScore("a", 1, 0, 0, 0),
        Checkpoint(**CHECKPOINT),
    ],
    ids=lambda record: type(record).__name__,
)
def test_frozen_with_slots(record: Any) -> None:
    name = dataclasses.fields(record)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, name, "other")
    assert not hasattr(record, "__dict__")


def test_a_case_without_a_group_is_its_own() -> None:
    assert Case("a", Path("a.jpg")).group == "a"
    assert Case("a", Path("a.jpg"), group="patient-7").group == "patient-7"


@pytest.mark.parametrize("wrong", [{"case_id": ""}, {"width": -1}, {"height": -1}])
def test_case_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"id|negative"):
        Case(**({"case_id": "a", "image": Path("a.jpg")} | wrong))


def test_equal_cases_are_equal() -> None:
    assert Case("a", Path("a.jpg")) == Case("a", Path("a.jpg"), group="a")
    assert Case("a", Path("a.jpg")) != Case("a", Path("b.jpg"))


@pytest.mark.parametrize("mask", [MASK, np.full((4, 6), 2, np.uint8)])
def test_pair_takes_a_binary_or_a_class_mask(mask: Any) -> None:
    assert Pair("a", RGB, mask).mask is mask


@pytest.mark.parametrize(
    ("image", "mask", "reason"),
    [
        (RGB.astype(np.float32), MASK, "uint8 H W 3"),
        (RGB[..., 0], MASK, "uint8 H W 3"),
        (np.zeros((4, 6, 4), np.uint8), MASK, "uint8 H W 3"),
        (RGB.transpose(2, 0, 1), MASK, "uint8 H W 3"),
        (RGB, MASK.astype(np.int64), "bool or uint8"),
        (RGB, MASK.astype(np.float32), "bool or uint8"),
        (RGB, MASK.T, "differ in size"),
        (RGB, MASK[None], "differ in size"),
    ],
)
def test_pair_refuses(image: Any, mask: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=f"case-7.*{reason}"):
        Pair("case-7", image, mask)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((2, 2), np.float64),
        np.zeros((1, 2, 2), np.float32),
        np.zeros((0, 2), np.float32),
        np.full((2, 2), 1.0001, np.float32),
        np.full((2, 2), -0.0001, np.float32),
        np.array([[0.5, np.nan]], np.float32),
        np.array([[0.5, np.inf]], np.float32),
    ],
)
def test_prediction_refuses(wrong: Any) -> None:
    with pytest.raises(ValueError, match="case-7"):
        Prediction("case-7", wrong)


def test_a_pixel_on_the_threshold_is_lesion() -> None:
    below = np.nextafter(np.float32(THRESHOLD), np.float32(0))
    prediction = Prediction("a", np.array([[0, below, THRESHOLD, 1]], np.float32))
    assert prediction.mask().tolist() == [[False, False, True, True]]
    assert prediction.mask(0).all()
    assert prediction.mask(1).tolist() == [[False, False, False, True]]
    assert prediction.mask().dtype == np.bool_


@given(st.tuples(*[st.integers(-2, 3)] * 4))
def test_counts_are_not_negative_and_not_all_zero(counts: tuple[int, int, int, int]) -> None:
    if min(counts) >= 0 and sum(counts) > 0:
        assert dataclasses.astuple(CaseScore("a", *counts)) == ("a", *counts)
    else:
        with pytest.raises(ValueError, match=r"a: (negative count|no pixels)"):
            CaseScore("a", *counts)


@pytest.mark.parametrize("wrong", [{"epoch": -1, "history": ()}, {"step": -1}, {"epoch": 2}, {"history": ()}])
def test_checkpoint_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"from 0|one row per"):
        Checkpoint(**(CHECKPOINT | wrong))
