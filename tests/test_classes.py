"""Masks of several classes, by value and by colour, and trimaps."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pictures import TRUTH, encoded, nifti, palette
from PIL import Image

from lesionseg.data.classes import interpret_classes, trimap
from lesionseg.data.images import read_class_mask
from lesionseg.data.masks import MaskSamples
from lesionseg.errors import ConfigError, ImageError

LEVELS = np.array([[1, 2], [3, 2]], np.uint8)
PETS = {"animal": 1, "background": 2, "border": 3}
VOC = {"background": "#000000", "plane": "#800000", "void": "#e0e0c0"}
COLOURS = np.array([[[0, 0, 0], [128, 0, 0]], [[224, 224, 192], [128, 0, 0]]], np.uint8)


def read(samples: Any, classes: Any, **more: Any) -> list[list[int]]:
    result = interpret_classes(MaskSamples(np.asarray(samples), **more), classes, "m.png")
    assert result.dtype == np.uint8
    return result.tolist()


def test_levels_and_colours_become_indices_in_the_order_of_the_classes() -> None:
    assert read(LEVELS, PETS) == [[0, 1], [2, 1]]
    assert read(LEVELS.astype(np.float64), PETS) == [[0, 1], [2, 1]]
    assert read(COLOURS, VOC) == [[0, 1], [2, 1]]


def test_several_values_of_one_class() -> None:
    assert read(LEVELS, {"skin": [2, 3], "lesion": 1}) == [[1, 0], [0, 0]]
    assert read(COLOURS, {"rest": ["#000000", [224, 224, 192]], "plane": [128, 0, 0]}) == [[0, 1], [0, 1]]


def test_a_number_is_a_level_an_index_or_a_grey_colour() -> None:
    grey = np.dstack([LEVELS] * 3)
    assert read(grey, PETS) == read(LEVELS, {"a": "#010101", "b": "#020202", "c": 3}) == [[0, 1], [2, 1]]
    colours = np.array([[9, 9, 9], [255, 0, 0], [0, 255, 0], [0, 0, 0]], np.uint8)
    assert read(LEVELS, PETS, palette=colours) == [[0, 1], [2, 1]]
    assert read(LEVELS, {"a": "#ff0000", "b": "#00ff00", "c": "#000000"}, palette=colours) == [[0, 1], [2, 1]]


def test_files_of_every_kind(tmp_path: Any) -> None:
    expected = TRUTH.astype(np.uint8)
    files = {
        "m.png": (encoded(expected * np.uint8(7), "PNG"), {"skin": 0, "lesion": 7}),
        "p.png": (palette((0, 0, 0), (128, 0, 0)), {"skin": "#000000", "lesion": "#800000"}),
        "v.nii": (nifti(np.ascontiguousarray(expected.T)), {"skin": 0, "lesion": 1}),
    }
    for name, (data, classes) in files.items():
        (tmp_path / name).write_bytes(data)
        assert np.array_equal(read_class_mask(tmp_path / name, classes), expected)


def test_every_value_that_no_class_has_is_listed_the_most_frequent_first() -> None:
    with pytest.raises(ImageError, match=r"m\.png has values that no class has") as caught:
        read(LEVELS, {"a": 1, "b": 9})
    assert caught.value.problems == ("2 = #020202 on 2 pixels", "3 = #030303 on 1 pixels")
    with pytest.raises(ImageError) as caught:
        read(COLOURS, {"a": "#000000", "b": 5})
    assert caught.value.problems == ("#800000 on 2 pixels", "#e0e0c0 on 1 pixels")


def test_a_photo_lists_only_the_first_of_its_colours() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    with pytest.raises(ImageError, match="the first of them") as caught:
        read(ramp, {"a": 0, "b": 255})
    assert len(caught.value.problems) == 65


@pytest.mark.parametrize(
    ("classes", "problem"),
    [
        ({"a": 1}, "1 classes; there are 2 to 256"),
        ({str(i): i for i in range(257)}, "257 classes; there are 2 to 256"),
        ({"a": 1, "b": 1}, "b: 1 is another class's too"),
        ({"a": "#ff0000", "b": [255, 0, 0]}, "b: #ff0000 is another class's too"),
        ({"a": 1, "b": "red"}, "b: 'red' is no value, colour or list of them"),
        ({"a": 1, "b": "#ff00zz"}, "b: '#ff00zz' is no value, colour or list of them"),
        ({"a": 1, "b": True}, "b: True is no value, colour or list of them"),
        ({"a": 1, "b": [300, 0, 0]}, r"b: \[300, 0, 0\] is no value, colour or list of them"),
        ({"a": 1, "b": None}, "b: None is no value, colour or list of them"),
    ],
)
def test_classes_that_cannot_be_used(classes: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        read(LEVELS, classes)
    assert "#ff0000" in caught.value.fix


def brute_trimap(mask: np.ndarray, band: float) -> np.ndarray:
    """By measuring every pixel against every other."""
    result = mask.astype(np.uint8) * 2
    rows, columns = np.indices(mask.shape)
    for row, column in np.ndindex(mask.shape):
        others = mask != mask[row, column]
        if others.any() and np.hypot(rows[others] - row, columns[others] - column).min() <= band:
            result[row, column] = 1
    return result


@given(
    hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)),
    st.sampled_from([0, 0.5, 1, 1.5, 2, 2.3, 4]),
)
def test_trimaps_are_what_measuring_gives(mask: np.ndarray, band: float) -> None:
    found = trimap(mask, band)
    assert found.dtype == np.uint8
    assert np.array_equal(found, brute_trimap(mask, band))


@pytest.mark.parametrize("band", [-1, float("nan")])
def test_bands_that_do_not_exist(band: float) -> None:
    with pytest.raises(ValueError, match="at least 0 pixels"):
        trimap(TRUTH, band)


def test_palette_indices_beyond_the_palette_are_no_class() -> None:
    picture = Image.fromarray(LEVELS)
    assert picture.mode == "L"
    with pytest.raises(ImageError, match="no class has"):
        read(LEVELS, {"a": "#010101", "b": "#020202"}, palette=np.ones((2, 3), np.uint8))
