"""The files that a training starts from, checked without torch, which takes seconds to load."""

from __future__ import annotations

from collections.abc import Sequence

from lesionseg.config import RunConfig
from lesionseg.data.manifest import read_manifest
from lesionseg.data.splits import training_parts
from lesionseg.errors import ConfigError
from lesionseg.shipped_models import find_model, is_bundle
from lesionseg.training.limits import require_batches, require_memory
from lesionseg.training.places import best_checkpoint

__all__ = ["require_example", "require_sources"]

_SHOWN = 10


def require_sources(config: RunConfig, *, begins: bool) -> None:
    """Make sure that a training has its manifest and the models that it starts from.

    Args:
        config: its settings.
        begins: whether it is a new one; a resumed one has its model.

    Raises:
        ConfigError: there is no such manifest, or its images do not go with the settings;
            the example is no validation case.
        DataError: the manifest cannot be used.
        RunError: there is no such model, or it has no checkpoint.
    """
    for source in (config.optim.teacher, config.model.start if begins else None):
        if source:
            model = find_model(source)
            if not is_bundle(model):
                best_checkpoint(model)
    manifest = read_manifest(config.data.manifest, config.data.root)
    train, validation = training_parts(manifest, config.data.validation_fraction, config.loop.seed)
    require_batches(config, len(train))
    require_memory(config, len(train) + len(validation))
    if config.loop.example is not None:
        require_example(config.loop.example, [case.case_id for case in validation])


def require_example(wanted: str, names: Sequence[str]) -> None:
    """Make sure that an example is ``first`` or the name of a validation case.

    Raises:
        ConfigError: it is not.
    """
    if wanted != "first" and wanted not in names:
        some = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
        raise ConfigError(
            f"loop.example={wanted} is no validation case of this run", fix=f"use 'first', or one of: {some}"
        )
