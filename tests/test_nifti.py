"""NIfTI masks: the layout that other tools expect, and headers that lie."""

import contextlib
import gzip
import itertools
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import TRUTH, nifti

from lesionseg.data.images import decode_mask, encode_mask_nifti, read_mask
from lesionseg.errors import ImageError


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


TURNS = [(transposed, flips) for transposed in (False, True) for flips in itertools.product((False, True), repeat=2)]


@pytest.mark.parametrize(("transposed", "flips"), TURNS)
@pytest.mark.parametrize("coded", ["sform", "qform", "both"])
@pytest.mark.parametrize("spacing", [1.0, 0.07])
def test_axes_are_turned_as_the_affine_says(
    save: Callable[..., Path], transposed: bool, flips: tuple[bool, bool], coded: str, spacing: float
) -> None:
    volume = nib.Nifti1Image(TRUTH.T[:, :, None].astype(np.uint8), np.diag([-spacing, -spacing, 1, 1]))
    # Nibabel turns the values and the affine together.
    signs = [-1 if flip else 1 for flip in flips]
    steps = [[1 if transposed else 0, signs[0]], [0 if transposed else 1, signs[1]], [2, 1]]
    turned = volume.as_reoriented(steps)
    assert (turned.shape == (24, 16, 1)) == transposed
    affine = turned.affine.copy()
    turned.set_sform(affine if coded != "qform" else None, code=1 if coded != "qform" else 0)
    turned.set_qform(affine if coded != "sform" else None, code=1 if coded != "sform" else 0)
    mask = decode_mask(turned.to_bytes(), "m.nii")
    assert np.array_equal(mask.values, TRUTH)
    assert mask.warnings == ()


def test_the_canonical_axes_of_nibabel_are_turned() -> None:
    volume = nib.Nifti1Image.from_bytes(gzip.decompress(encode_mask_nifti(TRUTH)))
    assert np.array_equal(decode_mask(nib.as_closest_canonical(volume).to_bytes(), "m").values, TRUTH)


def test_a_header_that_says_nothing_of_the_axes_is_told() -> None:
    unknown = nib.Nifti1Image(TRUTH.T.astype(np.uint8), np.diag([1.0, 1, 1, 1]))
    unknown.set_sform(np.diag([2.0, 2, 1, 1]), code=0)
    for data in (nifti(TRUTH.T.astype(np.uint8), np.eye(4)), unknown.to_bytes()):
        mask = decode_mask(data, "m.nii")
        assert np.array_equal(mask.values, TRUTH)
        assert ["affine" in line for line in mask.warnings] == [True]


def rotated(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[-c, s, 0, 0], [-s, -c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


SAGITTAL = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
FLAT = np.diag([0.0, -1, 1, 1])


@pytest.mark.parametrize("affine", [rotated(45), rotated(5), rotated(0.5), SAGITTAL, FLAT])
def test_oblique_and_other_planes_are_refused(affine: np.ndarray) -> None:
    raw = bytearray(nifti(TRUTH.T.astype(np.uint8)))
    struct.pack_into("<12f", raw, 280, *affine[:3].ravel())
    with pytest.raises(ImageError, match="not in the plane of the photo: its affine is oblique") as caught:
        decode_mask(bytes(raw), "m.nii")
    assert "diag(-1, -1, 1, 1)" in caught.value.fix


def test_a_rounded_affine_is_not_oblique() -> None:
    assert np.array_equal(decode_mask(nifti(TRUTH.T.astype(np.uint8), rotated(0.01)), "m").values, TRUTH)


def test_affines_that_contradict_each_other_are_refused() -> None:
    volume = nib.Nifti1Image(TRUTH.T.astype(np.uint8), np.diag([-1.0, -1, 1, 1]))
    volume.set_qform(np.diag([1.0, -1, 1, 1]), code=1)
    with pytest.raises(ImageError, match="two affines, sform and qform, that contradict"):
        decode_mask(volume.to_bytes(), "m.nii")


def test_an_affine_that_is_not_finite_is_refused() -> None:
    raw = bytearray(nifti(TRUTH.T.astype(np.uint8)))
    struct.pack_into("<f", raw, 280, float("nan"))
    with pytest.raises(ImageError, match="affine that is not finite"):
        decode_mask(bytes(raw), "m.nii")


VOLUME = np.zeros((5, 4, 1), np.float32)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (nifti(VOLUME - 1), "has negative values"),
        (nifti(VOLUME - 1e30), "has negative values"),
        (nifti(VOLUME + np.float32("nan")), "holds NaN or infinity"),
        (nifti(VOLUME + np.float32("inf")), "holds NaN or infinity"),
        (nifti(np.zeros((5, 4, 3), np.uint8)), r"two-dimensional mask: uint8, shape \(5, 4, 3\)"),
        (nifti(np.zeros((5, 4, 1, 2), np.uint8)), r"two-dimensional mask: uint8, shape \(5, 4, 1, 2\)"),
        (nifti(np.zeros(5, np.uint8)), "two-dimensional mask"),
        (nifti(np.zeros((5, 4), np.complex64)), "mask: data type 32"),
        (nifti(np.zeros((5, 4), [(band, "u1") for band in "RGB"])), "two-dimensional mask"),
        (nifti(np.array([[0, 1, 2]] * 3, np.uint8)), "values 0, 1, 2"),
        (gzip.compress(nifti(VOLUME), mtime=0)[:-30], "damaged: "),
        (encode_mask_nifti(TRUTH)[:40] + b"\xff" * 20 + encode_mask_nifti(TRUTH)[60:], "damaged: "),
        (b"\x1f\x8b", "damaged: "),
        (nifti(VOLUME)[:100], "damaged: "),
        (nifti(VOLUME)[:-20], "damaged: "),
        (b"not a NIfTI file at all" * 40, "not a picture in a supported format"),
    ],
    ids=itertools.count(),
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


def bomb(side: int, *, size: int) -> bytes:
    """A header that tells a square of ``side``, followed by ``size`` zeros; packed."""
    head = bytearray(nifti(np.zeros((2, 2), np.uint8))[:352])
    struct.pack_into("<3h", head, 40, 2, side, side)
    return gzip.compress(bytes(head) + bytes(size), compresslevel=1, mtime=0)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (gzip.compress(bytes(2**27), compresslevel=1, mtime=0), "has no whole NIfTI header"),
        (bomb(30_000, size=2**27), "is 30000 x 30000, over 64,000,000 pixels"),
        (bomb(-1, size=2**27), r"not a two-dimensional mask: uint8, shape \(-1, -1\)"),
    ],
    ids=["no header", "large", "negative"],
)
def test_a_packed_bomb_is_not_unpacked(save: Callable[..., Path], data: bytes, reason: str) -> None:
    path = save("bomb.nii.gz", data)
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match=reason):
            read_mask(path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_zeros_behind_a_small_mask_are_not_unpacked(save: Callable[..., Path]) -> None:
    path = save("bomb.nii.gz", bomb(10, size=2**27))
    tracemalloc.start()
    try:
        assert read_mask(path).shape == (10, 10)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("slope", "shift", "expected"),
    [(1, 0, TRUTH), (0, 7, TRUTH), (float("nan"), 0, TRUTH), (2, 0, TRUTH), (-1, 1, ~TRUTH)],
)
def test_values_are_scaled_as_the_header_says(
    save: Callable[..., Path], slope: float, shift: float, expected: np.ndarray
) -> None:
    raw = bytearray(nifti(np.ascontiguousarray(TRUTH.T.astype(np.uint8))))
    struct.pack_into("<2f", raw, 112, slope, shift)
    assert np.array_equal(read_mask(save("m.nii", bytes(raw))), expected)


def test_both_byte_orders(save: Callable[..., Path]) -> None:
    volume = np.ascontiguousarray(TRUTH.T.astype(">i2"))
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(np.int16)
    data = nib.Nifti1Image(volume, np.eye(4), header).to_bytes()
    assert data[:4] == struct.pack(">i", 348)
    assert np.array_equal(read_mask(save("m.nii", data)), TRUTH)


def test_values_in_another_file_are_refused(save: Callable[..., Path]) -> None:
    raw = bytearray(nifti(VOLUME))
    raw[344:347] = b"ni1"
    with pytest.raises(ImageError, match="keeps its values in another file"):
        read_mask(save("m.hdr.nii", bytes(raw)))
