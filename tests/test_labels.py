import numpy as np
import pytest
from PIL import Image

from lesionseg.config import load_config
from lesionseg.data.labels import BINARY, Labels, labels_of
from lesionseg.errors import ConfigError, ImageError

SQUARE = np.zeros((16, 16), np.uint8)
SQUARE[4:12, 4:12] = 255


def write(path, array, palette=None):
    picture = Image.fromarray(array)
    if palette:
        picture.putpalette(palette)
    picture.save(path)
    return path


def test_binary_masks_stay_binary(tmp_path):
    mask = BINARY.read(write(tmp_path / "a.png", SQUARE))
    assert mask.dtype == np.bool_
    small = BINARY.fit(mask, 8, 8)
    assert small.dtype == np.bool_
    assert small.sum() == 16
    assert np.array_equal(BINARY.lesion(mask), SQUARE > 0)
    assert BINARY.lesion_weights == (1.0,)


def test_a_trimap_has_its_border_at_the_size_that_it_is_brought_to(tmp_path):
    labels = Labels(("skin", "border", "lesion"), band=1)
    fitted = labels.fit(labels.read(write(tmp_path / "a.png", SQUARE)), 8, 8)
    # 4 x 4 lesion: its outermost ring and the ring around it are border.
    expected = np.zeros((8, 8), np.uint8)
    expected[1:7, 2:6] = expected[2:6, 1:7] = 1
    expected[3:5, 3:5] = 2
    assert np.array_equal(fitted, expected)
    assert labels.lesion_weights == (0.0, 0.5, 1.0)


def test_half_a_border_gives_back_the_outline():
    labels = Labels(("skin", "border", "lesion"), band=2)
    rows, columns = np.mgrid[:64, :64]
    disc = (rows - 32) ** 2 + (columns - 32) ** 2 < 400
    classes = labels.fit(disc, 64, 64)
    # Blurred class maps stand for a network that is unsure near the outline.
    from scipy.ndimage import gaussian_filter

    probabilities = np.stack([gaussian_filter((classes == index).astype(float), 2) for index in range(3)])
    lesion = np.tensordot(labels.lesion_weights, probabilities, (0, 0)) >= 0.5
    assert (lesion != disc).sum() < 0.02 * disc.sum()


def test_classes_by_palette(tmp_path):
    indices = np.array([[0, 0, 1], [1, 2, 2]], np.uint8)
    path = write(tmp_path / "a.png", indices, [0, 0, 0, 224, 224, 192, 128, 0, 0])
    labels = labels_of(
        load_config(
            {"data": {"manifest": "x", "classes": {"skin": "#000000", "border": "#e0e0c0", "lesion": [128, 0, 0]}}}
        ).data
    )
    mask = labels.read(path)
    assert np.array_equal(mask, indices)
    assert np.array_equal(labels.fit(mask, 4, 6), indices.repeat(2, 0).repeat(2, 1))
    assert np.array_equal(labels.lesion(mask), indices == 2)
    assert labels.lesion_weights == (0.0, 0.0, 1.0)
    with pytest.raises(ImageError, match=r"not a mask|classes:"):
        BINARY.read(path)


def test_without_a_class_called_lesion_there_is_none_to_find():
    labels = Labels(("cat", "dog"), {"cat": 0, "dog": 1})
    with pytest.raises(ConfigError, match="cat, dog is called lesion"):
        labels.lesion(np.zeros((4, 4), np.uint8))
    with pytest.raises(ConfigError):
        _ = labels.lesion_weights


@pytest.mark.parametrize(
    ("data", "names"),
    [
        ({}, ("lesion",)),
        ({"trimap": 2}, ("skin", "border", "lesion")),
        ({"classes": {"b": 1, "a": 2}}, ("b", "a")),
    ],
)
def test_the_config_names_the_classes(data, names):
    assert labels_of(load_config({"data": {"manifest": "x"} | data}).data).names == names


def test_a_trimap_of_classes_is_refused():
    with pytest.raises(ConfigError, match=r"data.trimap: a trimap is made of binary masks"):
        load_config({"data": {"manifest": "x", "classes": {"a": 0, "b": 1}, "trimap": 2}})


def test_a_binary_mask_is_the_lesion_of_a_run_of_classes_too(tmp_path):
    classes = {"skin": "#000000", "border": "#e0e0c0", "lesion": "#800000"}
    labels = Labels(tuple(classes), classes)
    palette = write(tmp_path / "classes.png", np.array([[0, 1], [2, 2]], np.uint8), [0, 0, 0, 224, 224, 192, 128, 0, 0])
    lesion, binary = labels.read_lesion(palette)
    assert (lesion.tolist(), binary) == ([[False, False], [True, True]], False)
    Image.fromarray(np.array([[0, 255], [255, 255]], np.uint8)).save(tmp_path / "binary.png")
    lesion, binary = labels.read_lesion(tmp_path / "binary.png")
    assert (lesion.tolist(), binary) == ([[False, True], [True, True]], True)
    # What the outline runs through is half inside.
    assert labels.outline_weights == (0.0, 0.5, 1.0)
    assert Labels(("skin", "lesion"), {"skin": 0, "lesion": 1}).outline_weights == (0.0, 1.0)
    assert Labels(("skin", "border", "lesion"), band=2.0).outline_weights == (0.0, 0.5, 1.0)
    Image.fromarray(np.array([[0, 7], [9, 9]], np.uint8)).save(tmp_path / "odd.png")
    with pytest.raises(ImageError, match="no class has"):
        labels.read_lesion(tmp_path / "odd.png")
    with pytest.raises(ImageError, match=r"not a mask|classes:"):
        BINARY.read_lesion(palette)
