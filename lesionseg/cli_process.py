"""The process that a command runs in: its output, the signals that end it, its exit code."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from typing import NoReturn

from rich.markup import escape

from lesionseg.cli_parts import BAD_INPUT, INTERRUPTED, err
from lesionseg.errors import LesionsegError, ResourceError
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
    except (LesionsegError, ImportError, MemoryError, OSError, RuntimeError) as caught:
        error = caught if isinstance(caught, LesionsegError) else _lacking(caught)
        if error is None:
            raise
        err.print(f"[bold red]Error[/bold red] {escape(str(error))}", highlight=False, soft_wrap=True)
        return BAD_INPUT
    return 0


def _lacking(error: Exception) -> ResourceError | None:
    """What the machine does not give to this process; None for an error of any other kind."""
    # The last is the dynamic linker's, of a library that is being imported.
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM or "map segment" in str(error):
        return ResourceError("there is not enough memory", fix="free some, or raise the limit ('ulimit -v', the job's)")
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return ResourceError("no more files can be opened", fix="raise the limit of open files ('ulimit -n')")
    if "can't start new thread" in str(error) or getattr(error, "errno", None) == errno.EAGAIN:
        fix = "raise the limit of processes ('ulimit -u', the container's) or of memory"
        return ResourceError("the system starts no more threads or processes for this user", fix=fix)
    return None
