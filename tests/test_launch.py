"""Which variables of launchers are used, and what becomes of the others."""

import os
import socket
from pathlib import Path

import pytest

from lesionseg.config import LoopConfig
from lesionseg.errors import ConfigError
from lesionseg.training.launch import (
    Launch,
    count_processes,
    hide_other_launchers,
    is_first_process,
    read_launch,
    require_master,
)
from lesionseg.training.precision import open_accelerator
from lesionseg.training.run import run_training
from lesionseg.training.watch import Watcher

WHOLE = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


def test_a_whole_set_is_used() -> None:
    assert read_launch(WHOLE) == Launch(1, 2)
    assert read_launch(WHOLE | {"LOCAL_WORLD_SIZE": "1", "LOCAL_RANK": "0"}) == Launch(1, 2)
    assert read_launch(WHOLE | {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "gone"}) == Launch()


@pytest.mark.parametrize("variables", [{}, {"MASTER_ADDR": "a", "MASTER_PORT": "1"}, {"RANK": "", "WORLD_SIZE": " "}])
def test_without_ranks_there_is_nothing_to_say(variables: dict[str, str]) -> None:
    assert read_launch(variables) == Launch()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"WORLD_SIZE": "x"}, "WORLD_SIZE is no whole number"),
        ({"RANK": "-1"}, "RANK is no whole number"),
        ({"RANK": "1.0"}, "RANK is no whole number"),
        ({"RANK": "2"}, "there is no process 2 of 2"),
        ({"WORLD_SIZE": "0", "RANK": "0", "LOCAL_RANK": "0"}, "there is no process 0 of 0"),
        ({"RANK": "0"}, "process 0 of 2 cannot be number 1 of its machine"),
        ({"LOCAL_WORLD_SIZE": "1"}, "process 1 of 2 cannot be number 1 of its machine"),
        ({"MASTER_PORT": "0"}, "there is no port 0"),
        ({"MASTER_PORT": "70000"}, "there is no port 70000"),
        ({"MASTER_ADDR": ""}, "MASTER_ADDR is missing"),
        ({"RANK": "", "MASTER_PORT": ""}, "RANK and MASTER_PORT are missing"),
    ],
)
def test_a_set_that_is_not_whole_is_ignored_with_a_notice(changes: dict[str, str], reason: str) -> None:
    launch = read_launch(WHOLE | changes)
    assert (launch.rank, launch.processes) == (0, 1)
    assert f"ignored, as {reason}; this process trains by itself" in launch.notice


@pytest.mark.parametrize("name", ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"])
def test_processes_of_mpirun_and_srun_train_by_themselves(name: str) -> None:
    assert f"{name}=2 ignored" in read_launch({name: "2"}).notice
    assert read_launch({name: "1"}) == read_launch({name: "x"}) == Launch()


@pytest.mark.parametrize(
    "variables",
    [
        {"LOCAL_RANK": "0"},
        {"WORLD_SIZE": "x"},
        {"RANK": "1"},
        WHOLE | {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "nosuch.invalid"},
        {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "PMI_SIZE": "2"},
        {"LOCAL_RANK": "0", "ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_USE_FSDP": "true"},
    ],
    ids=lambda variables: " ".join(variables),
)
def test_leftover_variables_do_not_reach_accelerate(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert (count_processes(), is_first_process()) == (1, True)
    assert open_accelerator(LoopConfig(device="cpu")).num_processes == 1
    assert {name: os.environ.get(name) for name in variables} == variables


def test_of_several_processes_only_mpis_variables_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (WHOLE | {"PMI_SIZE": "4"}).items():
        monkeypatch.setenv(name, value)
    with hide_other_launchers():
        assert "PMI_SIZE" not in os.environ
        assert {name: os.environ[name] for name in WHOLE} == WHOLE
    assert os.environ["PMI_SIZE"] == "4"


def test_a_meeting_place_without_an_address_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    for name, value in WHOLE.items():
        monkeypatch.setenv(name, value)
    require_master()
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ConfigError, match=r"(?s)MASTER_ADDR='localhost', where 2 .* has no address.*unset"):
        open_accelerator(LoopConfig(device="cpu"))


def test_a_training_says_which_variables_it_ignores(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    told: list[str] = []
    run_training(tiny.config("loop.epochs=1"), tmp_path / "run", watcher=Watcher(on_notice=told.append))
    assert [line for line in told if "RANK='1' ignored" in line]
    assert (tmp_path / "run" / "run.json").is_file()
