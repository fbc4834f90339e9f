"""Walks through the corpus: every row ends as it should, in time, and says why."""

import re
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
from corpus import Row
from corpus_masks import MASKS
from corpus_photos import PHOTOS
from corpus_runs import RUNS
from corpus_sets import SETS

from lesionseg.errors import LesionsegError

ROWS = (*PHOTOS, *MASKS, *SETS, *RUNS)
SECONDS = 20


@pytest.fixture(autouse=True)
def alarm() -> Iterator[None]:
    """What hangs fails."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"over {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def of(*outcomes: str) -> list[pytest.param]:
    return [pytest.param(row, id=re.sub(r"\W+", "-", row.title)) for row in ROWS if row.outcome in outcomes]


def test_the_corpus_is_whole() -> None:
    assert max(Counter(row.title for row in ROWS).values()) == 1
    assert {row.outcome for row in ROWS} == set("DRWS")
    assert all(row.says for row in ROWS if row.outcome != "D"), "what is said is always looked at"
    assert all(row.names for row in ROWS if row.outcome == "R")


@pytest.mark.parametrize("row", of("R"))
def test_refused_naming_file_reason_and_fix(row: Row, tmp_path: Path) -> None:
    made = row.make(tmp_path)
    with pytest.raises(LesionsegError, match=row.says) as caught:
        row.run(made)
    assert row.names in str(caught.value)
    assert caught.value.fix


@pytest.mark.parametrize("row", of("D"))
def test_decoded_right_without_a_word(row: Row, tmp_path: Path) -> None:
    found = row.run(row.make(tmp_path))
    assert row.right(found.result)
    assert (found.warnings, found.skipped) == ((), ())


@pytest.mark.parametrize("row", of("W"))
def test_accepted_with_a_warning(row: Row, tmp_path: Path) -> None:
    found = row.run(row.make(tmp_path))
    assert row.right(found.result)
    assert any(re.search(row.says, line) for line in found.warnings)


@pytest.mark.parametrize("row", of("S"))
def test_skipped_and_recorded(row: Row, tmp_path: Path) -> None:
    found = row.run(row.make(tmp_path))
    assert row.right(found.result)
    assert any(re.search(row.says, line) for line in found.skipped)
