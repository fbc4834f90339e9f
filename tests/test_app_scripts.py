"""The page's scripts compute what the Python program computes."""

import csv
import io
import struct
import zlib
from base64 import b64decode, b64encode

import numpy as np
import pytest
from node import needs_node, run_script
from PIL import Image
from scipy import ndimage

from lesionseg.app.site import check_photo
from lesionseg.data.images import decode_mask, decode_photo, encode_mask_png, fit_photo, resize_probability
from lesionseg.data.resizing import resize_photo
from lesionseg.data.synthetic import generate
from lesionseg.inference.plausibility import describe, implausible, plausibility_table
from lesionseg.inference.quality import Quality, look
from lesionseg.records import Prediction
from lesionseg.tables import encode_table

pytestmark = needs_node


def packed(array: np.ndarray) -> str:
    return b64encode(np.ascontiguousarray(array).tobytes()).decode()


UNPACK = """
    const bytes = (text) => new Uint8Array(Buffer.from(text, "base64"));
    const floats = (text) => new Float32Array(bytes(text).buffer);
    const pack = (array) => Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString("base64");
"""
FIT = f"""{UNPACK}
    const {{ PhotoFitter }} = await load("resize.js");
    const {{ width, height, strip }} = values;
    const rgba = bytes(values.rgba);
    return values.sizes.map(([toHeight, toWidth]) => {{
        const fitter = new PhotoFitter(width, height, toWidth, toHeight);
        for (let top = 0; top < height; top += strip) {{
            const rows = Math.min(strip, height - top);
            fitter.add(rgba.subarray(top * width * 4, (top + rows) * width * 4), top, rows);
        }}
        return pack(fitter.finish());
    }});
"""
SIZES = [(64, 96), (192, 256), (150, 203), (150, 40), (31, 203), (1, 1)]
# Shrunk one way and enlarged the other: Pillow versions differ in which they do first.
MIXED = [(149, 300), (300, 149)]


def fitted(photo: np.ndarray, sizes: list[tuple[int, int]], strip: int = 7) -> list[np.ndarray]:
    rgba = packed(np.dstack([photo, np.full(photo.shape[:2], 255, np.uint8)]))
    found = run_script(FIT, rgba=rgba, strip=strip, sizes=sizes, height=photo.shape[0], width=photo.shape[1])
    pairs = zip(found, sizes, strict=True)
    return [np.frombuffer(b64decode(text), np.uint8).reshape(*size, 3) for text, size in pairs]


GOLDEN = generate(3, 0, height=150, width=203).pair.image
NOISE = np.random.default_rng(0).integers(0, 256, GOLDEN.shape, np.uint8)


@pytest.mark.parametrize("photo", [GOLDEN, NOISE, (NOISE // 128) * np.uint8(255)], ids=["golden", "noise", "extremes"])
def test_photos_are_resized_as_pillow_does(photo: np.ndarray) -> None:
    found = fitted(photo, SIZES + MIXED)
    for resized, (height, width) in zip(found, SIZES + MIXED, strict=True):
        apart = np.abs(resized.astype(int) - resize_photo(photo, height, width))
        assert apart.max() <= ((height, width) in MIXED), (height, width)


def test_the_model_sees_a_png_as_python_does() -> None:
    data = io.BytesIO()
    Image.fromarray(GOLDEN).save(data, "PNG")
    photo = decode_photo(data.getvalue(), "golden.png")
    assert np.array_equal(fitted(GOLDEN, [(64, 96)], strip=256)[0], fit_photo(photo, 64, 96))


def test_large_jpegs_are_shrunk_as_pythons_decoder_shrinks_them() -> None:
    data = io.BytesIO()
    Image.fromarray(generate(4, 1, height=530, width=801).pair.image).save(data, "JPEG", quality=95)
    whole = decode_photo(data.getvalue(), "whole.jpg").pixels
    body = f"""{UNPACK}
        const {{ PhotoFitter, draftOf }} = await load("resize.js");
        const shrink = draftOf(801, 530, 96, 64);
        return [1, shrink].map((by) => {{
            const fitter = new PhotoFitter(801, 530, 96, 64, by);
            fitter.add(bytes(values.rgba), 0, 530);
            return [by, pack(fitter.finish())];
        }});
    """
    rgba = packed(np.dstack([whole, np.full(whole.shape[:2], 255, np.uint8)]))
    drafted = fit_photo(decode_photo(data.getvalue(), "draft.jpg", at_least=(128, 192)), 64, 96).astype(int)
    (one, plain), (four, shrunk) = run_script(body, rgba=rgba)
    assert (one, four) == (1, 4)
    apart = [np.abs(np.frombuffer(b64decode(t), np.uint8).reshape(64, 96, 3) - drafted).mean() for t in (plain, shrunk)]
    assert apart[1] < apart[0]
    assert apart[1] < 0.5


def test_probabilities_are_resized_as_pillow_does() -> None:
    small = np.random.default_rng(1).random((24, 32), np.float32)
    small[:8] = np.float32(1)
    sizes = [(101, 77), (24, 32), (10, 5), (7, 300), (300, 7)]
    body = f"""{UNPACK}
        const {{ eachRow }} = await load("resize.js");
        return values.sizes.map(([height, width]) => {{
            const large = new Float32Array(width * height);
            eachRow(floats(values.small), 32, 24, width, height, (row, y) => large.set(row, y * width));
            return pack(large);
        }});
    """
    found = run_script(body, small=packed(small), sizes=sizes)
    for text, (height, width) in zip(found, sizes, strict=True):
        large = np.frombuffer(b64decode(text), np.float32).reshape(height, width)
        is_mixed = (height - 24) * (width - 32) < 0
        expected = resize_probability(small, height, width)
        np.testing.assert_allclose(large, expected, rtol=0, atol=2e-7 if is_mixed else 0)


def blobs(seed: int, height: int = 60, width: int = 80) -> np.ndarray:
    """A smooth probability with lesions of several sizes, some on the photo's edge."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((height, width)), 5)
    return (1 / (1 + np.exp(-40 * noise - 0.3))).astype(np.float32)


MEASURE = f"""{UNPACK}
    const {{ measure }} = await load("measure.js");
    return values.maps.map(({{ map, rows, columns, threshold, width, height }}) => {{
        return measure({{ values: floats(map), width: columns, height: rows }}, threshold, width, height);
    }});
"""


def measured(*maps: np.ndarray, threshold: float = 0.5, size: tuple[int, int] | None = None) -> list[dict]:
    """Of probabilities of photos of ``size`` (height, width), by default the map's own."""
    asked = []
    for map_ in maps:
        height, width = size or map_.shape
        sides = {"rows": map_.shape[0], "columns": map_.shape[1], "height": height, "width": width}
        asked.append({"map": packed(map_.astype(np.float32)), "threshold": threshold, **sides})
    found: list[dict] = run_script(MEASURE, maps=asked)
    return found


def test_counts_at_the_photos_own_size() -> None:
    maps = [blobs(seed) for seed in range(4)]
    for map_, found in zip(maps, measured(*maps, threshold=0.6, size=(150, 203)), strict=True):
        probability = resize_probability(map_, 150, 203)
        mask = Prediction("x", probability).mask(0.6)
        assert found["lesion_pixels"] == np.count_nonzero(mask)
        assert found["lesion_fraction"] == np.count_nonzero(mask) / mask.size
        assert found["mean_probability"] == pytest.approx(probability.mean(where=mask, dtype=np.float64), abs=1e-12)


def test_outlines_have_the_pieces_and_the_area_of_the_mask() -> None:
    maps = [blobs(seed) for seed in range(4)]
    for map_, found in zip(maps, measured(*maps, size=(512, 683)), strict=True):
        mask = resize_probability(map_, 512, 683) >= 0.5
        regions, count = ndimage.label(mask)
        largest = regions == np.bincount(regions[mask]).argmax()
        assert found["components"] == count
        assert found["largest_share"] == pytest.approx(largest.sum() / mask.sum(), abs=0.001)
        assert found["area"] == pytest.approx(ndimage.binary_fill_holes(largest).sum(), rel=0.002)


def test_measures_of_an_ellipse() -> None:
    y, x = np.mgrid[:400, :500] + 0.5
    along, across = (x - 260) * 0.8 + (y - 190) * 0.6, (y - 190) * 0.8 - (x - 260) * 0.6
    # Steep and straight at the border, as level lines are best found.
    ellipse = np.clip(0.5 + 20 * (1 - np.hypot(along / 150, across / 90)), 0, 1)
    ellipse[150:160, 250:260] = 0
    (found,) = measured(ellipse)
    assert found["area"] == pytest.approx(np.pi * 150 * 90, rel=1e-3)
    assert found["equivalent_diameter"] == pytest.approx(2 * np.sqrt(150 * 90), rel=1e-3)
    assert (found["major_axis"], found["minor_axis"]) == pytest.approx((300, 180), rel=1e-3)
    assert found["longest_diameter"] == pytest.approx(300, rel=1e-3)
    assert found["perimeter"] == pytest.approx(767.2, rel=2e-3)
    assert found["solidity"] == pytest.approx(1, abs=2e-3)
    assert (found["components"], found["edge_share"]) == (1, 0)


def test_measures_are_those_of_python() -> None:
    python = pytest.importorskip("lesionseg.inference.measure", reason="this version measures no shapes")
    outline = pytest.importorskip("lesionseg.inference.outline")
    maps = [blobs(seed) for seed in range(4)]
    for map_, found in zip(maps, measured(*maps, threshold=0.6, size=(767, 1022)), strict=True):
        shape = python.measure_shape(outline.trace_largest(map_, 0.6, 767, 1022, python.MEASURE_SIDE), 767, 1022)
        for name in found.keys() & set(shape.__slots__):
            assert found[name] == pytest.approx(getattr(shape, name), rel=1e-6), name


def test_a_peak_that_no_pixel_of_the_photo_has_is_not_measured() -> None:
    map_ = np.full((256, 256), 0.1)
    map_[128, 100] = 0.51
    (found,) = measured(map_, size=(257, 257))
    assert (found["lesion_pixels"], found["components"], found.get("area")) == (0, 0, None)


def test_measures_of_nothing_and_of_everything() -> None:
    empty, full = measured(np.zeros((20, 30)), np.ones((20, 30)))
    assert (empty["mean_probability"], empty["components"], empty["lesion_pixels"]) == (None, 0, 0)
    assert (full["edge_share"], full["components"], full["lesion_fraction"]) == (1, 1, 1)


def test_what_needs_review_is_what_python_says() -> None:
    quality = Quality((0.0, 0.6, 0.9, 1.0), (0.2, 0.5, 0.85, 0.99))
    spots = np.zeros((40, 60))
    spots[10:30, 10:30] = spots[12:20, 40:50] = 1
    cut = np.full((40, 60), 0.55)
    comb = np.zeros((40, 60))
    comb[5:30, 5:50:4] = comb[30, 5:50] = 0.9
    maps = [*(blobs(seed, 40, 60) for seed in range(4)), spots, cut, comb, np.zeros((40, 60)), np.eye(40, 60)]
    body = f"""{UNPACK}
        const {{ look }} = await load("review.js");
        return values.maps.flatMap((text) => [values.quality, null].map((quality) =>
            look({{ values: floats(text), width: 60, height: 40 }}, 0.4, quality)));
    """
    maps = [map_.astype(np.float32) for map_ in maps]
    told = run_script(body, maps=[packed(map_) for map_ in maps], quality=quality.to_json())
    expected = [look(map_, calibration, 0.4) for map_ in maps for calibration in (quality, None)]
    assert [tuple(one["reasons"]) for one in told] == [one.reasons for one in expected]
    for one, other in zip(told, expected, strict=True):
        assert one["expected_dice"] == pytest.approx(other.expected_dice, abs=1e-9)
    assert len({one.reasons for one in expected}) > 4


@pytest.mark.long
@pytest.mark.parametrize("size", [(192, 256), (128, 160), (64, 96)], ids=str)
def test_what_is_no_dermoscopy_is_what_python_says(size: tuple[int, int]) -> None:
    height, width = size
    rng = np.random.default_rng(2)
    vignette = np.hypot(*np.meshgrid(np.linspace(-1.2, 1.2, height), np.linspace(-1.2, 1.2, width), indexing="ij")) < 1
    page = np.where(rng.random((height, width, 1)) < 0.1, 30, 235) * np.ones(3)
    photos = [
        *(resize_photo(generate(6, index, height=192, width=256).pair.image, height, width) for index in range(3)),
        generate(6, 3, height=height, width=width).pair.image * vignette[..., None],
        rng.integers(0, 256, (height, width, 3)),
        page,
        *(np.full((height, width, 3), level) for level in (0, 20, 255)),
        np.linspace((200, 60, 20), (40, 90, 220), width)[None].repeat(height, axis=0),
    ]
    photos = [np.ascontiguousarray(photo, np.uint8) for photo in photos]
    body = f"""{UNPACK}
        const {{ describe, implausible }} = await load("plausible.js");
        const {{ height, width, table }} = values;
        return values.photos.map((text) => {{
            const pixels = bytes(text);
            return [describe(pixels, width, height), implausible(pixels, width, height, table)];
        }});
    """
    table = plausibility_table()
    told = run_script(body, photos=[packed(p) for p in photos], height=height, width=width, table=table)
    for (values, reason), photo in zip(told, photos, strict=True):
        np.testing.assert_allclose(values, describe(photo), rtol=0, atol=1e-9)
        assert reason == implausible(photo)
    assert len({reason for _, reason in told}) > 3


def test_masks_are_written_as_python_writes_them() -> None:
    mask = blobs(0) > 0.5
    body = f"""{UNPACK}
        const {{ maskPng }} = await load("png.js");
        const blob = await maskPng(bytes(values.mask), 80, 60);
        return Buffer.from(await blob.arrayBuffer()).toString("base64");
    """
    data = b64decode(run_script(body, mask=packed(mask.astype(np.uint8))))
    assert np.array_equal(decode_mask(data, "mask.png").values, mask)
    ours = np.asarray(Image.open(io.BytesIO(encode_mask_png(mask))))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), ours)


def test_tables_are_written_as_python_writes_them() -> None:
    hostile = ['=cmd("x")', "+1", "-2.5", "-x", "@a", "a,b", 'say "so"', "two\nlines", "cr\rhere", "", "naïve – 皮"]
    rows = [{"file": name, "share": 0.1 + 0.2, "other": 3} for name in hostile]
    body = 'return (await load("csv.js")).csv(["file", "share", "missing"], values.rows)'
    text = run_script(body, rows=rows)
    assert text.encode() == encode_table(["file", "share", "missing"], rows)
    assert len(list(csv.reader(io.StringIO(text)))) == len(hostile) + 1


def test_the_check_is_drawn_as_in_python() -> None:
    body = f"""{UNPACK}
        const {{ checkPhoto, difference }} = await load("selfcheck.js");
        const means = Array(24).fill(0.25);
        const other = Float32Array.from({{ length: 64 * 96 }}, (_, i) => (i % 96 < 48 ? 0.25 : 0.75));
        return [pack(checkPhoto(96, 64)), difference(other, 96, 64, means)];
    """
    text, apart = run_script(body)
    assert np.array_equal(np.frombuffer(b64decode(text), np.uint8).reshape(64, 96, 3), check_photo(64, 96))
    assert apart == 0.25


SNIFF = f"""{UNPACK}
    const {{ refusal, sniff }} = await load("sniff.js");
    return values.files.map((text) => {{
        const head = bytes(text);
        return {{ ...sniff(head), reason: refusal(head, values.length ?? head.length) }};
    }});
"""


def sniffed(*files: bytes, **more: int) -> list[dict]:
    found: list[dict] = run_script(SNIFF, files=[b64encode(data).decode() for data in files], **more)
    return found


def test_sizes_are_known_before_decoding() -> None:
    kinds: list[tuple[str, dict]] = [
        ("JPEG", {}),
        ("JPEG", {"progressive": True, "comment": b"x" * 3000}),
        ("PNG", {}),
        ("BMP", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"}),
    ]
    files = []
    for kind, options in kinds:
        data = io.BytesIO()
        Image.fromarray(GOLDEN).save(data, kind, **options)
        files.append(data.getvalue())
    for (kind, _), found in zip(kinds, sniffed(*files), strict=True):
        assert found == {"format": kind.replace("WEBP", "WebP"), "size": [203, 150], "reason": ""}


def bare_png(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n\0\0\0\r" + header + struct.pack(">I", zlib.crc32(header)) + bytes(8)


def animated(kind: str) -> bytes:
    data = io.BytesIO()
    second = Image.fromarray(GOLDEN[::-1].copy())
    Image.fromarray(GOLDEN).save(data, kind, save_all=True, append_images=[second])
    return data.getvalue()


def test_what_is_no_photo_is_refused() -> None:
    files = {
        "64 megapixels": bare_png(30_000, 20_000),
        "strip": bare_png(30_000, 20),
        "only 1": bare_png(1, 20),
        "empty": b"",
        "not a photo": b"hello, world" * 9,
        "but PDF": b"%PDF-1.7" + bytes(100),
        "but a video": b"\0\0\0\x20ftypisom" + bytes(100),
        "but AVIF": b"\0\0\0\x20ftypavif" + bytes(100),
        "more than one picture": animated("WEBP"),
        "holds more than one": animated("PNG"),
    }
    for reason, found in zip(files, sniffed(*files.values()), strict=True):
        assert reason in found["reason"]
    alone = bare_png(30, 20)
    alone = alone[:33] + struct.pack(">I", 8) + b"acTL" + struct.pack(">III", 1, 0, 0) + alone[33:]
    assert sniffed(alone) == [{"format": "PNG", "size": [30, 20], "reason": ""}]
    # Safari opens them.
    for brand in (b"heic", b"hevx", b"msf1"):
        found = sniffed(b"\0\0\0\x20ftyp" + brand + bytes(100))
        assert found == [{"format": "HEIC", "size": None, "reason": ""}]
    assert "512 MB" in sniffed(bare_png(30, 20), length=600_000_000)[0]["reason"]


FRAME = {"format": "I420", "rotation": 0, "flip": False, "displayWidth": 640, "displayHeight": 480}
SQUARE = {"width": 480, "height": 480}


@pytest.mark.parametrize(
    ("changes", "is_plain"),
    [
        ({}, True),
        ({"visibleRect": {"width": 960, "height": 720}}, True),
        ({"visibleRect": SQUARE}, False),
        ({"format": None}, False),
        ({"format": "BGRX"}, False),
        ({"rotation": 90}, False),
        ({"flip": True}, False),
        ({"knows": False}, False),
    ],
    ids=str,
)
def test_which_frames_are_copied(changes: dict[str, object], is_plain: bool) -> None:
    frame = FRAME | {"visibleRect": {"width": 640, "height": 480}, "knows": True} | changes
    found = run_script(
        """
        const { isPlain } = await load("camera.js");
        const { frame } = values;
        const { width, height } = frame.visibleRect;
        frame.allocationSize = ({ format }) => (frame.knows && format === "RGBA" ? 4 : 1.5) * width * height;
        return isPlain(frame);
        """,
        frame=frame,
    )
    assert found is is_plain


def test_webp_is_turned_by_what_its_exif_says() -> None:
    files, wanted = [], []
    for orientation in (*range(1, 9), 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = io.BytesIO()
        Image.fromarray(GOLDEN).save(data, "WEBP", exif=exif)
        files.append(data.getvalue())
        wanted.append(orientation if 1 < orientation < 9 else None)
    without = io.BytesIO()
    Image.fromarray(GOLDEN).save(without, "WEBP")
    # Cut off within its EXIF, which says nothing then.
    files += [without.getvalue(), files[5][: files[5].index(b"EXIF") + 14]]
    body = f"""{UNPACK}
        const {{ turnOf, withoutExif }} = await load("turn.js");
        return Promise.all(values.files.map(async (text) => {{
            const blob = new Blob([bytes(text)]);
            const turn = await turnOf(blob);
            const other = turn && withoutExif(blob, turn);
            return {{ orientation: turn?.orientation ?? null, size: other?.size, again: other && await turnOf(other) }};
        }}));
    """
    found = run_script(body, files=[b64encode(data).decode() for data in files])
    assert [one["orientation"] for one in found] == [*wanted, None, None]
    assert all(one["again"] is None for one in found)
    assert [one["size"] for one in found[1:8]] == [len(data) for data in files[1:8]]
