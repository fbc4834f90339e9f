"""Weights of a whole model as the start of another: its encoder, or all of it."""

from pathlib import Path

import pytest
import torch

from lesionseg.config import load_config
from lesionseg.errors import ConfigError, RunError, WeightsError
from lesionseg.models import EncoderSpec, ModelSpec, build_model
from lesionseg.models.packing import pack, restore, unpack
from lesionseg.models.weights import load_encoder_weights
from lesionseg.shipped_models import DEFAULT, WEIGHTS, open_bundle
from lesionseg.training.start import starting_model


def settings(**model: object) -> dict[str, object]:
    return {"data": {"manifest": "none"}, "model": model}


def test_what_is_packed_comes_back_up_to_float16() -> None:
    torch.manual_seed(1)
    model = build_model(ModelSpec("light", 0.1, 1, EncoderSpec()))
    model.encoder.net.bn1.running_var.fill_(1e6)
    back = restore(pack(model), model.spec).state_dict()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(back[name], value, rtol=1e-3, atol=1e-7)
        assert back[name].dtype == value.dtype
    assert float(back["encoder.net.bn1.running_var"][0]) == 1e6


@pytest.mark.parametrize("source", ["lesionseg", DEFAULT, "folder"])
def test_its_encoder_starts_another_network(shipped: Path, source: str) -> None:
    weights = load_encoder_weights(str(shipped) if source == "folder" else source)
    bundle = open_bundle(shipped)
    assert (weights.spec.source, weights.spec.sha256) == (DEFAULT, bundle.digest(WEIGHTS))
    kept = unpack(bundle).encoder.net.state_dict()
    started = starting_model(load_config(settings(encoder_weights=source if source != "folder" else str(shipped))))
    assert all(torch.equal(value, kept[name]) for name, value in started.encoder.net.state_dict().items())
    assert started.spec.encoder.source == DEFAULT


def test_an_encoder_without_a_head_fits_decoders_that_need_none(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    light = build_model(ModelSpec("light", 0.1, 1, EncoderSpec()))
    weights = load_encoder_weights(DEFAULT)
    short = {name: value for name, value in (weights.state or {}).items() if name in light.encoder.net.state_dict()}
    assert len(short) < len(weights.state or {})
    few = type(weights)(weights.spec, short)
    assert build_model(ModelSpec("light", 0.1, 1, weights.spec), few).encoder.net.conv_stem is not None
    with pytest.raises(WeightsError, match=r"lesionseg-base ends before .* no bn2, conv_head\nFix: set model\.name"):
        build_model(ModelSpec("unet", 0.1, 1, weights.spec), few)


def test_damaged_weights_are_refused(shipped: Path, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_bytes((shipped / "model.json").read_bytes())
    (tmp_path / WEIGHTS).write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"encoder weights: .*SHA-256"):
        load_encoder_weights(str(tmp_path))


def test_the_whole_network_starts_another(shipped: Path) -> None:
    started = starting_model(load_config(settings(start=DEFAULT, dropout=0.25)))
    assert started.spec.dropout == 0.25
    theirs = unpack(open_bundle(shipped)).state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in started.state_dict().items())
    with pytest.raises(ConfigError, match=f"model.start={DEFAULT} is a 'unet' of 1 classes, not a 'light'"):
        starting_model(load_config(settings(start=DEFAULT, name="light")))
    with pytest.raises(RunError, match="did you mean"):
        starting_model(load_config(settings(start="lesionseg-bas")))
