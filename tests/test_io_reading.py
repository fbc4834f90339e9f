"""Untrusted files are read within limits, and every refusal names the file."""

import os
from pathlib import Path

import pytest

from lesionseg.errors import ConfigError, DataError
from lesionseg.io.reading import MAX_DEPTH, parse_json, parse_yaml, read_json, read_regular, read_text, read_yaml


def test_reads_a_regular_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert read_regular(tmp_path / "a") == b"abc"


@pytest.mark.parametrize("what", ["pipe", "folder", "missing", "dangling", "large", "device"])
def test_refuses_what_is_no_regular_file_within_the_limit(tmp_path: Path, what: str) -> None:
    path = tmp_path / what
    if what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what == "dangling":
        path.symlink_to(tmp_path / "nothing")
    elif what == "large":
        path.write_bytes(b"12345")
    elif what == "device":
        path = Path("/dev/zero")
    with pytest.raises(ConfigError, match=path.name):
        read_regular(path, limit=4, error=ConfigError)


def test_names_in_messages_the_null_byte(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_regular(Path(f"{tmp_path}/a\0b"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_text_may_be_utf_8_or_utf_16(tmp_path: Path, encoding: str) -> None:
    mark = b"\xff\xfe" if encoding == "utf-16-le" else b""
    (tmp_path / "a").write_bytes(mark + "é,1\n".encode(encoding))
    assert read_text(tmp_path / "a") == "é,1\n"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_needs_no_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a").write_bytes("image\tdx\r\nÉ1\tnévus\r\n".encode(encoding))
    assert read_text(tmp_path / "a") == "image\tdx\r\nÉ1\tnévus\r\n"


def test_single_zero_bytes_leave_text_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a\0b,c\n")
    assert read_text(tmp_path / "a") == "a\0b,c\n"


def test_other_bytes_are_not_text(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xe9")
    with pytest.raises(DataError, match="is not UTF-8 text"):
        read_text(tmp_path / "a")


def test_json_round_trip(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": [1, {"b": null}]}')
    assert read_json(tmp_path / "a.json") == {"a": [1, {"b": None}]}


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 100_000])
def test_deep_json_is_refused(depth: int) -> None:
    with pytest.raises(DataError, match=r"f\.json is nested more than"):
        parse_json("[" * depth + "]" * depth, "f.json")


def test_json_at_the_limit_is_read() -> None:
    assert parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH, "f.json") is not None


def test_damaged_json_names_its_file() -> None:
    with pytest.raises(DataError, match=r"f\.json is not valid JSON"):
        parse_json("{", "f.json")


def test_yaml_with_an_alias_and_a_merge_key(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("base: &b {x: 1, y: 2}\nother: {<<: *b, x: 3}\n")
    assert read_yaml(tmp_path / "a.yaml") == {"base": {"x": 1, "y": 2}, "other": {"x": 3, "y": 2}}


def bomb() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (bomb(), "aliases are expanded"),
        ("a: " + "[" * 20_000 + "]" * 20_000, "levels deep"),
        ("a: 1\nb: 2\na: 3", "given twice"),
        ("data: {manifest: a.csv, manifest: b.csv}", "given twice"),
        ("a: &a [*a]", "refers to itself"),
        ("a: !!python/object/apply:os.system [ls]", "not valid YAML"),
        ("a: [", "not valid YAML"),
    ],
    ids=["bomb", "deep", "twice", "nested-twice", "itself", "tag", "torn"],
)
def test_hostile_yaml_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        parse_yaml(text, "c.yaml", error=ConfigError)
