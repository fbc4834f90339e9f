"""Trains the small network in one of several processes; started by ``torchrun`` in ``test_processes.py``.

torchrun ... several.py FOLDER KIND
"""

import json
import sys
from pathlib import Path

import torch
from small_net import after_steps, small_config, small_fit, small_net

from lesionseg.data import images
from lesionseg.models import SegmentationModel
from lesionseg.training import checkpoint, files
from lesionseg.training.launch import is_first_process


def comparable_net() -> SegmentationModel:
    """Without dropout, whose choice differs, and with BatchNorm in eval mode, as each process sees its own pictures."""
    net = small_net(0)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
            module.train = lambda mode=True, module=module: module  # type: ignore[method-assign]
    return net


def forbid_writing() -> None:
    def refuse(path: Path, data: bytes) -> None:
        raise AssertionError(f"{path} written by a process that is not the first")

    for module in (images, checkpoint, files):
        module.write_atomic = refuse  # type: ignore[attr-defined]


def main(folder: Path) -> None:
    if not is_first_process():
        forbid_writing()
    # Batches of 3: 10 pictures leave one for the last, and the second process without.
    for size in (3, 4):
        words = [f"loop.batch_size={size}", "loop.epochs=3", "optim.name=sgd", "optim.clip_norm=1"]
        small_fit(small_config(*words), folder / f"batches-{size}", model=comparable_net())
    # All that trains as usual: dropout, BatchNorm and the average of weights.
    config = small_config("loop.epochs=3", "optim.ema=0.5", "loop.example=first")
    small_fit(config, folder / "usual")
    on_step, stop = after_steps(4)
    # Asked of the first alone, answered by all.
    first = stop if is_first_process() else lambda: False
    status = small_fit(config, folder / "parts", on_step=on_step, stop_requested=first).status
    assert status == "interrupted", status
    result = small_fit(config, folder / "parts", resume=True)
    if is_first_process():
        (folder / "done.json").write_text(json.dumps({"epochs": len(result.history)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
