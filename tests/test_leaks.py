"""Photos that are the same by their pixels, found among those that only look alike."""

from pathlib import Path

import numpy as np
import pytest
from pictures import encoded, exif, put
from PIL import Image

from lesionseg.data.leaks import shared_photos
from lesionseg.records import Case


def photo(seed: int, width: int = 160, height: int = 120) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def case(folder: Path, name: str, data: bytes) -> Case:
    return Case(name, put(folder / name, data))


def names(found: list[tuple[Case, Case]]) -> list[tuple[str, str]]:
    return [(one.case_id, other.case_id) for one, other in found]


def test_the_format_the_name_and_the_metadata_play_no_part(tmp_path: Path) -> None:
    jpeg = encoded(photo(1), "JPEG")
    decoded = np.asarray(Image.open(put(tmp_path / "x.jpg", jpeg)))
    train = [case(tmp_path, "train.jpg", jpeg), case(tmp_path, "other.jpg", encoded(photo(2), "JPEG"))]
    test = [
        case(tmp_path, "png", encoded(decoded, "PNG")),
        case(tmp_path, "comment", encoded(decoded, "BMP")),
        case(tmp_path, "tail", jpeg + b"more"),
        case(tmp_path, "exif", encoded(decoded, "PNG", exif=exif(1))),
        case(tmp_path, "new", encoded(photo(3), "JPEG")),
    ]
    expected = [(name, "train.jpg") for name in ("png", "comment", "tail", "exif")]
    assert names(shared_photos(test, train)) == expected


def test_photos_that_only_look_alike_are_not_the_same(tmp_path: Path) -> None:
    pixels = photo(1)
    one_off = pixels.copy()
    one_off[60, 80, 1] ^= 1
    train = [case(tmp_path, "train", encoded(pixels, "PNG"))]
    test = [
        case(tmp_path, "one pixel", encoded(one_off, "PNG")),
        case(tmp_path, "jpeg", encoded(pixels, "JPEG", quality=95)),
        case(tmp_path, "small", encoded(photo(1, 80, 60), "PNG")),
        case(tmp_path, "turned", encoded(np.rot90(pixels), "PNG")),
    ]
    assert shared_photos(test, train) == []


def test_large_jpegs_are_found_through_their_reduced_scale(tmp_path: Path) -> None:
    jpeg = encoded(photo(5, 1024, 768), "JPEG")
    decoded = np.asarray(Image.open(put(tmp_path / "x.jpg", jpeg)))
    train = [case(tmp_path, "a", jpeg), case(tmp_path, "b", encoded(photo(6, 1024, 768), "JPEG"))]
    assert names(shared_photos([case(tmp_path, "c", encoded(decoded, "PNG"))], train)) == [("c", "a")]


@pytest.mark.parametrize("side", [0, 1])
def test_damaged_photos_and_empty_lists_share_nothing(tmp_path: Path, side: int) -> None:
    good, bad = case(tmp_path, "good", encoded(photo(1), "PNG")), case(tmp_path, "bad", b"no photo")
    assert shared_photos(*(([good], [bad]) if side else ([bad], [good]))) == []
    assert shared_photos(*(([good], []) if side else ([], [good]))) == []
    assert names(shared_photos([bad, good], [bad, good])) == [("good", "good")]
