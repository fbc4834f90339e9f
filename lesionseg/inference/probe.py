"""Whether a file that was loaded is a model that can be used: its inputs and outputs, and one result within a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from lesionseg.errors import RunError

__all__ = ["PROBE_SECONDS", "Port", "require_ports", "within"]

PROBE_SECONDS = 20.0
"""How long loading a model and its first result may take; a usual model takes hundredths of a second."""

_EXPORT = "use a file that 'lesionseg export RUN' wrote"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a graph.

    Attributes:
        name: its name.
        kind: the type of its values, for example ``uint8``.
        shape: its sides; None where a side is free.
    """

    name: str
    kind: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        sides = " x ".join("N" if side is None else str(side) for side in self.shape)
        return f"{self.name!r:.60}: {self.kind} {sides:.60}"


def require_ports(path: Path, inputs: Sequence[Port], wanted: Port, outputs: Sequence[Port], names: set[str]) -> None:
    """Make sure that a graph has the one input and the outputs that are expected.

    Args:
        path: the file, for messages.
        inputs: the graph's inputs.
        wanted: the expected input.
        outputs: the graph's outputs.
        names: the expected outputs, of type float32.

    Raises:
        RunError: listing everything that differs.
    """
    problems = [f"input {port}, not {wanted}" for port in inputs if port != wanted]
    if len(inputs) != 1:
        problems.append(f"{len(inputs)} inputs, not 1")
    problems += [f"no output {name!r}" for name in sorted(names - {port.name for port in outputs})]
    problems += [f"output {port}, not float32" for port in outputs if port.name in names and port.kind != "float32"]
    if problems:
        raise RunError(f"{path} is not a model that lesionseg can run", problems=problems, fix=_EXPORT)


def within(seconds: float, path: Path, work: Callable[[], _T], stop: Callable[[], None] = lambda: None) -> _T:
    """Return what a function returns, or give up on it.

    Args:
        seconds: how long it may take.
        path: the file that it works on, for the message.
        work: the function; it runs in a thread of its own, which native code may keep busy without holding up the
            program's end.
        stop: asks the function to end early.

    Raises:
        RunError: it took longer.
        BaseException: what the function raises.
    """
    results: list[_T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True, name="lesionseg-probe")
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        stop()
        raise RunError(f"{path} gave no result within {seconds:g} s", fix=_EXPORT)
    if errors:
        raise errors[0]
    return results[0]
