"""The generator: pure, varied, exact masks, and a data set on disk that matches them."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from lesionseg.data import synthetic
from lesionseg.data.artefacts import ARTEFACTS, noise, smoothstep
from lesionseg.data.synthetic import CasePlan, DatasetFolders, SyntheticCase, draw_plan, generate, write_dataset
from lesionseg.errors import OutputError


@pytest.fixture(scope="module")
def plans() -> list[CasePlan]:
    return [draw_plan(np.random.default_rng((0, index))) for index in range(600)]


@pytest.fixture(scope="module")
def cases() -> list[SyntheticCase]:
    return [generate(1, index) for index in range(40)]


def _bytes(folders: DatasetFolders) -> dict[str, bytes]:
    places = (folders.train_images, folders.train_masks, folders.test_images, folders.test_masks)
    return {f"{place.name}/{file.name}": file.read_bytes() for place in places for file in sorted(place.glob("[!.]*"))}


# --- generate ---------------------------------------------------------------------------------------------------------


def test_same_arguments_give_the_same_case() -> None:
    first, again = generate(3, 5), generate(3, 5)
    assert first.pair.case_id == "SYNTH_0000005"
    assert first.pair.image.tobytes() == again.pair.image.tobytes()
    assert first.pair.mask.tobytes() == again.pair.mask.tobytes()
    assert (first.skin_type, first.artefacts) == (again.skin_type, again.artefacts)


def test_global_random_state_plays_no_part() -> None:
    np.random.seed(0)  # noqa: NPY002 - the point of the test
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    first = generate(3, 5).pair.image
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    assert np.array_equal(first, generate(3, 5).pair.image)


@pytest.mark.parametrize("other", [(3, 4), (3, 6), (4, 5), (5, 3)])
def test_another_index_or_seed_gives_another_case(other: tuple[int, int]) -> None:
    first, second = generate(3, 5).pair, generate(*other).pair
    assert not np.array_equal(first.mask, second.mask)
    assert np.abs(first.image.astype(int) - second.image.astype(int)).mean() > 1


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32), index=st.integers(0, 10**6), width=st.integers(32, 160), height=st.integers(32, 160))
def test_mask_is_one_region_neither_empty_nor_full(seed: int, index: int, width: int, height: int) -> None:
    case = generate(seed, index, width=width, height=height)
    mask = case.pair.mask
    assert case.pair.image.shape == (height, width, 3)
    assert case.pair.image.dtype == np.uint8
    assert mask.shape == (height, width)
    assert mask.dtype == np.bool_
    assert 0 < mask.sum() < mask.size
    assert ndimage.label(mask)[1] == 1
    assert np.array_equal(ndimage.binary_fill_holes(mask), mask)
    assert case.lesion_fraction == mask.mean()


@pytest.mark.long
@pytest.mark.parametrize("fraction", [0.01, 0.2, 0.8])
def test_mask_covers_the_planned_share(monkeypatch: pytest.MonkeyPatch, fraction: float) -> None:
    monkeypatch.setattr(synthetic, "draw_plan", lambda rng: replace(draw_plan(rng), fraction=fraction))
    covered = [generate(0, index).lesion_fraction for index in range(12)]
    # Dropped islands and filled holes move single cases a little.
    assert np.median(covered) == pytest.approx(fraction, rel=0.02)
    assert max(covered) < fraction * 1.1


def test_single_region_keeps_the_largest_and_fills_holes_but_not_bays() -> None:
    inside = np.zeros((7, 9), bool)
    inside[1:6, 1:6] = True
    inside[3, 3] = False  # a hole
    inside[1, 7] = True  # an island
    inside[5, 6] = True
    inside[6, 7] = True  # touches by a corner only
    expected = np.zeros((7, 9), bool)
    expected[1:6, 1:6] = True
    expected[5, 6] = True
    assert np.array_equal(synthetic._single_region(inside), expected)


def test_single_region_keeps_what_the_frame_cuts_off_open() -> None:
    inside = np.ones((6, 9), bool)
    inside[0, :4] = inside[5, 6:] = False
    assert np.array_equal(synthetic._single_region(inside), inside)


def test_single_region_is_never_full() -> None:
    ring = np.ones((5, 5), bool)
    ring[2, 2] = False
    assert np.array_equal(synthetic._single_region(ring), ring)


def test_depth_is_continuous_and_positive_in_the_mask_alone() -> None:
    for index in range(40):
        rng = np.random.default_rng((0, index))
        depth, _, mask = synthetic._shape(draw_plan(rng), (96, 128), rng)
        assert (depth[mask] >= 0).all()
        assert (depth[~mask] <= 0).all()
        # An island of lesion outside the mask would be a plateau at 0.
        assert (depth == 0).mean() < 0.001


@pytest.mark.parametrize("size", [{"width": 31}, {"height": 0}])
def test_too_small_a_photo_is_refused(size: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="32 pixels or more"):
        generate(0, 0, **size)


@pytest.mark.parametrize("numbers", [(-1, 0), (0, -1)])
def test_negative_numbers_are_refused(numbers: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="non-negative"):
        generate(*numbers)


# --- variety ----------------------------------------------------------------------------------------------------------


def test_every_skin_type_pattern_kind_and_colour_occurs(plans: list[CasePlan]) -> None:
    assert Counter(plan.skin_type for plan in plans).keys() == {1, 2, 3, 4, 5, 6}
    assert {plan.kind for plan in plans} == {"pigmented", "pink", "light"}
    assert {plan.pattern for plan in plans} == {"network", "globules", "streaks", "patchy", "plain"}
    assert {colour for plan in plans for colour in plan.colours} == {"dark", "regression", "red", "veil"}


@pytest.mark.parametrize("name", ARTEFACTS)
def test_every_artefact_occurs_about_as_often_as_stated(plans: list[CasePlan], name: str) -> None:
    share = np.mean([name in plan.artefacts for plan in plans])
    assert 0.5 * ARTEFACTS[name][0] < share < 1.5 * ARTEFACTS[name][0]


def test_ita_falls_with_the_skin_type(plans: list[CasePlan]) -> None:
    angles = [[plan.ita for plan in plans if plan.skin_type == skin_type] for skin_type in range(1, 7)]
    for lighter, darker in pairwise(angles):
        assert min(lighter) > max(darker)


def test_lesion_sizes_follow_isic(plans: list[CasePlan]) -> None:
    fractions = np.array([plan.fraction for plan in plans])
    assert fractions.min() >= 0.01
    assert fractions.max() == 0.8
    assert np.quantile(fractions, [0.1, 0.5, 0.9]) == pytest.approx([0.07, 0.2, 0.54], rel=0.25)


def test_case_reports_what_was_planned() -> None:
    for index in range(8):
        plan, case = draw_plan(np.random.default_rng((0, index))), generate(0, index, width=64, height=48)
        assert (case.skin_type, case.artefacts) == (plan.skin_type, plan.artefacts)


# --- the photo --------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_lesions_stand_out_and_are_mostly_darker(cases: list[SyntheticCase]) -> None:
    darker = []
    for case in cases:
        image, mask = case.pair.image.astype(float), case.pair.mask
        around = ~mask & (image.max(axis=2) > 40)
        difference = image[mask].mean(axis=0) - image[around].mean(axis=0)
        darker.append((np.abs(difference).max() > 8, difference.mean() < -3))
    stands_out, is_darker = np.mean(darker, axis=0)
    assert stands_out > 0.9
    assert is_darker > 0.75


def test_photos_are_neither_flat_nor_burnt_out(cases: list[SyntheticCase]) -> None:
    for case in cases:
        image = case.pair.image
        assert image.std() > 5
        assert (image == 255).all(axis=2).mean() < 0.5
    means = np.array([case.pair.image.mean(axis=(0, 1)) for case in cases])
    assert (np.ptp(means, axis=0) > 40).all()
    assert means[:, 0].mean() > means[:, 1].mean() > 0  # skin is redder than green


def test_photo_follows_the_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dark plain lesions without artefacts: thresholding the photo finds the mask again."""
    fixed = {"kind": "pigmented", "density": 3.0, "pattern": "plain", "colours": (), "artefacts": (), "fraction": 0.2}
    monkeypatch.setattr(synthetic, "draw_plan", lambda rng: replace(draw_plan(rng), skin_type=2, ita=50.0, **fixed))
    dices = []
    for index in range(10):
        pair = generate(0, index).pair
        grey = pair.image.mean(axis=2)
        found = grey < (grey[pair.mask].mean() + grey[~pair.mask].mean()) / 2
        dices.append(2 * (found & pair.mask).sum() / (found.sum() + pair.mask.sum()))
    assert np.median(dices) > 0.8


# --- artefacts --------------------------------------------------------------------------------------------------------


def _scene(x: int = 64, y: int = 48) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.mgrid[:96, :128]
    mask = np.hypot(columns - x, rows - y) < 15
    return np.where(mask[..., None], 0.2, 0.5).repeat(3, axis=2).astype(np.float32), mask


@pytest.mark.parametrize("name", ARTEFACTS)
def test_artefact_changes_the_photo_only(name: str) -> None:
    photo, mask = _scene()
    for seed in range(10):
        result = ARTEFACTS[name][1](photo, mask, np.random.default_rng(seed))
        assert result.shape == photo.shape
        assert result.dtype == np.float32
        assert np.isfinite(result).all()
        assert result.min() >= 0
        assert np.abs(result - photo).max() > 0.02
    original, original_mask = _scene()
    assert np.array_equal(photo, original)
    assert np.array_equal(mask, original_mask)


def test_artefacts_leave_the_mask_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "draw_plan", lambda rng: replace(draw_plan(rng), artefacts=tuple(ARTEFACTS)))
    covered = generate(2, 0, width=96, height=72)
    monkeypatch.setattr(synthetic, "draw_plan", lambda rng: replace(draw_plan(rng), artefacts=()))
    bare = generate(2, 0, width=96, height=72)
    assert np.array_equal(covered.pair.mask, bare.pair.mask)
    assert not np.array_equal(covered.pair.image, bare.pair.image)
    assert (covered.artefacts, bare.artefacts) == (tuple(ARTEFACTS), ())


@pytest.mark.parametrize("name", ["sticker", "vignette"])
def test_stickers_and_black_corners_stay_off_a_small_central_lesion(name: str) -> None:
    photo, mask = _scene()
    for seed in range(20):
        result = ARTEFACTS[name][1](photo, mask, np.random.default_rng(seed))
        assert np.abs(result - photo)[mask].mean() < 0.03


def test_sticker_seeks_the_side_away_from_the_lesion() -> None:
    photo, mask = _scene(x=16)
    changed = np.zeros(mask.shape)
    for seed in range(20):
        result = ARTEFACTS["sticker"][1](photo, mask, np.random.default_rng(seed))
        changed += np.abs(result - photo).max(axis=2) > 0.05
    assert changed[:, 64:].sum() > 3 * changed[:, :64].sum() > 0
    assert changed[:, 127].min() < changed[:, 127].max() < 20  # not always the same place


def test_field_of_view_is_widened_to_hold_the_lesion() -> None:
    photo, mask = _scene(x=16, y=16)
    lit = [ARTEFACTS["vignette"][1](photo, mask, np.random.default_rng(seed))[mask].mean() for seed in range(20)]
    assert np.mean(lit) > 0.85 * photo[mask].mean()


def test_noise_is_centred_and_has_unit_deviation() -> None:
    field = noise(np.random.default_rng(0), (400, 600), 8, 3)
    assert field.shape == (400, 600)
    assert field.dtype == np.float32
    assert abs(field.mean()) < 0.1
    assert 0.8 < field.std() < 1.2
    assert np.corrcoef(field[:, :-1].ravel(), field[:, 1:].ravel())[0, 1] > 0.8  # smooth, not white


def test_smoothstep_by_hand() -> None:
    x = np.array([-1, 0, 0.5, 1, 1.5, 2, 9], np.float32)
    assert smoothstep(0, 2, x).tolist() == [0, 0, 0.15625, 0.5, 0.84375, 1, 1]


# --- write_dataset ----------------------------------------------------------------------------------------------------


def test_data_set_on_disk(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    folders = write_dataset(
        tmp_path / "a" / "b", train=3, test=2, seed=4, width=64, height=48, progress=lambda *call: calls.append(call)
    )
    assert calls == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
    for images, masks, indices in (
        (folders.train_images, folders.train_masks, range(3)),
        (folders.test_images, folders.test_masks, range(3, 5)),
    ):
        stems = [f"SYNTH_{index:07d}" for index in indices]
        assert sorted(file.name for file in images.glob("[!.]*")) == [f"{stem}.jpg" for stem in stems]
        assert sorted(file.name for file in masks.glob("[!.]*")) == [f"{stem}_Segmentation.png" for stem in stems]
        for index, stem in zip(indices, stems, strict=True):
            pair = generate(4, index, width=64, height=48).pair
            mask = np.asarray(Image.open(masks / f"{stem}_Segmentation.png"))
            assert mask.dtype == np.uint8
            assert np.array_equal(mask, np.where(pair.mask, 255, 0))
            with Image.open(images / f"{stem}.jpg") as photo:
                assert (photo.format, photo.mode, photo.size) == ("JPEG", "RGB", (64, 48))
                assert [layer[1:3] for layer in photo.layer] == [(1, 1)] * 3  # 4:4:4
                assert np.abs(np.asarray(photo, float) - pair.image).mean() < 4


def test_sets_are_not_mixed(tmp_path: Path) -> None:
    size = {"width": 48, "height": 40}
    write_dataset(tmp_path, train=3, test=1, **size)
    write_dataset(tmp_path, train=3, test=1, seed=1, **size)
    places = ("train_images", "train_masks", "test_images", "test_masks")
    before = _bytes(write_dataset(tmp_path, train=3, test=1, seed=2, **size))
    for numbers in ({"train": 2, "test": 2}, {"train": 2, "test": 1}, {"train": 3, "test": 0}):
        with pytest.raises(OutputError, match="would be mixed"):
            write_dataset(tmp_path, **numbers, **size)
    assert _bytes(DatasetFolders(*(tmp_path / name for name in places))) == before


def test_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    size = {"train": 2, "test": 1, "width": 48, "height": 40}
    first = _bytes(write_dataset(tmp_path / "first", seed=7, **size))
    again = _bytes(write_dataset(tmp_path / "again", seed=7, **size))
    other = _bytes(write_dataset(tmp_path / "other", seed=8, **size))
    assert len(first) == 6
    assert first == again
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first)


def test_folder_below_a_file_is_an_output_error(tmp_path: Path) -> None:
    blocker = tmp_path / "notes.txt"
    blocker.write_text("mine")
    with pytest.raises(OutputError, match=r"notes\.txt") as caught:
        write_dataset(blocker, train=1, test=0)
    assert caught.value.fix
    assert blocker.read_text() == "mine"


def test_file_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "train_images" / "SYNTH_0000000.jpg").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"SYNTH_0000000\.jpg"):
        write_dataset(tmp_path, train=1, test=0, width=32, height=32)


def test_error_in_the_progress_callback_is_not_blamed_on_the_folder(tmp_path: Path) -> None:
    def broken(done: int, total: int) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        write_dataset(tmp_path, train=1, test=0, width=32, height=32, progress=broken)


def test_negative_counts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="0 or more"):
        write_dataset(tmp_path, train=-1, test=2)
    assert not list(tmp_path.iterdir())
