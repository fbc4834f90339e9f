"""Masks of the corpus."""

import gzip
import struct

import numpy as np
from corpus import Row, mask_row
from corpus_photos import JPEG, OVER
from pictures import GREY, TRUTH, black_png, empty_png, encoded, nifti, palette
from PIL import Image

LOW = TRUTH.astype(np.uint8)
DISC = np.hypot(*np.mgrid[-48:48, -64:64]) < 30
CLASSES = np.zeros((24, 16), np.uint8)
CLASSES[:8], CLASSES[8:16] = 1, 3
VOLUME = np.zeros((16, 24, 1), np.float32)


def soft() -> np.ndarray:
    """Edges as an antialiased resize leaves them."""
    distance = 30 - np.hypot(*np.mgrid[-48:48, -64:64])
    return np.rint(255 * np.clip(distance + 0.5, 0, 1)).astype(np.uint8)


def gzip_bomb() -> bytes:
    """A header that asks for 30000 x 30000 pixels, and hundreds of megabytes that unpack to zeros."""
    head = bytearray(nifti(np.zeros((2, 2), np.uint8))[:352])
    struct.pack_into("<3h", head, 40, 2, 30_000, 30_000)
    return gzip.compress(bytes(head) + bytes(2**28), compresslevel=1, mtime=0)


def with_nan() -> bytes:
    volume = VOLUME.copy()
    volume[3, 4] = np.nan
    return nifti(volume)


def levels(top: int) -> bytes:
    return encoded(LOW * np.uint8(top), "PNG")


RED = np.dstack([GREY, np.zeros_like(GREY), np.zeros_like(GREY)])

DECODED: tuple[Row, ...] = (
    mask_row("mask 0/255", "D", "m.png", levels(255), expect=TRUTH),
    mask_row("mask 0/1", "D", "m.png", levels(1), expect=TRUTH),
    mask_row("mask 0/128", "D", "m.png", levels(128), expect=TRUTH),
    mask_row("mask 0/254", "D", "m.png", levels(254), expect=TRUTH),
    mask_row("1-bit mask", "D", "m.png", encoded(Image.fromarray(TRUTH), "PNG"), expect=TRUTH),
    mask_row("16-bit mask 0/1", "D", "m.png", encoded(TRUTH.astype(np.uint16), "PNG"), expect=TRUTH),
    mask_row("16-bit mask 0/65535", "D", "m.png", encoded(TRUTH * np.uint16(65535), "PNG"), expect=TRUTH),
    mask_row("palette mask", "D", "m.png", palette((0, 0, 0), (255, 255, 255)), expect=TRUTH),
    mask_row("palette mask, black and dark red", "D", "m.png", palette((0, 0, 0), (128, 0, 0)), expect=TRUTH),
    mask_row(
        "RGBA mask", "D", "m.png", encoded(np.dstack([GREY] * 3 + [np.full_like(GREY, 255)]), "PNG"), expect=TRUTH
    ),
    mask_row("alpha mask", "D", "m.png", encoded(np.dstack([np.zeros_like(GREY)] * 3 + [GREY]), "PNG"), expect=TRUTH),
    mask_row("red mask", "D", "m.png", encoded(RED, "PNG"), expect=TRUTH),
    mask_row(
        "NIfTI mask", "D", "m.nii.gz", gzip.compress(nifti(np.ascontiguousarray(LOW.T)[:, :, None])), expect=TRUTH
    ),
)

REFUSED: tuple[Row, ...] = (
    mask_row("photo given as mask", "R", "m.jpg", JPEG, says="is coloured, not a mask"),
    mask_row(
        "grey photo given as mask",
        "R",
        "m.png",
        encoded(np.arange(96 * 128, dtype=np.uint16).reshape(96, 128).astype(np.uint8), "PNG"),
        says=r"not a binary mask: it has the values 0, 1, 2, 3, 4, 5, 6, 7, \.\.\.",
    ),
    mask_row("multi-class mask", "R", "m.png", encoded(CLASSES, "PNG"), says="it has the values 0, 1, 3"),
    mask_row("header bomb as mask", "R", "m.png", empty_png(60_000, 60_000), says=OVER),
    mask_row("88-megapixel mask", "R", "m.png", lambda: black_png(11_000, 8_000), says=OVER),
    mask_row("NIfTI with NaN", "R", "m.nii", with_nan(), says="holds NaN or infinity"),
    mask_row("4-D NIfTI", "R", "m.nii", nifti(np.zeros((5, 4, 3, 2), np.uint8)), says=r"uint8, shape \(5, 4, 3, 2\)"),
    mask_row("NIfTI cut", "R", "m.nii", nifti(VOLUME)[:-200], says="damaged: not a whole NIfTI file"),
    mask_row("packed NIfTI cut", "R", "m.nii.gz", gzip.compress(nifti(VOLUME))[:-20], says="damaged"),
    mask_row("NIfTI gzip bomb", "R", "m.nii.gz", gzip_bomb, says=f"30000 x 30000, {OVER}"),
)

WARNED: tuple[Row, ...] = (
    mask_row("grey-fringed mask", "W", "m.png", encoded(soft(), "PNG"), says="neither 0 nor 255", expect=soft() > 127),
    mask_row(
        "mask that went through JPEG",
        "W",
        "m.jpg",
        encoded(DISC * np.uint8(255), "JPEG", quality=75),
        says="neither 0 nor 255",
        expect=DISC,
        tolerance=0.005,
    ),
    mask_row("inverted mask", "W", "m.png", encoded(255 - GREY, "PNG"), says="may be inverted", expect=~TRUTH),
    mask_row("empty mask", "W", "m.png", encoded(GREY * 0, "PNG"), says="mask is empty", expect=np.zeros_like(TRUTH)),
    mask_row("full mask", "W", "m.png", encoded(GREY | 255, "PNG"), says="mask is full", expect=np.ones_like(TRUTH)),
)

MASKS = (*DECODED, *REFUSED, *WARNED)
