"""What is no dermoscopy is told; dermoscopy passes, whatever the skin, the camera and the model's size."""

import os
from pathlib import Path

import numpy as np
import pytest
import skimage
from PIL import Image, ImageDraw, ImageFont

from lesionseg.data.resizing import resize_photo
from lesionseg.data.synthetic import generate
from lesionseg.inference.plausibility import LIMIT, TRAITS, describe, implausible, plausibility_table, score_of

DATA = Path(skimage.__file__).parent / "data"
SIZES = [(192, 256), (128, 160), (128, 128), (256, 256), (64, 96)]
GENERATED = [generate(30, index, height=192, width=256) for index in range(60)]


def photo_of(name: str, size: tuple[int, int] = (192, 256)) -> np.ndarray:
    with Image.open(DATA / name) as picture:
        return resize_photo(np.asarray(picture.convert("RGB")), *size)


def page_of_text() -> np.ndarray:
    sheet = Image.new("RGB", (640, 480), (236, 232, 224))
    draw = ImageDraw.Draw(sheet)
    for row in range(20, 460, 26):
        draw.text(
            (30, row), "Of the lesions that were seen, most were benign", (30, 30, 34), ImageFont.load_default(20)
        )
    return resize_photo(np.asarray(sheet), 192, 256)


def window() -> np.ndarray:
    sheet = np.full((192, 256, 3), 242, np.uint8)
    sheet[:18] = 60, 62, 68
    sheet[18:, :60] = 225, 228, 232
    sheet[30:150, 80:240] = 255
    sheet[40:140:10, 90:200] = 40
    return sheet


def flat(*colour: int) -> np.ndarray:
    return np.broadcast_to(np.array(colour, np.uint8), (192, 256, 3)).copy()


NOISE = np.random.default_rng(0).integers(0, 256, (192, 256, 3), np.uint8)
OTHERS = {
    "text": page_of_text(),
    "screenshot": window(),
    "black": flat(0, 0, 0),
    "dark": flat(6, 5, 7) + (NOISE // 64),
    "white": flat(255, 255, 255),
    "wall": flat(200, 190, 170) + (NOISE // 100),
    "grey": flat(128, 128, 128),
    "noise": NOISE,
}


@pytest.mark.parametrize("name", OTHERS)
def test_made_up_pictures_are_told(name: str) -> None:
    assert implausible(OTHERS[name]) is not None


@pytest.mark.parametrize(
    "name",
    [
        *("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "page.png", "text.png", "camera.png"),
        *("brick.png", "grass.png", "gravel.png", "motorcycle_left.png", "hubble_deep_field.jpg", "color.png"),
    ],
)
@pytest.mark.parametrize("size", [(192, 256), (128, 160)], ids=str)
def test_everyday_pictures_are_told(name: str, size: tuple[int, int]) -> None:
    assert implausible(photo_of(name, size)) is not None


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_generated_dermoscopy_passes(size: tuple[int, int]) -> None:
    told = [implausible(resize_photo(case.pair.image, *size)) for case in GENERATED]
    # Generated photos are odder than real ones.
    assert sum(reason is not None for reason in told) <= 2, told


@pytest.mark.long
def test_no_skin_tone_is_told_more_than_another() -> None:
    dark = [generate(31, index, height=96, width=128) for index in range(150)]
    told = [implausible(case.pair.image) is not None for case in dark if case.skin_type >= 5]
    assert len(told) > 15
    assert sum(told) <= 1


def test_casts_and_round_borders_pass() -> None:
    y, x = np.mgrid[:192, :256]
    outside = np.hypot((y - 95.5) / 100, (x - 127.5) / 120) > 1
    for case in GENERATED[:10]:
        photo = case.pair.image
        assert implausible(np.where(outside[..., None], 0, photo).astype(np.uint8)) is None
        for gains in ((1.15, 1, 0.85), (0.9, 1, 1.1), (0.8, 0.8, 0.8)):
            assert implausible((photo * np.array(gains)).clip(0, 255).astype(np.uint8)) is None


def test_the_reason_names_what_is_odd() -> None:
    assert "hardly changes" in (implausible(flat(0, 0, 0)) or "")
    assert "edges" in (implausible(NOISE) or "")
    words = {implausible(picture) for picture in OTHERS.values()}
    assert len(words) > 1
    assert all(word and word.startswith("perhaps no dermoscopy photo: ") for word in words)


def test_the_score_and_the_limit_agree() -> None:
    for photo in [*OTHERS.values(), *(case.pair.image for case in GENERATED[:5])]:
        assert (score_of(describe(photo)) > LIMIT) == (implausible(photo) is not None)


def test_describing_is_finite_and_changes_nothing() -> None:
    for photo in OTHERS.values():
        before = photo.copy()
        values = describe(photo)
        assert values.shape == (len(TRAITS),)
        assert np.isfinite(values).all()
        assert np.array_equal(photo, before)


def test_the_table_for_the_page() -> None:
    table = plausibility_table()
    assert table["limit"] == LIMIT
    assert [trait["middle"] for trait in table["traits"]] == [trait.middle for trait in TRAITS]
    assert all(trait["step"] > 0 for trait in table["traits"])


@pytest.mark.real
def test_real_dermoscopy_passes() -> None:

    from lesionseg.data.images import decode_photo, fit_photo, read_bytes

    files = sorted(Path(os.environ["LESIONSEG_DATA"]).glob("isic2016/*Test_Data/*.jpg"))
    assert len(files) > 300
    told = [p.stem for p in files if implausible(fit_photo(decode_photo(read_bytes(p), p.name), 192, 256))]
    assert len(told) <= len(files) // 100, told
