"""What is written comes back, whole or not at all, and with nothing but its pixels."""

import errno
import io
import os
import stat
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pictures import RGB, put
from PIL import Image

from lesionseg.data.images import read_mask, read_probability
from lesionseg.data.writing import (
    encode_jpeg,
    encode_mask_nifti,
    encode_mask_png,
    encode_probability_png,
)
from lesionseg.errors import ImageError, OutputError
from lesionseg.io.writing import write_atomic, write_whole

masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=20))


@given(masks)
def test_mask_png_round_trip(mask: np.ndarray) -> None:
    data = encode_mask_png(mask)
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.mode == "L"
        assert set(np.unique(np.asarray(picture))) <= {0, 255}
        assert np.array_equal(np.asarray(picture) == 255, mask)


@given(masks)
def test_mask_files_round_trip(tmp_path_factory: pytest.TempPathFactory, mask: np.ndarray) -> None:
    folder = tmp_path_factory.getbasetemp()
    for name, data in {"m.png": encode_mask_png(mask), "m.nii.gz": encode_mask_nifti(mask)}.items():
        assert np.array_equal(read_mask(put(folder / name, data)), mask)


def test_what_nifti_cannot_hold_is_told_of() -> None:
    assert encode_mask_nifti(np.ones((2, 32767), bool))
    with pytest.raises(ImageError, match=r"x\.png: 32768 x 2 pixels are too long"):
        encode_mask_nifti(np.ones((2, 32768), bool), "x.png")


@settings(max_examples=50)
@given(hnp.arrays(np.float32, st.tuples(st.integers(2, 9), st.integers(2, 9)), elements=st.floats(0, 1, width=32)))
def test_probability_round_trip(tmp_path_factory: pytest.TempPathFactory, probability: np.ndarray) -> None:
    path = tmp_path_factory.getbasetemp() / "p.png"
    path.write_bytes(encode_probability_png(probability))
    again = read_probability(path)
    assert again.dtype == np.float32
    assert np.abs(again - probability).max() <= 0.5 / 255 + 1e-6
    assert 0 <= again.min() <= again.max() <= 1


def test_jpegs_carry_nothing_but_pixels() -> None:
    with Image.open(io.BytesIO(encode_jpeg(RGB))) as picture:
        assert picture.format == "JPEG"
        assert picture.size == (20, 30)
        assert not picture.getexif()
        assert "icc_profile" not in picture.info
        assert "comment" not in picture.info


def test_write_makes_folders_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.bin"
    write_atomic(path, b"one")
    write_atomic(path, b"")
    assert path.read_bytes() == b""
    write_atomic(path, b"three")
    assert path.read_bytes() == b"three"
    assert [entry.name for entry in path.parent.iterdir()] == ["c.bin"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_follow_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_atomic(tmp_path / "x", b"x")
        assert os.umask(umask) == umask, "reading the umask left it alone"
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == mode


def test_a_parent_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"precious")
    for path in (tmp_path / "file" / "x.png", tmp_path / "file" / "deeper" / "x.png"):
        with pytest.raises(OutputError, match="cannot be written") as caught:
            write_atomic(path, b"x")
        assert str(path) in caught.value.message
        assert "None" not in caught.value.message
    assert (tmp_path / "file").read_bytes() == b"precious"


def test_a_target_that_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "x.png").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        write_atomic(tmp_path / "x.png", b"x")
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.png"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "x.png"
    write_atomic(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(*((os, "fsync") if step == "fsync" else (Path, "replace")), fail)
        with pytest.raises(OutputError, match="No space left on device"):
            write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.png"]


def test_readers_only_ever_see_whole_files(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    contents = [bytes([value]) * 200_000 for value in range(4)]
    write_atomic(path, contents[0])
    writers = [threading.Thread(target=lambda c=c: [write_atomic(path, c) for _ in range(5)]) for c in contents]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert path.read_bytes() in contents
    assert path.read_bytes() in contents
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.bin"]


@pytest.mark.parametrize("bits", [8, 1])
@pytest.mark.parametrize("shape", [(1, 1), (2, 9), (767, 1022), (3, 20_000), (2100, 1000)])
def test_mask_pngs_of_any_size_are_whole(bits: int, shape: tuple[int, int]) -> None:
    mask = np.random.default_rng(0).random(shape) < 0.3
    data = encode_mask_png(mask, bits)
    # The strict way: every checksum, and nothing behind the last row.
    with Image.open(io.BytesIO(data)) as picture:
        picture.verify()
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.mode == {8: "L", 1: "1"}[bits]
        np.testing.assert_array_equal(np.asarray(picture).astype(bool), mask)
    chunks = data.split(b"IDAT")[1].split(b"IEND")[0][:-8]
    packer = zlib.decompressobj()
    rows = packer.decompress(chunks)
    assert packer.eof
    assert packer.unused_data == b""
    assert len(rows) == shape[0] * (1 + -(-shape[1] * bits // 8))


def test_a_result_is_whole_or_not_there(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    write_whole(tmp_path / "new" / "a.png", b"one", scratch)
    write_whole(tmp_path / "new" / "a.png", b"two", scratch)
    assert (tmp_path / "new" / "a.png").read_bytes() == b"two"
    (tmp_path / "new" / "folder.png").mkdir()
    with pytest.raises(OutputError, match=r"folder\.png cannot be written"):
        write_whole(tmp_path / "new" / "folder.png", b"three", scratch)
    assert not list(scratch.iterdir())
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE((tmp_path / "new" / "a.png").stat().st_mode) == 0o666 & ~mask


def test_a_file_in_pieces_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    write_atomic(path, iter([b"a,", b"b\n"]))
    assert path.read_bytes() == b"a,b\n"

    def broken() -> Iterator[bytes]:
        yield b"c"
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        write_atomic(path, broken())
    assert path.read_bytes() == b"a,b\n"
    assert [one.name for one in tmp_path.iterdir()] == ["a.csv"]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EPERM])
def test_a_file_system_without_fsync_is_written_to(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    write_atomic(tmp_path / "a", b"bytes")
    assert (tmp_path / "a").read_bytes() == b"bytes"


def test_bytes_that_the_disk_has_lost_are_not_taken_for_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError, match="Input/output error"):
        write_atomic(tmp_path / "a", b"bytes")
    assert list(tmp_path.iterdir()) == []
