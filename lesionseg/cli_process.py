"""The process that a command runs in: its output, the signals that end it, its exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NoReturn

from rich.markup import escape

from lesionseg.cli_parts import BAD_INPUT, INTERRUPTED, err
from lesionseg.errors import LesionsegError
from lesionseg.signals import raise_in_place
from lesionseg.streams import finish_output, protect_output

__all__ = ["run"]


def run(app: Callable[[], object]) -> NoReturn:
    """Run the command line and exit; bad input ends in one message and exit code 2, a bug in its traceback."""
    protect_output()
    with raise_in_place():
        code = _exit_code(app)
    sys.exit(finish_output(code))


def _exit_code(app: Callable[[], object]) -> int:
    try:
        app()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        return INTERRUPTED
    except LesionsegError as error:
        err.print(f"[bold red]Error[/bold red] {escape(str(error))}", highlight=False, soft_wrap=True)
        return BAD_INPUT
    return 0
