"""Variants of one run: named, checked together, trained one after another; without torch, to be quick with mistakes."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lesionseg.config import RunConfig, load_config
from lesionseg.errors import ConfigError, LesionsegError
from lesionseg.io.names import require_run_name
from lesionseg.training.launch import count_processes

if TYPE_CHECKING:
    from lesionseg.training.fit import FitResult

__all__ = ["Variant", "check_variants", "plan_sweep", "run_sweep"]

# Commas inside brackets, braces and quotes belong to a value.
_VALUE = re.compile(r"""(?:[^,\[{"']|\[[^\]]*\]|\{[^}]*\}|"[^"]*"|'[^']*')+""")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_NAME = 100


@dataclass(frozen=True, slots=True)
class Variant:
    """One run of a sweep: its name and the ``key.subkey=value`` words that make it."""

    name: str
    words: tuple[str, ...]


def plan_sweep(name: str, sweeps: Sequence[str]) -> list[Variant]:
    """Every combination of the values, the last key's changing fastest.

    Args:
        name: what the runs' names start with, as in ``NAME-loss=dice``.
        sweeps: for example ``["optim.loss=bce,dice", "data.image_size=[64,64],[96,96]"]``.

    Raises:
        ConfigError: listing every sweep that is not of this form, or that a key has two of.
        RunError: the name cannot be a run's.
    """
    require_run_name(name)
    axes: dict[str, list[str]] = {}
    problems = []
    for sweep in sweeps:
        key, _, text = sweep.partition("=")
        found = _VALUE.findall(text)
        values = [value.strip() for value in found]
        plain = key.strip() and values and all(values) and ",".join(found) == text
        if not plain or len(set(values)) < len(values):
            problems.append(f"{sweep!r} is not of the form key.subkey=a,b,c with different values")
        elif key.strip() in axes:
            problems.append(f"{key.strip()} is swept twice")
        else:
            axes[key.strip()] = values
    if problems:
        raise ConfigError(
            "this sweep cannot be planned", problems=problems, fix="for example --sweep optim.loss=bce,dice"
        )
    short = [key.rpartition(".")[2] for key in axes]
    shown = short if len(set(short)) == len(short) else list(axes)
    variants = []
    for combination in itertools.product(*axes.values()):
        words = tuple(f"{key}={value}" for key, value in zip(axes, combination, strict=True))
        parts = (f"{key}={_UNSAFE.sub('_', value).rstrip('.')}" for key, value in zip(shown, combination, strict=True))
        variants.append(Variant("-".join((name, *parts)), words))
    return _with_names_of_their_own(variants)


def _with_names_of_their_own(variants: list[Variant]) -> list[Variant]:
    # Case counts: some file systems take Adam and adam for the same.
    names = [variant.name.lower() for variant in variants]
    if len(set(names)) == len(names) and max(map(len, names)) <= _LONGEST_NAME:
        return variants
    return [Variant(f"{v.name[: _LONGEST_NAME - 9]}-{_digest(v.words)}", v.words) for v in variants]


def _digest(words: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:8]


def check_variants(
    config: str | os.PathLike[str] | Mapping[str, Any], overrides: Sequence[str], variants: Sequence[Variant]
) -> dict[str, RunConfig]:
    """The settings of every variant, by its name, so that a mistake is told before the first one trains.

    Raises:
        ConfigError: listing every offender of every variant.
    """
    if count_processes() > 1:
        raise ConfigError("--sweep trains in one process", fix="start each variant with torchrun by itself")
    from lesionseg.training.settings import require_trainable

    settings, problems, fix = {}, [], ""
    for variant in variants:
        try:
            source = config if isinstance(config, Mapping) else str(config)
            settings[variant.name] = load_config(source, (*overrides, *variant.words))
            require_trainable(settings[variant.name])
        except ConfigError as error:
            problems += [f"{variant.name}: {problem}" for problem in error.problems or (error.message,)]
            fix = error.fix
    if problems:
        raise ConfigError("these variants cannot be trained", problems=problems, fix=fix)
    return settings


def run_sweep(
    variants: Sequence[Variant], train: Callable[[Variant], FitResult]
) -> dict[str, FitResult | LesionsegError]:
    """Trains variants one after another. One that fails leaves its error, and the others go on.

    Returns:
        what became of each variant, by its name; after one that was interrupted there are no more.
    """
    results: dict[str, FitResult | LesionsegError] = {}
    for variant in variants:
        try:
            result = train(variant)
        except LesionsegError as error:
            results[variant.name] = error
            continue
        results[variant.name] = result
        if result.status == "interrupted":
            break
    return results
