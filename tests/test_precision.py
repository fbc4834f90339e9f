from functools import partial
from pathlib import Path

import pytest
import torch
from accelerate import PartialState
from small_net import after_steps, same, small_config, small_fit, small_net, tensors, timeless

from lesionseg.errors import ConfigError
from lesionseg.training import precision
from lesionseg.training.checkpoint import latest_checkpoint, load_checkpoint


def first_output(words: list[str], folder: Path) -> torch.dtype:
    """What the network's first convolution gives while it trains."""
    net, seen = small_net(), []
    net.encoder.net[0].register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    small_fit(small_config(*words, "loop.epochs=1"), folder, model=net)
    assert set(seen) == {seen[0]}
    return seen[0]


def test_precision_is_that_of_the_forward_pass_and_weights_stay_whole(tmp_path: Path) -> None:
    assert first_output([], tmp_path / "fp32") == torch.float32
    assert first_output(["loop.precision=bf16", "optim.ema=0.5"], tmp_path / "bf16") == torch.bfloat16
    # One after the other in one process: nothing of a run's precision stays behind.
    assert first_output([], tmp_path / "again") == torch.float32
    assert {value.dtype for value in tensors(tmp_path / "bf16").values()} <= {torch.float32, torch.int64}
    assert same(tmp_path / "fp32", tmp_path / "again")


def test_bf16_learns_as_fp32_does(tmp_path: Path) -> None:
    losses = []
    for name in ("fp32", "bf16"):
        result = small_fit(small_config(f"loop.precision={name}", "loop.epochs=8"), tmp_path / name, model=small_net(0))
        losses.append([row["val_loss"] for row in result.history])
    assert losses[0][-1] < 0.9 * losses[0][0]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    assert losses[1] != losses[0]


def test_fp16_needs_cuda(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)loop.precision=fp16 needs a CUDA device, not cpu.*bf16"):
        small_fit(small_config("loop.precision=fp16"), tmp_path)


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there(tmp_path: Path, device: str) -> None:
    if torch.accelerator.is_available() and torch.accelerator.current_accelerator().type == device:
        pytest.skip("it is there")
    with pytest.raises(ConfigError, match=rf"(?s)loop.device={device} is not there.*cpu"):
        small_fit(small_config(f"loop.device={device}"), tmp_path)


def test_an_earlier_training_of_this_python_decides_nothing() -> None:
    loop = small_config().loop
    precision.open_accelerator(loop)
    PartialState._shared_state["device"] = torch.device("meta")
    assert precision.open_accelerator(loop).device.type == "cpu"


@pytest.mark.long
def test_the_scaler_is_part_of_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The CPU's fp16 is slow and of no use but here.
    monkeypatch.setattr(precision, "_SCALED", ("cpu",))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40, growth_interval=2)
    state = scaler.state_dict()
    monkeypatch.setattr(
        torch.amp, "GradScaler", lambda *_, **options: scaler_like(state) if options["enabled"] else scaler
    )
    config = small_config("loop.precision=fp16", "loop.epochs=8", "optim.clip_norm=1")
    whole = small_fit(config, tmp_path / "whole")
    scale = load_checkpoint(latest_checkpoint(tmp_path / "whole")).scaler["scale"]
    # Far too large at first, it has come down, skipping the steps whose gradients overflowed.
    assert 1 < scale < 2.0**40
    for steps in (4, 11):
        on_step, stop = after_steps(steps)
        small_fit(config, tmp_path / str(steps), on_step=on_step, stop_requested=stop)
        kept = load_checkpoint(latest_checkpoint(tmp_path / str(steps))).scaler
        assert kept["_growth_tracker"] or kept["scale"] < 2.0**40
        parts = small_fit(config, tmp_path / str(steps), resume=True)
        assert timeless(parts) == timeless(whole)
        assert same(tmp_path / "whole", tmp_path / str(steps))
        assert load_checkpoint(latest_checkpoint(tmp_path / str(steps))).scaler["scale"] == scale


def scaler_like(state: dict[str, float], make=torch.amp.GradScaler) -> torch.amp.GradScaler:
    scaler = make("cpu")
    scaler.load_state_dict(dict(state))
    return scaler


def test_the_order_of_channels_in_memory_changes_no_more_than_rounding(tmp_path: Path) -> None:
    nets = [small_net(0), small_net(0)]
    histories = []
    for net, word in zip(nets, ("true", "false"), strict=True):
        # Adam would make full steps of gradients that are nothing but rounding, those of biases before BatchNorm.
        config = small_config(f"loop.channels_last={word}", "optim.name=sgd")
        result = small_fit(config, tmp_path / word, model=net)
        histories.append([row["val_loss"] for row in result.history])
    weights = [net.encoder.net[0].weight for net in nets]
    assert [w.is_contiguous(memory_format=torch.channels_last) for w in weights] == [True, False]
    assert histories[0] == pytest.approx(histories[1], rel=1e-5)


def test_checkpoints_of_a_version_without_scaler_load(tmp_path: Path) -> None:
    small_fit(small_config("loop.epochs=1"), tmp_path)
    file = latest_checkpoint(tmp_path)
    file.write_text(file.read_text().replace(' "scaler": {},\n', ""))
    assert '"scaler"' not in file.read_text()
    assert load_checkpoint(file).scaler == {}


def test_a_compiled_step_computes_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Traced as always, and run without a compiler.
    monkeypatch.setattr(precision.torch, "compile", partial(torch.compile, backend="eager"))
    plain = small_fit(small_config("loop.epochs=2"), tmp_path / "plain")
    compiled = small_fit(small_config("loop.epochs=2", "loop.compile=true"), tmp_path / "compiled")
    assert timeless(compiled) == timeless(plain)
    assert same(tmp_path / "plain", tmp_path / "compiled")


@pytest.mark.slow
def test_compiled_it_learns_the_same(tmp_path: Path) -> None:
    plain = small_fit(small_config("loop.epochs=3"), tmp_path / "plain", model=small_net(0))
    compiled = small_fit(small_config("loop.epochs=3", "loop.compile=true"), tmp_path / "compiled", model=small_net(0))
    for one, other in zip(plain.history, compiled.history, strict=True):
        assert other["val_loss"] == pytest.approx(one["val_loss"], rel=0.01)


def test_without_a_compiler_there_is_no_compiled_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision.shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs a C\+\+ compiler"):
        small_fit(small_config("loop.compile=true"), tmp_path)
