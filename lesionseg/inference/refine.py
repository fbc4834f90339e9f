"""What is asked of a model beyond one look at each photo: tiles, mirror images, one region without holes."""

from __future__ import annotations

from dataclasses import dataclass

from lesionseg.inference.predictor import Predictor
from lesionseg.records import THRESHOLD

__all__ = ["Refinement"]


@dataclass(frozen=True, slots=True)
class Refinement:
    """Each is off by default.

    Attributes:
        tile: looks at each photo in overlapping tiles, at so many times the model's input size; None does not.
        flips: averages over four mirror images.
        largest: keeps the largest region alone.
        holes: fills what a region encloses.
    """

    tile: float | None = None
    flips: bool = False
    largest: bool = False
    holes: bool = False

    def around(self, predictor: Predictor, threshold: float = THRESHOLD) -> Predictor:
        """The predictor with what is asked for around it; its ``sha256`` is another one then.

        Args:
            predictor: the model.
            threshold: lesion where the probability is at least this.

        Raises:
            ConfigError: the factor of the tiles is not in its range.
        """
        if self.flips:
            from lesionseg.inference.flips import Flipped

            predictor = Flipped(predictor)
        if self.tile is not None:
            from lesionseg.inference.tiles import Tiled

            predictor = Tiled(predictor, self.tile)
        steps = (*(("largest",) if self.largest else ()), *(("holes",) if self.holes else ()))
        if steps:
            from lesionseg.inference.postprocess import PostProcessed

            predictor = PostProcessed(predictor, steps, threshold)
        return predictor
