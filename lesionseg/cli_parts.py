"""What all commands share: where they write to, how they show examples, how they end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lesionseg import RESEARCH_USE

__all__ = ["BAD_INPUT", "INTERRUPTED", "PARTIAL", "Root", "err", "example", "out", "say"]

BAD_INPUT, PARTIAL, INTERRUPTED = 2, 3, 130
"""Exit codes: nothing was done; done, with findings or with files left out; stopped by Ctrl-C."""

Root = Annotated[Path | None, typer.Option(help="Folder that the manifest's relative paths start from.")]

out, err = Console(), Console(stderr=True)


def say(line: str) -> None:
    """Prints a line, which stays whole when the output is piped or the terminal is narrow."""
    out.print(line, highlight=False, soft_wrap=True)


def example(*lines: str) -> str:
    """A help page's end: commands to copy, and the line on research use."""
    return "\b\nExamples:\n" + "\n\n".join(f"  {line}" for line in lines) + f"\n\n{RESEARCH_USE}"
