"""The mean over mirror images."""

import numpy as np
from test_wrapped import Brightness, photos

from lesionseg.inference.flips import Flipped


class LeftRight(Brightness):
    """Adds a ramp from left to right that a mirror image does not turn."""

    def infer(self, batch):
        return (super().infer(batch) + np.linspace(0, 1, self.width, dtype=np.float32)) / 2


def test_what_turns_with_the_photo_stays_as_it_is() -> None:
    batch = photos()
    assert np.allclose(Flipped(Brightness()).infer(batch), Brightness().infer(batch))
    assert np.allclose(Flipped(Brightness()).infer_classes(batch), Brightness().infer_classes(batch))


def test_what_prefers_a_side_is_averaged() -> None:
    batch = photos()
    expected = (Brightness().infer(batch) + 0.5) / 2
    found = Flipped(LeftRight()).infer(batch)
    assert found.dtype == np.float32
    assert np.allclose(found, expected, atol=1e-6)
    assert not np.allclose(LeftRight().infer(batch), expected, atol=0.1)


def test_views_are_turned_back_and_the_first_is_the_photo() -> None:
    batch = photos()
    views = Flipped(LeftRight()).views(batch)
    assert views.shape == (4, *batch.shape[:3])
    assert np.array_equal(views[0], LeftRight().infer(batch))
    mirrored = LeftRight().infer(np.ascontiguousarray(batch[:, :, ::-1]))[:, :, ::-1]
    assert np.array_equal(views[1], mirrored)


def test_results_with_and_without_are_told_apart() -> None:
    assert Flipped(Brightness()).sha256 != Brightness.sha256
