"""Expected Dice and the reasons to look at a mask."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from lesionseg.inference.quality import (
    OPINION_COLUMNS,
    Opinion,
    Quality,
    certainty,
    fit_quality,
    frame_contact,
    look,
    piece_sizes,
)

MAPS = arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.floats(0, 1, width=32))


def disc(radius: float, soft: float = 0.5, at: tuple[int, int] = (32, 32), size: int = 64) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    inside = radius - np.hypot(y - at[0], x - at[1])
    return (1 / (1 + np.exp(-np.clip(inside / soft, -60, 60)))).astype(np.float32)


def test_certainty_by_hand() -> None:
    # Mask: the first two. 2 (1 + 0.8) / (1 + 0.8 + 0.2 + 2)
    assert certainty(np.array([[1.0, 0.8, 0.2]], np.float32)) == pytest.approx(3.6 / 4)
    assert certainty(np.array([[0.8, 0.2]], np.float32), threshold=0.9) == 0
    assert certainty(np.ones((2, 2), np.float32)) == 1


@given(MAPS)
def test_certainty_is_a_dice(probability: np.ndarray) -> None:
    value = certainty(probability)
    assert 0 <= value <= 1
    sure = (probability >= 0.5).astype(np.float32)
    assert certainty(sure) == pytest.approx(1.0 if sure.any() else 0.0)


def test_the_softer_the_outline_the_less_certain() -> None:
    values = [certainty(disc(15, soft)) for soft in (0.1, 1, 2, 4)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.98


def test_frame_contact_counts_each_border_pixel_once() -> None:
    mask = np.zeros((4, 5), bool)
    mask[0, :] = True
    assert frame_contact(mask) == pytest.approx(5 / 14)
    assert frame_contact(np.ones((4, 5), bool)) == 1


@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_pieces_are_those_of_eight_neighbours(mask: np.ndarray) -> None:
    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    assert sorted(piece_sizes(mask)) == sorted(np.bincount(labels.ravel())[1:].tolist())


def test_pieces_that_grow_together_further_down_are_one() -> None:
    rows = ["#.#.#", "#.###", "#....", "####.", ".....", "...#."]
    assert sorted(piece_sizes(np.array([[cell == "#" for cell in row] for row in rows]))) == [1, 5, 7]


def test_fitting_finds_the_relation_and_never_falls() -> None:
    rng = np.random.default_rng(0)
    sure = rng.uniform(0.6, 1, 400)
    dice = np.clip(1.6 * sure - 0.65 + rng.normal(0, 0.05, 400), 0, 1)
    quality = fit_quality(sure, dice)
    for value in (0.7, 0.8, 0.9):
        assert quality.expected_dice(value) == pytest.approx(1.6 * value - 0.65, abs=0.03)
    line = [quality.expected_dice(v) for v in np.linspace(0, 1, 101)]
    assert line == sorted(line)
    assert quality.photos == 400


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=20, max_size=60))
def test_any_photos_can_be_fitted_and_come_back_from_json(pairs: list[tuple[float, float]]) -> None:
    quality = fit_quality([a for a, _ in pairs], [b for _, b in pairs])
    assert Quality.from_json(json.loads(json.dumps(quality.to_json()))) == quality
    assert 0 <= quality.expected_dice(0.5) <= 1


def test_less_certain_than_any_photo_is_expected_to_be_no_better_than_certain() -> None:
    quality = fit_quality([0.8] * 10 + [0.9] * 10, [0.6] * 10 + [0.95] * 10)
    assert [quality.expected_dice(v) for v in (0.0, 0.3, 0.6, 0.7, 0.8, 1.0)] == pytest.approx(
        [0, 0.3, 0.6, 0.6, 0.6, 0.95]
    )
    modest = fit_quality([0.5] * 10 + [0.9] * 10, [0.8] * 10 + [0.95] * 10)
    assert [modest.expected_dice(v) for v in (0.0, 0.25, 0.5)] == pytest.approx([0, 0.4, 0.8])


def test_no_lesion_where_the_model_was_calibrated() -> None:
    quality = fit_quality([0.8] * 10 + [0.9] * 10, [0.6] * 10 + [0.95] * 10)
    opinion = look(np.zeros((8, 8), np.float32), quality)
    assert (opinion.expected_dice, opinion.review, opinion.reasons) == (0.0, True, ("no lesion found",))


def test_too_few_photos_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 20"):
        fit_quality([0.5] * 19, [0.5] * 19)
    with pytest.raises(ValueError, match="must rise"):
        Quality((0.0, 1.0), (1.0, 0.0))


QUALITY = Quality((0.0, 0.8, 1.0), (0.0, 0.7, 0.95))


def test_a_good_mask_needs_no_look() -> None:
    opinion = look(disc(15, 0.3), QUALITY)
    assert opinion.expected_dice == pytest.approx(0.95, abs=0.05)
    assert not opinion.review
    assert opinion.reasons == ()


def test_reasons() -> None:
    assert look(np.zeros((8, 8), np.float32), QUALITY).reasons == ("no lesion found",)
    assert look(disc(12, 6), QUALITY).reasons == ("the outline is uncertain",)
    two = np.maximum(disc(8, 0.2, (16, 16)), disc(8, 0.2, (46, 46)))
    assert look(two, QUALITY).reasons == ("2 pieces",)
    cut = look(disc(50, 0.2), QUALITY)
    assert cut.review
    assert cut.reasons[0].startswith("cut by the frame along ")


def test_what_the_photo_itself_says_comes_first() -> None:
    good = look(disc(15, 0.3), QUALITY, known=("no dermoscopy",))
    assert (good.review, good.reasons) == (True, ("no dermoscopy",))
    assert look(np.zeros((8, 8), np.float32), None, known=("black",)).reasons == ("black", "no lesion found")


def test_cells() -> None:
    assert Opinion(0.87654321, False, ()).cells() == dict(zip(OPINION_COLUMNS, ("0.8765", "no", ""), strict=True))
    assert list(Opinion(None, True, ("a", "b")).cells().values()) == ["", "yes", "a; b"]


def test_without_a_calibration_only_the_shape_is_judged() -> None:
    assert look(disc(12, 6), None).expected_dice is None
    assert look(disc(12, 6), None).reasons == ()
    assert look(np.zeros((8, 8), np.float32), None).review
