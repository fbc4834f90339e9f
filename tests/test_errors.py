"""The error tree, and what a message shows."""

import inspect
import pickle

import pytest

from lesionseg import errors
from lesionseg.errors import ConfigError, DataError, ImageError, LesionsegError, ManifestError, PairingError

ALL = [getattr(errors, name) for name in errors.__all__]


@pytest.mark.parametrize("kind", ALL)
def test_one_root(kind: type[LesionsegError]) -> None:
    assert issubclass(kind, LesionsegError)
    assert not issubclass(kind, OSError | ValueError), "a bug's except clause would swallow it"
    assert inspect.getdoc(kind)


@pytest.mark.parametrize("kind", [ImageError, PairingError, ManifestError])
def test_all_that_is_wrong_with_files_is_a_data_error(kind: type[DataError]) -> None:
    assert issubclass(kind, DataError)
    assert not issubclass(ConfigError, DataError)


def test_the_docstring_draws_the_whole_tree() -> None:
    drawing = inspect.getdoc(errors) or ""
    assert [name for name in errors.__all__ if name not in drawing] == []


@pytest.mark.parametrize(
    ("problems", "fix", "text"),
    [
        ((), "", "a.png is bad"),
        ((), "get another", "a.png is bad\nFix: get another"),
        (("one", "two"), "", "a.png is bad:\n  - one\n  - two"),
        (("one", "two"), "get another", "a.png is bad:\n  - one\n  - two\nFix: get another"),
    ],
)
def test_the_message_shows_every_problem_and_the_fix(problems: tuple[str, ...], fix: str, text: str) -> None:
    error = LesionsegError("a.png is bad", problems=problems, fix=fix)
    assert str(error) == text
    assert (error.message, error.problems, error.fix) == ("a.png is bad", problems, fix)


def test_problems_may_come_from_a_generator() -> None:
    error = LesionsegError("bad", problems=(str(number) for number in range(3)))
    assert error.problems == ("0", "1", "2")
    assert str(error).count("  - ") == 3


@pytest.mark.parametrize("kind", ALL)
def test_it_survives_the_way_back_from_a_worker_process(kind: type[LesionsegError]) -> None:
    error = kind("bad", problems=["one"], fix="mend it")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(again) is kind
    assert str(again) == str(error)
    assert (again.message, again.problems, again.fix) == (error.message, error.problems, error.fix)


def test_names_from_outside_stay_text_on_one_line() -> None:
    name = "a\nFix: run this\x1b[31m\x07\u202e[bold].jpg"
    shown = r"a\nFix: run this\x1b[31m\x07\u202e[bold].jpg"
    error = LesionsegError(f"{name} is bad", problems=[name, "one"], fix=f"remove {name}")
    assert str(error) == f"{shown} is bad:\n  - {shown}\n  - one\nFix: remove {shown}"
    assert str(LesionsegError(str(error.message))) == error.message
