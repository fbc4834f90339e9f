"""Every error that lesionseg raises on purpose.

::

    LesionsegError            bad input, never a bug; the CLI prints it without a traceback
    ├── ConfigError           a key, value or option that does not exist or does not fit
    ├── DataError
    │   ├── ImageError        one photo or mask that cannot be decoded as it should
    │   ├── PairingError      photos and masks that do not match one to one
    │   └── ManifestError     a manifest that is malformed or points to missing files
    ├── ShapeError            a tensor whose shape the model cannot take
    ├── WeightsError          encoder weights that are missing or do not fit
    ├── RunError              a run folder or checkpoint that is missing, damaged or in use
    ├── NonFiniteError        NaN or infinity in the training
    ├── ResourceError         memory, or a helper process, that the machine does not give
    ├── ComparisonError       runs that cannot stand in one table
    ├── DownloadError         a data set that cannot be fetched, verified or unpacked
    └── OutputError           a place that results cannot be written to

A bug raises anything else and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from lesionseg.tables import one_line

__all__ = [
    "ComparisonError",
    "ConfigError",
    "DataError",
    "DownloadError",
    "ImageError",
    "LesionsegError",
    "ManifestError",
    "NonFiniteError",
    "OutputError",
    "PairingError",
    "ResourceError",
    "RunError",
    "ShapeError",
    "WeightsError",
]


class LesionsegError(Exception):
    """Bad input, told once and completely.

    Each part is shown as one line of printable characters: a file name holds no line break or control character of its
    own that could steer the terminal or look like a part of the message.

    Args:
        message: what is wrong, naming the file or key, in one sentence without a full stop.
        problems: every offender, one line each; never only the first.
        fix: what the user can do about it.
    """

    def __init__(self, message: str, *, problems: Iterable[str] = (), fix: str = "") -> None:
        self.message = one_line(message)
        self.problems = tuple(one_line(problem) for problem in problems)
        self.fix = one_line(fix)
        lines = [self.message + (":" if self.problems else "")]
        lines += [f"  - {problem}" for problem in self.problems]
        if self.fix:
            lines.append(f"Fix: {self.fix}")
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[Callable[[str], LesionsegError], tuple[str]]:
        # Made anew of its parts: the whole text would be taken for one line.
        return partial(type(self), problems=self.problems, fix=self.fix), (self.message,)


class ConfigError(LesionsegError):
    """A key, value or option that does not exist or does not fit."""


class DataError(LesionsegError):
    """Input files that cannot be used as they are."""


class ImageError(DataError):
    """One photo or mask that cannot be decoded as it should."""


class PairingError(DataError):
    """Photos and masks that do not match one to one."""


class ManifestError(DataError):
    """A manifest that is malformed or points to missing files."""


class ShapeError(LesionsegError):
    """A tensor whose shape the model cannot take."""


class WeightsError(LesionsegError):
    """Encoder weights that are missing or do not fit."""


class RunError(LesionsegError):
    """A run folder or checkpoint that is missing, damaged or in use."""


class NonFiniteError(LesionsegError):
    """NaN or infinity in the training."""


class ResourceError(LesionsegError):
    """Memory, or a helper process, that the machine does not give."""


class ComparisonError(LesionsegError):
    """Runs that cannot stand in one table."""


class DownloadError(LesionsegError):
    """A data set that cannot be fetched, verified or unpacked."""


class OutputError(LesionsegError):
    """A place that results cannot be written to."""
