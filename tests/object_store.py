"""An S3 server on this machine, for tests of addresses in place of paths; skipped where moto is not installed."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest

_KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true"}


@contextmanager
def bucket() -> Iterator[str]:
    """Starts a server with an empty bucket; gives the options that an address needs to reach it."""
    pytest.importorskip("moto", reason="needs moto[server]")
    from moto.server import ThreadedMotoServer
    from pyarrow.fs import S3FileSystem

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.INFO)
    server.start()
    try:
        _, port = server.get_host_and_port()
        with patch.dict(os.environ, _KEYS):
            place = {"endpoint_override": f"127.0.0.1:{port}", "scheme": "http", "region": "us-east-1"}
            S3FileSystem(**place, allow_bucket_creation=True).create_dir("bucket")
            yield "?" + "&".join(f"{key}={value}" for key, value in place.items())
    finally:
        server.stop()


def address(folder: str, options: str) -> str:
    """Of a folder in the bucket; with keys, as Ray's workers do not have this process's environment."""
    return f"s3://key:secret@bucket/{folder}{options}"


def upload(folder: Path, name: str, options: str) -> str:
    """Copies a folder into the bucket; gives its address."""
    from lesionseg.inference.store import open_store

    store = open_store(address(name, options))
    for path in folder.rglob("*"):
        if path.is_file():
            store.write(path.relative_to(folder).as_posix(), path.read_bytes())
    return address(name, options)
