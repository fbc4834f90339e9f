"""What stands around a predictor passes everything else on."""

import numpy as np

from lesionseg.data.labels import BINARY
from lesionseg.inference.wrapped import Wrapped


class Brightness:
    """A predictor whose probability of a pixel is its red value; enough to see what is done around it."""

    name, checkpoint, sha256, labels, height, width = "red", "epoch-0001", "ab" * 32, BINARY, 4, 6

    def infer(self, batch):
        return batch[..., 0].astype(np.float32) / 255

    def infer_classes(self, batch):
        red = self.infer(batch)[:, None]
        return np.concatenate((1 - red, red), axis=1)


def photos(count: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 4, 6, 3), np.uint8)


def test_everything_is_passed_on_but_the_digest() -> None:
    inner = Brightness()
    outer = Wrapped(inner, "more")
    for name in ("name", "checkpoint", "labels", "height", "width"):
        assert getattr(outer, name) == getattr(inner, name)
    assert len({inner.sha256, outer.sha256, Wrapped(inner, "other").sha256}) == 3
    assert outer.sha256 == Wrapped(Brightness(), "more").sha256
    batch = photos()
    assert np.array_equal(outer.infer(batch), inner.infer(batch))
    assert np.array_equal(outer.infer_classes(batch), inner.infer_classes(batch))
