"""Pictures and files for tests of decoding: small, asymmetric, and built by hand where no encoder would."""

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image

RGB = np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8)
# Asymmetric under every flip and turn.
TRUTH = np.zeros((24, 16), np.bool_)
TRUTH[2:9, 3:7] = TRUTH[2:4, 3:12] = True
GREY = TRUTH * np.uint8(255)
# Long ago: a file without an end that is seconds old is read twice, with a pause.
_OLD = 1_000_000_000


def encoded(picture: Any, kind: str, **options: Any) -> bytes:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def white_is_zero(tiff: bytes) -> bytes:
    """A grey TIFF whose numbers mean the opposite; Pillow writes none of 16 bits."""
    entry = struct.pack("<HHI", 262, 3, 1)
    assert tiff.count(entry + b"\1") == 1
    return tiff.replace(entry + b"\1", entry + b"\0")


def animation(kind: str) -> bytes:
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:])


def put(path: Path, data: bytes) -> Path:
    """Writes a file that looks as if it had been there for years."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (_OLD, _OLD))
    return path


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, rows: bytes, *, bits: int = 8, colour: int = 2, extra: bytes = b"") -> bytes:
    """A PNG from its uncompressed rows, each with its filter byte; ``extra`` are chunks before the pixels."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(rows, 1))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + pixels + chunk(b"IEND", b"")


def empty_png(width: int, height: int) -> bytes:
    return png(width, height, b"")


def black_png(width: int, height: int) -> bytes:
    """One bit per pixel: many black pixels in few bytes."""
    return png(width, height, bytes(height * (1 + -(-width // 8))), bits=1, colour=0)


def palette(*colours: tuple[int, int, int], transparency: bytes | None = None) -> bytes:
    """``TRUTH`` as a palette PNG: the last colour where it is true, else the first."""
    picture = Image.fromarray(TRUTH.astype(np.uint8) * np.uint8(len(colours) - 1)).convert("P")
    picture.putpalette([level for colour in colours for level in colour])
    return encoded(picture, "PNG", **({"transparency": transparency} if transparency else {}))


def nifti(volume: Any, affine: Any = (-1, -1, 1, 1)) -> bytes:
    """A NIfTI file with an affine, or with the diagonal of one; by default that of a photo."""
    return nib.Nifti1Image(volume, np.diag(affine) if np.ndim(affine) == 1 else affine).to_bytes()


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """What EXIF says: where row 0 and column 0 of the file belong."""
    turned = {
        1: array,
        2: array[:, ::-1],
        3: array[::-1, ::-1],
        4: array[::-1],
        5: array.swapaxes(0, 1),
        6: array.swapaxes(0, 1)[:, ::-1],
        7: array[::-1, ::-1].swapaxes(0, 1),
        8: array.swapaxes(0, 1)[::-1],
    }
    return turned[orientation]
