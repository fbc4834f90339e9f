"""The table's cells of measurements."""

import io

import numpy as np
import pytest
from PIL import Image
from rulers import skin, with_ruler
from shapes import blob, disc

from lesionseg.errors import ConfigError
from lesionseg.inference.measurements import (
    COLOUR_COLUMNS,
    MEASURES,
    MM_COLUMNS,
    SHAPE_COLUMNS,
    Measuring,
    measure_photo,
)
from lesionseg.inference.stages import decode


def decoded(pixels=None, size=(300, 400)):
    buffer = io.BytesIO()
    Image.fromarray(np.full((*size, 3), 180, np.uint8) if pixels is None else pixels).save(buffer, "PNG")
    return decode(buffer.getvalue(), "x.png", 128, 128)


def test_shape_is_measured_by_default_and_nothing_else():
    cells = measure_photo(decoded(), blob(0), 0.5, Measuring())
    assert {name for name, cell in cells.items() if cell} == set(SHAPE_COLUMNS)
    assert float(cells["area_px"]) == pytest.approx(blob(0).astype(float).__ge__(0.5).mean() * 300 * 400, rel=0.02)
    assert len(set(MEASURES)) == len(MEASURES) == len(SHAPE_COLUMNS) + len(MM_COLUMNS) + len(COLOUR_COLUMNS)


def test_a_given_scale_gives_millimetres():
    cells = measure_photo(decoded(size=(400, 400)), disc(0.25), 0.5, Measuring(mm_per_pixel=0.02))
    assert (cells["mm_per_pixel"], cells["mm_source"]) == ("0.02", "given")
    assert float(cells["equivalent_diameter_mm"]) == pytest.approx(4, rel=0.01)
    assert float(cells["area_mm2"]) == pytest.approx(np.pi * 4, rel=0.02)
    for name in ("perimeter", "major_axis", "minor_axis", "equivalent_diameter", "longest_diameter"):
        assert float(cells[f"{name}_mm"]) == pytest.approx(0.02 * float(cells[f"{name}_px"]), rel=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("size", [(768, 1024), (1536, 2048)])
def test_a_ruler_gives_the_scale_of_the_photos_own_pixels(size):
    spacing = 40 * size[1] / 1024
    rng = np.random.default_rng(0)
    pixels = with_ruler(skin(rng, *size), "1 and 5 mm", spacing, rng, ticks=16, angle=0.2)
    # A lesion in the corner, where the ruler is not.
    probability = disc(0.08, 0.1, 0.9)
    cells = measure_photo(decoded(pixels), probability, 0.5, Measuring(more=True))
    assert cells["mm_source"] == "ruler"
    assert float(cells["mm_per_pixel"]) == pytest.approx(1 / spacing, rel=0.01)
    assert float(cells["longest_diameter_mm"]) > 0


def test_without_a_ruler_there_are_no_millimetres():
    cells = measure_photo(decoded(), blob(0), 0.5, Measuring(more=True))
    assert {cells.get(name, "") for name in MM_COLUMNS} == {""}
    assert all(cells[name] for name in COLOUR_COLUMNS)


def test_a_given_scale_is_not_looked_for():
    rng = np.random.default_rng(0)
    pixels = with_ruler(skin(rng), "1 and 5 mm", 40, rng, ticks=16, angle=0.2)
    cells = measure_photo(decoded(pixels), disc(0.08, 0.1, 0.9), 0.5, Measuring(more=True, mm_per_pixel=0.5))
    assert (cells["mm_per_pixel"], cells["mm_source"]) == ("0.5", "given")


def test_no_lesion_leaves_the_cells_empty():
    cells = measure_photo(decoded(), np.zeros((128, 128), np.float32), 0.5, Measuring(True, 0.1))
    assert {name for name, cell in cells.items() if cell} == {"mm_per_pixel", "mm_source"}


def test_cells_are_of_the_table():
    assert set(measure_photo(decoded(), blob(0), 0.5, Measuring(True, 0.1))) <= set(MEASURES)


@pytest.mark.parametrize("scale", [0.0, -1.0, 1e-7, 1e200, float("nan"), float("inf")])
def test_an_impossible_scale_is_refused(scale):
    with pytest.raises(ConfigError, match="millimetres per pixel"):
        Measuring(mm_per_pixel=scale)


def test_settings_tell_what_was_measured():
    assert Measuring().settings == ""
    assert Measuring(True).settings == "measure"
    assert Measuring(True, 0.02).settings == "measure mm_per_pixel=0.02"
