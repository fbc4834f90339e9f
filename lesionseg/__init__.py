"""Finds the lesion in dermoscopy photos with a MobileNetV2 U-Net. Research use only, not a medical device.

::

    synth     generated photos with exact masks      train     a run
    pair      photos and masks -> a manifest         evaluate  scores of a run
    audit     what is wrong with a data set          compare   a report of several runs
    split     a manifest -> others                   load      a run, to predict photos one by one
    read_image, read_mask   a file -> pixels         predict   a mask for every photo of a folder,
                                                               and what else PredictOptions says

Paths may be ``str`` or ``Path``. Where ``progress`` is taken, True shows it, in a notebook as in a terminal. Bad input
raises a ``LesionsegError`` that lists every offender and tells the fix.
"""

import os

# Imported, ONNX Runtime would write a device id into the home folder and tell its makers of the machine.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def _name_user() -> None:
    """Set ``LOGNAME`` where neither the environment nor the system's accounts name the user.

    A container that runs under a user id of its own choice has no such account, and ``getpass.getuser``, which MONAI
    and torch call while they are imported, raises there.
    """
    if any(map(os.environ.get, ("LOGNAME", "USER", "LNAME", "USERNAME"))):
        return
    try:
        import pwd

        pwd.getpwuid(os.getuid())
    except (ImportError, KeyError, OSError):
        os.environ["LOGNAME"] = f"user-{os.getuid()}" if hasattr(os, "getuid") else "user"


_name_user()

# Type checkers know the name; the module typing would take longer to import than all the rest.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from lesionseg.api import (
        audit,
        compare,
        evaluate,
        load,
        pair,
        predict,
        read_image,
        read_mask,
        split,
        synth,
        train,
    )
    from lesionseg.errors import LesionsegError
    from lesionseg.inference.stages import PredictOptions

    __version__: str

RESEARCH_USE = "Research use only. Not a medical device."

__all__ = [
    "RESEARCH_USE",
    "LesionsegError",
    "PredictOptions",
    "__version__",
    "audit",
    "compare",
    "evaluate",
    "load",
    "pair",
    "predict",
    "read_image",
    "read_mask",
    "split",
    "synth",
    "train",
]


def __getattr__(name: str) -> object:
    # Importing the package costs next to nothing; whoever asks for a name pays for it.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    if name == "__version__":
        value: object = importlib.import_module("importlib.metadata").version(__name__)
    else:
        home = {"LesionsegError": "errors", "PredictOptions": "inference.stages"}.get(name, "api")
        value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
