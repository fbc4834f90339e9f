"""The model that a training starts from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from lesionseg.config import RunConfig
from lesionseg.errors import ConfigError
from lesionseg.models import ModelSpec, SegmentationModel, build_model, load_encoder_weights
from lesionseg.models.packing import unpack
from lesionseg.shipped_models import WEIGHTS, find_model, is_bundle, open_bundle
from lesionseg.training.checkpoint import load_model

__all__ = ["starting_model", "trained_model"]


def trained_model(source: str | Path) -> tuple[SegmentationModel, tuple[int, int], str]:
    """A trained network, in eval mode: of a run in its best state, or of a model that ships.

    Returns:
        the network, the height and width of its input, and the SHA-256 of its weights file.

    Raises:
        RunError: there is no such model, or it is damaged.
    """
    place = find_model(source)
    if is_bundle(place):
        bundle = open_bundle(place)
        return unpack(bundle), bundle.size, bundle.digest(WEIGHTS)
    model, state, digest = load_model(place)
    # As it was written, whatever else an older version did not know.
    height, width = state.config["data"]["image_size"]
    return model, (height, width), digest


def starting_model(config: RunConfig) -> SegmentationModel:
    """The model before the first step; the same settings give the same weights. Seeds torch with the run's seed.

    Raises:
        ConfigError: ``model.start`` names a model of another kind.
        RunError: there is no such model, or it is damaged.
        WeightsError: the encoder's weights are missing or do not fit.
    """
    torch.manual_seed(config.loop.seed)
    made = config.model
    if made.start:
        return _started(config, made.start)
    weights = load_encoder_weights(made.encoder_weights)
    encoder = replace(weights.spec, width=made.encoder_width)
    classes = len(config.data.class_names)
    return build_model(
        ModelSpec(made.name, made.dropout, classes, encoder, made.rates or (), made.decoder_width), weights
    )


def _started(config: RunConfig, source: str) -> SegmentationModel:
    """A model with the weights of an earlier run's, and the dropout that the config asks for."""
    model, _, _ = trained_model(source)
    spec, made = model.spec, config.model
    widths = (spec.encoder.width, spec.decoder_width)
    wanted = (made.name, len(config.data.class_names), made.rates or (), (made.encoder_width, made.decoder_width))
    if (spec.name, spec.classes, spec.rates, widths) != wanted:
        raise ConfigError(
            f"model.start={source} is a {spec.name!r} of {spec.classes} classes, not a {made.name!r} of {wanted[1]}",
            problems=[f"its widths are {widths}, those asked for {wanted[3]}"] if widths != wanted[3] else (),
            fix="set model.name, model.rates, the widths and the classes as they are there, or start from another",
        )
    started = build_model(replace(spec, dropout=made.dropout))
    started.load_state_dict(model.state_dict())
    return started
