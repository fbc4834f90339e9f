"""Folders here and under an address."""

import hashlib
from pathlib import Path

import pytest

from lesionseg.errors import ConfigError, DataError, ImageError, OutputError
from lesionseg.inference.store import Store, open_store

pa_fs = pytest.importorskip("pyarrow.fs", reason="needs the extra [ray]")


@pytest.fixture(params=["folder", "file address", "object store"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    (tmp_path / "in").mkdir()
    if request.param == "folder":
        return open_store(tmp_path / "in")
    if request.param == "file address":
        return open_store((tmp_path / "in").as_uri())
    # What any file system of Arrow's does, an object store too.
    return Store("mock://in", str(tmp_path / "in"), pa_fs.LocalFileSystem())


def test_what_is_written_can_be_read(store: Store) -> None:
    store.write("mask.png", b"1234")
    assert store.read("mask.png") == b"1234"
    store.write("mask.png", b"5")
    assert store.read("mask.png") == b"5"
    assert store.digest("mask.png") == hashlib.sha256(b"5").hexdigest()


def test_what_is_not_there_is_told(store: Store) -> None:
    assert store.digest("nowhere.png") is None
    with pytest.raises(ImageError, match=r"nowhere\.png"):
        store.read("nowhere.png")


def test_nothing_is_left_beside_a_file(store: Store) -> None:
    store.write("a.png", b"1")
    assert [path.name for path in Path(store.base).iterdir()] == ["a.png"]


def test_sub_folders_of_a_local_folder_are_made(tmp_path: Path) -> None:
    store = open_store(tmp_path / "new")
    store.write("clinic/a.png", b"1")
    assert (tmp_path / "new" / "clinic" / "a.png").read_bytes() == b"1"
    assert store.exists("clinic/a.png")
    assert not store.exists("clinic/b.png")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot be written"):
        open_store(tmp_path / "file").write("a.png", b"1")


def test_listing_tells_photos_from_companions_and_leaves_out_the_rest(tmp_path: Path) -> None:
    for name in ("b.JPG", "a/c.png", ".hidden.jpg", ".cache/d.jpg", "notes.txt", "a_superpixels.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    store = Store("mock://in", str(tmp_path), pa_fs.LocalFileSystem())
    assert store.list_photos() == (["a/c.png", "b.JPG"], [".hidden.jpg", "a_superpixels.png"])
    with pytest.raises(DataError, match="cannot be listed"):
        Store("mock://gone", str(tmp_path / "gone"), pa_fs.LocalFileSystem()).list_photos()


@pytest.mark.parametrize("address", ["nothing://bucket/photos", "s3://"])
def test_unknown_addresses_are_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="cannot be opened"):
        open_store(address)
