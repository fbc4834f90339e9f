import io
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import safetensors.torch
import torch

from lesionseg.errors import ConfigError, ShapeError
from lesionseg.models import DECODERS, EncoderSpec, ModelSpec, SegmentationModel, build_model, count_parameters

SPECS = {name: ModelSpec(name, 0.4, 1, EncoderSpec()) for name in DECODERS}
SPECS["narrow light"] = ModelSpec("light", 0.4, 1, EncoderSpec(width=0.5), decoder_width=0.35)


def make(name: str, frozen: bool) -> SegmentationModel:
    torch.manual_seed(0)
    model = build_model(SPECS[name])
    if frozen:
        model.encoder.freeze()
    return model


@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "finetuned"])
@pytest.mark.parametrize("name", list(SPECS))
class TestContract:
    """What every model has to keep."""

    def test_odd_batch_and_any_multiple_of_32(self, name: str, frozen: bool) -> None:
        assert ModelSpec.from_json(SPECS[name].to_json()) == SPECS[name]
        assert make(name, frozen).eval()(torch.zeros(3, 3, 64, 96, dtype=torch.uint8)).shape == (3, 1, 64, 96)

    def test_other_sizes_are_refused(self, name: str, frozen: bool) -> None:
        with pytest.raises(ShapeError, match="multiples of 32"):
            make(name, frozen)(torch.zeros(1, 3, 64, 100))

    def test_gradients_reach_every_trainable_parameter(self, name: str, frozen: bool) -> None:
        model = make(name, frozen).train()
        model(torch.rand(2, 3, 64, 64) * 255).square().sum().backward()
        for parameter_name, parameter in model.named_parameters():
            assert (parameter.grad is not None) == parameter.requires_grad, parameter_name
            assert parameter.requires_grad == (not frozen or not parameter_name.startswith("encoder.")), parameter_name

    def test_a_frozen_encoder_stays_as_it_was(self, name: str, frozen: bool) -> None:
        model = make(name, frozen).train()
        before = {key: value.clone() for key, value in model.encoder.state_dict().items()}
        optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)
        for _ in range(2):
            optimizer.zero_grad()
            model(torch.rand(2, 3, 64, 64) * 255).square().sum().backward()
            optimizer.step()
        moved = [key for key, value in model.encoder.state_dict().items() if not torch.equal(value, before[key])]
        assert (moved == []) == frozen

    @pytest.mark.long
    def test_dropout_works_in_training_only(self, name: str, frozen: bool) -> None:
        model = make(name, frozen)
        image = torch.rand(2, 3, 64, 64) * 255
        with torch.no_grad():
            model.eval()
            assert torch.equal(model(image), model(image))
            model.train()
            assert not torch.equal(model(image), model(image))

    def test_saved_and_loaded_it_says_the_same(self, name: str, frozen: bool, tmp_path: Path) -> None:
        model = make(name, frozen).eval()
        safetensors.torch.save_file(model.state_dict(), tmp_path / "m.safetensors")
        other = build_model(ModelSpec.from_json(model.spec.to_json())).eval()
        image = torch.rand(1, 3, 64, 64) * 255
        with torch.no_grad():
            assert not torch.equal(model(image), other(image))
            other.load_state_dict(safetensors.torch.load_file(tmp_path / "m.safetensors"))
            # A frozen encoder has its BatchNorms folded, which rounds otherwise.
            assert torch.allclose(model(image), other(image), rtol=1e-4, atol=1e-4 if frozen else 0)


@pytest.mark.long
@pytest.mark.parametrize("name", list(SPECS))
def test_onnx_runtime_says_the_same(name: str) -> None:
    model = make(name, frozen=True).eval()
    image = torch.randint(0, 256, (1, 3, 64, 96), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    buffer = io.BytesIO()
    program = torch.onnx.export(model, (image,), dynamo=True, verbose=False)
    assert program is not None
    program.save(buffer)
    session = onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    with torch.no_grad():
        expected = model(image).numpy()
    assert np.abs(logits - expected).max() <= 1e-4 * np.abs(expected).max()


def test_parameter_counts_of_both_regimes() -> None:
    finetuned = count_parameters(make("unet", frozen=False))
    frozen = count_parameters(make("unet", frozen=True))
    assert finetuned == {
        "encoder": 2_223_872,
        "decoder": 1_594_314,
        "total": 3_818_186,
        "trainable": 3_818_186,
        "non_trainable": 0,
    }
    assert frozen == finetuned | {"trainable": 1_594_314, "non_trainable": 2_223_872}


def test_the_rates_of_deeplab_are_part_of_it() -> None:
    spec = ModelSpec("deeplab", 0.1, 3, EncoderSpec(), (2, 4))
    model = build_model(ModelSpec.from_json(spec.to_json()))
    rates = [m.dilation[0] for m in model.decoder.modules() if isinstance(m, torch.nn.Conv2d) and m.dilation[0] > 1]
    assert rates == [2, 4]
    assert model.spec == spec
    assert ModelSpec.from_json(make("deeplab", frozen=False).spec.to_json()).rates == ()


def test_unknown_model_lists_the_known() -> None:
    with pytest.raises(ConfigError, match=r"(?s)no model 'vnet'.*unet"):
        build_model(ModelSpec("vnet", 0.4, 1, EncoderSpec()))
