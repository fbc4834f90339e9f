import hashlib
import io
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from lesionseg.data.contrast import examine_contrast, to_lab
from lesionseg.data.examine import Examination, examine
from lesionseg.data.synthetic import generate
from lesionseg.records import BoolMask, Case, RgbImage

SKIN, BROWN, FAINT, INK = (214, 170, 150), (110, 62, 40), (190, 140, 118), (70, 60, 140)


def disc(x: float, y: float, radius: float, shape: tuple[int, int] = (96, 128)) -> BoolMask:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    inside: BoolMask = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
    return inside


def photo_of(*spots: tuple[BoolMask, tuple[int, int, int]]) -> RgbImage:
    """Noisy skin with spots."""
    picture = np.full((96, 128, 3), SKIN, np.float64)
    for inside, colour in spots:
        picture[inside] = colour
    picture = gaussian_filter(picture, (1, 1, 0)) + np.random.default_rng(0).normal(0, 3, picture.shape)
    return picture.clip(0, 255).astype(np.uint8)


def save(folder: Path, photo: RgbImage | bytes, mask: BoolMask | bytes | None = None, suffix: str = ".png") -> Case:
    paths = (folder / "photo.png", folder / f"mask{suffix}")
    for path, content in zip(paths, (photo, mask), strict=True):
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is not None:
            Image.fromarray(content if content.dtype == np.uint8 else content.astype(np.uint8) * 255).save(path)
    return Case("one", paths[0], None if mask is None else paths[1])


def look(folder: Path, photo: RgbImage | bytes, mask: BoolMask | bytes | None = None) -> Examination:
    return examine(save(folder, photo, mask))


# --- one look ---------------------------------------------------------------------------------------------------------


def test_a_plain_case(tmp_path: Path) -> None:
    mask = disc(64, 48, 20)
    photo = photo_of((mask, BROWN))
    seen = look(tmp_path, photo, mask)
    assert seen.failures == ()
    assert seen.photo_sha256 == hashlib.sha256((tmp_path / "photo.png").read_bytes()).hexdigest()
    assert seen.mask_sha256 == hashlib.sha256((tmp_path / "mask.png").read_bytes()).hexdigest()
    assert seen.photo is not None
    assert (seen.photo.width, seen.photo.height) == (128, 96)
    assert seen.photo.mean == pytest.approx(photo.reshape(-1, 3).mean(0) / 255)
    assert seen.photo.square == pytest.approx(((photo.reshape(-1, 3) / 255) ** 2).mean(0))
    assert seen.photo.signature.lesion is not None
    assert seen.mask is not None
    assert seen.mask.fraction == pytest.approx(mask.mean())
    assert (seen.mask.width, seen.mask.height, seen.mask.border, seen.mask.fringe, seen.mask.hole) == (128, 96, 0, 0, 0)
    assert seen.mask.areas == (1.0,)
    assert seen.mask.contrast is not None
    assert seen.mask.contrast.lighter < -20


def test_what_cannot_be_decoded_is_told_and_the_rest_is_kept(tmp_path: Path) -> None:
    seen = look(tmp_path, b"\xff\xd8\xff", disc(10, 10, 5))
    assert seen.photo is None
    assert seen.mask is not None
    assert [failure.file.name for failure in seen.failures] == ["photo.png"]
    assert seen.photo_sha256
    assert seen.failures[0].fix


def test_missing_files_and_missing_masks(tmp_path: Path) -> None:
    gone = examine(Case("gone", tmp_path / "a.png", tmp_path / "b.png"))
    assert [failure.file.name for failure in gone.failures] == ["a.png", "b.png"]
    assert (gone.photo, gone.mask, gone.photo_sha256, gone.mask_sha256) == (None, None, "", "")
    bare = look(tmp_path, photo_of())
    assert (bare.mask, bare.mask_sha256, bare.failures) == (None, "", ())


def test_pieces_holes_and_border(tmp_path: Path) -> None:
    mask = disc(40, 48, 20) & ~disc(40, 48, 5) | disc(90, 48, 10)
    mask[0] = True
    seen = look(tmp_path, photo_of(), mask)
    assert seen.mask is not None
    assert len(seen.mask.areas) == 3
    assert sum(seen.mask.areas) == pytest.approx(1)
    assert seen.mask.areas == tuple(sorted(seen.mask.areas, reverse=True))
    assert seen.mask.hole == pytest.approx(disc(40, 48, 5).sum() / mask.sum())
    assert seen.mask.border == pytest.approx(128 / (2 * 128 + 2 * 94))


def test_a_bay_at_the_photo_s_edge_is_no_hole(tmp_path: Path) -> None:
    mask = np.ones((96, 128), np.bool_)
    mask[:20, 30:60] = False
    seen = look(tmp_path, photo_of(), mask)
    assert seen.mask is not None
    assert seen.mask.hole == 0


def test_grey_fringes_are_measured(tmp_path: Path) -> None:
    levels = disc(64, 48, 20).astype(np.uint8) * 255
    # A single level between would be a third class; a fringe has many.
    levels[50, 40:52] = np.arange(100, 160, 5)
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "PNG")
    seen = look(tmp_path, photo_of(), buffer.getvalue())
    assert seen.mask is not None
    assert seen.mask.fringe == pytest.approx(12 / levels.size)


def test_a_nifti_mask_has_no_fringe(tmp_path: Path) -> None:
    save(tmp_path, photo_of())
    nib.save(nib.Nifti1Image(np.ones((128, 96, 1), np.uint8), np.eye(4)), tmp_path / "mask.nii.gz")
    seen = examine(Case("one", tmp_path / "photo.png", tmp_path / "mask.nii.gz"))
    assert seen.mask is not None
    assert (seen.mask.fraction, seen.mask.fringe) == (1, 0)


def test_a_mask_of_another_shape_is_not_compared_with_the_photo(tmp_path: Path) -> None:
    seen = look(tmp_path, photo_of(), disc(40, 60, 20, (128, 96)))
    assert seen.mask is not None
    assert seen.mask.contrast is None
    assert seen.photo is not None
    assert seen.photo.signature.lesion is None


def test_the_mask_s_size_decides_on_the_photo_s_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photo_of()).save(tmp_path / "photo.jpg", exif=exif)
    Image.fromarray(disc(64, 48, 20).astype(np.uint8) * 255).save(tmp_path / "mask.png")
    stored = examine(Case("one", tmp_path / "photo.jpg", tmp_path / "mask.png"))
    turned = examine(Case("one", tmp_path / "photo.jpg"))
    assert stored.photo is not None
    assert turned.photo is not None
    assert (stored.photo.width, turned.photo.width) == (128, 96)


def test_a_large_jpeg_gives_nearly_the_same_at_a_reduced_scale(tmp_path: Path) -> None:
    pair = generate(3, 1, width=1200, height=900).pair
    for name, size in (("large", (1200, 900)), ("small", (300, 225))):
        Image.fromarray(pair.image).resize(size, Image.Resampling.BOX).save(tmp_path / f"{name}.jpg", quality=95)
    large, small = (examine(Case(name, tmp_path / f"{name}.jpg")).photo for name in ("large", "small"))
    assert large is not None
    assert small is not None
    assert (large.width, large.height) == (1200, 900)
    assert large.mean == pytest.approx(small.mean, abs=0.01)
    assert np.abs(large.signature.grey.astype(int) - small.signature.grey).mean() < 2


# --- contrast ---------------------------------------------------------------------------------------------------------


def test_lab_of_known_colours() -> None:
    lab = to_lab(np.array([[[255, 255, 255], [0, 0, 0]], [[255, 0, 0], [255, 0, 0]]], np.uint8))
    assert lab[0, 0] == pytest.approx([100, 0, 0], abs=0.1)
    assert lab[1, 0] == pytest.approx([53.2, 80.1, 67.2], abs=0.2)
    assert to_lab(np.zeros((50, 960, 3), np.uint8)).shape == (5, 96, 3)


def test_a_fitting_mask_matches_the_photo_s_own_spot() -> None:
    mask = disc(64, 48, 20)
    contrast = examine_contrast(photo_of((mask, BROWN)), mask)
    assert contrast is not None
    assert contrast.overlap > 0.8
    assert contrast.missed < 0.1
    assert contrast.mask > 0.8 * contrast.spot > 20


def test_a_mask_beside_the_lesion_misses_the_spot() -> None:
    contrast = examine_contrast(photo_of((disc(40, 48, 20), BROWN)), disc(100, 48, 15))
    assert contrast is not None
    assert (contrast.overlap, contrast.missed) == (0, 1)
    assert contrast.spot > 20
    assert contrast.mask < 5


def test_an_inverted_mask_is_lighter_inside() -> None:
    mask = disc(64, 48, 20)
    contrast = examine_contrast(photo_of((mask, BROWN)), ~mask)
    assert contrast is not None
    assert contrast.lighter > 20


@pytest.mark.parametrize("decoy", ["ink", "ring", "shadow", "frame"])
def test_what_is_no_lesion_is_not_taken_for_one(decoy: str) -> None:
    lesion = disc(100, 48, 10)
    decoys = {
        "ink": (disc(40, 48, 20), INK),
        "ring": (disc(40, 48, 36) & ~disc(40, 48, 28), BROWN),
        "shadow": (disc(0, 48, 40), BROWN),
        "frame": (~disc(64, 48, 60), (3, 3, 3)),
    }
    contrast = examine_contrast(photo_of((lesion, FAINT if decoy == "frame" else BROWN), decoys[decoy]), lesion)
    assert contrast is not None
    assert contrast.overlap > 0.5


def test_one_side_without_pixels_gives_no_contrast() -> None:
    assert examine_contrast(photo_of(), np.ones((96, 128), np.bool_)) is None
    assert examine_contrast(photo_of(), np.zeros((96, 128), np.bool_)) is None


def test_generated_cases_fit_and_swapped_masks_often_do_not() -> None:
    """Most generated lesions are central and large; still a mask of another photo stands out less."""
    pairs = [generate(2, index).pair for index in range(16)]
    right = [examine_contrast(pair.image, pair.mask) for pair in pairs]
    wrong = [examine_contrast(a.image, b.mask) for a, b in zip(pairs, pairs[1:] + pairs[:1], strict=True)]
    assert np.median([c.mask for c in right if c]) > 1.5 * np.median([c.mask for c in wrong if c])
