"""Settings that this machine or the network cannot take, refused before torch is loaded and before photos are read."""

from __future__ import annotations

import os

from lesionseg.config import STRIDE, RunConfig
from lesionseg.data.classes import parse_classes
from lesionseg.errors import ConfigError
from lesionseg.helper import count_cores
from lesionseg.training.launch import count_processes

__all__ = ["machine_memory", "require_batches", "require_memory", "require_possible"]

# Each holds more than half a gigabyte.
_MOST_WORKERS = 16
_MOST_THREADS = 16
# Their deepest BatchNorm sees one pixel of an image of STRIDE x STRIDE; that of pix2pix is in the encoder.
_DEEP = ("unet", "unet_shuffle", "light")
_DEEP_ENCODER = "pix2pix"


def require_possible(config: RunConfig) -> None:
    """Make sure that settings are possible whatever the data are.

    Raises:
        ConfigError: there are too many workers or threads for this machine, batches of one that BatchNorm cannot train
            with, or classes that cannot be used.
    """
    cores = count_cores()
    most = max(_MOST_WORKERS, 2 * cores)
    if config.data.workers > most:
        raise ConfigError(
            f"data.workers={config.data.workers} processes would only take the memory of {cores} cores",
            fix=f"use at most {most}",
        )
    most = max(_MOST_THREADS, 2 * cores)
    if config.loop.threads is not None and config.loop.threads > most:
        raise ConfigError(
            f"loop.threads={config.loop.threads} threads would only wait for each other on {cores} cores",
            fix=f"use at most {most}",
        )
    if config.data.classes is not None:
        parse_classes(config.data.classes)
    if config.loop.batch_size == 1:
        # Whatever their number is.
        require_batches(config, 2)


def require_batches(config: RunConfig, images: int) -> None:
    """Make sure that BatchNorm sees more than one value per channel in every batch of an epoch.

    Raises:
        ConfigError: a process has a batch of one image, of which the deepest layers have one pixel left.
    """
    batch, processes = config.loop.batch_size, count_processes()
    if processes > 1 and config.loop.device != "cpu":
        # Processes on graphics cards normalise together.
        return
    deep = config.model.name in _DEEP or (config.model.name == _DEEP_ENCODER and not config.optim.frozen)
    last = images % batch or min(batch, images)
    if config.data.image_size != (STRIDE, STRIDE) or not deep or min(batch, last) // processes > 1:
        return
    where = f"data.image_size={STRIDE} and loop.batch_size={batch}"
    where += "" if last == batch else f", whose last batch has {last} of {images} images"
    fitting = next((size for size in range(max(2, batch), images + 1) if images % size != 1), None)
    larger = f"data.image_size={2 * STRIDE} or more"
    raise ConfigError(
        f"BatchNorm needs more than one value per channel, which one image does not give at {where}",
        fix=f"use {larger}" if processes > 1 or fitting is None else f"use loop.batch_size={fitting}, or {larger}",
    )


def require_memory(config: RunConfig, images: int) -> None:
    """Make sure that all decoded images fit into the memory of this machine.

    Raises:
        ConfigError: they do not.
    """
    height, width = config.data.image_size
    needed, memory = images * height * width * 4, machine_memory()
    if memory is not None and needed > memory:
        raise ConfigError(
            f"data.image_size=[{height}, {width}] takes {needed / 2**30:.1f} GiB for {images} images and masks, this "
            f"machine has {memory / 2**30:.1f}",
            fix="lower data.image_size, or take cases out of the manifest",
        )


def machine_memory() -> int | None:
    """Return the bytes of memory of this machine; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
