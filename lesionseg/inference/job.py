"""What is done with one photo, wherever it lies and wherever it is done: bytes in, files and a row out."""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import PurePath

from lesionseg.errors import ImageError
from lesionseg.inference.measurements import MEASURES
from lesionseg.inference.outputs import Outputs
from lesionseg.inference.photos import output_stem
from lesionseg.inference.plausibility import implausible
from lesionseg.inference.predictor import Predictor
from lesionseg.inference.quality import OPINION_COLUMNS, Opinion, look
from lesionseg.inference.stages import (
    ENDINGS,
    MASK_ENDINGS,
    OUTPUTS,
    Decoded,
    Encoded,
    PredictOptions,
    decode,
    encode,
    infer,
)
from lesionseg.inference.table import Row
from lesionseg.records import Probability
from lesionseg.tables import safe_cell

__all__ = ["Job", "Outcome", "Tally", "refuse_long_name"]

_NAME_BYTES = 255
# A photo's row is about its mask in all of these.
_OF_THE_MASK = ("lesion_pixels", "lesion_fraction", "mean_probability", *OPINION_COLUMNS, *MEASURES)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a photo.

    Attributes:
        row: of the table; None if an earlier run's row and outputs still hold.
        kept: names of outputs that lesionseg did not write, or that were changed since, and that stay as they are.
        removed: names of outputs of an earlier run that were removed, as the photo cannot be used now.
    """

    row: Row | None
    kept: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        """``ok``, ``kept``, ``reused`` or ``failed``."""
        if self.row is not None:
            return self.row["status"]
        return "kept" if self.kept else "reused"


class Tally:
    """What became of many photos.

    Attributes:
        counts: photos of each status.
        kept: as in ``Outcome``, of all of them.
        removed: how many outputs were removed.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.kept: list[str] = []
        self.removed = 0

    def add(self, outcome: Outcome) -> None:
        """Count a photo."""
        self.counts[outcome.status] += 1
        self.kept += outcome.kept
        self.removed += len(outcome.removed)


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

    def run(self, name: str, called: str, data: bytes, before: Row | None, outputs: Outputs) -> Outcome:
        """Do one photo, unless an earlier run's outputs still hold.

        Args:
            name: in the table.
            called: how messages call it.
            data: the file's bytes.
            before: the row of an earlier run.
            outputs: where to.

        Raises:
            ImageError: the photo cannot be used.
            OutputError: an output cannot be written.
        """
        stem = output_stem(name)
        if before is not None:
            kept = self.standing(name, before, data, outputs)
            if kept is not None and not (kept and outputs.overwrite):
                return Outcome(None, _named(stem, kept))
        return self.predict(name, called, data, outputs)

    def predict(self, name: str, called: str, data: bytes, outputs: Outputs) -> Outcome:
        """Do one photo; arguments and errors are those of ``run``."""
        started = time.perf_counter()
        decoded = decode(data, called, self.predictor.height, self.predictor.width)
        probability = infer(decoded, self.predictor)
        stem, options = output_stem(name), self.options
        wanted = options.endings.values()
        # What an earlier run left of this photo is made again: another model's overlay beside this mask would mislead.
        endings = [ending for ending in OUTPUTS if ending in wanted or outputs.is_own(f"{stem}{ending}")]
        encoded = encode(decoded, probability, options.threshold, endings, options.bits, options.measuring)
        kept = outputs.write(stem, encoded.files)
        mean = encoded.mean_probability
        row = {
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
            **_hashes(encoded, kept),
            "seconds": f"{time.perf_counter() - started:.3f}",
            "status": "ok",
        }
        if kept:
            row |= {"status": "kept", "error": _kept_text(stem, kept)}
        if any(ending in MASK_ENDINGS.values() for ending in kept):
            # No number beside a mask that it does not describe.
            row |= dict.fromkeys(_OF_THE_MASK, "")
        return Outcome(row, _named(stem, kept))

    def _judge(self, decoded: Decoded, probability: Probability) -> Opinion:
        """What is to be expected of a mask, and why somebody should look at it: the one place where reasons meet."""
        reason = implausible(decoded.pixels)
        known = (*decoded.warnings, *([reason] if reason else []))
        return look(probability, self.predictor.quality, self.options.threshold, known)

    def failed(self, name: str, error: ImageError, outputs: Outputs) -> Outcome:
        """Give a photo that cannot be used its row, and remove what an earlier run wrote of it."""
        stem = output_stem(name)
        removed, kept = outputs.clear(stem)
        texts = [error.message]
        texts += [f"removed what an earlier run wrote: {', '.join(_named(stem, removed))}"] if removed else []
        texts += [_kept_text(stem, kept)] if kept else []
        row = {"file": name, **self.made, "status": "failed", "error": "; ".join(texts)}
        return Outcome(row, _named(stem, kept), _named(stem, removed))

    def standing(self, name: str, row: Row, data: bytes, outputs: Outputs) -> list[str] | None:
        """Whether a row of an earlier run is the one that this job would make.

        Args:
            name: of the photo, in the table.
            row: of the earlier run.
            data: the photo's bytes, now.
            outputs: of both.

        Returns:
            the endings of the outputs that are kept as they are, none in most cases; None if the row does not hold.
        """
        status, stem = row.get("status"), output_stem(name)
        if status not in ("ok", "kept") or any(row.get(key) != value for key, value in self.made.items()):
            return None
        if row.get("photo_sha256") != hashlib.sha256(data).hexdigest():
            return None
        kept = self._kept(stem, row, outputs)
        if not kept or status == "ok":
            return kept if kept == [] and status == "ok" else None
        # A table's cell may differ from the text in what spreadsheets would misread.
        return kept if safe_cell(row.get("error", "")) == safe_cell(_kept_text(stem, kept)) else None

    def _kept(self, stem: str, row: Row, outputs: Outputs) -> list[str] | None:
        """The endings of the outputs that differ from the row and are not lesionseg's; None if one is to be written."""
        kept = []
        for kind, ending in self.options.endings.items():
            found = outputs.place.digest(f"{stem}{ending}")
            if found is not None and found == row.get(f"{kind}_sha256"):
                continue
            if found is None or outputs.written.owns(f"{stem}{ending}", found):
                return None
            kept.append(ending)
        return kept


def _named(stem: str, endings: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{stem}{ending}" for ending in endings)


def _kept_text(stem: str, endings: Iterable[str]) -> str:
    return f"not written by lesionseg or changed since, and kept: {', '.join(_named(stem, endings))}"


def _hashes(encoded: Encoded, kept: Collection[str]) -> dict[str, str]:
    return {
        f"{kind}_sha256": hashlib.sha256(encoded.files[ending]).hexdigest()
        for kind, ending in ENDINGS.items()
        if ending in encoded.files and ending not in kept
    }


def refuse_long_name(path: PurePath) -> None:
    """Makes sure that the names of a photo's outputs are not too long for a file system.

    Raises:
        ImageError: they are.
    """
    if len(os.fsencode(output_stem(path.name))) + max(map(len, OUTPUTS)) > _NAME_BYTES:
        raise ImageError(f"{path}: its name is too long to add to", fix="rename it")
