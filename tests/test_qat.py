"""Training with int8's rounding: what is rounded is what the integer graph rounds, and what was lost comes back."""

from copy import deepcopy

import numpy as np
import onnx
import pytest
import torch
from small_net import SIZE, small_config, small_fit, small_net, small_pairs
from torch import nn

from lesionseg import api
from lesionseg.data.labels import BINARY
from lesionseg.errors import ConfigError
from lesionseg.export import qat
from lesionseg.export.graph import ExportModule, prepare
from lesionseg.export.onnx import trace, with_metadata
from lesionseg.export.photos import generated_photos
from lesionseg.export.qat import rounded, tune_on
from lesionseg.export.quantize import Calibration, Scheme, integer_layers, to_int8
from lesionseg.inference.onnx_predictor import OnnxPredictor, load_onnx
from lesionseg.inference.predictor import load_torch
from lesionseg.training.checkpoint import best_checkpoint, load_checkpoint

pytestmark = pytest.mark.long

ALL = Scheme(first=0, last=0)
SIDES = (SIZE, SIZE)
CONVOLUTIONS = ("encoder.net.0", "decoder.0", "decoder.3")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A trained network of three convolutions, ready to be quantised."""
    folder = tmp_path_factory.mktemp("small")
    small_fit(small_config("loop.epochs=40"), folder)
    model = small_net()
    model.load_state_dict(dict(load_checkpoint(best_checkpoint(folder)).model_state))
    return prepare(model.eval())


def module_of(model):
    return ExportModule(deepcopy(model), BINARY)


def loss_of(module, pairs):
    """Binary cross-entropy of the probabilities."""
    photos = torch.from_numpy(pairs.photos)
    truth = torch.from_numpy(pairs.masks[:, 0]).float()
    with torch.no_grad():
        return float(nn.functional.binary_cross_entropy(module(photos)[0], truth))


def test_the_layers_are_those_of_the_graph(trained):
    layers = integer_layers(trace(module_of(trained), *SIDES), ALL)
    assert [layer.weight for layer in layers] == [f"model.{name}.weight" for name in CONVOLUTIONS]
    assert (layers[0].low, layers[0].high) == (0, float("inf"))
    assert layers[1].low == -float("inf")
    assert layers[1].source == layers[0].target
    assert integer_layers(trace(module_of(trained), *SIDES)) == []


def test_relu6_is_part_of_the_layer_before(exported):
    trained = load_torch(exported[0], device="cpu")
    layers = integer_layers(trace(ExportModule(prepare(trained.model), BINARY), trained.height, trained.width))
    assert len(layers) == 62 - 9
    assert {(layer.low, layer.high) for layer in layers} == {
        (0, 6),
        (0, float("inf")),
        (-float("inf"), float("inf")),
    }


def test_rounding_ends_with_the_block(trained):
    module = module_of(trained)
    photos = torch.from_numpy(small_pairs(2).photos)
    before, state = module(photos)[0], module.state_dict()
    with rounded(module.model, integer_layers(trace(module, *SIDES), ALL)) as found:
        module.train()
        apart = module(photos)[0] - before
        assert found.ranges
    module.eval()
    # In training, dropout is at work too.
    assert 0 < apart.abs().mean() < 0.15
    torch.testing.assert_close(module(photos)[0], before, atol=0, rtol=0)
    assert module.state_dict().keys() == state.keys()


def test_the_simulation_is_what_the_integer_graph_computes(trained, exported, tmp_path):
    module, photos = module_of(trained), small_pairs(4).photos
    proto = trace(module, *SIDES)
    with rounded(module.model, integer_layers(proto, ALL)) as state:
        module.train()
        module(torch.from_numpy(photos))
        module.eval()
        simulated = module(torch.from_numpy(photos))[0].detach().numpy()
        ranges = state.ranges
    made = to_int8(proto, Calibration(photos, ranges, ALL))
    values = load_onnx(exported[1]).info.to_metadata() | {"height": str(SIZE), "width": str(SIZE)}
    computed = OnnxPredictor(with_metadata(made, values), tmp_path / "x.onnx", threads=1).infer(photos)
    plain = module(torch.from_numpy(photos))[0].detach().numpy()
    assert np.abs(computed - simulated).mean() < 0.25 * np.abs(computed - plain).mean()
    with pytest.raises(ValueError, match="no tensors"):
        to_int8(proto, Calibration(photos, {"elsewhere": (0.0, 1.0)}, ALL))


def test_training_wins_back_what_rounding_costs(trained, monkeypatch):
    monkeypatch.setattr(qat, "_RATE", 3e-3)
    # Weights of -1, 0 and 1.
    coarse = Scheme(per_channel=False, largest=1, first=0, last=0)
    train, val = small_pairs(10), small_pairs(3, 1)

    def rounded_loss(module):
        with rounded(module.model, integer_layers(trace(module, *SIDES), coarse), coarse):
            module.train()
            loss_of(module, train)
            module.eval()
            return loss_of(module, train)

    plain, module = module_of(trained), module_of(trained)
    exact, before = loss_of(plain, train), rounded_loss(plain)
    said = []
    tuned = tune_on(module, small_config(), train, val, SIDES, 12, said.append, coarse)
    after = rounded_loss(module)
    assert before > exact * 1.2, "nothing was lost"
    assert after < before - 0.5 * (before - exact)
    assert len(said) == len(tuned.history) == 12
    assert "epoch 12 of 12" in said[-1]
    assert all(low <= 0 <= high for low, high in tuned.ranges.values())
    assert not any(parameter.requires_grad for parameter in tuned.model.parameters())
    again = tune_on(module_of(trained), small_config(), train, val, SIDES, 12, scheme=coarse)
    assert again.ranges == tuned.ranges
    for name, value in tuned.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name


def test_an_export_is_trained_on_and_says_so(exported, tmp_path):
    run, said = exported[0], []
    kept = {path: path.read_bytes() for path in run.rglob("*.json")}
    made = api.export(run, tmp_path / "q.onnx", precision="int8", qat=1, max_drop=100, say=said.append)
    assert any("epoch 1 of 1" in line for line in said)
    tuned = load_onnx(made.path)
    assert (tuned.info.precision, tuned.info.qat_epochs) == ("int8", 1)
    assert load_onnx(exported[1]).info.qat_epochs == 0
    assert "qat_epochs" in made.card.read_text()
    assert {path: path.read_bytes() for path in run.rglob("*.json")} == kept, "the run stays as it is"
    operations = [node.op_type for node in onnx.load(made.path).graph.node]
    assert operations.count("QuantizeLinear") > 50
    assert np.isfinite(tuned.infer(generated_photos(1, 64, 96))).all()


@pytest.mark.parametrize(
    ("options", "message"), [({"qat": -1, "precision": "int8"}, "epochs is -1"), ({"qat": 2}, "int8")]
)
def test_options_that_do_not_fit(exported, options, message):
    with pytest.raises(ConfigError, match=message):
        api.export(exported[0], **options)
