"""The program ``lesionseg``, also started by ``python -m lesionseg``.

Nothing but the smallest modules is imported before signals are handled.
"""

import os

try:
    import signal
except KeyboardInterrupt:
    # Ctrl-C while the modules that signal itself needs are loaded, before it can be handled.
    os._exit(130)

__all__ = ["end_at_once", "main"]


def end_at_once() -> None:
    """Let signals end this process at once, with exit code 128 + their number: nothing has begun, or all is done.

    An exception in the middle of an import, or of Python's own shutdown, may be lost or end in a traceback.
    """
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        kind = getattr(signal, name, None)
        # nohup and shells without job control have some ignored, and mean it.
        if kind is not None and signal.getsignal(kind) is not signal.SIG_IGN:
            signal.signal(kind, lambda number, frame: os._exit(128 + number))


def main() -> None:
    """Run the command line. Signals during the imports before it, and the shutdown after it, show no traceback."""
    end_at_once()
    from lesionseg.cli import main as run

    try:
        run()
    finally:
        end_at_once()


if __name__ == "__main__":
    main()
