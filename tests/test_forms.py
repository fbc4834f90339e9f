"""Run lengths as pycocotools reads them, GeoJSON rings, and the SVG path."""

import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from shapes import blob, coordinates, soft

from lesionseg import RESEARCH_USE
from lesionseg.data.resizing import resize_probability
from lesionseg.inference.forms import compress_runs, encode_geojson, encode_rle, encode_svg, run_lengths
from lesionseg.inference.outline import fill_rings, ring_area, trace_regions

coco = pytest.importorskip("pycocotools.mask", reason="needs pycocotools")
# Of pycocotools' own arrays.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
MASKS = arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40)))


def two_with_a_hole():
    u, v = coordinates()
    ring = np.abs(np.hypot(u - 0.35, v - 0.5) - 0.2) - 0.07
    return soft(np.minimum(ring, np.hypot(u - 0.8, v - 0.5) - 0.12))


@pytest.mark.long
@settings(max_examples=200, deadline=None)
@given(MASKS)
def test_pycocotools_reads_the_mask_and_writes_the_same(mask):
    counts = compress_runs(run_lengths(mask))
    np.testing.assert_array_equal(coco.decode({"size": mask.shape, "counts": counts}), mask)
    assert coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode() == counts


@settings(max_examples=50, deadline=None)
@given(MASKS)
def test_runs_alternate_from_no_lesion(mask):
    runs = run_lengths(mask)
    assert runs.sum() == mask.size
    assert (runs[1:] > 0).all()
    again = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(mask.shape[::-1]).T
    np.testing.assert_array_equal(again, mask)


def test_long_runs_take_several_characters():
    mask = np.zeros((4000, 6000), bool)
    mask[1000:3000, 2000:4000] = True
    content = json.loads(encode_rle(mask))
    assert content["size"] == [4000, 6000]
    np.testing.assert_array_equal(coco.decode(content), mask)


def test_geojson_is_what_rfc_7946_and_qupath_expect():
    regions = trace_regions(two_with_a_hole(), 0.5, 600, 800)
    content = json.loads(encode_geojson(regions))
    assert content["type"] == "FeatureCollection"
    assert [len(feature["geometry"]["coordinates"]) for feature in content["features"]] == [2, 1]
    for feature in content["features"]:
        assert (feature["type"], feature["geometry"]["type"]) == ("Feature", "Polygon")
        assert feature["properties"]["objectType"] == "annotation"
        assert feature["properties"]["classification"]["name"] == "Lesion"
        for index, ring in enumerate(feature["geometry"]["coordinates"]):
            assert ring[0] == ring[-1]
            assert len(ring) >= 4
            # Outer rings have a positive area, holes a negative one.
            assert (ring_area(np.array(ring)) > 0) == (index == 0)


@pytest.mark.parametrize("size", [(300, 400), (767, 1022), (2000, 1500)])
@pytest.mark.parametrize("probability", [blob(0), blob(1, 0.8), two_with_a_hole()])
def test_polygons_filled_again_are_the_mask(size, probability):
    mask = resize_probability(probability, *size) >= 0.5
    regions = trace_regions(probability, 0.5, *size)
    geojson = json.loads(encode_geojson(regions))
    rings = [np.array(ring) for feature in geojson["features"] for ring in feature["geometry"]["coordinates"]]
    path = ElementTree.fromstring(encode_svg(regions, *size)).find("{http://www.w3.org/2000/svg}path").get("d")  # noqa: S314
    drawn = []
    for part in re.findall(r"M([^Z]*)Z", path):
        points = [tuple(map(float, pair.split(","))) for pair in part.split("L")]
        drawn.append(np.array([*points, points[0]]))
    for found in (rings, drawn):
        filled = fill_rings(found, *size)
        assert 2 * (filled & mask).sum() / (filled.sum() + mask.sum()) >= 0.999


def test_the_svg_has_the_photos_size_and_says_what_it_is_for():
    svg = ElementTree.fromstring(encode_svg(trace_regions(blob(0), 0.5, 600, 800), 600, 800))  # noqa: S314
    assert svg.get("viewBox") == "0 0 800 600"
    assert (svg.get("width"), svg.get("height")) == ("800", "600")
    space = "{http://www.w3.org/2000/svg}"
    assert svg.find(f"{space}path").get("fill-rule") == "evenodd"
    assert RESEARCH_USE in svg.find(f"{space}title").text


def test_coordinates_keep_their_digits_in_large_photos():
    probability = np.zeros((16, 16), np.float32)
    probability[:, 8:] = 1
    path = encode_svg(trace_regions(probability, 0.3, 10, 200_000), 10, 200_000).decode()
    places = {float(x) for x in re.findall(r"[ML]([\d.]+),", path)}
    assert 200_000.0 in places
    assert any(place % 1 for place in places)


def test_no_lesion_is_valid_everywhere():
    empty = np.zeros((30, 40), bool)
    assert not coco.decode(json.loads(encode_rle(empty))).any()
    assert json.loads(encode_geojson([])) == {"type": "FeatureCollection", "features": []}
    assert ElementTree.fromstring(encode_svg([], 30, 40)) is not None  # noqa: S314
