"""Photos that come twice, made from generated ones as data sets make them: mirrored, cropped, recoloured."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from lesionseg.data import descriptors
from lesionseg.data.duplicates import SAME_LESION, SAME_PHOTO, cluster, duplicate_groups, find_duplicates, sign
from lesionseg.data.synthetic import generate
from lesionseg.errors import ImageError
from lesionseg.records import BoolMask, Case, Pair, RgbImage

Change = Callable[[Image.Image], Image.Image]


def cropped(picture: Image.Image) -> Image.Image:
    width, height = picture.size
    return picture.crop((round(0.06 * width), round(0.03 * height), width, round(0.92 * height)))


def framed(picture: Image.Image) -> Image.Image:
    width, height = picture.size
    wider = Image.new(picture.mode, (width, height + 60))
    wider.paste(picture, (0, 30))
    return wider


CHANGES: dict[str, Change] = {
    "copied": lambda picture: picture,
    "mirrored": lambda picture: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "quarter turn": lambda picture: picture.transpose(Image.Transpose.ROTATE_90),
    "transposed": lambda picture: picture.transpose(Image.Transpose.TRANSPOSE),
    "turned by 7 degrees": lambda picture: picture.rotate(7, Image.Resampling.BILINEAR),
    "half size": lambda picture: picture.resize((picture.width // 2, picture.height // 2)),
    "cropped": cropped,
    "with black bars": framed,
}


def recoloured(picture: Image.Image) -> Image.Image:
    """Another white balance, exposure and contrast, then a poor JPEG."""
    red, green, blue = picture.split()
    picture = Image.merge("RGB", (red.point(lambda v: v * 0.85), green, blue.point(lambda v: 20 + v * 0.9)))
    buffer = io.BytesIO()
    ImageEnhance.Contrast(picture).enhance(1.3).save(buffer, "JPEG", quality=50)
    return Image.open(buffer).convert("RGB")


def changed(pair: Pair, change: Change) -> tuple[RgbImage, BoolMask]:
    photo = recoloured(change(Image.fromarray(pair.image)))
    return np.asarray(photo), np.asarray(change(Image.fromarray(pair.mask.astype(np.uint8) * 255))) > 127


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return [generate(5, index).pair for index in range(24)]


@pytest.mark.long
@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_copy_is_found_and_no_stranger(pairs: list[Pair], name: str) -> None:
    signatures = [sign(pair.image, pair.mask) for pair in pairs]
    signatures += [sign(*changed(pair, CHANGES[name])) for pair in pairs[:6]]
    found = find_duplicates(signatures)
    assert [(d.first, d.second) for d in found] == [(k, 24 + k) for k in range(6)]
    assert all(d.correlation >= SAME_PHOTO for d in found)
    assert SAME_LESION < SAME_PHOTO


def test_masks_are_a_help_and_no_need(pairs: list[Pair]) -> None:
    signatures = [sign(pair.image) for pair in pairs]
    signatures += [sign(changed(pair, CHANGES["mirrored"])[0]) for pair in pairs[:6]]
    assert [(d.first, d.second) for d in find_duplicates(signatures)] == [(k, 24 + k) for k in range(6)]


def test_the_mask_of_a_far_crop_leads_to_the_lesion() -> None:
    """What no zoom of the whole photo reaches: the lesion fills twice as much of one photo as of the other."""
    wide = next(pair for pair in (generate(6, k).pair for k in range(50)) if 0.05 < pair.mask.mean() < 0.12)
    rows, columns = np.nonzero(wide.mask)
    box = (int(columns.mean()) - 70, int(rows.mean()) - 60, int(columns.mean()) + 70, int(rows.mean()) + 60)
    assert box[0] >= 0
    assert box[1] >= 0
    near = np.asarray(Image.fromarray(wide.image).crop(box))
    mask = np.asarray(Image.fromarray(wide.mask).crop(box))
    others = [sign(pair.image, pair.mask) for pair in (generate(7, k).pair for k in range(10))]
    found = find_duplicates([sign(wide.image, wide.mask), sign(near, mask), *others])
    assert [(d.first, d.second) for d in found] == [(0, 1)]


def test_the_transform_leads_from_the_second_photo_to_the_first(pairs: list[Pair]) -> None:
    mirrored = changed(pairs[0], CHANGES["mirrored"])
    (found,) = find_duplicates([sign(pairs[0].image, pairs[0].mask), sign(*mirrored)])
    assert found.transform == pytest.approx(np.array([[-1, 0, 0], [0, 1, 0]]), abs=0.05)


@pytest.mark.parametrize("count", [0, 1])
def test_less_than_two_photos_have_no_duplicates(pairs: list[Pair], count: int) -> None:
    assert find_duplicates([sign(pair.image) for pair in pairs[:count]]) == []


def test_blank_photos_are_no_duplicates_of_each_other() -> None:
    blank = [sign(np.full((60, 80, 3), level, np.uint8)) for level in (0, 90, 200, 255)]
    assert find_duplicates(blank) == []


def test_black_bars_are_cut_off_and_an_empty_mask_counts_as_none(pairs: list[Pair]) -> None:
    plain = sign(pairs[1].image, pairs[1].mask)
    barred = sign(
        np.asarray(framed(Image.fromarray(pairs[1].image))), np.asarray(framed(Image.fromarray(pairs[1].mask)))
    )
    assert np.abs(plain.grey.astype(int) - barred.grey).mean() < 3
    assert barred.lesion == pytest.approx(plain.lesion, abs=0.05)
    assert sign(pairs[1].image, np.zeros((4, 4), np.bool_)).lesion is None


def test_a_mask_may_have_another_scale_than_the_photo(pairs: list[Pair]) -> None:
    half = pairs[2].mask[::2, ::2]
    assert sign(pairs[2].image, half).lesion == pytest.approx(sign(pairs[2].image, pairs[2].mask).lesion, abs=0.02)


def test_every_photo_keeps_its_own_few_candidates(pairs: list[Pair], monkeypatch: pytest.MonkeyPatch) -> None:
    """Round lesions resemble each other more than two photos of a ragged one do, and must not crowd them out."""
    monkeypatch.setattr(descriptors, "_PER_PHOTO", 1)
    monkeypatch.setattr(descriptors, "_BLOCK", 7)
    signatures = [sign(pair.image, pair.mask) for pair in pairs]
    signatures += [sign(*changed(pair, CHANGES["cropped"])) for pair in pairs[:6]]
    detail = descriptors.detail_of(np.stack([signature.grey for signature in signatures]), (1.0, 4.0, 6.0))
    made = descriptors.candidates(detail, [signature.lesion for signature in signatures])
    assert {(k, 24 + k) for k in range(6)} <= {(first, second) for first, second, _ in made}
    assert len(made) <= 2 * len(signatures)
    assert all(first < second for first, second, _ in made)


def test_clusters_are_connected_components() -> None:
    assert cluster(7, [(5, 1), (3, 5), (2, 4), (2, 2)]) == [(1, 3, 5), (2, 4)]
    assert cluster(3, []) == []


def write(folder: Path, name: str, photo: RgbImage, group: str = "") -> Case:
    Image.fromarray(photo).save(folder / f"{name}.png")
    return Case(name, folder / f"{name}.png", group=group)


def test_groups_of_cases_are_merged_and_never_divided(pairs: list[Pair], tmp_path: Path) -> None:
    copy = changed(pairs[0], CHANGES["mirrored"])[0]
    cases = [
        write(tmp_path, "a", pairs[0].image),
        write(tmp_path, "b", pairs[1].image, group="patient"),
        write(tmp_path, "c", copy, group="patient"),
        write(tmp_path, "d", pairs[2].image),
    ]
    assert duplicate_groups(cases) == {"a": "a", "b": "a", "c": "a", "d": "d"}


def test_a_broken_photo_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(ImageError, match=r"x\.jpg"):
        duplicate_groups([Case("x", tmp_path / "x.jpg")])
