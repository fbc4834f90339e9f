"""A seeded generator of dermoscopy photos with exact masks, for the demo, the tests and training without photos.

A case is planned first (what is in the photo) and rendered then (the pixels), both from
``np.random.default_rng((seed, index))`` alone. The picture is built as light meets it:

1. Skin: a colour in CIE Lab given by its Individual Typology Angle, ``ITA = atan((L* - 50) / b*)``
   (Chardon et al. 1991, Int J Cosmet Sci 13:191), with one ITA class of Del Bino & Bernerd (2013, Br J Dermatol 169
   Suppl 3:33) for each of the Fitzpatrick types I to VI, a common approximation.
2. Lesion: one continuous field, ``depth``, positive in the lesion; the mask is where it is, and the pigment follows it.
3. Melanin and haemoglobin absorb on top of the skin after Beer and Lambert, which gives tan, brown, black and red
   without a palette; scattering adds blue-grey and white.
4. Artefacts (``artefacts.py``), then a camera: white balance, exposure, tone curve, blur, noise.
"""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import pi, radians, sqrt, tan, tau
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage.color import lab2rgb

from lesionseg.data.artefacts import ARTEFACTS, LUMA, Field, cells, illuminate, noise, photograph, smoothstep, unit
from lesionseg.data.retaken import MELANIN
from lesionseg.errors import OutputError
from lesionseg.io.ownership import write_output
from lesionseg.records import BoolMask, Pair

__all__ = ["CasePlan", "DatasetFolders", "SyntheticCase", "dataset_outputs", "draw_plan", "generate", "write_dataset"]

_MIN_SIDE = 32
_MASK = "_Segmentation.png"
# Fitzpatrick type -> ITA in degrees.
_ITA = {1: (55, 75), 2: (41, 55), 3: (28, 41), 4: (10, 28), 5: (-30, 10), 6: (-55, -30)}
_SKIN_WEIGHTS = (0.22, 0.26, 0.20, 0.14, 0.10, 0.08)
_COLOURS = {"dark": 0.3, "regression": 0.25, "red": 0.25, "veil": 0.14}
_HAEMOGLOBIN = np.array([0.08, 1.0, 0.85], np.float32)
"""Relative absorption in R, G, B: haemoglobin peaks in green."""


@dataclass(frozen=True, slots=True)
class CasePlan:
    """What a photo will show, before any pixel.

    Attributes:
        skin_type: Fitzpatrick, 1 to 6.
        ita: Individual Typology Angle in degrees.
        fraction: aimed share of the frame that is lesion, 0.01 to 0.8.
        centre: of the lesion, x and y as shares of width and height.
        kind: ``pigmented``, ``pink`` (amelanotic) or ``light`` (hypopigmented).
        density: melanin optical density of the lesion; negative where it lacks pigment.
        redness: haemoglobin optical density of the lesion.
        pattern: ``network``, ``globules``, ``streaks``, ``patchy`` or ``plain``.
        colours: a subset of ``dark``, ``regression``, ``red``, ``veil``.
        artefacts: names from ``artefacts.ARTEFACTS``, in drawing order.
    """

    skin_type: int
    ita: float
    fraction: float
    centre: tuple[float, float]
    kind: str
    density: float
    redness: float
    pattern: str
    colours: tuple[str, ...]
    artefacts: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class SyntheticCase:
    """A generated photo, its exact mask and what was drawn.

    Attributes:
        pair: photo ``uint8 H W 3`` RGB and mask ``bool H W``, one 4-connected region without holes.
        skin_type: Fitzpatrick, 1 to 6.
        lesion_fraction: share of the frame that the mask covers, in (0, 1).
        artefacts: names of the artefacts drawn, a subset of ``artefacts.ARTEFACTS``.
    """

    pair: Pair
    skin_type: int
    lesion_fraction: float
    artefacts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DatasetFolders:
    """Where a written data set lies."""

    train_images: Path
    train_masks: Path
    test_images: Path
    test_masks: Path


def draw_plan(rng: np.random.Generator) -> CasePlan:
    """Draw what a photo shows; costs microseconds and no pixels."""
    skin_type = int(rng.choice(6, p=_SKIN_WEIGHTS)) + 1
    # Lesion areas of ISIC 2016: median 0.2, deciles 0.07 and 0.54.
    fraction = float(np.clip(rng.lognormal(np.log(0.18), 0.8), 0.01, 0.8))
    spread = rng.choice([0.1, 0.3], p=[0.85, 0.15]) * (1 - fraction)
    kind = str(rng.choice(["pigmented", "pink", "light"], p=[0.84, 0.12, 0.04]))
    if kind == "pigmented":
        density, redness = rng.lognormal(np.log(1.3), 0.65), rng.uniform(0.0, 0.5)
    elif kind == "pink":
        density, redness = rng.uniform(0.0, 0.3), rng.uniform(0.25, 0.8)
    else:
        density, redness = rng.uniform(-0.5, -0.15), rng.uniform(0.05, 0.4)
    roomy = {"sticker": fraction < 0.35, "vignette": fraction < 0.5}
    return CasePlan(
        skin_type=skin_type,
        ita=float(rng.uniform(*_ITA[skin_type])),
        fraction=fraction,
        centre=(float(np.clip(rng.normal(0.5, spread), 0, 1)), float(np.clip(rng.normal(0.5, spread), 0, 1))),
        kind=kind,
        density=float(np.clip(density, -0.5, 3.5)),
        redness=float(redness),
        pattern=str(rng.choice(["network", "globules", "streaks", "patchy", "plain"], p=[0.3, 0.2, 0.12, 0.16, 0.22])),
        colours=tuple(name for name, chance in _COLOURS.items() if rng.random() < chance),
        artefacts=tuple(
            name for name, (chance, _) in ARTEFACTS.items() if (rng.random() < chance) & roomy.get(name, True)
        ),
    )


def _linear(lab: tuple[float, float, float]) -> NDArray[np.float32]:
    """One CIE Lab colour (D65) as linear light R, G, B."""
    srgb = np.asarray(lab2rgb(np.array([[lab]])), np.float64)[0, 0]
    light = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    return np.asarray(light, np.float32)


def _skin_colour(plan: CasePlan, rng: np.random.Generator) -> NDArray[np.float32]:
    yellow = rng.uniform(9, 18)
    lightness = float(np.clip(50 + yellow * tan(radians(plan.ita)), 26, 84))
    return _linear((lightness, rng.uniform(6, 14), yellow))


def _single_region(inside: BoolMask) -> BoolMask:
    """The largest 4-connected region with its holes filled; neither empty nor full if ``inside`` is neither."""
    regions, _ = ndimage.label(inside)
    mask = regions == np.argmax(np.bincount(regions[inside]))
    outside, _ = ndimage.label(~mask)
    frame = np.concatenate([outside[0], outside[-1], outside[:, 0], outside[:, -1]])
    # A hole is background that the frame does not open; the largest background is never one.
    background = np.append(frame[frame > 0], np.argmax(np.bincount(outside[~mask])))
    result: BoolMask = ~np.isin(outside, background)
    return result


def _radius(plan: CasePlan, shape: tuple[int, int]) -> float:
    return sqrt(plan.fraction * shape[0] * shape[1] / pi)


def _shape(plan: CasePlan, shape: tuple[int, int], rng: np.random.Generator) -> tuple[Field, Field, BoolMask]:
    """Depth in lesion radii (0 at the border, positive inside), polar angle (radians) and mask, each ``H W``."""
    height, width = shape
    radius = _radius(plan, shape)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    warp = radius * rng.uniform(0.03, 0.22)
    dx = columns - plan.centre[0] * width + warp * noise(rng, shape, radius * rng.uniform(0.6, 1.5), 2)
    dy = rows - plan.centre[1] * height + warp * noise(rng, shape, radius * rng.uniform(0.6, 1.5), 2)
    stretch, turn = np.exp(rng.normal(0, 0.17)), rng.uniform(0, tau)
    u = (dx * np.cos(turn) + dy * np.sin(turn)) * stretch
    v = (dy * np.cos(turn) - dx * np.sin(turn)) / stretch
    angle = np.arctan2(v, u, dtype=np.float32)
    order = np.arange(1, 9)
    weights = rng.normal(0, rng.uniform(0.02, 0.14), order.size) / order**1.1
    grid = np.linspace(-pi, pi, 1024)
    outline = weights @ np.cos(np.outer(order, grid) + rng.uniform(0, tau, (order.size, 1)))
    border = outline.astype(np.float32)[((angle + pi) * (1023 / tau)).astype(np.int32)]
    fringe = rng.choice([0.0, 0.02, 0.05, 0.09], p=[0.35, 0.25, 0.25, 0.15])
    field = np.log(np.hypot(u, v) / radius + 0.05) - border + np.float32(fringe) * noise(rng, shape, radius / 5, 3)
    # The quantile makes the covered share exact for every outline, also where the frame cuts it.
    level = np.quantile(field, plan.fraction)
    mask = _single_region(field < level)
    depth = np.clip(level - field, -3, 1.5).astype(np.float32)
    # Filled holes and dropped islands change side; the field stays continuous and pigment follows the mask.
    result: Field = np.where(mask, np.abs(depth), -np.abs(depth))
    return result, angle, mask


def _coverage(plan: CasePlan, depth: Field, angle: Field, radius: float, rng: np.random.Generator) -> Field:
    """How much of its pigment the lesion has at each place, 0 outside to 1 inside.

    The mask's border is where experts draw it: at the half-way point of a sharp edge, but at the faint outer end of a
    soft one, and sometimes with a margin.
    """
    shape = (depth.shape[0], depth.shape[1])
    soft = max(float(rng.choice([rng.uniform(0.02, 0.12), rng.uniform(0.12, 0.45)], p=[0.4, 0.6])), 1.0 / radius)
    margin = soft * rng.uniform(0.0, 0.9) + (rng.uniform(0.02, 0.15) if rng.random() < 0.35 else 0.0)
    ragged = depth + np.float32(rng.uniform(0, 0.6) * (margin + 0.03)) * noise(rng, shape, radius / 4, 3)
    if plan.pattern == "streaks":
        wavy = angle + np.float32(0.025) * noise(rng, shape, radius / 6, 2)
        rays = rng.normal(0, rng.uniform(0.03, 0.09), 240) + np.repeat(rng.normal(0, 0.04, 80), 3)
        rays = np.interp(wavy, np.linspace(-pi, pi, rays.size), rays, period=tau).astype(np.float32)
        ragged = ragged + rays * (1 - smoothstep(0.0, 0.5, np.abs(depth)))
        soft, margin = max(soft, 0.06), max(margin, 0.05)
    halo = smoothstep(-soft - 0.05, 0.0, depth)
    return halo * smoothstep(margin - soft, margin + soft, ragged)


def _texture(plan: CasePlan, radius: float, shape: tuple[int, int], rng: np.random.Generator) -> Field:
    """Factor on the lesion's melanin, around 1: variegation and dermoscopic pattern."""
    factor: Field = np.exp(np.float32(rng.uniform(0.12, 0.55)) * noise(rng, shape, radius * rng.uniform(0.25, 0.9), 6))
    strength = np.float32(rng.uniform(0.2, 0.8))
    size = min(rng.lognormal(np.log(1.6), 0.35), 2.8) * unit(shape)
    if plan.pattern == "patchy":
        factor = factor * (1 - strength * smoothstep(-1.2, 1.2, noise(rng, shape, radius * rng.uniform(0.3, 0.8), 5)))
    elif plan.pattern in ("network", "streaks"):
        mesh = 1 - smoothstep(-1.5, 1.8, cells(rng, shape, size))
        presence = smoothstep(-1.2, 1.2, noise(rng, shape, radius * rng.uniform(0.4, 0.8), 2))
        factor = factor * (1 + strength * presence * (1.6 * mesh - 0.8))
    elif plan.pattern == "globules":
        factor = factor * (0.8 + 1.5 * strength * smoothstep(0.2, 2.6, cells(rng, shape, 1.3 * size)))
    return factor


def _lesion(plan: CasePlan, light: Field, depth: Field, angle: Field, rng: np.random.Generator) -> Field:
    """Absorb the lesion's pigment and blood from ``light`` (linear, ``H W 3``)."""
    shape = (depth.shape[0], depth.shape[1])
    radius = _radius(plan, shape)
    cover = _coverage(plan, depth, angle, radius, rng)
    profile = 1 + np.float32(rng.uniform(-0.4, 1.3)) * (smoothstep(0.0, 1.0, depth) - 0.35)
    melanin = plan.density * cover * profile * _texture(plan, radius, shape, rng)
    blood = plan.redness * cover * (1 + 0.3 * noise(rng, shape, radius * 0.5, 3))
    veil = np.zeros(shape, np.float32)
    for name in plan.colours:
        low = rng.uniform(-0.4, 0.8)
        area = cover * smoothstep(low, low + 1.8, noise(rng, shape, radius * rng.uniform(0.3, 0.9), 5))
        if name == "dark":
            melanin = melanin * (1 + np.float32(rng.uniform(0.3, 1.2)) * area)
        elif name == "regression":
            melanin, blood = melanin * (1 - 0.8 * area), blood * (1 - 0.5 * area)
        elif name == "red":
            blood = blood + np.float32(rng.uniform(0.1, 0.5)) * area
        else:
            veil = np.float32(rng.uniform(0.3, 0.8)) * area * smoothstep(0.2, 2.0, melanin)
    absorbed = melanin[..., None] * MELANIN + np.maximum(blood, 0)[..., None] * _HAEMOGLOBIN
    result: Field = light * np.exp(-absorbed)
    # The veil is a haze over deep pigment, always darker than the skin.
    bluish = (light @ LUMA)[..., None] * np.array([0.34, 0.39, 0.47], np.float32)
    result += veil[..., None] * (bluish - 0.8 * result)
    return result


def _skin(plan: CasePlan, shape: tuple[int, int], rng: np.random.Generator) -> Field:
    """Healthy skin in linear light, ``H W 3``: mottled pigment and blood, furrows, pores, freckles, small vessels."""
    scale = unit(shape)
    busy = rng.lognormal(0, 0.6)
    melanin = np.float32(0.045 * busy) * noise(rng, shape, rng.uniform(30, 80) * scale, 5)
    blood = np.float32(0.045 * busy) * np.exp(rng.uniform(0.2, 0.8) * noise(rng, shape, rng.uniform(15, 60) * scale, 5))
    # Furrows: the zero lines of stretched noise; rendered on a stretched grid, they run along one direction.
    tall = (shape[0], max(int(shape[1] * rng.uniform(0.25, 1.0)), 2))
    lines = np.asarray(Image.fromarray(noise(rng, tall, rng.uniform(3, 9) * scale, 2)).resize(shape[::-1]))
    melanin += np.float32(0.1 * rng.random() * busy) * (1 - smoothstep(0.0, 0.5, np.abs(lines)))
    if rng.random() < 0.25:
        spots = smoothstep(1.0, 3.2, noise(rng, shape, rng.uniform(6, 25) * scale, 3))
        melanin += np.float32(rng.uniform(0.05, 0.35)) * spots
    if rng.random() < 0.3:
        vessels = 1 - smoothstep(0.0, 0.22, np.abs(noise(rng, shape, rng.uniform(10, 25) * scale, 3)))
        blood += np.float32(rng.uniform(0.05, 0.3)) * vessels * smoothstep(0.0, 1.5, noise(rng, shape, 60 * scale))
    pores = smoothstep(2.2, 3.2, noise(rng, shape, rng.uniform(1.5, 3.0) * scale))
    melanin += np.float32(rng.uniform(-0.12, 0.15)) * pores
    absorbed = melanin[..., None] * MELANIN + blood[..., None] * _HAEMOGLOBIN
    result: Field = _skin_colour(plan, rng) * np.exp(-absorbed)
    return result


def generate(seed: int, index: int, *, width: int = 256, height: int = 192) -> SyntheticCase:
    """Generate one case: a pure function of its arguments.

    Args:
        seed, index: 0 or more; each pair of numbers is its own random stream.
        width, height: size of the photo in pixels, 32 or more each.

    Raises:
        ValueError: for a negative seed or index, or a side under 32 pixels.
    """
    if min(width, height) < _MIN_SIDE:
        raise ValueError(f"a synthetic photo needs sides of {_MIN_SIDE} pixels or more, got {width} x {height}")
    rng = np.random.default_rng((seed, index))
    plan = draw_plan(rng)
    depth, angle, mask = _shape(plan, (height, width), rng)
    light = _skin(plan, (height, width), rng)
    skin = light.mean(axis=(0, 1))
    light = illuminate(_lesion(plan, light, depth, angle, rng), rng)
    for name in plan.artefacts:
        light = ARTEFACTS[name][1](light, mask, rng)
    pair = Pair(_case_id(index), photograph(light, skin, rng), mask)
    return SyntheticCase(pair, plan.skin_type, float(mask.mean()), plan.artefacts)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot write the synthetic data set to {folder}",
            problems=[f"{error.filename or folder}: {error.strerror or error}"],
            fix="choose a folder that you may write to, on a disk with room, and run again",
        ) from error


def _write_pair(pair: Pair, image: Path, mask: Path) -> None:
    # 4:4:4 keeps thin hairs and borders in colour.
    write_output(image, _encoded(pair.image, "JPEG", quality=92, subsampling=0))
    write_output(mask, _encoded(pair.mask.astype(np.uint8) * 255, "PNG"))


def _encoded(pixels: NDArray[np.uint8], kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def _case_id(index: int) -> str:
    return f"SYNTH_{index:07d}"


def _refuse_other_photos(place: Path, indices: range) -> None:
    written = {f"{_case_id(index)}.jpg" for index in indices}
    others = sorted(path.name for path in place.glob("*.jpg") if path.name not in written)
    if others:
        raise OutputError(
            f"{place} holds {len(others)} photos that would be mixed with these, the first {others[0]}",
            fix="name another folder, or delete these",
        )


def dataset_outputs(folder: Path, *, train: int, test: int) -> list[tuple[Path, Path]]:
    """Return the files that ``write_dataset`` writes: photo and mask of every case."""
    parts = ["train"] * train + ["test"] * test
    return [
        (folder / f"{part}_images" / f"{_case_id(index)}.jpg", folder / f"{part}_masks" / f"{_case_id(index)}{_MASK}")
        for index, part in enumerate(parts)
    ]


def write_dataset(
    folder: Path,
    *,
    train: int,
    test: int,
    seed: int = 0,
    width: int = 256,
    height: int = 192,
    progress: Callable[[int, int], None] | None = None,
) -> DatasetFolders:
    """Write a data set in the layout of the ISIC 2016 challenge; the same arguments give the same bytes.

    Photos are ``<id>.jpg`` (quality 92, 4:4:4), masks ``<id>_Segmentation.png`` (8 bit, 0 and 255), in the folders
    ``train_images``, ``train_masks``, ``test_images`` and ``test_masks``, made where missing. Test indices follow the
    training ones.

    Args:
        folder: where to write; files of the same names are replaced, so ``check_outputs`` of ``dataset_outputs`` comes
            first.
        train, test: how many cases of each.
        seed, width, height: as for :func:`generate`.
        progress: called with (cases written, cases in all) after each.

    Raises:
        OutputError: when the folder or a file in it cannot be written, or it holds photos that would mix with these.
        ValueError: as :func:`generate`, or for a negative number of cases.
    """
    if min(train, test) < 0:
        raise ValueError(f"the numbers of cases must be 0 or more, got {train} and {test}")
    places = [folder / name for name in ("train_images", "train_masks", "test_images", "test_masks")]
    _refuse_other_photos(places[0], range(train))
    _refuse_other_photos(places[2], range(train, train + test))
    with _writing(folder):
        for place in places:
            place.mkdir(parents=True, exist_ok=True)
    for index, files in enumerate(dataset_outputs(folder, train=train, test=test)):
        pair = generate(seed, index, width=width, height=height).pair
        _write_pair(pair, *files)
        if progress:
            progress(index + 1, train + test)
    return DatasetFolders(*places)
