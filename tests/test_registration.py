import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from lesionseg.data.registration import Array, places, register, taper

SIDE = 48


def picture(seed: int) -> Array:
    """Smooth noise with detail of a few pixels."""
    noise = np.random.default_rng(seed).standard_normal((SIDE, SIDE))
    return gaussian_filter(noise, 2.5, mode="wrap").astype(np.float32) * 10


def warped(source: Array, transform: Array) -> Array:
    """What register should undo, computed another way: cubic interpolation."""
    from scipy.ndimage import map_coordinates

    target = places(SIDE) @ transform[:, :2].T + transform[:, 2]
    pixel = (target + 1) * (SIDE / 2) - 0.5
    return map_coordinates(source, [pixel[:, 1], pixel[:, 0]], order=3, mode="nearest").reshape(SIDE, SIDE)


def identity() -> Array:
    return np.eye(2, 3, dtype=np.float32)


def test_places_are_pixel_centres_from_minus_one_to_one() -> None:
    assert places(2).tolist() == [[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]]


def test_the_taper_is_one_in_the_middle_and_zero_in_corners_and_outside() -> None:
    assert taper(np.array([[0, 0], [0.5, 0], [0.95, 0.95], [1.01, 0]], np.float32)).tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize(
    "change",
    [
        [[0, 0, 0.08], [0, 0, -0.06]],
        [[0.05, 0.04, 0], [-0.04, 0.05, 0]],
        [[-0.06, 0.05, 0.03], [0.02, 0.03, 0.04]],
    ],
    ids=["shift", "turn and zoom", "affine"],
)
def test_a_small_change_is_found(change: list[list[float]]) -> None:
    source, truth = picture(0), identity() + np.array(change, np.float32)
    # Gain and offset must not matter.
    fixed = (0.3 * warped(source, truth) + 7).astype(np.float32)
    scores, found = register(source[None], fixed[None], identity()[None], steps=12, floors=(-1.0,))
    assert scores[0] > 0.98
    assert np.abs(found[0] - truth).max() < 0.01


def test_many_at_once_give_what_each_gives_alone() -> None:
    sources = np.stack([picture(seed) for seed in range(3)])
    truths = np.stack([identity() + np.float32(0.02 * k) for k in range(3)])
    fixed = np.stack([warped(s, t) for s, t in zip(sources, truths, strict=True)]).astype(np.float32)
    start = np.stack([identity()] * 3)
    scores, found = register(sources, fixed, start, steps=8, floors=(-1.0,))
    for k in range(3):
        one, alone = register(sources[k : k + 1], fixed[k : k + 1], start[:1], steps=8, floors=(-1.0,))
        assert scores[k] == pytest.approx(one[0], abs=1e-5)
        assert np.allclose(found[k], alone[0], atol=1e-4)


def test_strangers_stay_low_and_are_given_up_at_the_floor() -> None:
    one, other = picture(1)[None], picture(2)[None]
    scores, _ = register(one, other, identity()[None], steps=10, floors=(-1.0,))
    assert scores[0] < 0.5
    begun, kept = register(one, other, identity()[None], steps=10, floors=(0.9,))
    assert begun[0] < scores[0]
    assert np.array_equal(kept[0], identity())


def test_too_little_overlap_or_too_much_stretch_scores_minus_one() -> None:
    source = picture(3)[None]
    away, stretched = identity(), identity()
    away[0, 2], stretched[0, 0] = 1.5, 2.5
    for start in (away, stretched):
        assert register(source, source, start[None], steps=1, floors=(-1.0,))[0][0] == -1


def test_flat_pictures_do_no_harm() -> None:
    flat = np.zeros((1, SIDE, SIDE), np.float32)
    scores, found = register(flat, flat, identity()[None], steps=5, floors=(-1.0,))
    assert np.isfinite(scores).all()
    assert np.isfinite(found).all()
