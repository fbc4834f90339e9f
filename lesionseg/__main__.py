"""``python -m lesionseg``: the command line, where the installed script is not on the path."""

from lesionseg.cli import main

if __name__ == "__main__":
    main()
