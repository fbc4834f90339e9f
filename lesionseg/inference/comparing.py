"""One case's prediction against its mask; needs no model, so that other processes can do it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lesionseg.data.images import decode_photo, encode_probability_png, resize_probability
from lesionseg.evaluation.scoring import Scored, score_case
from lesionseg.evaluation.traits import TRAIT_SIDE, Traits, photo_traits
from lesionseg.records import BoolMask, Case, Prediction, Probability

__all__ = ["Compared", "Ready", "compare", "compare_known"]


@dataclass(frozen=True, slots=True, eq=False)
class Ready:
    """A case, read and waiting for its prediction.

    Attributes:
        truth: ``bool H W``, at the size that is scored.
        photo: the photo's bytes, or None where there is none.
        width, height: of the photo, in pixels.
        given: what the source needs to predict it.
    """

    case: Case
    truth: BoolMask
    photo: bytes | None
    width: int
    height: int
    given: Any

    def __str__(self) -> str:
        return str(self.case.image)


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """One case.

    Attributes:
        scored: its scores.
        png: the probability at the size that was scored.
        traits: of its photo; None where there is none.
    """

    scored: Scored
    png: bytes
    traits: Traits | None


def compare(ready: Ready, small: Probability, threshold: float, traits: Traits | None) -> Compared:
    """Compares a prediction with the true mask.

    Args:
        ready: the case.
        small: ``float32 h w`` in [0, 1] at any size.
        threshold: lesion where the probability is at least this.
        traits: of the photo, where they are known.

    Raises:
        ImageError: the photo cannot be decoded.
    """
    case, truth = ready.case, ready.truth
    probability = small if small.shape == truth.shape else resize_probability(small, *truth.shape)
    if traits is None and ready.photo is not None:
        upright = (ready.height, ready.width)
        photo = decode_photo(ready.photo, str(case.image), at_least=(TRAIT_SIDE, TRAIT_SIDE), like=upright)
        traits = photo_traits(photo.pixels, truth)
    prediction = Prediction(case.case_id, probability)
    aspect = ready.width / ready.height
    scored = score_case(case, prediction, truth, threshold=threshold, traits=traits, aspect=aspect)
    return Compared(scored, encode_probability_png(probability), traits)


# Runs that are compared see the same photos; looking at one takes longer than anything else in its scoring.
_KNOWN_TRAITS: dict[bytes, Traits] = {}
_MOST_KNOWN = 1 << 16


def compare_known(compare_one: Callable[..., Compared], ready: Ready, small: Probability, threshold: float) -> Compared:
    """The same, with the photo's traits looked up where it was seen before.

    Args:
        compare_one: ``compare``, or a crew that calls it elsewhere.
        ready, small, threshold: as there.
    """
    key = None if ready.photo is None else _photo_key(ready.photo, ready.truth)
    known = _KNOWN_TRAITS.get(key) if key else None
    # What was needed to predict stays here.
    compared = compare_one(replace(ready, given=None, photo=None if known else ready.photo), small, threshold, known)
    if key and compared.traits:
        if len(_KNOWN_TRAITS) >= _MOST_KNOWN:
            _KNOWN_TRAITS.clear()
        _KNOWN_TRAITS[key] = compared.traits
    return compared


def _photo_key(photo: bytes, truth: BoolMask) -> bytes:
    return hashlib.sha256(hashlib.sha256(photo).digest() + np.packbits(truth).tobytes()).digest()
