"""decode, infer, encode, and the helpers around them."""

import gzip
import hashlib
import io
import threading
from concurrent.futures import ThreadPoolExecutor

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from lesionseg.errors import ConfigError, ImageError
from lesionseg.inference.stages import (
    OUTPUTS,
    Decoded,
    PredictOptions,
    decode,
    encode,
    infer,
    overlapped,
)


def file_of(pixels, kind="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def pixels_of(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def photo(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def decoded_photo(height, width):
    return decode(file_of(photo(height, width)), "x.png", 32, 32)


def test_decode_gives_the_models_size_and_keeps_the_photos():
    data = file_of(photo(90, 120))
    decoded = decode(data, "x.png", 32, 64)
    assert decoded.pixels.shape == (32, 64, 3)
    assert decoded.pixels.dtype == np.uint8
    assert (decoded.width, decoded.height) == (120, 90)
    assert decoded.sha256 == hashlib.sha256(data).hexdigest()
    expected = np.asarray(Image.fromarray(photo(90, 120)).resize((64, 32), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(decoded.pixels, expected)


def test_a_reduced_decoding_of_a_large_jpeg_moves_pixels_by_little():
    rows, columns = np.mgrid[:800, :1200]
    lesion = (rows - 400) ** 2 + (columns - 600) ** 2 < 300**2
    skin = np.where(lesion[..., None], (90, 50, 40), (220, 180, 160)).astype(np.uint8)
    skin[columns // 40 % 5 == 0] = (30, 20, 20)
    data = file_of(skin, "JPEG", quality=95)
    decoded = decode(data, "x.jpg", 64, 64)
    full = np.asarray(Image.open(io.BytesIO(data)).resize((64, 64), Image.Resampling.BILINEAR))
    assert (decoded.width, decoded.height) == (1200, 800)
    difference = np.abs(decoded.pixels.astype(int) - full)
    # A reduction to less than twice the size would move them by 5.
    assert 0 < difference.max() <= 3


def test_an_exif_turned_photo_is_upright_in_every_output():
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = np.full((40, 80, 3), 200, np.uint8)
    stored[:, :20] = 20
    decoded = decode(file_of(stored, "JPEG", exif=exif), "x.jpg", 32, 32)
    assert (decoded.width, decoded.height) == (40, 80)
    # A turn by 90 degrees clockwise brings the left side to the top.
    assert decoded.pixels[:4].mean() < 60 < decoded.pixels[-4:].mean()
    pictures = ("_segmentation.png", "_probability.png", "_overlay.jpg", "_heat.jpg", "_focus.jpg")
    encoded = encode(decoded, np.ones((32, 32), np.float32), 0.5, OUTPUTS)
    assert b'viewBox="0 0 40 80"' in encoded.files["_segmentation.svg"]
    assert {pixels_of(d).shape[:2] for e, d in encoded.files.items() if e in pictures} == {(80, 40)}


def test_a_damaged_photo_is_named():
    data = file_of(photo(90, 120), "JPEG")
    with pytest.raises(ImageError, match=r"x\.jpg is damaged"):
        decode(data[: len(data) // 2], "x.jpg", 32, 32)


def test_the_probability_is_resampled_before_it_is_thresholded():
    low, high = 0.4, 1.0
    encoded = encode(decoded_photo(8, 8), np.array([[high, low], [low, low]], np.float32), 0.5, ["_segmentation.png"])
    # Bilinear weights of the first of two cells, at the centres of eight pixels.
    weight = np.array([1, 1, 0.875, 0.625, 0.375, 0.125, 0, 0])
    expected = low + (high - low) * np.outer(weight, weight) >= 0.5
    mask = pixels_of(encoded.files["_segmentation.png"]) == 255
    np.testing.assert_array_equal(mask, expected)
    # The other order would keep a square of a quarter of the photo.
    assert expected.sum() > 16


def test_masks_hold_0_and_255_at_the_photos_size():
    probability = np.random.default_rng(1).random((32, 32), np.float32)
    mask = pixels_of(encode(decoded_photo(50, 70), probability, 0.5, ["_segmentation.png"]).files["_segmentation.png"])
    assert mask.shape == (50, 70)
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) == {0, 255}


def test_nifti_and_png_hold_the_same_mask():
    probability = np.random.default_rng(2).random((32, 32), np.float32)
    files = encode(decoded_photo(50, 70), probability, 0.5, OUTPUTS).files
    volume = nib.Nifti1Image.from_bytes(gzip.decompress(files["_segmentation.nii.gz"]))
    array = np.asarray(volume.dataobj)
    assert array.shape == (70, 50, 1)
    np.testing.assert_array_equal(array[:, :, 0].T == 1, pixels_of(files["_segmentation.png"]) == 255)


def test_numbers_are_those_of_the_mask():
    probability = np.zeros((10, 20), np.float32)
    probability[:, :5] = 0.75
    probability[:, 5:10] = 0.25
    encoded = encode(decoded_photo(10, 20), probability, 0.5, [])
    assert encoded.files == {}
    assert encoded.lesion_pixels == 50
    assert encoded.lesion_fraction == 0.25
    assert encoded.mean_probability == 0.75
    empty = encode(decoded_photo(10, 20), probability, 0.8, [])
    assert (empty.lesion_pixels, empty.lesion_fraction, empty.mean_probability) == (0, 0, None)


def test_a_pixel_at_the_threshold_is_lesion():
    assert encode(decoded_photo(10, 20), np.full((10, 20), 0.5, np.float32), 0.5, []).lesion_pixels == 200


def test_probability_and_overlay_pictures():
    probability = np.zeros((10, 20), np.float32)
    probability[:, :10] = 0.8
    files = encode(decoded_photo(10, 20), probability, 0.5, OUTPUTS).files
    grey = pixels_of(files["_probability.png"])
    assert grey.shape == (10, 20)
    assert (grey[:, :10] == 204).all()
    assert (grey[:, 10:] == 0).all()
    assert pixels_of(files["_overlay.jpg"]).shape == (10, 20, 3)
    assert files["_overlay.jpg"][:3] == b"\xff\xd8\xff"


def test_infer_asks_for_one_photo_at_a_time():
    class Halving:
        def infer(self, batch):
            assert batch.shape == (1, 32, 32, 3)
            return batch[..., 0].astype(np.float32) / 510

    decoded = Decoded("x", np.full((32, 32, 3), 255, np.uint8), 5, 5, "", b"")
    np.testing.assert_array_equal(infer(decoded, Halving()), np.full((32, 32), 0.5, np.float32))


def test_wrong_options_are_refused():
    with pytest.raises(ConfigError, match=r"'gif'.*\n.*png, nifti"):
        PredictOptions(formats=("gif", "png", "bmp"))
    for threshold in (-0.1, 1.1, float("nan")):
        with pytest.raises(ConfigError, match="threshold"):
            PredictOptions(threshold=threshold)


def test_endings_are_those_asked_for():
    assert dict(PredictOptions().endings) == {"mask": "_segmentation.png"}
    everything = PredictOptions(formats=("nifti",), overlays=("contour",), save_probabilities=True).endings
    assert list(everything.values()) == ["_segmentation.nii.gz", "_probability.png", "_overlay.jpg"]
    assert set(everything.values()) <= set(OUTPUTS)


def test_overlapped_keeps_the_order_and_its_bound():
    started, lock, most = 0, threading.Lock(), 0

    def items():
        nonlocal started
        for number in range(30):
            started += 1
            yield number

    with ThreadPoolExecutor(3) as pool:
        results = []
        for result in overlapped(pool, lambda n: n * n, items(), 4):
            with lock:
                most = max(most, started - len(results))
            results.append(result)
    assert results == [n * n for n in range(30)]
    assert most == 4


def test_overlapped_drops_no_error():
    def work(number):
        if number == 2:
            raise KeyError("two")
        return number

    seen = []
    with ThreadPoolExecutor(2) as pool, pytest.raises(KeyError, match="two"):  # noqa: PT012
        for result in overlapped(pool, work, range(10), 4):
            seen.append(result)  # noqa: PERF402
    assert seen == [0, 1]


def test_bits_of_a_mask():
    assert PredictOptions(bits=1).settings == "bits=1"
    assert PredictOptions(formats=("nifti",), bits=1).settings == ""
    with pytest.raises(ConfigError, match="2 bits"):
        PredictOptions(bits=2)
    encoded = encode(decoded_photo(50, 70), np.full((32, 32), 0.9, np.float32), 0.5, OUTPUTS, bits=1)
    assert Image.open(io.BytesIO(encoded.files["_segmentation.png"])).mode == "1"
