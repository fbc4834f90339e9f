"""Bounded reading of untrusted files: regular files only, limited in size, depth and number of values."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from lesionseg.errors import DataError, LesionsegError

__all__ = [
    "MAX_DEPTH",
    "MAX_MODEL_BYTES",
    "MAX_TABLE_BYTES",
    "MAX_TEXT_BYTES",
    "MAX_VALUES",
    "decode_text",
    "parse_json",
    "parse_yaml",
    "read_json",
    "read_regular",
    "read_text",
    "read_yaml",
]

MAX_TEXT_BYTES = 64 * 2**20
"""Default size limit of text files."""
MAX_TABLE_BYTES = 2**30
"""Size limit of tables with a row for each photo, which may be millions."""
MAX_YAML_BYTES = 2**20
"""Size limit of YAML files."""
MAX_MODEL_BYTES = 2 * 2**30
"""Size limit of models and of their weights."""
MAX_DEPTH = 50
"""How deep JSON and YAML values may be nested."""
MAX_VALUES = 100_000
"""How many values a YAML file may hold once its aliases are expanded."""

_RESTORE = "restore it from its source"
_KINDS = {
    stat.S_ISDIR: "a folder",
    stat.S_ISFIFO: "a named pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}
_BYTE_ORDER_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


def read_regular(
    path: Path, *, limit: int = MAX_TEXT_BYTES, error: type[LesionsegError] = DataError, fix: str = "check the path"
) -> bytes:
    """Return the bytes of a regular file.

    Never blocks on a named pipe and never reads a device.

    Args:
        path: the file.
        limit: the largest size that is read, in bytes.
        error: the class of the error to raise.
        fix: what to do about a file that is missing.

    Raises:
        LesionsegError: of class ``error``; the file is missing, not regular, too large or unreadable.
    """
    try:
        # Opening a named pipe for reading would wait for a writer; O_NONBLOCK does not.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(handle, "rb") as file:
            status = os.fstat(handle)
            if kind := next((name for test, name in _KINDS.items() if test(status.st_mode)), ""):
                raise error(f"{path} is {kind} and not a file", fix="pass a regular file")
            data = _read(file, status.st_size, limit) if status.st_size <= limit else None
    except FileNotFoundError as problem:
        reason = "is a link to a file that does not exist" if path.is_symlink() else "does not exist"
        raise error(f"{path} {reason}", fix=fix) from problem
    except IsADirectoryError as problem:
        raise error(f"{path} is a folder and not a file", fix="pass a regular file") from problem
    except PermissionError as problem:
        raise error(
            f"{path} cannot be read: {problem.strerror}", fix="give this user read permission for it"
        ) from problem
    except (OSError, ValueError) as problem:
        reason = problem.strerror or str(problem) if isinstance(problem, OSError) else str(problem)
        raise error(f"{path} cannot be read: {reason}", fix=fix) from problem
    if data is None or len(data) > limit:
        raise error(f"{path} is larger than {limit:,} bytes", fix="check that it is the right file")
    return data


def _read(file: BinaryIO, size: int, limit: int) -> bytes:
    # A buffer as large as the file, and not as the limit; what grows meanwhile, or hides its size, is read on.
    data = file.read(size + 1)
    return data + file.read(limit + 1 - len(data)) if len(data) > size else data


def read_text(
    path: Path, *, limit: int = MAX_TEXT_BYTES, error: type[LesionsegError] = DataError, fix: str = "check the path"
) -> str:
    """Return the text of a regular file: UTF-8, or UTF-16 with or without a byte-order mark.

    Raises:
        LesionsegError: of class ``error``; as ``read_regular``, or the bytes are not text.
    """
    return decode_text(read_regular(path, limit=limit, error=error, fix=fix), str(path), error=error)


def decode_text(data: bytes, where: str, *, error: type[LesionsegError] = DataError) -> str:
    """Return bytes as text: UTF-8, or UTF-16 with or without a byte-order mark.

    Args:
        data: the bytes of a whole file.
        where: what they are, for messages; for example the file's path.
        error: the class of the error to raise.

    Raises:
        LesionsegError: of class ``error``; the bytes are not text.
    """
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if data.startswith(mark)), "") or _encoding(data)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as problem:
        raise error(f"{where} is not {encoding.upper()} text: {problem.reason}", fix="save it as UTF-8") from problem


def _encoding(data: bytes) -> str:
    # In UTF-16, nearly every Latin letter, digit and delimiter has a zero byte beside it, always on the same side.
    first, second = data[:4096:2], data[1:4096:2]
    if len(data) >= 4 and len(data) % 2 == 0:
        if not first.count(0) and second.count(0) > len(second) // 2:
            return "utf-16-le"
        if not second.count(0) and first.count(0) > len(first) // 2:
            return "utf-16-be"
    return "utf-8"


def read_json(
    path: Path,
    *,
    limit: int = MAX_TEXT_BYTES,
    error: type[LesionsegError] = DataError,
    fix: str = "check the path",
    repair: str = _RESTORE,
) -> Any:
    """Return the value that a JSON file holds.

    Args:
        path: the file.
        limit, error, fix: as in ``read_regular``.
        repair: what to do about a file that is damaged.

    Raises:
        LesionsegError: of class ``error``; as ``read_text`` and ``parse_json``.
    """
    return parse_json(read_text(path, limit=limit, error=error, fix=fix), str(path), error=error, repair=repair)


def parse_json(
    text: str | bytes, where: str, *, error: type[LesionsegError] = DataError, repair: str = _RESTORE
) -> Any:
    """Parse JSON text, nested at most ``MAX_DEPTH`` deep.

    Args:
        text: the JSON text.
        where: what the text is, for messages; for example the file's path.
        error: the class of the error to raise.
        repair: what to do about it.

    Raises:
        LesionsegError: of class ``error``; the text is not JSON, or nested too deeply.
    """
    try:
        value = json.loads(text)
    except RecursionError as problem:
        raise _too_deep(where, error, repair) from problem
    except ValueError as problem:
        raise error(f"{where} is not valid JSON: {problem}", fix=repair) from problem
    if _depth_exceeds(value, MAX_DEPTH):
        raise _too_deep(where, error, repair)
    return value


def _too_deep(where: str, error: type[LesionsegError], repair: str) -> LesionsegError:
    return error(f"{where} is nested more than {MAX_DEPTH} levels deep", fix=repair)


def _depth_exceeds(value: Any, limit: int) -> bool:
    # Level by level: recursion would hit Python's own limit first.
    level = [value]
    for _ in range(limit):
        level = [inner for outer in level for inner in _children(outer)]
        if not level:
            return False
    return True


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list) else ()


def read_yaml(
    path: Path, *, limit: int = MAX_YAML_BYTES, error: type[LesionsegError] = DataError, fix: str = "check the path"
) -> Any:
    """Return the value that a YAML file holds.

    Raises:
        LesionsegError: of class ``error``; as ``read_text`` and ``parse_yaml``.
    """
    return parse_yaml(read_text(path, limit=limit, error=error, fix=fix), str(path), error=error)


class _BoundedLoader(yaml.SafeLoader):
    """A safe loader that limits depth and refuses keys given twice."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"nested more than {MAX_DEPTH} levels deep")
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            # A merge key (<<) may appear beside the keys that it merges.
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == "tag:yaml.org,2002:merge":
                continue
            if key_node.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key_node.value!r} is given twice", problem_mark=key_node.start_mark
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, where: str, *, error: type[LesionsegError] = DataError) -> Any:
    """Parse YAML text of plain values, at most ``MAX_DEPTH`` deep and ``MAX_VALUES`` long with aliases expanded.

    Args:
        text: the YAML text.
        where: what the text is, for messages; for example the file's path.
        error: the class of the error to raise.

    Raises:
        LesionsegError: of class ``error``; the text is not YAML, exceeds a limit, gives a key twice, or refers to
            itself.
    """
    try:
        # A subclass of SafeLoader: it builds plain values only.
        value = yaml.load(text, _BoundedLoader)  # noqa: S506
        count = _expanded_size(value, {}, set())
    except (yaml.YAMLError, ValueError, RecursionError) as problem:
        reason = " ".join(str(problem).split())
        raise error(f"{where} is not valid YAML: {reason}", fix="correct the file's syntax") from problem
    if count > MAX_VALUES:
        raise error(
            f"{where} holds more than {MAX_VALUES:,} values once its aliases are expanded",
            fix="write it without aliases",
        )
    return value


def _expanded_size(value: Any, known: dict[int, int], under_way: set[int]) -> int:
    """Number of values with shared ones counted each time; the depth is limited, so recursion is too."""
    if not isinstance(value, dict | list | set | tuple):
        return 1
    key = id(value)
    if key in under_way:
        raise ValueError("a value refers to itself")
    if key not in known:
        under_way.add(key)
        inner = [*value.keys(), *value.values()] if isinstance(value, dict) else list(value)
        known[key] = 1 + sum(_expanded_size(one, known, under_way) for one in inner)
        under_way.discard(key)
    return known[key]
