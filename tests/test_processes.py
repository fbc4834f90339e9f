"""Two processes on the CPU (gloo) against one."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from small_net import same, tensors

from lesionseg.errors import ConfigError
from lesionseg.models import DECODERS, EncoderSpec, ModelSpec, SegmentationModel, build_model
from lesionseg.training import precision
from lesionseg.training.processes import SharedSampler, synchronise_norms

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
TIMES = ("seconds", "images_per_second")


def launch(processes: int, *words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*TORCHRUN, str(processes), *map(str, words)], capture_output=True, text=True, check=False, timeout=300, cwd=cwd
    )
    assert done.returncode == 0, done.stderr
    return done


def history(run: Path) -> list[dict[str, float]]:
    with (run / "history.csv").open(newline="") as file:
        return [{k: float(v) for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)]


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize(("size", "batch_size"), [(10, 4), (10, 3), (4, 4), (7, 3)])
def test_processes_share_each_picture_once(size: int, batch_size: int, processes: int) -> None:
    samplers = [SharedSampler(size, batch_size, 5, rank=rank, processes=processes) for rank in range(processes)]
    whole = list(SharedSampler(size, batch_size, 5))
    for step, (batch, *shares) in enumerate(zip(whole, *samplers, strict=True)):
        own = [share[: sampler.own(step)] for share, sampler in zip(shares, samplers, strict=True)]
        assert sorted(item for part in own for item in part) == sorted(batch)
        assert samplers[0].images(step) == len(batch)
        assert all(shares), "a process without a picture"


def test_more_processes_than_pictures_in_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    from lesionseg.config import LoopConfig

    class Three(precision.Accelerator):  # type: ignore[misc]
        num_processes = 3

    monkeypatch.setattr(precision, "Accelerator", Three)
    with pytest.raises(ConfigError, match=r"(?s)batch_size=2 cannot be shared by 3 processes.*of all of them"):
        precision.open_accelerator(LoopConfig(batch_size=2, device="cpu"))


def test_a_device_that_does_not_join_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    from lesionseg.config import LoopConfig

    monkeypatch.setattr(
        precision, "Accelerator", lambda **_: SimpleNamespace(num_processes=1, device=torch.device("mps"))
    )
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_PORT", "29500")
    with pytest.raises(ConfigError, match=r"(?s)2 processes were started, and mps trains in 1.*loop.device=cpu"):
        precision.open_accelerator(LoopConfig(batch_size=2))


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("name", sorted(DECODERS))
def test_on_several_gpus_batchnorm_sees_the_whole_batch(name: str, frozen: bool) -> None:
    model = build_model(ModelSpec(name, 0, 1, EncoderSpec()))
    if frozen:
        model.encoder.freeze()
    keys = list(model.state_dict())
    for processes, device in ((1, "cuda"), (2, "cpu")):
        synchronise_norms(SimpleNamespace(num_processes=processes, device=torch.device(device)), model)
        assert norms(model) == (True, True)
    synchronise_norms(SimpleNamespace(num_processes=2, device=torch.device("cuda")), model)
    assert norms(model) == (frozen, False)
    assert list(model.state_dict()) == keys


def norms(model: SegmentationModel) -> tuple[bool, bool]:
    """Whether encoder and decoder have BatchNorms that see one process's pictures."""
    kinds = (torch.nn.SyncBatchNorm, torch.nn.BatchNorm2d)
    parts = [[m for m in part.modules() if isinstance(m, kinds)] for part in (model.encoder, model.decoder)]
    assert all(len({isinstance(m, torch.nn.BatchNorm2d) for m in part}) == 1 for part in parts)
    return tuple(isinstance(part[0], torch.nn.BatchNorm2d) for part in parts)  # type: ignore[return-value]


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    script = Path(__file__).with_name("several.py")
    for processes in (1, 2):
        (tmp_path / str(processes)).mkdir()
        launch(processes, script, tmp_path / str(processes))
        assert json.loads((tmp_path / str(processes) / "done.json").read_text()) == {"epochs": 3}
    one, two = tmp_path / "1", tmp_path / "2"
    for name in ("batches-3", "batches-4"):
        for a, b in zip(history(one / name), history(two / name), strict=True):
            assert a == pytest.approx(b, rel=1e-5)
        for key, value in tensors(one / name).items():
            torch.testing.assert_close(value, tensors(two / name)[key], rtol=1e-4, atol=1e-6)
    # Where each process sees its own part of the pictures alone, the losses are still of one kind.
    assert [row["train_loss"] for row in history(one / "usual")] == pytest.approx(
        [row["train_loss"] for row in history(two / "usual")], rel=0.1
    )
    # Two processes resume as exactly as one.
    assert same(two / "usual", two / "parts")
    assert history(two / "usual") == history(two / "parts")


@pytest.mark.slow
def test_the_command_under_torchrun(tiny, tmp_path: Path) -> None:
    words = ["data.image_size=64", "model.encoder_weights=random", "model.dropout=0", "optim.encoder_lr=0"]
    words += [f"data.manifest={tiny.manifest}", "loop.batch_size=4", "loop.epochs=2", "loop.device=auto"]
    command = ["--no-python", Path(sys.executable).with_name("lesionseg"), "train", "--name", "run"]
    results = [launch(n, *command, *words, "--runs", str(n), cwd=tmp_path) for n in (1, 2)]
    for result in results:
        assert result.stdout.count("epoch 1/2") == 1
        assert result.stdout.count("finished: 2 epochs") == 1
    files = [sorted(p.relative_to(run) for p in run.rglob("*")) for run in (tmp_path / "1", tmp_path / "2")]
    assert files[0] == files[1]
    assert json.loads((tmp_path / "2" / "run" / "run.json").read_text())["status"] == "finished"
    losses = [[row["train_loss"] for row in history(tmp_path / n / "run")] for n in ("1", "2")]
    assert losses[0] == pytest.approx(losses[1], rel=0.3)
    # Each has normalised by its own pictures, so it has seen a part alone.
    assert losses[0] != losses[1]
