"""Whether settings go together, told before any photo is read or any epoch trained."""

from __future__ import annotations

from pathlib import Path

from lesionseg.config import RunConfig
from lesionseg.data.manifest import Manifest
from lesionseg.data.transforms import augmentation
from lesionseg.errors import ConfigError, LesionsegError
from lesionseg.io.reading import read_json
from lesionseg.models import require_decoder
from lesionseg.training.features import require_cacheable
from lesionseg.training.launch import count_processes
from lesionseg.training.limits import require_possible
from lesionseg.training.losses import find_loss, require_trimmable

__all__ = ["require_same_manifest", "require_trainable"]


def require_trainable(config: RunConfig) -> None:
    """Makes sure that the parts of a training are defined for each other.

    Raises:
        ConfigError: there is no such model, its loss is not defined for the classes, an augmentation, kept features or
            a trimmed loss do not go with the rest, or this machine is too small for so many processes.
    """
    require_possible(config)
    require_decoder(config.model.name)
    find_loss(config.optim.loss, len(config.data.class_names), config.optim.class_weights)
    require_trimmable(config.optim.trim, max(1, config.loop.batch_size // count_processes()))
    augmentation(config.data, config.loop.seed)
    if config.loop.cache_features:
        require_cacheable(config)


def require_same_manifest(manifest: Manifest, run: Path) -> None:
    """Makes sure that a resumed run learns from the pairs that it began with, wherever they lie by now.

    Raises:
        ConfigError: the run's ``run.json`` tells of others: photos that it has seen could become validation photos.
    """
    try:
        before = read_json(run / "run.json")["manifest"]["sha256"]
    except (LesionsegError, TypeError, KeyError):
        # Lost or damaged; it is written anew in a moment.
        return
    if before != manifest.sha256:
        raise ConfigError(
            "the manifest is part of the run and cannot change on resuming",
            problems=[f"SHA-256 {before} in the run, {manifest.sha256} of {manifest.name}"],
            fix="set data.manifest to what it was, or start a new run under another --name",
        )
