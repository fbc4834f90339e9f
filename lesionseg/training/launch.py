"""Which of several training processes this is, by the variables of torchrun and accelerate; needs no torch."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from lesionseg.errors import ConfigError

__all__ = ["Launch", "count_processes", "hide_other_launchers", "is_first_process", "read_launch", "require_master"]

_RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
_LAUNCHER = (*_RANKS, "MASTER_ADDR", "MASTER_PORT")
# How many processes the starters of other programs say there are; such processes do not train together.
_OTHERS = {
    "OMPI_COMM_WORLD_SIZE": "mpirun",
    "PMI_SIZE": "mpirun",
    "MV2_COMM_WORLD_SIZE": "mpirun",
    "SLURM_STEP_NUM_TASKS": "srun",
}
_MPI = ("OMPI_COMM_WORLD_", "PMI_", "MV2_COMM_WORLD_", "MPI_LOCALRANKID", "MPI_LOCALNRANKS")
# What accelerate reads by itself, and what is decided here instead.
_ACCELERATE = (
    "FORK_LAUNCHED",
    "LOCAL_WORLD_SIZE",
    *(f"ACCELERATE_USE_{name}" for name in ("DEEPSPEED", "FSDP", "MEGATRON_LM", "PARALLELISM_CONFIG", "SAGEMAKER")),
)
_ADVICE = "several processes are started by torchrun or accelerate"


@dataclass(frozen=True, slots=True)
class Launch:
    """This process among those that train together.

    Attributes:
        rank: its number, from 0; the first one writes and speaks.
        processes: how many there are.
        notice: which variables are ignored, and why; empty where none is.
    """

    rank: int = 0
    processes: int = 1
    notice: str = ""


def read_launch(environment: Mapping[str, str] | None = None) -> Launch:
    """Read the variables of a launcher; a set that is incomplete or contradicts itself is ignored with a notice.

    Shells, containers and notebooks keep variables of launchers that ended long ago.

    Args:
        environment: by default that of this process.
    """
    found = os.environ if environment is None else environment
    given = {name: found[name].strip() for name in _LAUNCHER if found.get(name, "").strip()}
    if not any(name in given for name in _RANKS):
        return Launch(notice=_notice_of_others(found))
    missing = [name for name in _LAUNCHER if name not in given]
    problem = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing" if missing else ""
    problem = problem or _contradiction(given, found.get("LOCAL_WORLD_SIZE", ""))
    if problem:
        shown = ", ".join(f"{name}={value!r}" for name, value in given.items())
        return Launch(notice=f"{shown} ignored, as {problem}; this process trains by itself ({_ADVICE})")
    return Launch(int(given["RANK"]), int(given["WORLD_SIZE"]))


def _contradiction(given: Mapping[str, str], local: str) -> str:
    names = (*_RANKS, "MASTER_PORT")
    for name in names:
        if not given[name].isascii() or not given[name].isdecimal():
            return f"{name} is no whole number"
    rank, processes, local_rank, port = (int(given[name]) for name in names)
    if rank >= processes:
        return f"there is no process {rank} of {processes}"
    most = int(local) if local.isascii() and local.isdecimal() else processes
    if local_rank > rank or local_rank >= most:
        return f"process {rank} of {processes} cannot be number {local_rank} of its machine"
    return "" if 0 < port < 65536 else f"there is no port {port}"


def _notice_of_others(found: Mapping[str, str]) -> str:
    for name, starter in _OTHERS.items():
        if found.get(name, "").isdecimal() and int(found[name]) > 1:
            return f"{name}={found[name]} ignored: processes of {starter} train by themselves; {_ADVICE}"
    return ""


def count_processes() -> int:
    """Return how many processes train together."""
    return read_launch().processes


def is_first_process() -> bool:
    """Return whether this is the one of several processes that writes and speaks."""
    return read_launch().rank == 0


def require_master() -> None:
    """Make sure that the machine on which the processes meet has an address.

    Raises:
        ConfigError: its name is not known here; torch would wait for it for a long time.
    """
    name = os.environ["MASTER_ADDR"].strip()
    try:
        socket.getaddrinfo(name, int(os.environ["MASTER_PORT"]))
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"MASTER_ADDR={name!r}, where {count_processes()} processes meet, has no address: {error}",
            fix="start them with torchrun, or unset RANK, WORLD_SIZE and LOCAL_RANK to train in this process alone",
        ) from error


@contextmanager
def hide_other_launchers() -> Iterator[None]:
    """Within it, the environment says what ``read_launch`` does, for libraries that read it by themselves."""
    together = count_processes() > 1
    hidden = {
        name: os.environ.pop(name)
        for name in list(os.environ)
        if name.startswith(_MPI) or (not together and name in (*_LAUNCHER, *_ACCELERATE))
    }
    try:
        yield
    finally:
        os.environ.update(hidden)
