"""What is asked of a model beyond one look."""

import numpy as np
import pytest
from test_wrapped import Brightness, photos

from lesionseg.errors import ConfigError
from lesionseg.inference.quality import Quality
from lesionseg.inference.refine import Refinement
from lesionseg.inference.wrapped import Wrapped


def layers(predictor) -> list[str]:
    found = []
    while isinstance(predictor, Wrapped):
        found.append(type(predictor).__name__)
        predictor = predictor.inner
    return found


def test_nothing_asked_for_is_the_model_itself() -> None:
    model = Brightness()
    assert Refinement().around(model) is model


def test_everything_asked_for_stands_around_it_in_its_order() -> None:
    refined = Refinement(tile=2, flips=True, largest=True, holes=True).around(Brightness(), 0.4)
    assert layers(refined) == ["PostProcessed", "Tiled", "Flipped"]
    assert refined.steps == ("largest", "holes")
    assert refined.threshold == 0.4
    assert (refined.height, refined.width) == (8, 12)


def test_a_calibration_is_of_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    quality = Quality((0.0, 1.0), (0.0, 1.0))
    monkeypatch.setattr(Brightness, "quality", quality, raising=False)
    assert Refinement(largest=True, holes=True).around(Brightness()).quality is quality
    for looks in (Refinement(flips=True), Refinement(tile=2), Refinement(flips=True, largest=True)):
        assert looks.around(Brightness()).quality is None


def test_each_of_them_gives_results_of_its_own() -> None:
    asked = [Refinement(), Refinement(tile=2), Refinement(flips=True), Refinement(largest=True), Refinement(holes=True)]
    assert len({one.around(Brightness()).sha256 for one in asked}) == len(asked)


def test_flips_alone_change_nothing_for_a_model_without_a_side() -> None:
    batch = photos()
    assert np.allclose(Refinement(flips=True).around(Brightness()).infer(batch), Brightness().infer(batch))


def test_a_factor_out_of_range() -> None:
    with pytest.raises(ConfigError, match="tiled at 1"):
        Refinement(tile=1).around(Brightness())
