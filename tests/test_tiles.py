"""Tiles: MONAI's sliding window to the last digits, and a photo's size and borders kept."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.inferers import sliding_window_inference
from typer.testing import CliRunner

from lesionseg import api, cli
from lesionseg.data.images import read_mask
from lesionseg.data.labels import BINARY
from lesionseg.errors import ConfigError, ShapeError
from lesionseg.export.photos import generated_photos
from lesionseg.inference.predictor import load_predictor
from lesionseg.inference.tiles import Tiled, starts, tile_weights


@dataclass
class Grey:
    """Each pixel's own red as its probability, or whatever is made of a tile."""

    height: int = 16
    width: int = 24
    name: str = "grey"
    checkpoint: str = "epoch-0001"
    sha256: str = "0" * 64
    labels = BINARY

    def infer(self, batch):
        assert batch.shape[1:] == (self.height, self.width, 3)
        return (batch[..., 0] / 255).astype(np.float32)

    def infer_classes(self, batch):
        lesion = self.infer(batch)
        return np.stack((1 - lesion, lesion), axis=1)


class Placed(Grey):
    """Something that depends on where in the tile a pixel lies."""

    def infer(self, batch):
        return (super().infer(batch) * np.linspace(0, 1, self.width)).astype(np.float32)


def noise(count, height, width):
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


def with_monai(inner, batch):
    """MONAI on the mirrored photo, and the mirror images cut off again."""

    def infer(tiles):
        return torch.from_numpy(inner.infer(tiles.permute(0, 2, 3, 1).to(torch.uint8).numpy())[:, None])

    top, left = inner.height // 4, inner.width // 4
    padded = np.pad(batch, ((0, 0), (top, top), (left, left), (0, 0)), mode="reflect")
    images = torch.from_numpy(padded).permute(0, 3, 1, 2).float()
    size = (inner.height, inner.width)
    found = sliding_window_inference(images, size, 4, infer, overlap=0.5, mode="gaussian", padding_mode="reflect")
    return found[:, 0, top:-top, left:-left].numpy()


@pytest.mark.parametrize("factor", [1.3, 2, 3.5])
def test_it_is_monais_sliding_window(factor):
    tiled = Tiled(Placed(), factor)
    batch = noise(2, tiled.height, tiled.width)
    np.testing.assert_allclose(tiled.infer(batch), with_monai(tiled.inner, batch), atol=1e-5)


def test_it_is_monais_sliding_window_with_a_network(exported):
    tiled = Tiled(load_predictor(exported[0]), 2)
    photos = generated_photos(1, tiled.height, tiled.width)
    found = tiled.infer(photos)
    assert found.shape == (1, 128, 192)
    np.testing.assert_allclose(found, with_monai(tiled.inner, photos), atol=1e-5)
    np.testing.assert_allclose(found, Tiled(load_predictor(exported[1]), 2).infer(photos), atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(factor=st.floats(1.01, 4), height=st.integers(8, 20), width=st.integers(8, 20))
def test_what_every_tile_agrees_on_stays(factor, height, width):
    tiled = Tiled(Grey(height, width), factor)
    assert abs(tiled.height - factor * height) <= 0.5
    batch = noise(1, tiled.height, tiled.width)
    np.testing.assert_allclose(tiled.infer(batch), batch[..., 0] / 255, atol=1e-5)
    classes = tiled.infer_classes(batch)
    assert classes.shape == (1, 2, tiled.height, tiled.width)
    np.testing.assert_allclose(classes.sum(1), 1, atol=1e-5)


@given(length=st.integers(1, 500), tile=st.integers(1, 100))
def test_tiles_cover_a_side_and_overlap(length, tile):
    length = max(length, tile)
    found = starts(length, tile)
    assert found[0] == 0
    assert found[-1] == length - tile
    assert all(0 < b - a <= max(1, tile // 2) for a, b in pairwise(found))


def test_weights_fall_from_the_middle_and_never_vanish():
    weights = tile_weights(33, 65)
    assert weights[16, 32] == weights.max() == 1
    assert weights.min() == np.float32(1e-3)
    np.testing.assert_array_equal(weights, weights[::-1, ::-1])


def test_a_tiled_model_is_another_one():
    one, two = Tiled(Grey(), 2), Tiled(Grey(), 3)
    assert len({Grey().sha256, one.sha256, two.sha256}) == 3
    assert (one.name, one.height, one.width) == ("grey", 32, 48)


@pytest.mark.parametrize("factor", [1, 0, -2, 17, float("nan"), float("inf")])
def test_factors_that_make_no_sense(factor):
    with pytest.raises(ConfigError, match="over 1"):
        Tiled(Grey(), factor)


def test_other_sizes_are_refused():
    with pytest.raises(ShapeError, match="32 x 48"):
        Tiled(Grey(), 2).infer(noise(1, 16, 24))


def test_predict_in_tiles(exported, tiny, tmp_path):
    words = ["predict", str(tiny.folders.test_images), "--model", str(exported[1]), "--tile", "2"]
    for _ in range(2):
        result = CliRunner().invoke(cli.app, [*words, "--output", str(tmp_path / "out")], catch_exceptions=False)
    assert "4 reused" in result.output
    plain = api.predict(tiny.folders.test_images, exported[1], tmp_path / "out")
    assert plain.done == 4, "masks without tiles are not taken for those with them"
    (photo, *_) = sorted((tmp_path / "out").glob("*.png"))
    assert read_mask(photo).shape == (72, 96)
    with pytest.raises(ConfigError, match="over 1"):
        CliRunner().invoke(cli.app, [*words[:-1], "0.5", "--output", str(tmp_path)], catch_exceptions=False)
