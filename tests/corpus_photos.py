"""Photos of the corpus."""

import io
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
from corpus import Row, photo_row
from pictures import black_png, chunk, empty_png, encoded, png
from PIL import Image, ImageCms
from tiffs import tiff

SMOOTH = np.asarray(
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize(
        (64, 48), Image.Resampling.BICUBIC
    )
)
GREY = np.ascontiguousarray(SMOOTH[..., 1])
GREYS = np.dstack([GREY] * 3)


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


JPEG = encoded(SMOOTH, "JPEG", quality=92)
PIXELS = decoded(JPEG)
PNG = encoded(SMOOTH, "PNG")
FRAME = JPEG.index(b"\xff\xc0")


def block(kind: int, body: bytes) -> bytes:
    return bytes([0xFF, kind]) + struct.pack(">H", len(body) + 2) + body


def with_block(kind: int, body: bytes) -> bytes:
    return JPEG[:2] + block(kind, body) + JPEG[2:]


def resized_header(width: int, height: int) -> bytes:
    """A JPEG whose frame header tells another size."""
    return JPEG[: FRAME + 5] + struct.pack(">HH", height, width) + JPEG[FRAME + 9 :]


def twelve_bits() -> bytes:
    return JPEG[: FRAME + 4] + b"\x0c" + JPEG[FRAME + 5 :]


def ycck() -> bytes:
    """As Photoshop writes it: inverted, as Pillow does too; the Adobe block tells that the planes are YCbCr and K."""
    colours = np.asarray(Image.fromarray(SMOOTH).convert("YCbCr"))
    data = bytearray(encoded(cmyk_of(np.dstack([colours, np.zeros_like(GREY)])), "JPEG", quality=95))
    at = data.index(b"Adobe")
    assert data[at + 11] == 0
    data[at + 11] = 2
    return bytes(data)


def cmyk_of(planes: np.ndarray) -> Image.Image:
    return Image.frombytes("CMYK", (planes.shape[1], planes.shape[0]), np.ascontiguousarray(planes).tobytes())


def deep_png() -> bytes:
    """16 bits per colour, the lower eight of them noise."""
    low = np.random.default_rng(4).integers(0, 256, SMOOTH.shape, dtype=np.uint16)
    deep = (SMOOTH.astype(np.uint16) * 256 + low).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in deep)
    return png(64, 48, rows, bits=16, colour=2)


def with_bad_checksum() -> bytes:
    at = PNG.index(b"IDAT") + 20
    return PNG[:at] + bytes([PNG[at] ^ 255]) + PNG[at + 1 :]


def ios() -> bytes:
    """As Xcode packs pictures for phones: a chunk before the header, and pixels without zlib's frame."""
    return PNG[:8] + chunk(b"CgBI", b"\x50\0\x20\x06") + PNG[8:]


def polyglot() -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("run.js", "alert(1)")
    return with_block(0xFE, b"<html><script>alert(1)</script></html>") + archive.getvalue()


def several(kind: str) -> bytes:
    frames = [Image.fromarray(picture) for picture in (SMOOTH, 255 - SMOOTH)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:])


def mpo() -> bytes:
    frames = [Image.fromarray(picture) for picture in (SMOOTH, 255 - SMOOTH)]
    return encoded(frames[0], "MPO", save_all=True, append_images=frames[1:], quality=92)


def unreadable(path: Path) -> None:
    if os.geteuid():
        path.touch()
        path.chmod(0)
    else:
        # Root may read every file but this one.
        path.symlink_to("/proc/self/mem")


LAB = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
QUANTIZED = Image.fromarray(SMOOTH).quantize(64)
DICOM = bytes(128) + b"DICM" + struct.pack("<HH2sHI", 2, 0, b"UL", 4, 0) + bytes(400)
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\n%%EndComments\nshowpage\n%%EOF\n"
HEIC = struct.pack(">I", 24) + b"ftypheic" + bytes(4) + b"mif1heic" + bytes(600)
HTML = b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n"
SVG = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="64" height="48"></svg>\n'
NOISE = np.random.default_rng(5).bytes(4096)

OVER = "over 64,000,000 pixels"

DECODED: tuple[Row, ...] = (
    photo_row("trailing bytes after a JPEG", "D", "a.jpg", JPEG + bytes(500) + b"more", expect=PIXELS),
    photo_row("polyglot: JPEG, HTML and ZIP", "D", "a.jpg", polyglot(), expect=PIXELS),
    photo_row("PNG named .jpg", "D", "a.jpg", PNG, expect=SMOOTH),
    photo_row(
        "CMYK JPEG",
        "D",
        "a.jpg",
        encoded(Image.fromarray(SMOOTH).convert("CMYK"), "JPEG", quality=95),
        expect=SMOOTH,
        tolerance=3,
    ),
    photo_row("YCCK JPEG", "D", "a.jpg", ycck(), expect=SMOOTH, tolerance=3),
    photo_row("grey JPEG", "D", "a.jpg", encoded(GREY, "JPEG", quality=95), expect=GREYS, tolerance=2),
    photo_row("16-bit grey PNG", "D", "a.png", encoded(GREY.astype(np.uint16) * 256 + 77, "PNG"), expect=GREYS),
    photo_row("16-bit RGB PNG", "D", "a.png", deep_png(), expect=SMOOTH),
    photo_row("RGBA photo", "D", "a.png", encoded(np.dstack([SMOOTH, GREY]), "PNG"), expect=SMOOTH),
    photo_row("palette photo", "D", "a.png", encoded(QUANTIZED, "PNG"), expect=np.asarray(QUANTIZED.convert("RGB"))),
    photo_row(
        "palette photo with transparency",
        "D",
        "a.png",
        encoded(QUANTIZED, "PNG", transparency=bytes(range(64))),
        expect=np.asarray(QUANTIZED.convert("RGB")),
    ),
    photo_row("progressive JPEG", "D", "a.jpg", encoded(SMOOTH, "JPEG", quality=92, progressive=True), expect=PIXELS),
    photo_row("wrong ICC profile in a JPEG", "D", "a.jpg", with_block(0xE2, b"ICC_PROFILE\0\1\1" + LAB), expect=PIXELS),
    photo_row("garbage ICC profile in a JPEG", "D", "a.jpg", with_block(0xE2, b"ICC_PROFILE\0\1\1junk"), expect=PIXELS),
    photo_row(
        "garbage ICC profile in a PNG", "D", "a.png", PNG[:33] + chunk(b"iCCP", b"x\0\0junk") + PNG[33:], expect=SMOOTH
    ),
    photo_row("garbage EXIF", "D", "a.jpg", with_block(0xE1, b"Exif\0\0II*\0junk"), expect=PIXELS),
    photo_row("MPO: the first picture", "D", "a.jpg", mpo(), expect=PIXELS),
    *(
        photo_row(
            f"TIFF: {bits} bits, {'planes' if planar else 'pixels'}, {'tiles' if tiled else 'strips'}, {order}",
            "D",
            "a.tif",
            tiff(SMOOTH.astype(kind) << (bits - 8), planar=planar, order=order, tiled=tiled),
            expect=SMOOTH,
        )
        for bits, kind in ((8, np.uint8), (16, np.uint16))
        for planar in (False, True)
        for tiled in (False, True)
        for order in ("<", ">")
    ),
    photo_row("BMP", "D", "a.bmp", encoded(SMOOTH, "BMP"), expect=SMOOTH),
)

REFUSED: tuple[Row, ...] = (
    photo_row("zero bytes", "R", "a.jpg", b"", says="is empty"),
    photo_row("JPEG cut at half", "R", "a.jpg", JPEG[: len(JPEG) // 2], says="damaged: it is cut off"),
    photo_row("JPEG header only", "R", "a.jpg", JPEG[: FRAME + 19], says="damaged: it ends before its pixels"),
    photo_row("JPEG start only", "R", "a.jpg", b"\xff\xd8\xff\xe0", says="damaged"),
    photo_row("HTML named .jpg", "R", "a.jpg", HTML, says="but HTML"),
    photo_row("SVG named .jpg", "R", "a.jpg", SVG, says="but SVG"),
    photo_row("random bytes named .jpg", "R", "a.jpg", NOISE, says="not a picture in a supported format"),
    photo_row("EPS named .jpg", "R", "a.jpg", EPS, says="but EPS"),
    photo_row("12-bit JPEG", "R", "a.jpg", twelve_bits(), says="is a 12-bit JPEG"),
    photo_row("PNG with a wrong checksum", "R", "a.png", with_bad_checksum(), says="the checksum of its IDAT block"),
    photo_row("PNG of iOS", "R", "a.png", ios, says="is an iOS-optimised PNG"),
    photo_row("PNG cut", "R", "a.png", PNG[: len(PNG) * 2 // 3], says="damaged: it is cut off"),
    photo_row("400 megapixels", "R", "a.png", lambda: black_png(20_000, 20_000), says=f"20000 x 20000, {OVER}"),
    photo_row("169 megapixels", "R", "a.png", lambda: black_png(13_000, 13_000), says=f"13000 x 13000, {OVER}"),
    photo_row("88 megapixels", "R", "a.png", lambda: black_png(11_000, 8_000), says=f"11000 x 8000, {OVER}"),
    photo_row("60000 x 60000 PNG header", "R", "a.png", empty_png(60_000, 60_000), says=OVER),
    photo_row("60000 x 60000 JPEG header", "R", "a.jpg", resized_header(60_000, 60_000), says=OVER),
    photo_row("8000 x 8000 JPEG header", "R", "a.jpg", resized_header(8000, 8000), says="too few bytes for its size"),
    photo_row("zero width PNG", "R", "a.png", png(0, 48, bytes(48)), says="is only 0 x 48 pixels"),
    photo_row("zero width JPEG", "R", "a.jpg", resized_header(0, 48), says="is only 0 x 48 pixels"),
    photo_row("1 x 1", "R", "a.png", encoded(SMOOTH[:1, :1], "PNG"), says="is only 1 x 1 pixels"),
    photo_row("9000 x 2", "R", "a.png", black_png(9000, 2), says="9000 x 2 pixels, a strip"),
    photo_row("animated GIF", "R", "a.gif", several("GIF"), says="but GIF"),
    photo_row("animated WebP", "R", "a.webp", several("WEBP"), says="more than one picture"),
    photo_row("animated PNG", "R", "a.png", several("PNG"), says="more than one picture"),
    photo_row("multi-page TIFF", "R", "a.tif", several("TIFF"), says="more than one picture"),
    photo_row("float TIFF", "R", "a.tif", encoded(GREY.astype(np.float32), "TIFF"), says="floating-point numbers"),
    photo_row("DICOM named .jpg", "R", "a.jpg", DICOM, says="but DICOM"),
    photo_row("DICOM named .dcm", "R", "a.dcm", DICOM, says="but DICOM"),
    photo_row("HEIC", "R", "a.heic", HEIC, says="but HEIC"),
    photo_row("HEIC named .jpg", "R", "a.jpg", HEIC, says="but HEIC"),
    photo_row("symlink loop", "R", "a.jpg", place=lambda path: path.symlink_to(path), says="Too many levels"),
    photo_row(
        "dangling link",
        "R",
        "a.jpg",
        place=lambda path: path.symlink_to(path.with_name("gone.jpg")),
        says="a link to nothing",
    ),
    photo_row("unreadable", "R", "a.jpg", place=unreadable, says="cannot be read"),
    photo_row("directory named x.jpg", "R", "x.jpg", place=Path.mkdir, says="but a folder"),
    photo_row("FIFO named x.jpg", "R", "x.jpg", place=os.mkfifo, says="is not a regular file"),
)

WARNED: tuple[Row, ...] = (
    photo_row("JPEG without end marker", "W", "a.jpg", JPEG[:-2], says="no end marker", expect=PIXELS),
)

PHOTOS = (*DECODED, *REFUSED, *WARNED)
