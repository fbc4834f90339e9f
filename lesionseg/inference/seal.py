"""The SHA-256 that an exported file holds of itself, so that damage to any of its bytes is noticed on loading."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from lesionseg.errors import RunError

__all__ = ["SEAL", "UNSEALED", "require_seal", "seal"]

SEAL = "file_sha256"
"""Key of the digest in the metadata of an exported file."""

UNSEALED = "0" * 64
"""Stands in the digest's place while the digest is computed, and in a file that is not sealed yet."""

# As a protocol buffer (ONNX: field 2, 64 bytes long) and as an attribute (OpenVINO's XML) hold key and value.
_PLACE = re.compile(re.escape(SEAL).encode() + rb'(?:\x12\x40| value=")([0-9a-f]{64})')
_AGAIN = "copy it again, or make it again with 'lesionseg export RUN'"


def seal(data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """Return a file that holds its own digest.

    Args:
        data: the file, which holds ``UNSEALED`` under the key ``SEAL`` once.
        others: further files that the digest covers, as the weights beside OpenVINO's XML.

    Raises:
        ValueError: ``data`` has no place for the digest, or several.
    """
    places = _PLACE.findall(data)
    if places != [UNSEALED.encode()]:
        raise ValueError(f"{len(places)} places for the digest instead of one")
    start = _start(data)
    return data[:start] + _digest(data, start, others).encode() + data[start + len(UNSEALED) :]


def require_seal(data: bytes, path: Path, others: Sequence[bytes] = ()) -> None:
    """Make sure that an exported file is as it was written.

    Args:
        data: the file's bytes.
        path: for messages.
        others: as in ``seal``.

    Raises:
        RunError: the file holds no digest, or its bytes have changed.
    """
    places = _PLACE.findall(data)
    if len(places) != 1:
        raise RunError(f"{path} is no intact model that this version of lesionseg exported", fix=_AGAIN)
    if _digest(data, _start(data), others) != places[0].decode():
        raise RunError(f"{path} is damaged: its SHA-256 is not the one that it holds", fix=_AGAIN)


def _start(data: bytes) -> int:
    found = _PLACE.search(data)
    assert found is not None  # noqa: S101 - counted before
    return found.start(1)


def _digest(data: bytes, start: int, others: Sequence[bytes]) -> str:
    digest = hashlib.sha256(memoryview(data)[:start])
    digest.update(UNSEALED.encode())
    digest.update(memoryview(data)[start + len(UNSEALED) :])
    for other in others:
        digest.update(other)
    return digest.hexdigest()
