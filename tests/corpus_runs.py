"""Folders to predict and a run to evaluate, of the corpus."""

import csv
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from corpus import Files, Found, Row, files_in
from corpus_photos import JPEG, PNG, SMOOTH
from pictures import encoded, put
from PIL import Image

from lesionseg import api
from lesionseg.config import load_config
from lesionseg.data.manifest import write_manifest
from lesionseg.data.pairing import Folders, pair_folders
from lesionseg.data.synthetic import write_dataset
from lesionseg.inference.folder import PredictOptions, predict_folder

# --- prediction -------------------------------------------------------------------------------------------------------


class RedChannel:
    """A predictor without a network: the probability is the photo's red channel."""

    name, checkpoint, sha256, height, width = "red", "epoch-0001", "a" * 64, 32, 32
    quality = None

    def __init__(self, before: Callable[[], object] = lambda: None) -> None:
        self.before = before

    def infer(self, batch: np.ndarray) -> np.ndarray:
        self.before()
        return batch[..., 0].astype(np.float32) / 255


def _predict(folder: Path, before: Callable[[], object] = lambda: None) -> Found:
    result = predict_folder(folder / "in", RedChannel(before), folder / "out")
    with result.table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    told = tuple(f"{row['file']}: {row['error']}" for row in rows if row["status"] != "ok")
    done = sorted(path.name.removesuffix("_segmentation.png") for path in (folder / "out").glob("*_segmentation.png"))
    return Found(done, skipped=told)


def _folder(
    title: str,
    outcome: str,
    files: Files,
    says: str = "",
    run: Callable[[Path], Found] = _predict,
    done: Sequence[str] = ("a",),
    names: str = "",
) -> Row:
    make = files_in({"in/a.png": PNG} | {f"in/{name}": data for name, data in files.items()})
    return Row(title, outcome, "predict", make, run, says, lambda found: found == list(done), names)


def _vanishing(folder: Path) -> Found:
    # The last of many: it is listed, and gone before it is read.
    for number in range(30):
        put(folder / "in" / f"b{number:02}.png", PNG)
    found = _predict(folder, before=lambda: (folder / "in" / "z.png").unlink(missing_ok=True))
    return Found([name for name in found.result if not name.startswith("b")], found.warnings, found.skipped)


def _copied(folder: Path, *, whole: bool) -> Found:
    """A file that is being written while it is read, and is whole in time or not."""
    path, stop = folder / "in" / "b.png", threading.Event()
    path.write_bytes(PNG[:300])

    def copy() -> None:
        if whole:
            time.sleep(0.1)
            path.write_bytes(PNG)
        while not whole and not stop.wait(0.02):
            with path.open("ab") as file:
                file.write(b"\0")

    thread = threading.Thread(target=copy)
    thread.start()
    try:
        return _predict(folder)
    finally:
        stop.set()
        thread.join()


def _hidden_metadata(folder: Path) -> Found:
    """What the outputs of a photo with EXIF, ICC profile and comment still hold of them."""
    predict_folder(
        folder / "in", RedChannel(), folder / "out", PredictOptions(overlays=("contour",), save_probabilities=True)
    )
    outputs = b"".join(path.read_bytes() for path in (folder / "out").iterdir() if path.suffix != ".csv")
    return Found([word for word in (b"Dr. Private", b"Exif", b"ICC_PROFILE", b"iCCP", b"eXIf") if word in outputs])


def _private() -> bytes:
    tags = Image.Exif()
    tags[0x013B] = "Dr. Private"
    return encoded(SMOOTH, "JPEG", exif=tags, icc_profile=b"Dr. Private", comment=b"Dr. Private")


LONG = "n" * 251 + ".png"

PREDICTIONS: tuple[Row, ...] = (
    _folder("photo in capitals and with a newline", "D", {"B\nc.JPG": JPEG}, done=["B\nc", "a"]),
    _folder("EXIF, ICC profile and comment reach no output", "D", {"b.jpg": _private()}, run=_hidden_metadata, done=[]),
    _folder("two photos with one mask name", "R", {"a.jpg": JPEG}, "would share one mask", names="a.jpg, a.png"),
    _folder("a bad photo among good ones", "S", {"bad.jpg": b"<html>"}, r"bad\.jpg: .*bad\.jpg is not a picture"),
    _folder("255-byte name without room for the ending", "S", {LONG: PNG}, "name is too long"),
    _folder("system files in a photo folder", "S", {"._a.png": b"\0", "Thumbs.db": b"\0"}, r"\._a\.png: a companion"),
    _folder("a file that vanishes during the run", "S", {"z.png": PNG}, r"z\.png: .* does not exist", _vanishing),
    _folder(
        "a file still being copied, whole in time",
        "D",
        {},
        run=lambda folder: _copied(folder, whole=True),
        done=["a", "b"],
    ),
    _folder(
        "a file still being copied for long",
        "S",
        {},
        r"b\.png: .* is still being written",
        run=lambda folder: _copied(folder, whole=False),
    ),
)


# --- evaluation -------------------------------------------------------------------------------------------------------


def _train(folder: Path) -> Path:
    """A run of one epoch, and a manifest whose test split holds a training photo in another format."""
    made = write_dataset(folder / "data", train=3, test=1, width=64, height=48)
    source = sorted(made.train_images.glob("*.*g"))[0]
    mask = sorted(made.train_masks.glob("*.png"))[0]
    put(made.test_images / "new.png", encoded(np.asarray(Image.open(source)), "PNG"))
    put(made.test_masks / "new.png", mask.read_bytes())
    pairs = [Folders("train", made.train_images, made.train_masks), Folders("test", made.test_images, made.test_masks)]
    write_manifest(pair_folders(pairs), folder / "m.csv")
    base: dict[str, Any] = {
        "data": {"manifest": str(folder / "m.csv"), "image_size": 64, "validation_fraction": 0.3},
        "model": {"encoder_weights": "random"},
        "loop": {"epochs": 1, "batch_size": 2, "device": "cpu", "threads": 1},
    }
    api.train(load_config(base, ()), folder / "run")
    return folder


EVALUATIONS: tuple[Row, ...] = (
    Row(
        "train/test duplicates by pixels in evaluation",
        "R",
        "evaluate",
        _train,
        run=lambda folder: Found(api.evaluate(folder / "run")),
        says=r"test holds photos that the run was trained with, by their pixels",
        names="new.png",
    ),
)

RUNS = (*PREDICTIONS, *EVALUATIONS)
