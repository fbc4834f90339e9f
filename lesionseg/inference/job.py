"""What is done with one photo, wherever it lies and wherever it is done: bytes in, files and a row out."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import PurePath

from lesionseg.errors import ImageError
from lesionseg.inference.journal import Row
from lesionseg.inference.plausibility import implausible
from lesionseg.inference.predictor import Predictor
from lesionseg.inference.quality import Opinion, look
from lesionseg.inference.stages import ENDINGS, OUTPUTS, Decoded, Encoded, PredictOptions, decode, encode, infer
from lesionseg.records import Probability

__all__ = ["Job", "refuse_long_name"]

_NAME_BYTES = 255
Write = Callable[[str, bytes], None]


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """The model and what is written of each photo.

    Attributes:
        predictor: the model.
        options: what is written.
    """

    predictor: Predictor
    options: PredictOptions

    @property
    def made(self) -> dict[str, str]:
        """What every row says of how it was made."""
        settings = {"threshold": repr(float(self.options.threshold)), "options": self.options.settings}
        return {"model_sha256": self.predictor.sha256} | settings

    def endings(self, exists: Callable[[str], bool]) -> list[str]:
        """Of the files to write: what is wanted, and what an earlier run left of this photo.

        Another model's overlay beside this mask would mislead.
        """
        wanted = self.options.endings.values()
        return [ending for ending in OUTPUTS if ending in wanted or exists(ending)]

    def predict(self, name: str, called: str, data: bytes, endings: Iterable[str], write: Write) -> Row:
        """Does one photo.

        Args:
            name: in the table.
            called: how messages call it.
            data: the file's bytes.
            endings: of the files to write.
            write: takes an ending and the file's bytes.

        Raises:
            ImageError: the photo cannot be used.
        """
        started = time.perf_counter()
        decoded = decode(data, called, self.predictor.height, self.predictor.width)
        probability = infer(decoded, self.predictor)
        options = self.options
        encoded = encode(decoded, probability, options.threshold, endings, options.bits, options.measuring)
        for ending, content in encoded.files.items():
            write(ending, content)
        mean = encoded.mean_probability
        return {
            "file": name,
            "width": str(decoded.width),
            "height": str(decoded.height),
            "lesion_pixels": str(encoded.lesion_pixels),
            "lesion_fraction": repr(encoded.lesion_fraction),
            "mean_probability": "" if mean is None else repr(mean),
            **self._judge(decoded, encoded.seen).cells(),
            **encoded.measures,
            **self.made,
            "photo_sha256": decoded.sha256,
            **_hashes(encoded),
            "seconds": f"{time.perf_counter() - started:.3f}",
            "status": "ok",
        }

    def _judge(self, decoded: Decoded, probability: Probability) -> Opinion:
        """What is to be expected of a mask, and why somebody should look at it: the one place where reasons meet."""
        reason = implausible(decoded.pixels)
        known = (*decoded.warnings, *([reason] if reason else []))
        return look(probability, self.predictor.quality, self.options.threshold, known)

    def failed(self, name: str, error: ImageError) -> Row:
        """The row of a photo that cannot be used."""
        return {"file": name, **self.made, "status": "failed", "error": error.message}

    def is_current(self, row: Row, data: bytes, digest: Callable[[str], str | None]) -> bool:
        """Whether a row's outputs are those that this job would write.

        Args:
            row: of an earlier run.
            data: the photo's bytes, now.
            digest: hex digest of the output with an ending; None where there is none.
        """
        expected = {**self.made, "status": "ok"}
        return (
            all(row.get(key) == value for key, value in expected.items())
            and row.get("photo_sha256") == hashlib.sha256(data).hexdigest()
            and all(
                (found := digest(ending)) is not None and found == row.get(f"{kind}_sha256")
                for kind, ending in self.options.endings.items()
            )
        )


def _hashes(encoded: Encoded) -> dict[str, str]:
    return {
        f"{kind}_sha256": hashlib.sha256(encoded.files[ending]).hexdigest()
        for kind, ending in ENDINGS.items()
        if ending in encoded.files
    }


def refuse_long_name(path: PurePath) -> None:
    """Makes sure that the names of a photo's outputs are not too long for a file system.

    Raises:
        ImageError: they are.
    """
    if len(os.fsencode(path.stem)) + max(map(len, OUTPUTS)) > _NAME_BYTES:
        raise ImageError(f"{path}: its name is too long to add to", fix="rename it")
