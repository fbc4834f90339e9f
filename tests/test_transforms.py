"""Augmentation: image and mask move together, and (seed, epoch, index) decides alone."""

import io
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lesionseg.config import DataConfig, load_config
from lesionseg.data.transforms import Augmentation, augmentation
from lesionseg.errors import ConfigError
from lesionseg.training.features import require_cacheable

SIDE = 32
ROWS, COLUMNS = np.mgrid[:SIDE, :SIDE].astype(np.uint8)
# A picture of coordinates: every pixel says where it came from.
IMAGE = np.stack([ROWS, COLUMNS, ROWS + COLUMNS])
# Lesion where the coordinates say so; no flip or turn leaves it as it was.
MASK = ((ROWS > 20) & (COLUMNS < 7) | (ROWS < 3) & (COLUMNS < 15))[None].astype(np.uint8)


def build(seed: int = 0, **options: Any) -> Augmentation:
    settings = {"manifest": "x", "image_size": SIDE, "flip": 0.0, "rotate90": 0.0, "brightness": 0.0} | options
    made = augmentation(DataConfig(**settings), seed)
    assert made is not None
    return made


def mask_by_coordinates(image: torch.Tensor) -> torch.Tensor:
    rows, columns = image[0].long(), image[1].long()
    return torch.from_numpy(MASK)[0][rows, columns][None]


def items(augment: Augmentation, number: int) -> Iterator[dict[str, torch.Tensor]]:
    for index in range(number):
        yield augment(IMAGE, MASK, 0, index)


def test_nothing_asked_nothing_done() -> None:
    config = DataConfig(manifest="x", flip=0, rotate90=0, brightness=0)
    assert augmentation(config, 0) is None
    assert augmentation(DataConfig(manifest="x"), 0) is not None


@pytest.mark.parametrize(
    ("options", "poses"), [({"flip": 0.5}, 4), ({"rotate90": 0.8}, 4), ({"flip": 0.5, "rotate90": 0.8}, 8)]
)
def test_image_and_mask_move_together(options: dict[str, float], poses: int) -> None:
    seen = set()
    for item in items(build(**options), 60):
        assert item["image"].dtype == item["mask"].dtype == torch.uint8
        assert item["image"].shape == (3, SIDE, SIDE)
        assert torch.equal(item["mask"], mask_by_coordinates(item["image"]))
        assert torch.equal(item["image"][2], item["image"][0] + item["image"][1]), "no pixel is made up"
        seen.add(item["image"].numpy().tobytes())
    assert len(seen) == poses


def test_flips_on_inputs_that_are_not_square() -> None:
    augment = build(flip=1.0, image_size=(32, 64))
    image = np.stack([np.arange(32 * 64, dtype=np.uint16).reshape(32, 64).view(np.uint8)[:, ::2]] * 3)
    item = augment(image, image[:1] % 2, 0, 0)
    assert np.array_equal(item["image"].numpy(), image[:, ::-1, ::-1])
    assert np.array_equal(item["mask"].numpy(), image[:1, ::-1, ::-1] % 2)


def test_each_axis_is_flipped_half_of_the_time_and_independently() -> None:
    counts = dict.fromkeys(product([False, True], repeat=2), 0)
    for item in items(build(flip=0.5), 400):
        first = item["image"][:2, 0, 0].tolist()
        counts[first[0] > 0, first[1] > 0] += 1
    # Binomial(400, 1/4): mean 100, standard deviation 8.7.
    assert all(65 < count < 135 for count in counts.values())


def test_turns_by_90_180_and_270_are_equally_likely() -> None:
    counts: dict[tuple[int, ...], int] = {}
    for item in items(build(rotate90=0.75), 400):
        corner = tuple(item["image"][:2, 0, 0].tolist())
        counts[corner] = counts.get(corner, 0) + 1
    assert len(counts) == 4
    assert all(65 < count < 135 for count in counts.values())


@pytest.mark.parametrize("size", [(32, 64), (64, 32)])
def test_turns_need_square_inputs(size: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match=r"data\.rotate90=0\.5 needs a square data\.image_size, not \[") as caught:
        build(rotate90=0.5, image_size=size)
    assert "data.rotate90=0" in caught.value.fix


def test_brightness_scales_the_image_alone() -> None:
    flat = np.full((3, SIDE, SIDE), 100, np.uint8)
    levels = []
    for index in range(200):
        item = build(brightness=0.3)(flat, MASK, 0, index)
        assert torch.equal(item["mask"], torch.from_numpy(MASK))
        assert item["image"].dtype == torch.uint8
        level = int(item["image"][0, 0, 0])
        assert (item["image"] == level).all()
        levels.append(level)
    assert min(levels) >= 70
    assert max(levels) <= 130
    assert min(levels) < 80
    assert max(levels) > 120
    assert 95 < np.mean(levels) < 105


def test_brightness_saturates_and_never_wraps() -> None:
    bright = np.full((3, SIDE, SIDE), 250, np.uint8)
    levels = {int(build(brightness=0.9)(bright, MASK, 0, index)["image"][0, 0, 0]) for index in range(60)}
    assert 255 in levels
    assert min(levels) >= 25
    black = np.zeros((3, SIDE, SIDE), np.uint8)
    assert not build(brightness=0.9)(black, MASK, 0, 0)["image"].any()


def test_colour_changes_each_channel_by_itself() -> None:
    flat = np.full((3, SIDE, SIDE), 100, np.uint8)
    seen = np.array([build(colour=0.2)(flat, MASK, 0, index)["image"][:, 0, 0].tolist() for index in range(100)])
    assert seen.min() >= 80
    assert seen.max() <= 120
    assert np.abs(np.corrcoef(seen.T)[np.triu_indices(3, 1)]).max() < 0.4


@pytest.mark.parametrize("options", [{"rotate": 180}, {"scale": 0.4}, {"rotate": 90, "scale": 0.3}])
def test_turned_and_zoomed_mask_stays_on_its_lesion(options: dict[str, float]) -> None:
    side = 64
    rows, columns = np.mgrid[:side, :side]
    mask = ((rows - 28) ** 2 / 80 + (columns - 36) ** 2 / 250 < 1)[None].astype(np.uint8)
    image = np.repeat(mask * np.uint8(200), 3, axis=0)
    areas = []
    for index in range(40):
        item = build(image_size=side, **options)(image, mask, 0, index)
        assert item["image"].dtype == item["mask"].dtype == torch.uint8
        assert set(item["mask"].unique().tolist()) <= {0, 1}
        seen = item["image"][:1] > 100
        overlap = (seen & item["mask"].bool()).sum() / (seen | item["mask"].bool()).sum()
        assert overlap > 0.97
        areas.append(int(item["mask"].sum()) / int(mask.sum()))
    spread = max(areas) - min(areas)
    assert spread > 0.5 if "scale" in options else spread < 0.1


def test_the_outcome_depends_on_seed_epoch_and_index_not_on_the_order_of_calls() -> None:
    options = {"flip": 0.5, "rotate90": 0.5, "brightness": 0.4, "rotate": 40, "scale": 0.3, "colour": 0.2}
    keys = list(product(range(3), range(8)))
    augment = build(seed=7, **options)
    forwards = {key: augment(IMAGE, MASK, *key) for key in keys}
    np.random.default_rng(0).shuffle(keys)
    torch.manual_seed(99)
    other = build(seed=7, **options)
    for key in keys:
        augment(IMAGE, MASK, 5, 5)
        for made in (augment(IMAGE, MASK, *key), other(IMAGE, MASK, *key)):
            assert torch.equal(made["image"], forwards[key]["image"])
            assert torch.equal(made["mask"], forwards[key]["mask"])


@pytest.mark.parametrize("other", [(8, 0, 0), (7, 1, 0), (7, 0, 1)])
def test_another_seed_epoch_or_index_gives_another_outcome(other: tuple[int, int, int]) -> None:
    flat = np.full((3, SIDE, SIDE), 120, np.uint8)
    first = build(7, brightness=0.9)(flat, MASK, 0, 0)["image"]
    second = build(other[0], brightness=0.9)(flat, MASK, *other[1:])["image"]
    assert not torch.equal(first, second)


def test_global_random_states_are_left_alone() -> None:
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002 - the point of the test
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    build(flip=0.5, rotate90=0.5, brightness=0.4)(IMAGE, MASK, 0, 0)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002


def test_inputs_are_left_as_they_were() -> None:
    image, mask = IMAGE.copy(), MASK.copy()
    for index in range(8):
        build(flip=0.5, rotate90=0.5, brightness=0.5)(image, mask, 0, index)
    assert np.array_equal(image, IMAGE)
    assert np.array_equal(mask, MASK)


LOOKS = {
    "illumination": 0.3,
    "blur": 3.0,
    "hair": 1.0,
    "cutout": 1.0,
    "artefacts": 1.0,
    "contrast": 0.5,
    "melanin": 2.0,
    "haze": 0.9,
    "noise": 20.0,
    "jpeg": 10,
}
OFTEN = {**dict.fromkeys(("blur", "haze", "noise", "jpeg"), (1, 14)), **dict.fromkeys(("contrast", "melanin"), (4, 16))}
"""Of twenty pictures, about three of ten are changed, or half."""


@pytest.mark.parametrize("name", LOOKS)
def test_looks_change_the_image_alone(name: str) -> None:
    changed = 0
    for item in items(build(**{name: LOOKS[name]}), 20):
        assert torch.equal(item["mask"], torch.from_numpy(MASK))
        assert item["image"].dtype == torch.uint8
        changed += not torch.equal(item["image"], torch.from_numpy(IMAGE))
    least, most = OFTEN.get(name, (20, 20))
    assert least <= changed <= most


def test_compressed_pictures_are_jpeg_files_of_the_asked_qualities() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (3, SIDE, SIDE), np.uint8)
    files = {quality: io.BytesIO() for quality in range(40, 96)}
    for quality, file in files.items():
        Image.fromarray(image.transpose(1, 2, 0)).save(file, "jpeg", quality=quality)
    known = {np.asarray(Image.open(file)).tobytes(): quality for quality, file in files.items()}
    qualities = []
    for index in range(300):
        seen = build(jpeg=40)(image, MASK, 0, index)["image"].numpy()
        if not np.array_equal(seen, image):
            qualities.append(known[seen.transpose(1, 2, 0).tobytes()])
    # Binomial(300, 0.3): mean 90, standard deviation 7.9.
    assert 60 < len(qualities) < 120
    assert min(qualities) < 45
    assert max(qualities) > 90


def test_jpeg_takes_qualities_finer_than_its_finest() -> None:
    assert any(not torch.equal(item["image"], torch.from_numpy(IMAGE)) for item in items(build(jpeg=99), 20))


def test_distance_makes_image_and_mask_smaller_together() -> None:
    skin, lesion = np.uint8(200), np.uint8(60)
    mask = (np.hypot(ROWS - 16.0, COLUMNS - 16.0) < 8)[None].astype(np.uint8)
    image = np.repeat(np.where(mask == 1, lesion, skin), 3, axis=0)
    parts = []
    for index in range(60):
        item = build(distance=3.0)(image, mask, 0, index)
        assert set(item["mask"].unique().tolist()) == {0, 1}
        assert (item["image"][0].float()[item["mask"][0] == 1].mean() < 130).item()
        parts.append(float(item["mask"].sum() / mask.sum()))
    assert 5 <= sum(part < 0.95 for part in parts) <= 30
    assert 0.08 < min(parts) < 0.3


def test_lens_ends_image_and_mask() -> None:
    full, skin = np.ones((1, SIDE, SIDE), np.uint8), np.full((3, SIDE, SIDE), 200, np.uint8)
    for index in range(10):
        item = build(lens=1.0)(skin, full, 0, index)
        assert (item["image"][:, 0, 0] < 100).all()
        assert 0.4 < float(item["mask"].float().mean()) < 0.95
        apart = (item["image"][0] > 115) != item["mask"][0].bool()
        assert float(apart.float().mean()) < 0.03


@pytest.mark.parametrize("several", [{"trimap": 2.0}, {"classes": {"skin": 0, "mole": 1, "naevus": 2}}])
@pytest.mark.parametrize("option", [{"distance": 2.0}, {"lens": 0.5}])
def test_retaken_pictures_need_binary_masks(several: dict[str, Any], option: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"data\.distance=.* and data\.lens=.* need binary masks") as caught:
        build(**several, **option)
    assert "data.lens=0" in caught.value.fix


def test_every_augmentation_besides_flips_refuses_kept_features() -> None:
    augmentations = {"rotate90": 0.1, "rotate": 5, "scale": 0.1, "shift": 0.1, "brightness": 0.1, "colour": 0.1}
    augmentations |= {**LOOKS, "distance": 2.0, "lens": 0.1}
    for key, value in augmentations.items():
        config = {"data": {"manifest": "x", key: value}, "optim": {"encoder_lr": 0}}
        with pytest.raises(ConfigError, match=rf"data\.{key}="):
            require_cacheable(load_config(config))


def test_shift_moves_both_by_at_most_its_part() -> None:
    moved = []
    for item in items(build(shift=0.1), 30):
        assert (item["mask"] != mask_by_coordinates(item["image"])).float().mean() < 0.03
        moved.append(float(item["image"][0, SIDE // 2, SIDE // 2]) - SIDE // 2)
    assert 1 < max(map(abs, moved)) <= 0.1 * SIDE + 1


def test_hair_is_thin_and_comes_as_often_as_asked() -> None:
    skin = np.full((3, 128, 128), 180, np.uint8)
    mask = np.zeros((1, 128, 128), np.uint8)
    augment = build(hair=0.5, image_size=128)
    parts = [float((augment(skin, mask, 0, i)["image"] != 180).any(0).float().mean()) for i in range(200)]
    drawn = [part for part in parts if part]
    assert 70 <= len(drawn) <= 130
    assert np.median(drawn) < 0.3


def test_the_preset_sets_what_is_not_given() -> None:
    config = DataConfig(manifest="x", preset="dermoscopy", hair=0.0)
    assert (config.rotate, config.cutout, config.hair) == (180, 0.2, 0.0)
    assert DataConfig.model_validate(config.model_dump()) == config
    assert DataConfig(manifest="x", preset="flip") == DataConfig(manifest="x").model_copy(update={"preset": "flip"})
