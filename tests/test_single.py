from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import lesionseg
from lesionseg import api
from lesionseg.data.images import decode_photo, encode_photo_png, fit_photo, read_image, resize_probability
from lesionseg.errors import ConfigError, ImageError
from lesionseg.inference.flips import Flipped
from lesionseg.inference.focus import draw_focus
from lesionseg.inference.overlay import draw_outline
from lesionseg.inference.predictor import Predictor


@pytest.fixture(scope="module", params=["run", "file"])
def model(request: pytest.FixtureRequest, exported: tuple[Path, Path]) -> Predictor:
    run, file = exported
    return api.load(str(run) if request.param == "run" else file)


@pytest.fixture
def photo(tiny) -> Path:
    return sorted(tiny.folders.test_images.glob("*.jpg"))[0]


def test_a_path_gives_what_the_folder_gives(model: Predictor, photo: Path, exported, tmp_path: Path) -> None:
    prediction = model.predict(photo)
    assert prediction.case_id == photo.stem
    assert prediction.probability.shape == (72, 96)
    if model.name == exported[0].name:
        api.predict(str(photo), str(exported[0]), str(tmp_path / "out"), lesionseg.PredictOptions(threshold=0.4))
        written = np.asarray(Image.open(tmp_path / "out" / f"{photo.stem}_segmentation.png")) > 0
        assert np.array_equal(written, prediction.mask(0.4))


def test_path_text_bytes_and_pixels_are_one_photo(model: Predictor, photo: Path, tmp_path: Path) -> None:
    pixels = read_image(photo)
    lossless = tmp_path / "same.png"
    lossless.write_bytes(encode_photo_png(pixels))
    first = model.predict(lossless)
    data = lossless.read_bytes()
    for other in (str(lossless), data, bytearray(data), memoryview(data), pixels, pixels[::-1][::-1]):
        again = model.predict(other)
        assert np.array_equal(again.probability, first.probability)
        assert np.array_equal(again.photo, pixels)
    assert model.predict(data).case_id == "photo"
    assert model.predict(data, "mine").case_id == model.predict(photo, "mine").case_id == "mine"


def test_it_draws_itself(model: Predictor, photo: Path) -> None:
    prediction = model.predict(photo)
    threshold = float(np.median(prediction.probability))
    mask = prediction.mask(threshold)
    assert 0 < mask.mean() < 1
    assert np.array_equal(prediction.outline(threshold), draw_outline(read_image(photo), mask))
    assert np.array_equal(prediction.focus(threshold), draw_focus(read_image(photo), mask))
    assert "source" not in repr(prediction), "a photo's bytes say nothing at a prompt"


@pytest.mark.parametrize(
    ("pixels", "told"),
    [
        (np.zeros((8, 9), np.uint8), "uint8 8 x 9"),
        (np.zeros((8, 9, 4), np.uint8), "uint8 8 x 9 x 4"),
        (np.zeros((8, 9, 3), np.float32), "float32 8 x 9 x 3"),
        (np.zeros((0, 9, 3), np.uint8), "uint8 0 x 9 x 3"),
    ],
)
def test_other_arrays_are_refused(model: Predictor, pixels: np.ndarray, told: str) -> None:
    with pytest.raises(ImageError, match=f"mine is an array of {told}, not of uint8 H x W x 3"):
        model.predict(pixels, "mine")


def test_what_is_no_photo_is_refused_by_name(model: Predictor, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"nowhere\.jpg"):
        model.predict(str(tmp_path / "nowhere.jpg"))
    with pytest.raises(ImageError, match="mine"):
        model.predict(b"no photo", "mine")


@pytest.mark.long
def test_the_model_before_training(tiny, tmp_path: Path) -> None:
    import torch

    run = tmp_path / "one"
    api.train(tiny.config("loop.epochs=1", "model.dropout=0.4"), run)
    start = api.load(run, checkpoint="start")
    state = torch.random.get_rng_state()
    assert api.load(run, checkpoint="start").sha256 == start.sha256
    assert not torch.equal(torch.random.get_rng_state(), state), "the caller's random numbers do not begin anew"
    best = api.load(run)
    assert (start.checkpoint, best.checkpoint) == ("epoch-0000", "epoch-0001")
    assert start.sha256 != best.sha256
    assert len(start.sha256) == 64
    photo = next(tiny.folders.test_images.glob("*.jpg"))
    assert not np.array_equal(start.predict(photo).probability, best.predict(photo).probability)
    # A longer run with the same seed starts from the same weights.
    api.train(tiny.config("loop.epochs=2", "model.dropout=0.4"), tmp_path / "two")
    assert api.load(tmp_path / "two", checkpoint="start").sha256 == start.sha256
    with pytest.raises(ConfigError, match="use one of: best, last, start"):
        api.load(run, checkpoint="first")


def test_wrapped_models_take_photos_too(model: Predictor, photo: Path) -> None:
    flipped = Flipped(model)
    small = fit_photo(decode_photo(photo.read_bytes(), "photo"), model.height, model.width)
    expected = resize_probability(flipped.infer(small[None])[0], 72, 96)
    assert np.array_equal(flipped.predict(photo).probability, expected)
