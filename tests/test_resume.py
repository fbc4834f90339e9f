"""k epochs and a resume of n - k give what n epochs give, to the last bit, whatever the settings."""

import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest
from small_net import after_steps, same, small_config, small_fit, small_teacher, timeless

from lesionseg.training.checkpoint import FOLDER, checkpoint_files, load_checkpoint

OPTIMIZERS = ("adam", "adamw", "sgd", "adabound")
SCHEDULES = ("constant", "polynomial", "cosine")


@pytest.mark.parametrize(("name", "schedule", "ema"), list(itertools.product(OPTIMIZERS, SCHEDULES, (0, 0.5))))
def test_from_any_epoch(tmp_path: Path, name: str, schedule: str, ema: float) -> None:
    words = [f"optim.name={name}", f"optim.schedule={schedule}", "optim.warmup=0.2", f"optim.ema={ema}"]
    check_every_epoch(tmp_path, [*words, "optim.weight_decay=0.01", "optim.clip_norm=0.5"])


@pytest.mark.parametrize("words", [["loop.precision=bf16"], ["loop.channels_last=false"], ["optim.encoder_lr=0"]])
def test_with_other_numbers(tmp_path: Path, words: list[str]) -> None:
    check_every_epoch(tmp_path, words)


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("words", [[], ["loop.precision=bf16", "optim.ema=0.5", "optim.encoder_lr=0"]])
def test_with_a_teacher(tmp_path: Path, words: list[str], size: int) -> None:
    check_every_epoch(tmp_path, words, teacher=small_teacher(size))


def check_every_epoch(folder: Path, words: list[str], **options: Any) -> None:
    config = small_config(*words, "loop.epochs=3", "loop.keep_checkpoints=9")
    whole = small_fit(config, folder / "whole", **options)
    for kept in range(1, 3):
        parts = folder / f"from-{kept}"
        shutil.copytree(folder / "whole", parts)
        for later in checkpoint_files(parts / FOLDER)[kept:]:
            later.unlink()
        resumed = small_fit(config, parts, resume=True, **options)
        assert same(folder / "whole", parts)
        assert timeless(resumed) == timeless(whole)


@pytest.mark.long
@pytest.mark.parametrize("steps", range(1, 9))
@pytest.mark.parametrize("words", [[], ["optim.ema=0.5", "loop.precision=bf16"]], ids=["plain", "average-bf16"])
@pytest.mark.parametrize("taught", [False, True])
def test_from_any_step(tmp_path: Path, words: list[str], steps: int, taught: bool) -> None:
    config = small_config(*words, "loop.epochs=3")
    options = {"teacher": small_teacher()} if taught else {}
    whole = small_fit(config, tmp_path / "whole", **options)
    on_step, stop_requested = after_steps(steps)
    first = small_fit(config, tmp_path / "parts", on_step=on_step, stop_requested=stop_requested, **options)
    assert first.status == "interrupted"
    checkpoint = load_checkpoint(checkpoint_files(tmp_path / "parts" / FOLDER)[-1])
    assert checkpoint.epoch * 3 + checkpoint.step == steps
    assert timeless(small_fit(config, tmp_path / "parts", resume=True, **options)) == timeless(whole)
    assert same(tmp_path / "whole", tmp_path / "parts")


def test_twice_the_same_and_otherwise_not(tmp_path: Path) -> None:
    for name, words in (("a", []), ("b", []), ("c", ["loop.seed=1"]), ("d", ["loop.precision=bf16"])):
        small_fit(small_config(*words), tmp_path / name)
    assert same(tmp_path / "a", tmp_path / "b")
    assert not same(tmp_path / "a", tmp_path / "c")
    assert not same(tmp_path / "a", tmp_path / "d")
