"""Which options belong to what: one declaration for all commands, checked before any command starts.

An option that would have no effect, an option for one value that is given twice, and arguments without text are refused
instead of ignored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand

from lesionseg.errors import ConfigError
from lesionseg.io.paths import as_path
from lesionseg.shipped_models import is_run

__all__ = ["OPTIONS", "Commands", "Condition", "Conditions", "find_conditions"]

_F = TypeVar("_F", bound=Callable[..., Any])

_Values = Mapping[str, Any]
"""The values of a command's parameters, by name."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What an option needs to have an effect.

    Attributes:
        holds: whether it is met, by the values of all parameters of the command.
        text: the same in words, as in "only with --manifest".
    """

    holds: Callable[[_Values], bool]
    text: str


Conditions = tuple[Condition, ...]
"""All of them have to be met."""


def _given(values: _Values, name: str) -> bool:
    value = values.get(name)
    return value is not None and value is not False and value not in ([], ())


def _with(name: str, flag: str) -> Condition:
    return Condition(lambda values: _given(values, name), f"only with {flag}")


def _without(name: str, flag: str) -> Condition:
    return Condition(lambda values: not _given(values, name), f"only without {flag}")


def _each(names: str, *conditions: Condition) -> dict[str, Conditions]:
    return dict.fromkeys(names.split(), conditions)


def _scores_go_to_runs(values: _Values) -> bool:
    model = values.get("model")
    return model is None or not (is_run(as_path(model)) or Path(model).suffix in (".onnx", ".xml"))


_SERVED = _without("build", "--build")
_CHOSEN = _without("official", "--official")
_SCORED = _with("manifest", "--manifest")
_LISTED = _with("name", "the name of a data set")
_OUTSIDE = _with("predictions", "--predictions")
_FILE = Condition(lambda values: values["form"] != "bundle", "only without --format bundle, which has its own")
_BUNDLE = Condition(lambda values: values["form"] == "bundle", "only with --format bundle")
_CALIBRATED = Condition(
    lambda values: values["form"] == "bundle" or values["precision"] == "int8",
    "only with --precision int8 or --format bundle",
)
_JUDGED = Condition(
    lambda values: values["form"] == "bundle" or values["precision"] in ("int8", "dynamic"),
    "only with --precision int8, --precision dynamic or --format bundle",
)
_PNG = Condition(
    lambda values: values["mask_format"] is None or "png" in values["mask_format"], "only with --format png"
)
_LOCAL = Condition(lambda values: values["engine"] != "ray", "only without --engine ray, which shares photos by itself")
_RAY = Condition(lambda values: values["engine"] == "ray", "only with --engine ray")

OPTIONS: Mapping[str, Mapping[str, Conditions]] = {
    "app": {
        **_each("model build"),
        **_each("port host names certificate", _SERVED),
        **_each("key", _SERVED, _with("certificate", "--certificate")),
        **_each("overwrite", _with("build", "--build")),
    },
    "benchmark": {**_each("output rounds manifest"), **_each("root split", _SCORED)},
    "demo": _each("output"),
    "evaluate": {
        **_each("model predictions manifest split"),
        "runs": (
            Condition(_scores_go_to_runs, "only with --predictions or a bundle, as other scores go beside the model"),
        ),
        **_each("masks probabilities name", _OUTSIDE),
        **_each("images", _OUTSIDE, _without("manifest", "--manifest, which names the photos")),
        "root": (
            Condition(
                lambda values: _given(values, "model") or _given(values, "manifest"), "only with --model or --manifest"
            ),
        ),
        **_each("at_model_size", _with("model", "--model")),
    },
    "export": {
        **_each("output form"),
        **_each("precision size", _FILE),
        **_each("max_drop manifest root", _JUDGED),
        **_each("qat", _CALIBRATED),
        **_each("about", _BUNDLE),
    },
    "models": {**_each("card"), **_each("as_json", _without("card", "--card"))},
    "predict": {
        **_each("model output overlay save_probabilities mask_format measure mm_per_pixel"),
        **_each("threshold tta largest holes tile workers engine"),
        **_each("bits", _PNG),
        **_each("num_parts", _LOCAL, _with("part_id", "--part-id")),
        **_each("part_id", _LOCAL, _with("num_parts", "--num-parts")),
        **_each("address", _RAY),
    },
    "report": _each("compare runs output manifest root split at_model_size formats"),
    "train": _each("config name runs resume sweep"),
    "data audit": _each("images masks root output"),
    "data download": {
        **_each("output offline", _LISTED),
        **_each("max_gib", _LISTED, _without("offline", "--offline, which fetches nothing")),
    },
    "data pair": {
        **_each("images masks output test_images test_masks labels groups"),
        "id_column": (
            Condition(
                lambda values: _given(values, "labels") or _given(values, "groups"), "only with --labels or --groups"
            ),
        ),
        **_each("label_column", _with("labels", "--labels")),
        **_each("group_column", _with("groups", "--groups")),
    },
    "data preview": _each("output config cases"),
    "data split": {
        **_each("output official folds hold_out root"),
        **_each("link near_duplicates stratify seed", _CHOSEN),
    },
    "data synth": _each("output train test seed size"),
    "data trimap": _each("output band root"),
}
"""Command -> option, by the name of its parameter -> what the option needs to have an effect."""

_EVERYWHERE = _each("help overwrite")


def find_conditions(command: str, option: str) -> Conditions | None:
    """Return what an option of a command needs to have an effect, or None where nothing is declared."""
    return OPTIONS.get(command, {}).get(option, _EVERYWHERE.get(option))


class _Command(TyperCommand):
    """A command that refuses options without effect, and arguments without text.

    Raises:
        ConfigError: listing every option that has no effect, that is repeated, blank, NaN or infinite.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        values, _, order = self.make_parser(ctx).parse_args(args=list(args))
        _refuse_empty(values, order)
        rest = super().parse_args(ctx, args)
        if not ctx.resilient_parsing:
            _refuse_repeated(order)
            _refuse_non_finite(ctx.params, order)
            _refuse_idle(ctx, {param.name: param.opts[0] for param in order if param.param_type_name == "option"})
        return rest


def _refuse_empty(values: Mapping[str, Any], order: list[Any]) -> None:
    # Mostly a variable of the shell that is not set; pathlib would take it for the working folder.
    problems = []
    for param in dict.fromkeys(order):
        value = values.get(param.name)
        given = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(word, str) and not word.strip() for word in given):
            problems.append(param.opts[0] if param.param_type_name == "option" else param.name.upper())
    if problems:
        raise ConfigError(
            "these arguments are empty",
            problems=problems,
            fix="pass a value, or leave the option out; perhaps a variable of the shell is not set",
        )


def _refuse_repeated(order: list[Any]) -> None:
    # Click takes the last value of an option that is no list.
    times = Counter(
        param.opts[0]
        for param in order
        if param.param_type_name == "option" and not (param.multiple or param.is_flag or param.count)
    )
    if problems := [f"{flag}: {count} times" for flag, count in times.items() if count > 1]:
        raise ConfigError("these options take one value", problems=problems, fix="give each of them once")


def _refuse_non_finite(values: _Values, order: list[Any]) -> None:
    # NaN is inside of any range, as it compares with nothing.
    numbers = {param.opts[0]: values.get(param.name) for param in order}
    problems = [
        f"{flag}: {value}" for flag, value in numbers.items() if isinstance(value, float) and not isfinite(value)
    ]
    if problems:
        raise ConfigError("these options take finite numbers", problems=problems, fix="give a number for each of them")


def _refuse_idle(ctx: Any, flags: Mapping[str, str]) -> None:
    """Refuse the options that were given although they have no effect; ``flags`` are names and how they are written."""
    command = _path(ctx)
    idle: dict[str, list[str]] = {}
    for name, flag in flags.items():
        for condition in find_conditions(command, name) or ():
            if not condition.holds(ctx.params):
                idle.setdefault(condition.text, []).append(flag)
    if idle:
        raise ConfigError(
            "these options would have no effect here",
            problems=[f"{', '.join(given)}: {text}" for text, given in idle.items()],
            fix="leave them out, or add what they belong to",
        )


def _path(ctx: Any) -> str:
    """Return the names of a command and its groups, without the program's."""
    names: list[str] = []
    while ctx.parent is not None:
        names.insert(0, ctx.command.name)
        ctx = ctx.parent
    return " ".join(names)


def _with_home(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command that gets its paths with the home folder for ``~``, which shells leave in ``--option=~/x``."""

    def expanded(value: Any) -> Any:
        if isinstance(value, list):
            return [expanded(part) for part in value]
        return as_path(value) if isinstance(value, Path) else value

    @wraps(command)
    def run(**values: Any) -> Any:
        return command(**{name: expanded(value) for name, value in values.items()})

    return run


class Commands(typer.Typer):
    """A Typer application whose commands refuse options without effect and know the home folder as ``~``."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[[_F], _F]:
        register = super().command(name, **{"cls": _Command, **settings})

        def add(command: _F) -> _F:
            register(_with_home(command))
            return command

        return add
