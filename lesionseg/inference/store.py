"""Folders of files, here or in an object store, by way of Arrow's file systems."""

from __future__ import annotations

import hashlib
import os
import posixpath
import shutil
import uuid
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lesionseg.data.containers import HEAD_BYTES
from lesionseg.data.files import MAX_BYTES, is_companion, read_bytes
from lesionseg.errors import ConfigError, DataError, ImageError, OutputError
from lesionseg.inference.kinds import Skipped, reason_to_skip
from lesionseg.inference.table import TABLE_HEAD, is_table_head, is_table_name
from lesionseg.io.ownership import RECORD
from lesionseg.io.paths import as_path
from lesionseg.io.writing import make_folder

__all__ = ["Store", "open_store"]

_PIECE = 8 * 2**20
_READERS = 16


@dataclass(frozen=True, slots=True)
class Store:
    """A folder that every machine of a cluster reaches under one name.

    Attributes:
        uri: as it was given.
        base: the folder's path in its file system.
        files: Arrow's file system; None for a local folder.
    """

    uri: str
    base: str
    files: Any = None

    def list_photos(self, leave_out: str | None = None) -> tuple[list[str], list[Skipped]]:
        """List the photos, by names relative to the folder, and the other files; both sorted.

        Hidden folders are left out, and so are output folders of earlier runs.

        Args:
            leave_out: a folder's path in the same file system.

        Raises:
            DataError: the folder cannot be listed.
        """
        seen = self._outside_results(
            self.list_files(), {posixpath.relpath(leave_out, self.base)} if leave_out else set()
        )
        # A file that only its bytes tell takes a round trip.
        with ThreadPoolExecutor(_READERS) as pool:
            found = [Skipped(*one) for one in zip(seen, pool.map(self._reason_to_skip, seen), strict=True)]
        return [one.name for one in found if not one.reason], [one for one in found if one.reason]

    def _outside_results(self, names: Sequence[str], results: set[str]) -> list[str]:
        """The files that are neither in a hidden folder nor in one of results, of this run or of an earlier one."""
        results = results | {folder for name in names if (folder := posixpath.dirname(name)) and self._is_table(name)}
        return [name for name in names if not any(_is_odd(folder, results) for folder in _folders_of(name))]

    def _reason_to_skip(self, name: str) -> str:
        return reason_to_skip(posixpath.basename(name), lambda: self._head(name))

    def list_files(self, *, missing: bool = False) -> list[str]:
        """Return the names of all files below the folder, sorted.

        Args:
            missing: the folder need not exist.

        Raises:
            DataError: the folder cannot be listed.
        """
        from pyarrow.fs import FileSelector, FileType

        try:
            found = self.files.get_file_info(FileSelector(self.base, recursive=True, allow_not_found=missing))
        except OSError as error:
            raise DataError(f"{self.uri} cannot be listed: {error}", fix="check the address and the access") from error
        files = (info.path for info in found if info.type == FileType.File and info.base_name != RECORD)
        return sorted(posixpath.relpath(path, self.base) for path in files)

    def _head(self, name: str) -> bytes | None:
        with suppress(OSError), self.files.open_input_file(f"{self.base}/{name}") as file:
            head: bytes = file.read(HEAD_BYTES)
            return head
        return None

    def _is_table(self, name: str) -> bool:
        if not is_table_name(posixpath.basename(name)):
            return False
        with suppress(OSError), self.files.open_input_file(f"{self.base}/{name}") as file:
            return is_table_head(file.read(TABLE_HEAD))
        return False

    def read(self, name: str) -> bytes:
        """A file's bytes.

        Raises:
            ImageError: it is not there, cannot be read, or has more than 256 MiB.
        """
        if self.files is None:
            return read_bytes(Path(self.base, name))
        try:
            with self.files.open_input_file(f"{self.base}/{name}") as file:
                if file.size() > MAX_BYTES:
                    raise ImageError(f"{self.uri}/{name} has over {MAX_BYTES >> 20} MiB", fix="leave it out")
                data: bytes = file.read()
        except OSError as error:
            raise ImageError(
                f"{self.uri}/{name} cannot be read: {error}", fix="check the access, or leave it"
            ) from error
        return data

    def write(self, name: str, data: bytes) -> None:
        """Writes a file as a whole or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        path = f"{self.base}/{name}"
        try:
            if self.files is not None:
                # An object appears when its stream is closed.
                with self.files.open_output_stream(path) as file:
                    file.write(data)
                return
            temporary = Path(posixpath.dirname(path), f".part-{uuid.uuid4().hex}")
            make_folder(temporary.parent)
            try:
                temporary.write_bytes(data)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"{self.uri}/{name} cannot be written: {error}", fix="check space and access") from error

    def upload(self, path: Path) -> None:
        """Copies a file of this machine into an object store, under its own name, piece by piece.

        Raises:
            OutputError: it cannot be written.
        """
        try:
            with path.open("rb") as source, self.files.open_output_stream(f"{self.base}/{path.name}") as target:
                shutil.copyfileobj(source, target, _PIECE)
        except OSError as error:
            raise OutputError(
                f"{self.uri}/{path.name} cannot be written: {error}", fix="check space and access"
            ) from error

    def fetch(self, path: Path) -> None:
        """Copies the file of a path's name from an object store to this machine, piece by piece.

        Raises:
            ImageError: it is not there, or cannot be read.
        """
        try:
            with self.files.open_input_stream(f"{self.base}/{path.name}") as source, path.open("wb") as target:
                shutil.copyfileobj(source, target, _PIECE)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise ImageError(f"{self.uri}/{path.name} cannot be read: {error}", fix="check the access") from error

    def remove(self, name: str) -> None:
        """Removes a file, where there is one.

        Raises:
            OutputError: it cannot be removed.
        """
        path = f"{self.base}/{name}"
        try:
            if self.files is None:
                Path(path).unlink(missing_ok=True)
            else:
                with suppress(FileNotFoundError):
                    self.files.delete_file(path)
        except OSError as error:
            raise OutputError(f"{self.uri}/{name} cannot be removed: {error}", fix="check the access") from error

    def digest(self, name: str) -> str | None:
        """Hex SHA-256 of a file; None where there is none."""
        with suppress(ImageError):
            return hashlib.sha256(self.read(name)).hexdigest()
        return None

    def exists(self, name: str) -> bool:
        """Whether a local file is there; object stores are not asked, as every question costs a round trip."""
        return self.files is None and os.path.lexists(f"{self.base}/{name}")


def _folders_of(name: str) -> Iterator[str]:
    """``a`` and ``a/b`` of ``a/b/c.jpg``."""
    parts = name.split("/")[:-1]
    return ("/".join(parts[: end + 1]) for end in range(len(parts)))


def _is_odd(folder: str, results: Collection[str]) -> bool:
    return folder in results or is_companion(posixpath.basename(folder))


def open_store(place: str | Path) -> Store:
    """Opens a folder.

    Args:
        place: a path, or an address such as ``s3://bucket/photos``, ``gs://...`` or ``file:///...``.

    Raises:
        ConfigError: there is no such kind of address here, or its package is not installed.
    """
    text = str(as_path(place)) if "://" not in str(place) else str(place)
    if "://" not in text:
        return Store(text, str(Path(text).resolve()))
    try:
        from pyarrow import ArrowInvalid
        from pyarrow.fs import FileSystem, LocalFileSystem
    except ImportError as error:
        raise ConfigError(f"{text} needs the extra [ray]", fix="pip install 'lesionseg[ray]'") from error
    shown = _public(text)
    try:
        try:
            files, base = FileSystem.from_uri(_with_one_request(text))
        except ArrowInvalid:
            # Either the address is wrong, which this tells, or Arrow is too old to know the option.
            files, base = FileSystem.from_uri(text)
    except (ArrowInvalid, OSError) as error:
        reason = str(error).replace(text, shown)
        raise ConfigError(f"{shown} cannot be opened: {reason}", fix="use s3://, gs:// or a path") from error
    if not base.strip("/"):
        raise ConfigError(f"{shown} cannot be opened: it names no bucket or folder", fix="write s3://BUCKET/FOLDER")
    if isinstance(files, LocalFileSystem):
        # The same folder as by its path, so that what is written of it is the same too.
        return Store(base, base)
    return Store(shown, base.rstrip("/"), files)


def _public(address: str) -> str:
    """An address without keys and options: it is shown, and stands in tables."""
    scheme, _, rest = address.partition("://")
    place = rest.split("?")[0].rstrip("/")
    return f"{scheme}://{place.rpartition('@')[2]}"


def _with_one_request(address: str) -> str:
    """S3 is asked to take small files in one request; by default Arrow makes three, each of which is paid for."""
    if not address.startswith("s3://") or "allow_delayed_open=" in address:
        return address
    return f"{address}{'&' if '?' in address else '?'}allow_delayed_open=true"
