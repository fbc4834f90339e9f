"""Bytes from disk: what is refused unread, what is waited for, and never for long."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pictures import RGB, encoded

from lesionseg.data import files
from lesionseg.data.files import IMAGE_SUFFIXES, MAX_BYTES, read_bytes
from lesionseg.data.images import read_image
from lesionseg.errors import ConfigError, ImageError
from lesionseg.io.paths import as_path


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    (tmp_path / "empty.jpg").touch()
    reasons = {
        "fifo.jpg": "is not a regular file",
        "folder.jpg": "is not a regular file but a folder",
        "dangling.jpg": "is not a regular file but a link to nothing",
        "loop.jpg": "cannot be read: Too many levels",
        "empty.jpg": "is empty",
        "gone.jpg": "does not exist",
        "x" * 300: "cannot be read|does not exist",
    }
    for name, reason in reasons.items():
        found: list[Exception] = []

        def read(name: str = name, found: list[Exception] = found) -> None:
            try:
                read_bytes(tmp_path / name)
            except Exception as error:  # noqa: BLE001 - looked at below
                found.append(error)

        # A thread, so that a read that waits for the FIFO's writer fails the test instead of hanging it.
        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        thread.join(5)
        assert len(found) == 1, name
        with pytest.raises(ImageError, match=reason):
            raise found[0]


def test_a_link_to_a_photo_is_followed(tmp_path: Path, save: Callable[..., Path]) -> None:
    (tmp_path / "link.png").symlink_to(save("a.png", encoded(RGB, "PNG")))
    assert np.array_equal(read_image(tmp_path / "link.png"), RGB)


def test_files_with_too_many_bytes_are_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "big.png").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(ImageError, match="268,435,457 bytes, over 268,435,456"):
        read_bytes(tmp_path / "big.png")


def test_suffixes_are_lower_case_with_a_dot() -> None:
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in IMAGE_SUFFIXES)


def test_a_file_that_is_seconds_old_and_incomplete_is_read_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, data = tmp_path / "a.png", encoded(RGB, "PNG")
    path.write_bytes(data[:300])
    pauses = []

    def finish(seconds: float) -> None:
        pauses.append(seconds)
        path.write_bytes(data)

    monkeypatch.setattr(time, "sleep", finish)
    assert read_bytes(path) == data
    assert len(pauses) == 1
    assert read_bytes(path) == data
    assert len(pauses) == 1, "a whole file is never waited for"


def test_a_file_dated_tomorrow_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.touch()
    os.utime(path, (time.time() + 86400,) * 2)
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it was waited for"))
    with pytest.raises(ImageError, match="empty"):
        read_bytes(path)


def test_of_many_young_files_the_first_is_waited_for(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number}.png").touch()
    started = time.monotonic()
    for number in range(20):
        with pytest.raises(ImageError, match="empty"):
            read_bytes(tmp_path / f"{number}.png")
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_path_is_not_the_working_folder(text: str) -> None:
    with pytest.raises(ConfigError, match="a path is empty"):
        as_path(text)


def test_a_file_that_keeps_growing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, data = tmp_path / "a.png", encoded(RGB, "PNG")
    path.write_bytes(data[:300])
    monkeypatch.setattr(time, "sleep", lambda _: path.write_bytes(data[:600]))
    with pytest.raises(ImageError, match=r"a\.png is still being written"):
        read_bytes(path)


def test_a_young_file_that_stays_incomplete_is_left_to_the_decoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, data = tmp_path / "a.png", encoded(RGB, "PNG")[:300]
    path.write_bytes(data)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    assert read_bytes(path) == data


def test_a_file_that_changes_while_it_is_read_is_read_again(
    save: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save("a.png", encoded(RGB, "PNG"))
    stat = os.fstat
    changes = iter([b"\x89PNG half", encoded(255 - RGB, "PNG")])

    def stat_and_change(handle: int) -> os.stat_result:
        found = stat(handle)
        new = next(changes, None)
        if new is not None:
            path.write_bytes(new)
        return found

    monkeypatch.setattr(os, "fstat", stat_and_change)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    assert read_bytes(path) == encoded(255 - RGB, "PNG")


def test_what_cannot_be_read_is_told_in_the_systems_words(
    save: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save("a.png", encoded(RGB, "PNG"))

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files.os, "open", refuse)
    with pytest.raises(ImageError, match=r"a\.png cannot be read: Permission denied"):
        read_bytes(path)
    monkeypatch.undo()
    with pytest.raises(ImageError, match="cannot be read: embedded null byte"):
        read_bytes(path.with_name("a\0b.png"))
