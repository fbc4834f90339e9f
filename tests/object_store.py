"""Object stores on this machine, for tests of addresses in place of paths; skipped where no server is installed."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest

_KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true"}
# Arrow keeps several connections open, each of which would wait for the others at a server without threads.
_GOOGLE = """
from http.server import ThreadingHTTPServer
from gcp_storage_emulator import server
server.server.HTTPServer = ThreadingHTTPServer
running = server.create_server("127.0.0.1", 0, in_memory=True, default_bucket="bucket")
running.start()
print(running._api._httpd.server_port, flush=True)
"""


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


@contextmanager
def google_bucket() -> Iterator[str]:
    """As ``bucket``, by Google's protocol."""
    pytest.importorskip("gcp_storage_emulator", reason="needs gcp-storage-emulator")
    # In a process of its own: Arrow holds Python's lock while it waits for an object's size.
    with subprocess.Popen([sys.executable, "-c", _GOOGLE], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            port = int(server.stdout.readline())
            yield f"?endpoint_override=127.0.0.1%3A{port}&scheme=http&retry_limit_seconds=5"
        finally:
            server.kill()


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
