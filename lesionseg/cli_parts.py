"""What all commands share: where they write to, how they show examples, how they end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from lesionseg import RESEARCH_USE
from lesionseg.tables import one_line
from lesionseg.training.launch import is_first_process

__all__ = [
    "BAD_INPUT",
    "INTERRUPTED",
    "MODEL_HELP",
    "PARTIAL",
    "ManifestOption",
    "Overwrite",
    "Root",
    "err",
    "example",
    "names",
    "out",
    "say",
    "telling",
]

BAD_INPUT, PARTIAL, INTERRUPTED = 2, 3, 130
"""Exit codes: nothing was done; done, with findings or with files left out; stopped by Ctrl-C."""

MODEL_HELP = "A model that ships ('lesionseg models'), a run folder, or an exported .onnx or .xml file."

ManifestOption = Annotated[str | None, typer.Option(help="Manifest CSV or shipped name; by default the run's own.")]
Root = Annotated[Path | None, typer.Option(help="Folder that the manifest's relative paths start from.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace files that lesionseg did not write, or that were changed since.")
]

_SHOWN = 20

# Of several training processes, the first speaks; what goes wrong, each tells itself.
out, err = Console(quiet=not is_first_process()), Console(stderr=True)


def say(line: str) -> None:
    """Print one line of printable characters, which stays whole when the output is piped or the terminal is narrow."""
    out.print(one_line(line), highlight=False, soft_wrap=True)


@contextmanager
def telling(rest: str) -> Iterator[Callable[[str], None]]:
    """Warnings on the terminal: the first of them, and how many more there are in ``rest``."""
    count = 0

    def tell(line: str) -> None:
        nonlocal count
        count += 1
        if count <= _SHOWN:
            err.print(f"[yellow]Warning[/yellow] {escape(one_line(line))}", highlight=False, soft_wrap=True)

    try:
        yield tell
    finally:
        if count > _SHOWN:
            err.print(f"{count - _SHOWN} more warnings{escape(one_line(rest))}", highlight=False, soft_wrap=True)


def names(values: list[str] | None) -> list[str] | None:
    """An option's words, which may be repeated or joined by commas."""
    words = [word.strip() for value in values or () for word in value.split(",")]
    if any(word.startswith("-") or not word for word in words):
        raise typer.BadParameter("it wants a name, or several with commas")
    return words or None


def example(*lines: str) -> str:
    """A help page's end: commands to copy, and the line on research use."""
    return "\b\nExamples:\n" + "\n\n".join(f"  {line}" for line in lines) + f"\n\n{RESEARCH_USE}"
