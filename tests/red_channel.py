"""A predictor without a network, for tests of what goes on around it."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 32


class RedChannel:
    """The probability is the photo's red channel."""

    name, checkpoint, sha256, height, width = "red", "epoch-0001", "a" * 64, SIZE, SIZE
    quality = None

    def __init__(
        self, sha256: str = "a" * 64, before: Callable[[int], object] = lambda calls: None, seconds: float = 0
    ) -> None:
        self.sha256, self.before, self.seconds = sha256, before, seconds
        self.calls, self.lock = 0, threading.Lock()

    def infer(self, batch: np.ndarray) -> np.ndarray:
        assert batch.shape == (1, SIZE, SIZE, 3)
        with self.lock:
            self.calls += 1
            calls = self.calls
        self.before(calls)
        time.sleep(self.seconds)
        return batch[..., 0].astype(np.float32) / 255


def picture(seed: int = 0, height: int = 48, width: int = 64) -> np.ndarray:
    """Dark skin colours, and a box in which the red channel is strong."""
    pixels = np.random.default_rng(seed).integers(0, 90, (height, width, 3)).astype(np.uint8)
    pixels[height // 4 : height // 2, width // 4 : width // 2, 0] = 240
    return pixels


def save(path: Path, seed: int = 0, height: int = 48, width: int = 64) -> Path:
    """Writes such a picture as the name's ending says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = "JPEG" if path.suffix.lower() == ".jpg" else "PNG"
    Image.fromarray(picture(seed, height, width)).save(path, kind)
    return path


def tree(folder: Path) -> list[str]:
    """All files but the run's own hidden ones."""
    files = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in files if not name.startswith(".predictions."))
