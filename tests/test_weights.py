import socket
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch

from lesionseg.errors import WeightsError
from lesionseg.models.weights import EncoderSpec, load_encoder_weights


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "encoder.safetensors"
    net = timm.create_model("mobilenetv2_100", pretrained=False, num_classes=0)
    meta = {"bn_eps": "1e-3", "pad_type": "same", "input_mean": "0.5,0.4,0.3", "input_std": "0.2,0.3,0.4"}
    safetensors.torch.save_file(net.state_dict(), path, meta)
    return path


def test_file_brings_its_own_normalisation(file: Path) -> None:
    weights = load_encoder_weights(str(file))
    spec = weights.spec
    assert (spec.mean, spec.std, spec.bn_eps, spec.pad_type) == ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4), 1e-3, "same")
    assert spec.source == "encoder.safetensors"
    assert len(spec.sha256) == 64
    assert weights.state is not None
    assert weights.state["conv_stem.weight"].shape == (32, 3, 3, 3)


def test_spec_survives_json(file: Path) -> None:
    spec = load_encoder_weights(str(file)).spec
    assert EncoderSpec.from_json(spec.to_json()) == spec
    assert "width" not in spec.to_json()
    narrow = replace(spec, width=0.35)
    assert EncoderSpec.from_json(narrow.to_json()) == narrow
    assert (spec.architecture, narrow.architecture) == ("mobilenetv2_100", "mobilenetv2_035")


def test_random_has_no_tensors() -> None:
    weights = load_encoder_weights("random")
    assert weights.state is None
    assert weights.spec.source == "random"


def test_missing_file_is_named() -> None:
    for source in ("~nobody-of-this-name/weights.safetensors", "x" * 5000):
        with pytest.raises(WeightsError, match="is not a file"):
            load_encoder_weights(source)
    with pytest.raises(WeightsError, match=r"nowhere\.safetensors is not a file"):
        load_encoder_weights("nowhere.safetensors")


def test_damaged_file_is_named(tmp_path: Path, file: Path) -> None:
    broken = tmp_path / "cut.safetensors"
    broken.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(WeightsError, match=r"cut\.safetensors is no intact"):
        load_encoder_weights(str(broken))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("input_mean", "0.5,0.5", "three finite numbers"),
        ("input_std", "nan,1,1", "three finite numbers"),
        ("bn_eps", "-1", "a positive number, got '-1'"),
        ("bn_eps", "1e999", "a positive number"),
        ("pad_type", "valid", "no padding 'valid'"),
    ],
)
def test_wrong_metadata_is_named(tmp_path: Path, key: str, value: str, said: str) -> None:
    path = tmp_path / "odd.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(1)}, path, {key: value})
    with pytest.raises(WeightsError, match=said):
        load_encoder_weights(str(path))


def test_offline_without_cache_says_how_to_get_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def not_cached(**options: object) -> str:
        raise LocalEntryNotFoundError("not cached")

    def no_network(*args: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", not_cached)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    with pytest.raises(WeightsError, match=r"(?s)local cache.*safetensors file.*'random'"):
        load_encoder_weights("imagenet")


def test_imagenet_comes_from_the_hub_without_its_classifier(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    path = tmp_path / "model.safetensors"
    state = timm.create_model("mobilenetv2_100", pretrained=False).state_dict()
    safetensors.torch.save_file(state, path)
    asked: list[dict[str, object]] = []
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda **options: asked.append(options) or str(path))
    weights = load_encoder_weights("imagenet")
    assert asked == [
        {"repo_id": "timm/mobilenetv2_100.ra_in1k", "filename": "model.safetensors", "local_files_only": True}
    ]
    assert weights.state is not None
    assert set(state) - set(weights.state) == {"classifier.weight", "classifier.bias"}
    assert weights.spec.source == "imagenet"
    assert weights.spec.mean == (0.485, 0.456, 0.406)
