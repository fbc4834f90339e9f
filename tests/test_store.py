"""Folders here and under an address."""

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from object_store import address, bucket, google_bucket

from lesionseg.data.files import MAX_BYTES
from lesionseg.errors import ConfigError, DataError, ImageError, OutputError
from lesionseg.inference.kinds import COMPANION, OTHER, Skipped
from lesionseg.inference.store import Store, open_store
from lesionseg.inference.table import COLUMNS
from lesionseg.tables import encode_table

pa_fs = pytest.importorskip("pyarrow.fs", reason="needs the extra [ray]")


@pytest.fixture(scope="module")
def options() -> Iterator[str]:
    with bucket() as found:
        yield found


@pytest.fixture(scope="module")
def google_options() -> Iterator[str]:
    with google_bucket() as found:
        yield found


@pytest.fixture(params=["folder", "file address", "object store", "S3", "Google"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    (tmp_path / "in").mkdir()
    if request.param == "folder":
        return open_store(tmp_path / "in")
    if request.param == "file address":
        return open_store((tmp_path / "in").as_uri())
    if request.param == "S3":
        return open_store(address(tmp_path.name, request.getfixturevalue("options")))
    if request.param == "Google":
        options = request.getfixturevalue("google_options")
        return open_store(f"gs://anonymous@bucket/{tmp_path.name}{options}")
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


def test_what_is_removed_is_gone(store: Store) -> None:
    store.write("a.png", b"1")
    store.remove("a.png")
    store.remove("a.png")
    assert store.digest("a.png") is None


def test_large_files_are_copied_in_pieces(options: str, tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").write_bytes(b"0123456789" * 2_000_000)
    for store in (
        open_store(address("pieces", options)),
        Store("mock://in", str(tmp_path / "in"), pa_fs.SubTreeFileSystem("/", pa_fs.LocalFileSystem())),
    ):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "back").mkdir(exist_ok=True)
        store.upload(tmp_path / "journal.jsonl")
        store.fetch(tmp_path / "back" / "journal.jsonl")
        assert (tmp_path / "back" / "journal.jsonl").read_bytes() == (tmp_path / "journal.jsonl").read_bytes()
        with pytest.raises(ImageError, match="nowhere"):
            store.fetch(tmp_path / "back" / "nowhere")
        assert not (tmp_path / "back" / "nowhere").exists()


def test_nothing_is_left_beside_a_file(store: Store) -> None:
    store.write("a.png", b"1")
    if Path(store.base).is_dir():
        assert [path.name for path in Path(store.base).iterdir()] == ["a.png"]
    else:
        assert store.list_photos() == (["a.png"], [])


def test_s3_takes_a_small_file_in_one_request(options: str, caplog: pytest.LogCaptureFixture) -> None:
    store = open_store(address("requests", options))
    with caplog.at_level(logging.INFO, logger="werkzeug"):
        store.write("clinic/a.png", b"1" * 50_000)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert "PUT /bucket/requests/clinic/a.png" in told[0]


def test_listing_a_bucket(options: str) -> None:
    store = open_store(address("listing", options))
    for name in ("b.JPG", "a/c.png", ".hidden.jpg", ".cache/d.jpg", "notes.txt"):
        store.write(name, b"1")
    assert store.list_photos() == (
        ["a/c.png", "b.JPG"],
        [Skipped(".hidden.jpg", COMPANION), Skipped("notes.txt", OTHER)],
    )
    with pytest.raises(DataError, match="cannot be listed"):
        open_store(address("x", options).replace("@bucket", "@no-such-bucket")).list_photos()


def test_keys_and_options_are_not_shown() -> None:
    options = "?region=us-east-1&scheme=http&endpoint_override=127.0.0.1:1"
    assert open_store(f"s3://key:secret@bucket/photos/{options}").uri == "s3://bucket/photos"
    with pytest.raises(ConfigError, match=r"s3://bucket/photos cannot be opened") as caught:
        open_store("s3://key:secret@bucket/photos?nonsense=1")
    assert "secret" not in str(caught.value)


def test_a_file_address_is_the_folder_itself(tmp_path: Path) -> None:
    assert open_store(tmp_path.as_uri()) == open_store(tmp_path)


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
    (tmp_path / "IM0").write_bytes(b"\xff\xd8\xff\xe0")
    (tmp_path / "IM1").write_bytes(b"\0" * 128 + b"DICM")
    store = Store("mock://in", str(tmp_path), pa_fs.LocalFileSystem())
    skipped = [
        Skipped(".hidden.jpg", COMPANION),
        Skipped("IM1", "DICOM data: convert it to JPEG or PNG"),
        Skipped("a_superpixels.png", COMPANION),
        Skipped("notes.txt", OTHER),
    ]
    assert store.list_photos() == (["IM0", "a/c.png", "b.JPG"], skipped)
    with pytest.raises(DataError, match="cannot be listed"):
        Store("mock://gone", str(tmp_path / "gone"), pa_fs.LocalFileSystem()).list_photos()


@pytest.mark.parametrize("address", ["nothing://bucket/photos", "s3://"])
def test_unknown_addresses_are_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="cannot be opened"):
        open_store(address)


def test_what_a_run_has_written_is_no_photo(tmp_path: Path) -> None:
    tables = {"old": COLUMNS, "mine": ("patient", "diagnosis")}
    for folder, columns in {**tables, "masks": (), "clinic": ()}.items():
        (tmp_path / folder / "deep").mkdir(parents=True)
        (tmp_path / folder / "a.png").write_bytes(b"")
        (tmp_path / folder / "deep" / "b.png").write_bytes(b"")
        if columns:
            (tmp_path / folder / "predictions.csv").write_bytes(encode_table(columns, []))
    store = Store("mock://in", str(tmp_path), pa_fs.LocalFileSystem())
    left = ["clinic/a.png", "clinic/deep/b.png", "mine/a.png", "mine/deep/b.png"]
    assert store.list_photos(leave_out=str(tmp_path / "masks")) == (left, [Skipped("mine/predictions.csv", OTHER)])
    unrelated = store.list_photos(leave_out=str(tmp_path.parent / "elsewhere"))[0]
    assert unrelated == sorted([*left, "masks/a.png", "masks/deep/b.png"])


def test_an_object_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.tif").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(ImageError, match=r"mock://in/a\.tif has over 256 MiB"):
        Store("mock://in", str(tmp_path), pa_fs.LocalFileSystem()).read("a.tif")
