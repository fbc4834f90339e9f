"""Decoding hostile and odd files, masks, NIfTI, resizing and atomic writing."""

import contextlib
import errno
import gzip
import io
import os
import stat
import struct
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from lesionseg.data import images
from lesionseg.data.images import (
    IMAGE_SUFFIXES,
    decode_photo,
    encode_jpeg,
    encode_mask_nifti,
    encode_mask_png,
    encode_probability_png,
    read_bytes,
    read_image,
    read_mask,
    read_probability,
    resize_mask,
    resize_photo,
    resize_probability,
    write_atomic,
)
from lesionseg.errors import ImageError, OutputError

RGB = np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8)
# Asymmetric under every flip and turn.
TRUTH = np.zeros((24, 16), np.bool_)
TRUTH[2:9, 3:7] = TRUTH[2:4, 3:12] = True
masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=20))


def encoded(picture: Any, kind: str, **options: Any) -> bytes:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def empty_png(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """What EXIF says: where row 0 and column 0 of the file belong."""
    turned = {
        1: array,
        2: array[:, ::-1],
        3: array[::-1, ::-1],
        4: array[::-1],
        5: array.swapaxes(0, 1),
        6: array.swapaxes(0, 1)[:, ::-1],
        7: array[::-1, ::-1].swapaxes(0, 1),
        8: array.swapaxes(0, 1)[::-1],
    }
    return turned[orientation]


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


@pytest.fixture
def save(tmp_path: Path) -> Callable[[str, bytes], Path]:
    def write(name: str, data: bytes) -> Path:
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return write


# --- photos that can be read ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_formats_come_back_exactly(kind: str) -> None:
    photo = decode_photo(encoded(RGB, kind, **({"lossless": True} if kind == "WEBP" else {})), "x")
    assert np.array_equal(photo.pixels, RGB)
    assert photo.pixels.dtype == np.uint8
    assert (photo.width, photo.height) == (20, 30)


def test_the_bytes_decide_not_the_name(save: Callable[..., Path]) -> None:
    assert np.array_equal(read_image(save("a.jpg", encoded(RGB, "PNG"))), RGB)
    assert np.array_equal(read_image(save("b", encoded(RGB, "BMP"))), RGB)


def test_alpha_is_dropped_not_blended() -> None:
    rgba = np.dstack([RGB, np.full((30, 20), 7, np.uint8)])
    assert np.array_equal(decode_photo(encoded(rgba, "PNG"), "x").pixels, RGB)


@pytest.mark.parametrize("transparency", [None, 0, bytes(range(256))])
def test_palettes_with_and_without_transparency(transparency: int | bytes | None) -> None:
    picture = Image.fromarray(RGB).quantize(32)
    options = {} if transparency is None else {"transparency": transparency}
    decoded = decode_photo(encoded(picture, "PNG", **options), "x").pixels
    assert np.array_equal(decoded, np.asarray(picture.convert("RGB")))


def test_cmyk_jpeg_looks_like_its_rgb() -> None:
    smooth = np.asarray(Image.fromarray(RGB[:6, :4]).resize((40, 60), Image.Resampling.BICUBIC))
    data = encoded(Image.fromarray(smooth).convert("CMYK"), "JPEG", quality=95)
    decoded = decode_photo(data, "x").pixels
    assert decoded.shape == smooth.shape
    assert np.abs(decoded.astype(int) - smooth).mean() < 8


def test_grey_and_16_bit_photos_become_8_bit_rgb() -> None:
    grey = RGB[..., 0]
    assert np.array_equal(decode_photo(encoded(grey, "PNG"), "x").pixels, np.dstack([grey] * 3))
    deep = grey.astype(np.uint16) * 256 + 200
    assert np.array_equal(decode_photo(encoded(deep, "PNG"), "x").pixels, np.dstack([grey] * 3))
    assert np.array_equal(decode_photo(encoded(deep, "TIFF"), "x").pixels, np.dstack([grey] * 3))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_turns_the_photo_and_its_size(kind: str, orientation: int) -> None:
    levels = np.zeros((32, 16, 3), np.uint8)
    levels[:16, :8], levels[:16, 8:], levels[16:, :8] = 240, 160, 80
    options: dict[str, Any] = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(kind, {})
    photo = decode_photo(encoded(levels, kind, exif=exif(orientation), **options), "x")
    expected = upright(levels, orientation)
    assert photo.pixels.shape == expected.shape
    assert (photo.height, photo.width) == expected.shape[:2]
    assert np.abs(photo.pixels.astype(int) - expected).max() <= 6


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_orientations_that_do_not_exist_are_ignored(orientation: int) -> None:
    assert np.array_equal(decode_photo(encoded(RGB, "PNG", exif=exif(orientation)), "x").pixels, RGB)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize(
    ("at_least", "scale"),
    [
        (None, 1),
        ((101, 10), 1),
        ((10, 61), 1),
        ((100, 60), 2),
        ((51, 10), 2),
        ((50, 30), 4),
        ((25, 16), 4),
        ((25, 15), 8),
        ((1, 1), 8),
    ],
)
def test_scaled_decoding_never_goes_below_what_is_asked(
    at_least: tuple[int, int] | None, scale: int, orientation: int
) -> None:
    shape = (200, 120, 3) if orientation < 5 else (120, 200, 3)
    data = encoded(np.zeros(shape, np.uint8), "JPEG", exif=exif(orientation))
    photo = decode_photo(data, "x", at_least=at_least)
    assert (photo.height, photo.width) == (200, 120), "the size in the file, whatever the scale"
    assert photo.pixels.shape == (200 // scale, 120 // scale, 3)


def test_only_jpegs_are_scaled() -> None:
    assert np.array_equal(decode_photo(encoded(RGB, "PNG"), "x", at_least=(2, 2)).pixels, RGB)


# --- photos that cannot -----------------------------------------------------------------------------------------------


def animation(kind: str) -> bytes:
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:])


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"<!DOCTYPE html><html><body>404</body></html>", "not a picture in a supported format"),
        (b"\x00" * 4096, "not a picture in a supported format"),
        (b"\xff\xd8\xff", "not a picture|damaged"),
        (encoded(RGB, "JPEG")[:-400], "damaged"),
        (encoded(RGB, "PNG")[:-400], "damaged"),
        (encoded(RGB, "BMP")[:-400], "damaged"),
        (encoded(RGB, "TIFF", compression="tiff_adobe_deflate")[:500], "damaged|not a picture"),
        (encoded(RGB, "WEBP")[:-40], "damaged|not a picture"),
        (encoded(RGB, "GIF"), "not a picture in a supported format"),
        (animation("GIF"), "not a picture in a supported format"),
        (encoded(RGB, "PPM"), "not a picture in a supported format"),
        (encoded(RGB, "EPS"), "not a picture in a supported format"),
        (animation("WEBP"), "holds 2 pictures"),
        (animation("PNG"), "holds 2 pictures"),
        (animation("TIFF"), "holds 2 pictures"),
        (encoded(RGB[:1], "PNG"), "only 20 x 1 pixels"),
        (encoded(RGB[:, :1], "PNG"), "only 1 x 30 pixels"),
        (empty_png(8001, 8000), "8001 x 8000, over 64,000,000 pixels"),
        (empty_png(60_000, 60_000), "over 64,000,000 pixels"),
        (empty_png(300, 200), "damaged"),
    ],
    ids=lambda value: value.split(",")[0] if isinstance(value, str) else f"{len(value)}",
)
def test_bad_bytes_are_named_and_explained(save: Callable[..., Path], data: bytes, reason: str) -> None:
    path = save("photo.jpg", data)
    for read in (read_image, read_mask):
        with pytest.raises(ImageError, match=reason) as caught:
            read(path)
        assert str(path) in caught.value.message
        assert caught.value.fix


def test_pictures_that_claim_to_be_huge_are_refused_before_pixels_are_allocated() -> None:
    data = empty_png(60_000, 60_000)
    tracemalloc.start()
    begin = time.perf_counter()
    try:
        with pytest.raises(ImageError, match="over 64,000,000 pixels"):
            decode_photo(data, "x")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - begin < 1
    assert peak < 2**21


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    (tmp_path / "empty.jpg").touch()
    reasons = {
        "fifo.jpg": "is not a regular file",
        "folder.jpg": "is not a regular file",
        "dangling.jpg": "is not a regular file",
        "loop.jpg": "is not a regular file|cannot be read",
        "empty.jpg": "is empty",
        "gone.jpg": "does not exist",
        "x" * 300: "cannot be read|does not exist",
    }
    for name, reason in reasons.items():
        found: list[Exception] = []

        def read(name: str = name, found: list[Exception] = found) -> None:
            try:
                read_bytes(tmp_path / name)
            except Exception as error:  # noqa: BLE001 - looked at below
                found.append(error)

        # A thread, so that a read that waits for the FIFO's writer fails the test instead of hanging it.
        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        thread.join(5)
        assert len(found) == 1, name
        with pytest.raises(ImageError, match=reason):
            raise found[0]


def test_a_link_to_a_photo_is_followed(tmp_path: Path, save: Callable[..., Path]) -> None:
    (tmp_path / "link.png").symlink_to(save("a.png", encoded(RGB, "PNG")))
    assert np.array_equal(read_image(tmp_path / "link.png"), RGB)


def test_files_with_too_many_bytes_are_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "big.png").open("wb") as file:
        file.truncate(images.MAX_BYTES + 1)
    with pytest.raises(ImageError, match="268,435,457 bytes, over 268,435,456"):
        read_bytes(tmp_path / "big.png")


SEEDS = {
    "jpg": encoded(RGB, "JPEG"),
    "progressive.jpg": encoded(RGB, "JPEG", progressive=True),
    "png": encoded(RGB, "PNG"),
    "palette.png": encoded(Image.fromarray(RGB).quantize(16), "PNG"),
    "bmp": encoded(RGB, "BMP"),
    "tif": encoded(RGB, "TIFF"),
    "lzw.tif": encoded(RGB, "TIFF", compression="tiff_lzw"),
    "webp": encoded(RGB, "WEBP"),
}


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", SEEDS)
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_damage_is_an_image_error_or_nothing(kind: str, data: st.DataObject) -> None:
    raw = bytearray(SEEDS[kind])
    places = st.integers(0, len(raw) - 1)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=6)):
        raw[place] = value
    cut = data.draw(st.integers(1, len(raw)))
    with contextlib.suppress(ImageError), pytest.MonkeyPatch.context() as patch:
        # Headers that now claim more are refused, not slow.
        patch.setattr(images, "MAX_PIXELS", 100_000)
        decoded = decode_photo(bytes(raw[:cut]), "x", at_least=data.draw(st.sampled_from([None, (8, 8)])))
        assert decoded.pixels.dtype == np.uint8
        assert decoded.pixels.shape[2] == 3


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_a_tiff_whose_second_picture_has_no_size_is_damaged() -> None:
    # A second directory without a single entry; Pillow raises TypeError for it.
    raw = bytearray(encoded(RGB, "TIFF")) + b"\0" * (2 + 4)
    (first,) = struct.unpack_from("<I", raw, 4)
    (entries,) = struct.unpack_from("<H", raw, first)
    struct.pack_into("<I", raw, first + 2 + 12 * entries, len(raw) - 6)
    with pytest.raises(ImageError, match="x is damaged: Missing dimensions"):
        decode_photo(bytes(raw), "x")


# --- masks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("top", [1, 2, 128, 254, 255])
def test_any_two_levels_from_zero(save: Callable[..., Path], top: int) -> None:
    assert np.array_equal(read_mask(save("m.png", encoded(TRUTH * np.uint8(top), "PNG"))), TRUTH)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("top", [1, 255, 256, 65535])
def test_16_bit_masks(save: Callable[..., Path], top: int, kind: str) -> None:
    assert np.array_equal(read_mask(save("m", encoded(TRUTH * np.uint16(top), kind))), TRUTH)


def palette(*colours: tuple[int, int, int], transparency: bytes | None = None) -> bytes:
    picture = Image.fromarray(TRUTH.astype(np.uint8) * np.uint8(len(colours) - 1)).convert("P")
    picture.putpalette([level for colour in colours for level in colour])
    return encoded(picture, "PNG", **({"transparency": transparency} if transparency else {}))


GREY = TRUTH * np.uint8(255)


@pytest.mark.parametrize(
    "data",
    [
        encoded(Image.fromarray(TRUTH), "PNG"),
        encoded(Image.fromarray(TRUTH), "TIFF", compression="group4"),
        encoded(Image.fromarray(TRUTH), "BMP"),
        encoded(np.dstack([GREY] * 3), "PNG"),
        encoded(np.dstack([GREY] * 3 + [np.full_like(GREY, 255)]), "PNG"),
        encoded(Image.fromarray(GREY).convert("LA"), "PNG"),
        encoded(TRUTH.astype(np.float32), "TIFF"),
        palette((0, 0, 0), (255, 255, 255)),
        palette((0, 0, 0), (9, 9, 9), (128, 128, 128), transparency=b"\x00\x80\xff"),
    ],
    ids=["1 png", "1 tiff", "1 bmp", "rgb", "rgba", "la", "float", "palette", "palette transparent"],
)
def test_modes_of_masks(save: Callable[..., Path], data: bytes) -> None:
    mask = read_mask(save("m.png", data))
    assert mask.dtype == np.bool_
    assert np.array_equal(mask, TRUTH)


@pytest.mark.parametrize("level", [0, 1, 77, 255])
def test_masks_of_one_level_are_empty_or_full(save: Callable[..., Path], level: int) -> None:
    mask = read_mask(save("m.png", encoded(np.full((5, 4), level, np.uint8), "PNG")))
    assert mask.shape == (5, 4)
    assert mask.all() == (level > 0)
    assert mask.any() == (level > 0)


@pytest.mark.parametrize("quality", [20, 50, 90])
def test_masks_that_went_through_jpeg(save: Callable[..., Path], quality: int) -> None:
    rows, columns = np.mgrid[:192, :256]
    disc = (rows - 90) ** 2 + (columns - 120) ** 2 < 60**2
    data = encoded(disc * np.uint8(255), "JPEG", quality=quality)
    assert len(np.unique(np.asarray(Image.open(io.BytesIO(data))))) > 8, "has fringes"
    wrong = read_mask(save("m.jpg", data)) != disc
    assert wrong.mean() < 0.002


def test_masks_with_soft_edges(save: Callable[..., Path]) -> None:
    rows, columns = np.mgrid[:96, :128]
    soft = np.clip(40 - np.hypot(rows - 48, columns - 60), 0, 1)
    levels = np.rint(soft * 254).astype(np.uint8)
    levels[0, :2] = 127, 128
    mask = read_mask(save("m.png", encoded(levels, "PNG")))
    assert np.array_equal(mask, levels > 127), "the middle itself is not lesion"


def test_multi_class_masks_are_refused_with_their_values(save: Callable[..., Path]) -> None:
    classes = np.zeros((10, 10), np.uint8)
    classes[:3], classes[3:5], classes[5, :2] = 1, 2, 3
    with pytest.raises(ImageError, match=r"m\.png is not a binary mask: it has the values 0, 1, 2, 3\n"):
        read_mask(save("m.png", encoded(classes, "PNG")))


def test_long_lists_of_values_are_cut(save: Callable[..., Path]) -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    with pytest.raises(ImageError, match=r"the values 0, 1, 2, 3, 4, 5, 6, 7, \.\.\.\n"):
        read_mask(save("m.png", encoded(ramp, "PNG")))


def test_photos_given_as_masks_are_refused(save: Callable[..., Path]) -> None:
    with pytest.raises(ImageError, match="is coloured, not a mask"):
        read_mask(save("m.png", encoded(RGB, "PNG")))
    with pytest.raises(ImageError, match="is coloured, not a mask"):
        read_mask(save("m.png", palette((0, 0, 0), (128, 0, 0))))
    # Bright skin (200 to 230) and a dark lesion (10 to 40) with a narrow border: near two levels, and still a photo.
    rows, columns = np.mgrid[:96, :128]
    skin = 230 - 190 / (1 + np.exp(np.hypot(rows - 48, columns - 60) - 25))
    skin -= np.random.default_rng(0).uniform(0, 30, skin.shape)
    with pytest.raises(ImageError, match="is not a binary mask"):
        read_mask(save("m.png", encoded(skin.clip(0, 255).astype(np.uint8), "PNG")))


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_masks_follow_their_exif_orientation_as_photos_do(
    save: Callable[..., Path], kind: str, orientation: int
) -> None:
    mask = read_mask(save("m", encoded(GREY, kind, exif=exif(orientation))))
    assert np.array_equal(mask, upright(TRUTH, orientation))


@given(masks)
def test_mask_png_round_trip(mask: np.ndarray) -> None:
    data = encode_mask_png(mask)
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.mode == "L"
        assert set(np.unique(np.asarray(picture))) <= {0, 255}
        assert np.array_equal(np.asarray(picture) == 255, mask)


@given(masks)
def test_mask_files_round_trip(tmp_path_factory: pytest.TempPathFactory, mask: np.ndarray) -> None:
    folder = tmp_path_factory.getbasetemp()
    for name, data in {"m.png": encode_mask_png(mask), "m.nii.gz": encode_mask_nifti(mask)}.items():
        (folder / name).write_bytes(data)
        assert np.array_equal(read_mask(folder / name), mask)


# --- NIfTI ------------------------------------------------------------------------------------------------------------


def nifti(volume: Any) -> bytes:
    return nib.Nifti1Image(volume, np.eye(4)).to_bytes()


def test_nifti_layout_is_that_of_itk() -> None:
    data = encode_mask_nifti(TRUTH)
    volume = nib.Nifti1Image.from_bytes(gzip.decompress(data))
    assert volume.shape == (16, 24, 1)
    assert volume.get_data_dtype() == np.uint8
    assert volume.affine.tolist() == np.diag([-1.0, -1.0, 1.0, 1.0]).tolist()
    assert np.asarray(volume.dataobj)[5, 2, 0] == TRUTH[2, 5] == 1
    assert encode_mask_nifti(TRUTH) == data, "no time stamp"


@pytest.mark.parametrize("name", ["m.nii", "m.nii.gz", "M.NII", "M.NII.GZ"])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32, np.float64])
@pytest.mark.parametrize("top", [1, 100])
def test_nifti_masks_of_other_tools(save: Callable[..., Path], name: str, kind: type, top: int) -> None:
    for volume in (TRUTH.T, TRUTH.T[:, :, None]):
        data = nifti(np.ascontiguousarray(volume * top).astype(kind))
        packed = gzip.compress(data) if name.lower().endswith(".gz") else data
        assert np.array_equal(read_mask(save(name, packed)), TRUTH)


VOLUME = np.zeros((5, 4, 1), np.float32)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (nifti(VOLUME - 1), "has negative values"),
        (nifti(VOLUME - 1e30), "has negative values"),
        (nifti(VOLUME + np.float32("nan")), "not a finite two-dimensional mask"),
        (nifti(VOLUME + np.float32("inf")), "not a finite two-dimensional mask"),
        (nifti(np.zeros((5, 4, 3), np.uint8)), r"two-dimensional mask: uint8, shape \(5, 4, 3\)"),
        (nifti(np.zeros((5, 4, 1, 2), np.uint8)), r"two-dimensional mask: uint8, shape \(5, 4, 1, 2\)"),
        (nifti(np.zeros(5, np.uint8)), "two-dimensional mask"),
        (nifti(np.zeros((5, 4), np.complex64)), "mask: complex64"),
        (nifti(np.zeros((5, 4), [(band, "u1") for band in "RGB"])), "two-dimensional mask"),
        (nifti(np.array([[0, 1, 2]] * 3, np.uint8)), "values 0, 1, 2"),
        (gzip.compress(nifti(VOLUME))[:-30], "damaged NIfTI"),
        (encode_mask_nifti(TRUTH)[:40] + b"\xff" * 20 + encode_mask_nifti(TRUTH)[60:], "damaged NIfTI"),
        (b"\x1f\x8b", "damaged NIfTI"),
        (nifti(VOLUME)[:100], "damaged NIfTI"),
        (nifti(VOLUME)[:-20], "damaged NIfTI"),
        (b"not a NIfTI file at all" * 40, "damaged NIfTI"),
        (encoded(GREY, "PNG"), "damaged NIfTI"),
    ],
)
def test_bad_nifti(save: Callable[..., Path], data: bytes, reason: str) -> None:
    path = save("m.nii.gz", data)
    with pytest.raises(ImageError, match=reason) as caught:
        read_mask(path)
    assert str(path) in caught.value.message


@settings(max_examples=150, deadline=None)
@given(
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 360), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(1, 800),
)
def test_damaged_nifti_is_an_image_error_or_a_mask(
    tmp_path_factory: pytest.TempPathFactory, packed: bool, damage: list[tuple[int, int]], cut: int
) -> None:
    raw = bytearray(encode_mask_nifti(TRUTH) if packed else gzip.decompress(encode_mask_nifti(TRUTH)))
    for place, value in damage:
        raw[place % len(raw)] = value
    path = tmp_path_factory.getbasetemp() / "damaged.nii.gz"
    path.write_bytes(raw[:cut])
    with contextlib.suppress(ImageError):
        assert read_mask(path).dtype == np.bool_


def test_a_packed_bomb_is_not_unpacked(save: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_BYTES", 2**20)
    path = save("bomb.nii.gz", gzip.compress(bytes(2**25)))
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match="unpacks to over 1,048,576 bytes"):
            read_mask(path)
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


# --- resizing ---------------------------------------------------------------------------------------------------------

sides = st.integers(1, 24)


@given(masks, sides, sides)
def test_resized_masks_make_up_no_labels(mask: np.ndarray, height: int, width: int) -> None:
    small = resize_mask(mask, height, width)
    assert small.shape == (height, width)
    assert small.dtype == np.bool_
    assert set(np.unique(small)) <= set(np.unique(mask))
    assert np.array_equal(resize_mask(mask, *mask.shape), mask)


@given(masks, st.integers(1, 4), st.integers(1, 4))
def test_enlarged_masks_are_repeated_pixels(mask: np.ndarray, down: int, across: int) -> None:
    large = resize_mask(mask, mask.shape[0] * down, mask.shape[1] * across)
    assert np.array_equal(large, mask.repeat(down, 0).repeat(across, 1))


@given(
    hnp.arrays(np.uint8, st.tuples(sides, sides, st.just(3))),
    sides,
    sides,
)
def test_resized_photos_stay_in_range(photo: np.ndarray, height: int, width: int) -> None:
    small = resize_photo(photo, height, width)
    assert small.shape == (height, width, 3)
    assert small.dtype == np.uint8
    assert (small.min((0, 1)) >= photo.min((0, 1))).all()
    assert (small.max((0, 1)) <= photo.max((0, 1))).all()
    assert np.array_equal(resize_photo(photo, *photo.shape[:2]), photo)


@given(hnp.arrays(np.bool_, st.tuples(*[st.integers(1, 8).map((3).__mul__)] * 2)))
def test_masks_shrink_to_the_pixels_in_the_middle(mask: np.ndarray) -> None:
    small = resize_mask(mask, mask.shape[0] // 3, mask.shape[1] // 3)
    assert np.array_equal(small, mask[1::3, 1::3])


def test_photos_are_antialiased() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    small = resize_photo(stripes, 16, 16).astype(int)
    assert np.abs(small[:, 2:-2] - 127.5).max() < 20


@given(hnp.arrays(np.float32, st.tuples(sides, sides), elements=st.floats(0, 1, width=32)), sides, sides)
def test_resized_probabilities_stay_in_range(probability: np.ndarray, height: int, width: int) -> None:
    resized = resize_probability(probability, height, width)
    assert resized.shape == (height, width)
    assert resized.dtype == np.float32
    assert resized.min() >= max(0, probability.min() - 1e-6)
    assert resized.max() <= min(1, probability.max() + 1e-6)


@settings(max_examples=50)
@given(hnp.arrays(np.float32, st.tuples(st.integers(2, 9), st.integers(2, 9)), elements=st.floats(0, 1, width=32)))
def test_probability_round_trip(tmp_path_factory: pytest.TempPathFactory, probability: np.ndarray) -> None:
    path = tmp_path_factory.getbasetemp() / "p.png"
    path.write_bytes(encode_probability_png(probability))
    again = read_probability(path)
    assert again.dtype == np.float32
    assert np.abs(again - probability).max() <= 0.5 / 255 + 1e-6
    assert 0 <= again.min() <= again.max() <= 1


def test_only_grey_pictures_are_probabilities(save: Callable[..., Path]) -> None:
    with pytest.raises(ImageError, match="not an 8-bit grey picture"):
        read_probability(save("p.png", encoded(RGB, "PNG")))
    with pytest.raises(ImageError, match="damaged"):
        read_probability(save("p.png", encode_probability_png(np.zeros((50, 50), np.float32))[:50]))


def test_jpegs_carry_nothing_but_pixels() -> None:
    with Image.open(io.BytesIO(encode_jpeg(RGB))) as picture:
        assert picture.format == "JPEG"
        assert picture.size == (20, 30)
        assert not picture.getexif()
        assert "icc_profile" not in picture.info
        assert "comment" not in picture.info


# --- writing ----------------------------------------------------------------------------------------------------------


def test_write_makes_folders_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.bin"
    write_atomic(path, b"one")
    write_atomic(path, b"")
    assert path.read_bytes() == b""
    write_atomic(path, b"three")
    assert path.read_bytes() == b"three"
    assert [entry.name for entry in path.parent.iterdir()] == ["c.bin"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_follow_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_atomic(tmp_path / "x", b"x")
        assert os.umask(umask) == umask, "reading the umask left it alone"
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == mode


def test_a_parent_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"precious")
    for path in (tmp_path / "file" / "x.png", tmp_path / "file" / "deeper" / "x.png"):
        with pytest.raises(OutputError, match="cannot be written") as caught:
            write_atomic(path, b"x")
        assert str(path) in caught.value.message
        assert "None" not in caught.value.message
    assert (tmp_path / "file").read_bytes() == b"precious"


def test_a_target_that_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "x.png").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        write_atomic(tmp_path / "x.png", b"x")
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.png"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "x.png"
    write_atomic(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(*((os, "fsync") if step == "fsync" else (Path, "replace")), fail)
        with pytest.raises(OutputError, match="No space left on device"):
            write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.png"]


def test_readers_only_ever_see_whole_files(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    contents = [bytes([value]) * 200_000 for value in range(4)]
    write_atomic(path, contents[0])
    writers = [threading.Thread(target=lambda c=c: [write_atomic(path, c) for _ in range(5)]) for c in contents]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert path.read_bytes() in contents
    assert path.read_bytes() in contents
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.bin"]


# --- real photos ------------------------------------------------------------------------------------------------------


@pytest.mark.real
def test_scaled_decoding_hardly_changes_resized_photos() -> None:
    photos = sorted((Path(os.environ["LESIONSEG_DATA"]) / "photos").glob("*.jpg"))
    chosen = photos[::3][:20]
    assert len(chosen) == 20
    means = []
    for path in chosen:
        data = path.read_bytes()
        full, fast = decode_photo(data, str(path)), decode_photo(data, str(path), at_least=(256, 256))
        assert (fast.height, fast.width) == full.pixels.shape[:2]
        assert fast.pixels.size < full.pixels.size / 3.9
        small, quick = (resize_photo(photo.pixels, 128, 128).astype(int) for photo in (full, fast))
        means.append(np.abs(small - quick).mean())
    assert max(means) < 1.1, "grey levels of 255"
    assert np.mean(means) < 0.5


def test_suffixes_are_lower_case_with_a_dot() -> None:
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in IMAGE_SUFFIXES)
