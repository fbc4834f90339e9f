"""One photo's job: its row, its files, and whether an earlier row still holds."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from red_channel import RedChannel

from lesionseg.errors import ImageError
from lesionseg.inference.job import Job, refuse_long_name
from lesionseg.inference.measurements import MEASURES, Measuring
from lesionseg.inference.quality import Quality
from lesionseg.inference.stages import PredictOptions


def photo(seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (60, 80, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def predicted(job: Job, data: bytes) -> tuple[dict[str, str], dict[str, bytes]]:
    files: dict[str, bytes] = {}
    row = job.predict("a/x.png", "photos/a/x.png", data, job.endings(lambda _: False), files.__setitem__)
    return dict(row), files


def test_the_row_holds_the_hashes_of_what_was_written() -> None:
    job = Job(RedChannel(), PredictOptions())
    row, files = predicted(job, photo())
    assert list(files) == ["_segmentation.png"]
    assert row["mask_sha256"] == hashlib.sha256(files["_segmentation.png"]).hexdigest()
    assert row["photo_sha256"] == hashlib.sha256(photo()).hexdigest()
    assert (row["file"], row["width"], row["height"], row["status"]) == ("a/x.png", "80", "60", "ok")
    assert all(isinstance(value, str) for value in row.values())


def test_the_row_says_what_to_expect_and_what_to_look_at() -> None:
    predictor = RedChannel()
    row, _ = predicted(Job(predictor, PredictOptions(threshold=1.0)), photo())
    assert (row["expected_dice"], row["review"]) == ("", "yes")
    # What the photo itself gives away comes first.
    strange, empty = row["reasons"].split("; ")
    assert strange.startswith("perhaps no dermoscopy photo: ")
    assert empty == "no lesion found"
    predictor.quality = Quality((0.0, 1.0), (0.0, 0.5))
    row, _ = predicted(Job(predictor, PredictOptions()), photo())
    assert 0 < float(row["expected_dice"]) < 0.5
    assert (row["review"], row["reasons"].split("; ")[:2]) == ("yes", [strange, "the outline is uncertain"])


def test_a_row_holds_as_long_as_nothing_changed() -> None:
    job = Job(RedChannel(), PredictOptions())
    row, files = predicted(job, photo())

    def digest(ending: str) -> str | None:
        return hashlib.sha256(files[ending]).hexdigest() if ending in files else None

    assert job.is_current(row, photo(), digest)
    assert not job.is_current(row, photo(1), digest)
    assert not job.is_current(row, photo(), lambda _: None)
    assert not job.is_current({**row, "status": "failed"}, photo(), digest)
    assert not Job(RedChannel(), PredictOptions(threshold=0.4)).is_current(row, photo(), digest)


def test_what_was_not_wanted_before_is_not_there_now() -> None:
    row, files = predicted(Job(RedChannel(), PredictOptions()), photo())
    # As a journal has it: without a cell for what was not written.
    assert "probability_sha256" not in row
    wanting = Job(RedChannel(), PredictOptions(save_probabilities=True))

    def digest(ending: str) -> str | None:
        return hashlib.sha256(files[ending]).hexdigest() if ending in files else None

    assert not wanting.is_current(row, photo(), digest)


def test_a_jpeg_with_missing_data_is_to_be_looked_at() -> None:
    pixels = np.full((64, 96, 3), (210, 160, 140), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    row, _ = predicted(Job(RedChannel(), PredictOptions()), buffer.getvalue()[:-2])
    assert row["review"] == "yes"
    assert row["reasons"].startswith("the JPEG has no end marker: its last pixels may be wrong")


def test_a_peak_that_no_pixel_of_the_photo_has_is_no_lesion() -> None:
    class Peak(RedChannel):
        def infer(self, batch: np.ndarray) -> np.ndarray:
            maps = np.zeros(batch.shape[:3], np.float32)
            maps[:, 5, 5] = 0.6
            return maps

    row, _ = predicted(Job(Peak(), PredictOptions(measuring=Measuring(more=True))), photo())
    # Between the photo's pixels the peak is lower.
    assert row["lesion_pixels"] == "0"
    assert (row["review"], "no lesion found" in row["reasons"]) == ("yes", True)
    assert {name for name in MEASURES if row.get(name)} == set()


def test_what_an_earlier_run_left_is_renewed() -> None:
    job = Job(RedChannel(), PredictOptions())
    assert set(job.endings(lambda ending: ending == "_probability.png")) == {"_segmentation.png", "_probability.png"}


def test_a_photo_that_cannot_be_used() -> None:
    job = Job(RedChannel(), PredictOptions())
    with pytest.raises(ImageError, match=r"photos/a/x\.png"):
        predicted(job, b"no photo")
    row = job.failed("a/x.png", ImageError("broken"))
    assert (row["status"], row["error"], row["file"]) == ("failed", "broken", "a/x.png")


def test_names_that_are_too_long() -> None:
    refuse_long_name(Path("f", "x" * 200 + ".jpg"))
    with pytest.raises(ImageError, match="too long"):
        refuse_long_name(Path("f", "x" * 240 + ".jpg"))
