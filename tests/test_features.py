import numpy as np
import pytest
import torch

from lesionseg.data.loader import PairDataset
from lesionseg.data.transforms import augmentation
from lesionseg.errors import ConfigError, ResourceError
from lesionseg.models import Encoder, EncoderSpec
from lesionseg.training import features
from lesionseg.training.features import FeatureDataset, features_of, require_cacheable


def pairs(tiny, *words):
    rng = np.random.default_rng(0)
    config = tiny.config(*words)
    photos = rng.integers(0, 256, (5, 32, 64, 3), np.uint8)
    masks = rng.integers(0, 2, (5, 1, 32, 64)).astype(np.uint8)
    return PairDataset(photos, masks, augmentation(config.data, 0))


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return Encoder(EncoderSpec()).freeze()


@pytest.mark.long
@pytest.mark.parametrize("words", [("data.flip=0.5",), ("data.flip=0",)])
def test_features_are_those_of_the_very_picture(tiny, encoder, words):
    source = pairs(tiny, *words)
    seen = []
    cached = FeatureDataset(source, encoder, lambda *counts: seen.append(counts))
    assert seen[-1] == ((20, 20) if source.augment else (5, 5))
    looks = set()
    for epoch in range(6):
        for index in range(len(source)):
            plain, item = source[epoch, index], cached[epoch, index]
            for key in ("image", "mask", "index"):
                assert torch.equal(plain[key], item[key]), key
            batch = {key: value[None] for key, value in item.items()}
            for tap, values in features_of(batch, torch.device("cpu"), torch.channels_last).items():
                expected = encoder(plain["image"][None])[tap]
                assert torch.allclose(values, expected, rtol=2e-3, atol=2e-3), tap
            looks.add(plain["image"].numpy().tobytes())
    assert len(looks) > 10 if source.augment else len(looks) == 5


def test_a_batch_without_features_has_none():
    assert features_of({"image": torch.zeros(1)}, torch.device("cpu"), torch.channels_last) == {}


def test_a_batch_is_its_items(tiny, encoder):
    cached = FeatureDataset(pairs(tiny), encoder)
    items = [(2, 3), (2, 0), (5, 4)]
    batch = cached.__getitems__(items)
    for row, item in enumerate(items):
        assert all(torch.equal(batch[key][row], value) for key, value in cached[item].items())


def test_what_cannot_be_kept_is_listed(tiny):
    require_cacheable(tiny.config("optim.encoder_lr=0"))
    with pytest.raises(ConfigError) as caught:
        require_cacheable(tiny.config("data.hair=0.5", "data.rotate=10"))
    assert [problem.split("=")[0] for problem in caught.value.problems] == [
        "optim.encoder_lr",
        "data.rotate",
        "data.hair",
    ]


def test_too_little_memory_is_told_before_it_is_taken(tiny, encoder, monkeypatch):
    monkeypatch.setattr(features, "machine_memory", lambda: 256 * 256)
    with pytest.raises(ResourceError, match="GiB"):
        FeatureDataset(pairs(tiny), encoder)
