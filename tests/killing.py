"""Trains a run while killing it again and again; started as a program by ``test_kill.py``.

python killing.py FOLDER MANIFEST KILLS
"""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from small_net import small_config, small_net

from lesionseg.training import run as run_module
from lesionseg.training.checkpoint import FOLDER, checkpoint_files, load_checkpoint
from lesionseg.training.run import run_training

STEPS = 2  # 7 pictures in batches of 4


def train(run: Path, manifest: Path, epochs: int) -> None:
    run_module._model = lambda *_: small_net()
    resume = bool(checkpoint_files(run / FOLDER))
    words = [f"loop.epochs={epochs}", f"data.manifest={manifest}", "data.validation_fraction=0.3", "optim.ema=0.9"]
    run_training(None if resume else small_config(*words), run, resume=resume)


def die_at(call: int) -> None:
    """Kills this process before a change to the file system, counted from 1: the moments that matter most are short."""
    seen = 0

    def deadly(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **options)

        return wrapped

    for name in ("fsync", "replace", "unlink", "open"):
        setattr(os, name, deadly(getattr(os, name)))


def killed_once(run: Path, manifest: Path, epochs: int, rng: random.Random) -> bool:
    """Whether a training was killed before it was done; half by the clock, half inside a write."""
    call, delay = (rng.randint(1, 60), 60.0) if rng.random() < 0.5 else (0, rng.uniform(0, 0.5))
    child = os.fork()
    if child == 0:
        if call:
            die_at(call)
        train(run, manifest, epochs)
        os._exit(0)
    deadline = time.monotonic() + delay
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.002)
    else:
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL, f"it ended by itself with {status}"
    return status != 0


def check(run: Path, before: int) -> int:
    """How many steps the newest checkpoint holds; each must be whole, and none lost."""
    checkpoints = [load_checkpoint(file) for file in checkpoint_files(run / FOLDER)]
    newest = max((c.epoch * STEPS + c.step for c in checkpoints), default=0)
    assert newest >= before, f"{before - newest} steps were lost"
    best = run / FOLDER / "best.json"
    if best.is_file():
        load_checkpoint(run / FOLDER / f"{json.loads(best.read_bytes())['checkpoint']}.json")
    return newest


def main(folder: Path, manifest: Path, kills: int) -> None:
    rng = random.Random(0)  # noqa: S311 - where to kill, not a secret
    epochs = 4 * kills
    run, count, steps, inside = folder / "broken" / "run", 0, 0, 0
    while count < kills:
        if not killed_once(run, manifest, epochs, rng):
            raise SystemExit(f"done after {count} kills: make it longer")
        count += 1
        newest = check(run, steps)
        inside += newest > steps
        steps = newest
    train(run, manifest, epochs)
    train(folder / "whole" / "run", manifest, epochs)
    told = {"kills": count, "kills_after_progress": inside, "steps_when_last_killed": steps, "steps": epochs * STEPS}
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
