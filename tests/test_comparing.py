"""One case against its mask: what is told of it, and what is not looked at twice."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lesionseg.errors import ImageError
from lesionseg.evaluation.traits import Traits
from lesionseg.inference import comparing
from lesionseg.inference.comparing import Ready, compare, compare_known
from lesionseg.records import Case

TRUTH = np.zeros((30, 40), bool)
TRUTH[10:20, 10:30] = True
SMALL = np.full((15, 20), 0.25, np.float32)
SMALL[5:10, 5:15] = 1


def photo(level: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((30, 40, 3), (level, 150, 120), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def ready(data: bytes | None) -> Ready:
    return Ready(Case("x", Path("x.png"), None, split="test"), TRUTH, data, 40, 30, given=object())


def test_the_map_has_the_size_of_the_mask() -> None:
    found = compare(ready(None), SMALL, 0.5, None)
    levels = np.asarray(Image.open(io.BytesIO(found.png)))
    assert levels.shape == TRUTH.shape
    assert (levels[15, 20], levels[0, 0]) == (255, 64)
    assert found.scored.row["dice"] == 1
    assert found.traits is None


def test_a_photo_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "_KNOWN_TRAITS", {})
    calls: list[tuple[Ready, Traits | None]] = []

    def counted(one: Ready, small: np.ndarray, threshold: float, traits: Traits | None) -> comparing.Compared:
        calls.append((one, traits))
        return compare(one, small, threshold, traits)

    first, second, other = (compare_known(counted, ready(photo(level)), SMALL, 0.5) for level in (220, 220, 90))
    assert first.scored.row == second.scored.row
    assert first.traits != other.traits
    # What is known is not sent again, nor is what only the model needs.
    assert [one.photo is None for one, _ in calls] == [False, True, False]
    assert [traits for _, traits in calls] == [None, first.traits, None]
    assert all(one.given is None for one, _ in calls)


def test_a_photo_that_cannot_be_decoded_is_named() -> None:
    assert str(ready(b"")) == "x.png"
    with pytest.raises(ImageError, match=r"x\.png"):
        compare(ready(b"no picture"), SMALL, 0.5, None)
