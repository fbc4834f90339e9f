"""Thousands of damaged files: each is refused by name or read, in time, and nothing else happens."""

import resource
import signal
import struct
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
from corpus_masks import MASKS
from corpus_photos import PHOTOS

from lesionseg.data.images import decode_mask, decode_photo
from lesionseg.errors import ImageError

MUTANTS = 2000
SECONDS = 20
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


@pytest.fixture
def seeds(tmp_path: Path) -> list[bytes]:
    """Every single file of the corpus that can be read: the interesting damage starts from these."""
    rows = [row for row in (*PHOTOS, *MASKS) if row.outcome in "DW"]
    return [row.make(tmp_path).read_bytes() for row in rows]


def flip(raw: bytearray, rng: np.random.Generator) -> bytearray:
    for place in rng.integers(0, len(raw), rng.integers(1, 9)):
        raw[place] = rng.integers(0, 256)
    return raw


def cut(raw: bytearray, rng: np.random.Generator) -> bytearray:
    return raw[: rng.integers(1, len(raw))]


def drop(raw: bytearray, rng: np.random.Generator) -> bytearray:
    start = int(rng.integers(0, len(raw)))
    return raw[:start] + raw[start + int(rng.integers(1, 65)) :]


def repeat(raw: bytearray, rng: np.random.Generator) -> bytearray:
    start, size = int(rng.integers(0, len(raw))), int(rng.integers(1, 200))
    return raw[:start] + raw[start : start + size] * int(rng.integers(2, 6)) + raw[start:]


def extreme(raw: bytearray, rng: np.random.Generator) -> bytearray:
    """A length or a size at the end of its range, in either byte order; headers are where these are."""
    for _ in range(rng.integers(1, 4)):
        value, form = EXTREMES[rng.integers(0, len(EXTREMES))], ("<I", ">I", "<H", ">H")[rng.integers(0, 4)]
        size = struct.calcsize(form)
        at = int(rng.integers(0, max(1, min(len(raw) - size, 400))))
        raw[at : at + size] = struct.pack(form, value & (256**size - 1))
    return raw


def noise(raw: bytearray, rng: np.random.Generator) -> bytearray:
    start = int(rng.integers(0, len(raw)))
    return raw[:start] + rng.bytes(int(rng.integers(1, 300))) + raw[start:]


MUTATIONS = (flip, cut, drop, repeat, extreme, noise)


def mend(raw: bytearray) -> bytearray:
    """Right checksums for a PNG's blocks: otherwise no damage gets past them."""
    at = 8
    while raw.startswith(b"\x89PNG") and at + 12 <= len(raw):
        end = at + 8 + int.from_bytes(raw[at : at + 4])
        if end + 4 > len(raw):
            break
        raw[end : end + 4] = struct.pack(">I", zlib.crc32(raw[at + 4 : end]))
        at = end + 4
    return raw


def mutants(seeds: list[bytes]) -> Iterator[tuple[str, bytes]]:
    for number in range(MUTANTS):
        rng = np.random.default_rng((7, number))
        raw = bytearray(seeds[number % len(seeds)])
        for _ in range(rng.integers(1, 4)):
            raw = MUTATIONS[rng.integers(0, len(MUTATIONS))](raw, rng) or bytearray(b"\0")
        yield f"folder/mutant-{number}.jpg", bytes(mend(raw) if rng.random() < 0.7 else raw)


def outcome(data: bytes, name: str, read: object) -> str:
    try:
        if read is decode_mask:
            assert decode_mask(data, name).values.dtype == np.bool_
        else:
            photo = decode_photo(data, name, at_least=None if read is decode_photo else (8, 8))
            assert photo.pixels.dtype == np.uint8
            assert photo.pixels.shape[2] == 3
    except ImageError as error:
        return "refused" if name in error.message and error.fix else f"{name}: {error}"
    return "read"


@pytest.mark.slow
def test_mutants_are_refused_by_name_or_read(seeds: list[bytes]) -> None:
    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"over {SECONDS} seconds")

    before, memory = signal.signal(signal.SIGALRM, stop), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found: Counter[str] = Counter()
    slowest = 0.0
    try:
        for name, data in mutants(seeds):
            for read in (decode_photo, "scaled", decode_mask):
                signal.alarm(SECONDS)
                start = time.perf_counter()
                found[outcome(data, name, read)] += 1
                slowest = max(slowest, time.perf_counter() - start)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024
    print(f"\n{dict(found)}, slowest {slowest:.2f} s, {grown:.0f} MB more")  # noqa: T201 - the run's measurement
    assert set(found) == {"refused", "read"}, "every error names its file and a fix"
    assert found.total() == 3 * MUTANTS
    assert grown < 300
