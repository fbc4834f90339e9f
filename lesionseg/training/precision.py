"""Where a training computes, and with how many bits."""

from __future__ import annotations

import atexit
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from lesionseg.config import LoopConfig
from lesionseg.errors import ConfigError
from lesionseg.training.launch import count_processes, hide_other_launchers, require_master

__all__ = ["Precision", "compiled", "open_accelerator", "open_precision"]

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
# fp16 runs out of range on small gradients; the scaler that prevents it is made for these.
_SCALED = ("cuda",)


@dataclass(frozen=True)
class Precision:
    """How a forward pass is cast, and how its loss is scaled; in fp32, neither is."""

    device: torch.device
    dtype: torch.dtype | None
    scaler: torch.amp.GradScaler

    def autocast(self) -> AbstractContextManager[object]:
        """The context of a forward pass; weights and optimiser stay in fp32."""
        return torch.autocast(self.device.type, self.dtype) if self.dtype else nullcontext()


def open_accelerator(loop: LoopConfig) -> Accelerator:
    """The device and the processes of a training.

    Raises:
        ConfigError: the device is not there, there are more processes than images in a batch, or it takes one alone.
    """
    started = count_processes()
    if started == 1:
        # Accelerate keeps what an earlier training of this Python asked for.
        AcceleratorState._reset_state(reset_partial_state=True)
    else:
        require_master()
    # Accelerate joins processes on CPUs only where it is told that there is nothing else.
    on_cpu = loop.device == "cpu" or (loop.device == "auto" and not torch.accelerator.is_available())
    # Accelerate's own precision is a setting of the whole Python process; here it is one of each run.
    with hide_other_launchers():
        accelerator = Accelerator(cpu=on_cpu, mixed_precision="no")
    if accelerator.num_processes > 1:
        # Threads that still wait for other processes may abort a Python that ends.
        atexit.register(_part)
    if loop.device not in ("auto", accelerator.device.type):
        raise ConfigError(f"loop.device={loop.device} is not there", fix="set loop.device to auto or cpu")
    if loop.batch_size < accelerator.num_processes:
        raise ConfigError(
            f"loop.batch_size={loop.batch_size} cannot be shared by {accelerator.num_processes} processes",
            fix="start fewer processes, or raise loop.batch_size, which counts the images of all of them",
        )
    if accelerator.num_processes != started:
        raise ConfigError(
            f"{started} processes were started, and {accelerator.device.type} trains in {accelerator.num_processes}",
            fix="start one process, or set loop.device=cpu",
        )
    return accelerator


def _part() -> None:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def open_precision(loop: LoopConfig, device: torch.device) -> Precision:
    """The precision that a config asks for.

    Raises:
        ConfigError: the device does not offer it.
    """
    if loop.precision == "fp16" and device.type not in _SCALED:
        raise ConfigError(
            f"loop.precision=fp16 needs a CUDA device, not {device.type}", fix="set loop.precision to bf16 or fp32"
        )
    scaler = torch.amp.GradScaler(device.type, enabled=loop.precision == "fp16")
    return Precision(device, _HALF.get(loop.precision), scaler)


def compiled(net: torch.nn.Module, loop: LoopConfig, device: torch.device) -> Callable[..., Any]:
    """What a training step calls: the network, compiled where the config says so.

    Raises:
        ConfigError: there is no compiler for the CPU.
    """
    if not loop.compile:
        return net
    if device.type == "cpu" and not any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++", "cl"))):
        raise ConfigError(
            "loop.compile=true needs a C++ compiler, and none was found",
            fix="install g++ or clang, or set loop.compile=false",
        )
    # The last batch of an epoch has a size of its own; code for any size would be slower for both.
    result: Callable[..., Any] = torch.compile(net, dynamic=False)
    return result
