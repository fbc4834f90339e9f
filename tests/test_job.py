"""One photo's job: its row, its files, and whether an earlier row still holds."""

import hashlib
import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from PIL import Image
from red_channel import RedChannel

from lesionseg.errors import ImageError
from lesionseg.inference.job import Job, refuse_long_name
from lesionseg.inference.measurements import MEASURES, Measuring
from lesionseg.inference.outputs import Outputs
from lesionseg.inference.quality import Quality
from lesionseg.inference.stages import PredictOptions
from lesionseg.inference.written import Written, log_outputs, log_path


def photo(seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (60, 80, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


class Memory:
    """A folder of outputs."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def exists(self, name: str) -> bool:
        return name in self.files

    def digest(self, name: str) -> str | None:
        return hashlib.sha256(self.files[name]).hexdigest() if name in self.files else None

    def read(self, name: str) -> bytes:
        return self.files[name]

    def write(self, name: str, data: bytes) -> None:
        self.files[name] = data

    def remove(self, name: str) -> None:
        del self.files[name]


def outputs_in(folder: Path, place: Memory, *, overwrite: bool = False) -> Outputs:
    return Outputs(place, Written.read(folder), partial(log_outputs, log_path(folder)), overwrite)


def predicted(job: Job, data: bytes) -> tuple[dict[str, str], dict[str, bytes]]:
    place = Memory()
    with TemporaryDirectory() as folder:
        outcome = job.predict("a/x.png", "photos/a/x.png", data, outputs_in(Path(folder), place))
    assert outcome.row is not None
    return dict(outcome.row), {name.removeprefix("a/x"): made for name, made in place.files.items()}


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


def test_a_row_holds_as_long_as_nothing_changed(tmp_path: Path) -> None:
    job, place = Job(RedChannel(), PredictOptions()), Memory()
    row = job.run("x.png", "x.png", photo(), None, outputs_in(tmp_path, place)).row
    assert row is not None
    outputs = outputs_in(tmp_path, place)
    assert job.standing("x.png", row, photo(), outputs) == []
    assert job.standing("x.png", row, photo(1), outputs) is None
    assert job.standing("x.png", {**row, "status": "failed"}, photo(), outputs) is None
    assert Job(RedChannel(), PredictOptions(threshold=0.4)).standing("x.png", row, photo(), outputs) is None
    wanting = Job(RedChannel(), PredictOptions(save_probabilities=True))
    assert wanting.standing("x.png", row, photo(), outputs) is None
    place.files.clear()
    assert job.standing("x.png", row, photo(), outputs) is None


def test_a_file_that_was_changed_is_kept_and_the_others_are_written(tmp_path: Path) -> None:
    job, place = Job(RedChannel(), PredictOptions(formats=("png", "svg"), overlays=("contour",))), Memory()
    first = job.run("x.png", "x.png", photo(), None, outputs_in(tmp_path, place)).row
    assert first is not None
    made = dict(place.files)
    place.files["x_segmentation.png"] = b"corrected"
    del place.files["x_overlay.jpg"]
    outcome = job.run("x.png", "x.png", photo(), first, outputs_in(tmp_path, place))
    row = outcome.row
    assert row is not None
    assert (outcome.status, outcome.kept) == ("kept", ("x_segmentation.png",))
    assert place.files == {**made, "x_segmentation.png": b"corrected"}
    assert row["error"].endswith("and kept: x_segmentation.png")
    assert "mask_sha256" not in row
    assert row["svg_sha256"] == first["svg_sha256"]
    # Numbers of the model's mask would be taken for those of the corrected one.
    assert {row[name] for name in ("lesion_pixels", "lesion_fraction", "mean_probability", "review", "area_px")} == {""}
    # It stays so without new work, and ends with the correction or with --overwrite.
    again = job.run("x.png", "x.png", photo(), row, outputs_in(tmp_path, place))
    assert (again.row, again.kept, again.status) == (None, ("x_segmentation.png",), "kept")
    place.files["x_segmentation.svg"] = b"corrected, too"
    more = job.run("x.png", "x.png", photo(), row, outputs_in(tmp_path, place))
    assert more.kept == ("x_segmentation.png", "x_segmentation.svg")
    assert more.row is not None
    replaced = job.run("x.png", "x.png", photo(), more.row, outputs_in(tmp_path, place, overwrite=True))
    assert (replaced.status, place.files) == ("ok", made)


def test_a_kept_picture_leaves_the_numbers(tmp_path: Path) -> None:
    job, place = Job(RedChannel(), PredictOptions(overlays=("contour",))), Memory()
    first = job.run("x.png", "x.png", photo(), None, outputs_in(tmp_path, place)).row
    place.files["x_overlay.jpg"] = b"drawn upon"
    outcome = job.run("x.png", "x.png", photo(), first, outputs_in(tmp_path, place))
    assert first is not None
    assert outcome.row is not None
    assert (outcome.row["status"], outcome.row["lesion_pixels"]) == ("kept", first["lesion_pixels"])


@pytest.mark.parametrize("torn", [lambda data: b"", lambda data: data[:-9], lambda data: data[:20] + b"\0" * 30])
def test_what_a_power_cut_left_of_a_file_is_no_correction(tmp_path: Path, torn: Callable[[bytes], bytes]) -> None:
    job, place = Job(RedChannel(), PredictOptions()), Memory()
    first = job.run("x.png", "x.png", photo(), None, outputs_in(tmp_path, place)).row
    made = dict(place.files)
    place.files["x_segmentation.png"] = torn(made["x_segmentation.png"])
    assert job.run("x.png", "x.png", photo(), first, outputs_in(tmp_path, place)).status == "ok"
    assert place.files == made


def test_outputs_are_recorded_before_they_are_written(tmp_path: Path) -> None:
    class Killed(Memory):
        def write(self, name: str, data: bytes) -> None:
            super().write(name, data)
            raise KeyboardInterrupt

    place = Killed()
    job = Job(RedChannel(), PredictOptions())
    with pytest.raises(KeyboardInterrupt):
        job.run("x.png", "x.png", photo(), None, outputs_in(tmp_path, place))
    digest = place.digest("x_segmentation.png")
    assert digest is not None
    assert Written.read(tmp_path).owns("x_segmentation.png", digest)
    # The next line is whole, also after one that is torn.
    with log_path(tmp_path).open("ab") as file:
        file.write(b'{"stem": "y", "fil')
    log_outputs(log_path(tmp_path), "z", {"_segmentation.png": "a"})
    written = Written.read(tmp_path)
    assert written.owns("x_segmentation.png", digest)
    assert written.owns("z_segmentation.png", "a")
    assert not written.knows("y_segmentation.png")


def test_what_the_user_has_beside_the_outputs_is_left_alone(tmp_path: Path) -> None:
    job, place = Job(RedChannel(), PredictOptions()), Memory()
    place.files["x_overlay.jpg"] = b"mine"
    assert job.run("x.png", "x.png", photo(), None, outputs_in(tmp_path, place)).kept == ()
    assert place.files["x_overlay.jpg"] == b"mine"


def test_what_an_earlier_run_left_of_a_photo_that_fails_is_removed(tmp_path: Path) -> None:
    job, place = Job(RedChannel(), PredictOptions(formats=("png", "svg"))), Memory()
    job.run("x.png", "x.png", photo(), None, outputs_in(tmp_path, place))
    place.files |= {"x_segmentation.svg": b"changed", "x_overlay.jpg": b"mine"}
    outcome = job.failed("x.png", ImageError("broken"), outputs_in(tmp_path, place))
    assert place.files == {"x_segmentation.svg": b"changed", "x_overlay.jpg": b"mine"}
    assert (outcome.removed, outcome.kept) == (("x_segmentation.png",), ("x_segmentation.svg",))
    assert outcome.row is not None
    assert outcome.row["error"].startswith("broken; removed what an earlier run wrote: x_segmentation.png; not written")


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


def test_what_an_earlier_run_left_is_renewed(tmp_path: Path) -> None:
    place = Memory()
    before = Job(RedChannel("b" * 64), PredictOptions(save_probabilities=True, threshold=0.3))
    before.run("x.png", "x.png", photo(1), None, outputs_in(tmp_path, place))
    old = dict(place.files)
    Job(RedChannel(), PredictOptions()).run("x.png", "x.png", photo(), None, outputs_in(tmp_path, place))
    assert place.files.keys() == old.keys() == {"x_segmentation.png", "x_probability.png"}
    assert all(place.files[name] != old[name] for name in old)


def test_a_photo_that_cannot_be_used() -> None:
    job = Job(RedChannel(), PredictOptions())
    with pytest.raises(ImageError, match=r"photos/a/x\.png"):
        predicted(job, b"no photo")
    with TemporaryDirectory() as folder:
        row = job.failed("a/x.png", ImageError("broken"), outputs_in(Path(folder), Memory())).row
    assert row is not None
    assert (row["status"], row["error"], row["file"]) == ("failed", "broken", "a/x.png")


def test_names_that_are_too_long() -> None:
    refuse_long_name(Path("f", "x" * 200 + ".jpg"))
    with pytest.raises(ImageError, match="too long"):
        refuse_long_name(Path("f", "x" * 240 + ".jpg"))
