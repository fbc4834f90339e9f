"""Options without effect are refused, by one declaration that covers every option of every command."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from lesionseg import cli
from lesionseg.cli_options import OPTIONS, find_conditions
from lesionseg.errors import ConfigError, LesionsegError


def commands(group: Any = None, path: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in (group or typer.main.get_command(cli.app)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{path}{name} ")
        else:
            yield path + name, command


COMMANDS = dict(commands())


def refusal(*words: str) -> ConfigError:
    result = CliRunner().invoke(cli.app, words)
    assert isinstance(result.exception, ConfigError), result.output
    return result.exception


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_declared(command: str) -> None:
    options = {param.name for param in COMMANDS[command].params if param.param_type_name == "option"}
    assert [name for name in options if find_conditions(command, name) is None] == []
    # What is declared and does not exist would be a misspelt rule; --overwrite belongs to the commands that write.
    assert set(OPTIONS[command]) - options <= {"overwrite"}


def test_every_command_is_declared() -> None:
    assert set(OPTIONS) == set(COMMANDS)


@pytest.mark.parametrize(
    ("words", "problems"),
    [
        (
            "export r --max-drop 0.5 --manifest m.csv --root r --qat 2 --about a.yaml",
            [
                "--max-drop, --manifest, --root: only with --precision int8, --precision dynamic or --format bundle",
                "--qat: only with --precision int8 or --format bundle",
                "--about: only with --format bundle",
            ],
        ),
        (
            "export r --format bundle --size 64 --precision int8",
            ["--size, --precision: only without --format bundle, which has its own"],
        ),
        ("benchmark m --root r --split train", ["--root, --split: only with --manifest"]),
        ("models --card --json", ["--json: only without --card"]),
        (
            "app --build p --port 8517 --host 127.0.0.1 --name n --certificate c --key k",
            [
                "--port, --host, --name, --certificate, --key: only without --build",
            ],
        ),
        ("app --key k", ["--key: only with --certificate"]),
        ("evaluate --predictions p --masks m --root r --at-model-size", ["--root: only with --model or --manifest"]),
        ("evaluate --predictions p --manifest m --images i", ["--images: only without --manifest"]),
        ("evaluate --model m --masks m --name n --probabilities", ["--masks, --name, --probabilities: only with"]),
        ("predict p --format nifti,rle --bits 8", ["--bits: only with --format png"]),
        ("predict p --part-id 1", ["--part-id: only with --num-parts"]),
        ("predict p --num-parts 1", ["--num-parts: only with --part-id"]),
        ("predict p --address a", ["--address: only with --engine ray"]),
        ("predict p --engine ray --num-parts 2 --part-id 1", ["--num-parts, --part-id: only without --engine ray"]),
        (
            "data split m.csv --output o.csv --official isic2016 --seed 0 --stratify d --link l --near-duplicates",
            ["--seed, --stratify, --link, --near-duplicates: only without --official"],
        ),
        (
            "data pair --images i --masks m --output o --id-column a --label-column b --group-column c",
            [
                "--id-column: only with --labels or --groups",
                "--label-column: only with --labels",
                "--group-column: only",
            ],
        ),
        ("data download --output o", ["--output: only with the name of a data set"]),
        ("data download isic2016 --offline --max-gib 3", ["--max-gib: only without --offline"]),
    ],
)
def test_an_option_without_effect_is_refused(words: str, problems: list[str]) -> None:
    error = refusal(*words.split())
    assert error.message == "these options would have no effect here"
    for expected in problems:
        assert any(problem.startswith(expected) for problem in error.problems)
    assert error.fix


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        ("data pair --images a --images b --masks m --output o", "--images: 2 times"),
        ("train --name a --name a --name a data.manifest=m", "--name: 3 times"),
        ("evaluate --model m --split test --split=val", "--split: 2 times"),
    ],
)
def test_an_option_for_one_value_is_given_once(words: str, flag: str) -> None:
    error = refusal(*words.split())
    assert error.message == "these options take one value"
    assert error.problems == (flag,)


@pytest.mark.parametrize(
    "words",
    [
        "predict p --tile=-inf",
        "predict p --mm-per-pixel nan",
        "data split m.csv --output o.csv --hold-out inf",
        "data trimap m.csv --output o --band 1e400",
        "data download isic2016 --max-gib inf",
        "data split m.csv --output o.csv --hold-out nan",
        "export r --precision int8 --max-drop inf",
    ],
)
def test_numbers_are_finite(words: str) -> None:
    assert refusal(*words.split()).message == "these options take finite numbers"


@pytest.mark.parametrize(
    "words",
    [
        "predict nowhere --format png,nifti --bits 1 --overlay contour --overlay heat",
        "predict nowhere --num-parts 2 --part-id 1",
        "predict nowhere --tta --tta",
        "export nowhere --precision int8 --max-drop 0.1 --manifest m --root r --qat 1",
        "export nowhere --format bundle --about a --max-drop 0.1 --qat 1",
        "benchmark nowhere --manifest m --root r --split val",
        "evaluate --model nowhere --root r --at-model-size",
        "evaluate --predictions nowhere --manifest m --root r",
    ],
)
def test_options_with_effect_pass(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli.app, words.split())
    assert isinstance(result.exception, LesionsegError), result.output
    assert "no effect" not in str(result.exception)
    assert "one value" not in str(result.exception)


def test_scores_of_a_run_go_into_it_wherever_other_runs_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    for model in ("own", "own.onnx"):
        error = refusal("evaluate", "--model", model, "--runs", "others")
        assert error.problems == ("--runs: only with --predictions or a bundle, as other scores go beside the model",)
    result = CliRunner().invoke(cli.app, ["evaluate", "--model", "nosuch", "--runs", "others"])
    assert "no effect" not in str(result.exception)


def test_help_explains_whatever_else_is_given() -> None:
    assert CliRunner().invoke(cli.app, ["export", "--max-drop", "1", "--help"]).exit_code == 0


def test_scores_of_another_tool_are_read_and_nothing_else(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    masks = str(tiny.folders.test_masks)
    invoke = CliRunner().invoke
    assert invoke(cli.app, ["evaluate", "--predictions", masks, "--masks", masks, "--name", "q"]).exit_code == 0
    error = refusal("evaluate", "--model", "runs/q", "--manifest", "nosuch.csv", "--at-model-size")
    assert "another tool's predictions" in error.message
    assert [problem.split(":")[0] for problem in error.problems] == ["manifest", "at_model_size"]
    assert invoke(cli.app, ["evaluate", "--model", "runs/q"]).exit_code == 0
