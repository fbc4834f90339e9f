"""The program ``lesionseg``, also started by ``python -m lesionseg``."""

from lesionseg.signals import end_at_once

__all__ = ["main"]


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
