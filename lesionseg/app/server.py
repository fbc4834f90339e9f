"""A web server for one page: a fixed set of files from memory, to be read and nothing else.

No path is ever looked up in the file system, so there is none to escape from; there is nothing to send a photo to.
"""

from __future__ import annotations

import contextlib
import hashlib
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import unquote, urlsplit

from lesionseg.app.address import Address, cannot_listen, check_address
from lesionseg.app.hosts import LOCAL, bracketed, is_own_origin, split_host
from lesionseg.app.site import Site

__all__ = ["HEADERS", "Address", "Server", "open_server", "serve"]

HEADERS: Mapping[str, str] = {
    # Both make the page "cross-origin isolated", without which browsers give WebAssembly no threads.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; "
        "img-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
"""Of every answer."""

# Fixed, as Python's table of types takes what the machine says: Windows has a registry that any program changes.
_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".txt": "text/plain",
    ".md": "text/plain",
    ".json": "application/json",
    ".map": "application/json",
    ".webmanifest": "application/manifest+json",
    ".wasm": "application/wasm",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".onnx": "application/octet-stream",
}
_TEXT = ("text/", "application/json", "application/manifest+json")
_SLOWEST = 30.0
_PIECE = 2**16


@dataclass(frozen=True, slots=True)
class _File:
    data: bytes
    kind: str
    tag: str


def _prepare(site: Site) -> dict[str, _File]:
    files = {}
    for path, data in site.items():
        kind = _TYPES.get(Path(path).suffix.lower(), "application/octet-stream")
        kind += "; charset=utf-8" if kind.startswith(_TEXT) else ""
        files[f"/{path}"] = _File(data, kind, f'"{hashlib.sha256(data).hexdigest()[:32]}"')
    return files | {"/": files["/index.html"]}


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD for the server's files."""

    server: Server
    protocol_version = "HTTP/1.1"
    timeout = _SLOWEST

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        if foreign := self._foreign():
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST, foreign)
            return
        try:
            path = urlsplit(self.path).path
        except ValueError:
            self._refuse(HTTPStatus.BAD_REQUEST, "bad request")
            return
        # A name with an escaped slash or dots is no name of ours, and is not found like any other.
        file = self.server.files.get(unquote(path, errors="replace"))
        if file is None:
            self._refuse(HTTPStatus.NOT_FOUND, "no such file")
            return
        same = file.tag in self.headers.get("If-None-Match", "")
        self.send_response(HTTPStatus.NOT_MODIFIED if same else HTTPStatus.OK)
        self.send_header("ETag", file.tag)
        if not same:
            self.send_header("Content-Type", file.kind)
            self.send_header("Content-Length", str(len(file.data)))
        self.end_headers()
        if with_body and not same:
            # In pieces: the time limit is of each, and a phone far from the router takes minutes for all.
            for start in range(0, len(file.data), _PIECE):
                self.wfile.write(file.data[start : start + _PIECE])

    def _foreign(self) -> str:
        """Why the page itself does not ask, or nothing where it does.

        Another site's name may point here, and its scripts may send requests.
        """
        hosts, origins = self.headers.get_all("Host") or [], self.headers.get_all("Origin") or []
        host = split_host(hosts[0]) if len(hosts) == 1 else None
        if host is None:
            return "the request names no host, or several"
        if host[0] not in self.server.names:
            name = bracketed(host[0])
            return f"{name} is not served here; if it is a name of this machine, add --name {name} to lesionseg app"
        if not all(is_own_origin(origin, host) for origin in origins):
            return "another site asks"
        return ""

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        body = f"{status.value} {reason}\n".encode()
        self.send_response(status)
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        # What else was sent is not read.
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Every other method ends here, and every malformed request."""
        status = HTTPStatus.METHOD_NOT_ALLOWED if code == HTTPStatus.NOT_IMPLEMENTED else HTTPStatus(code)
        self._refuse(status, status.phrase.lower())

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def version_string(self) -> str:
        """Of the server, without Python's."""
        return "lesionseg"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Says nothing: what is looked at is nobody's business."""


class Server(ThreadingHTTPServer):
    """Listens at once.

    Args:
        site: what it hands out.
        address: where.

    Raises:
        ConfigError: the address is taken, does not exist or has no name, or the certificate cannot be used.
    """

    # A browser's idle connections must not hold up the end.
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, site: Site, address: Address) -> None:
        self.listening = listening = check_address(address)
        self.files = _prepare(site)
        self.address_family = listening.family
        try:
            super().__init__(listening.address, _Handler)
        except OSError as error:
            raise cannot_listen(address, error) from error
        self.port = int(self.server_address[1])
        self.names = {*LOCAL, *listening.names}
        scheme = "https" if listening.context else "http"
        self.url = f"{scheme}://{bracketed(listening.names[0])}:{self.port}/"

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6 and self.listening.address[0] == "::":
            # Every address of this machine, those of IPv4 too.
            with contextlib.suppress(OSError):
                self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def get_request(self) -> tuple[Any, Any]:
        connection, peer = super().get_request()
        if self.listening.context is not None:
            # The handshake is left to the request's own thread: a client that never finishes it holds up nobody.
            connection = self.listening.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, peer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away, or that does not trust the certificate, is no error of ours."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


@contextlib.contextmanager
def open_server(site: Site, address: Address) -> Iterator[Server]:
    """A server that listens, and answers once ``serve_forever`` runs.

    Raises:
        ConfigError: the address is taken or does not exist, or the certificate cannot be used.
    """
    server = Server(site, address)
    try:
        yield server
    finally:
        server.server_close()


def serve(site: Site, address: Address, tell: Callable[[str], None]) -> None:
    """Serves until Ctrl-C or SIGTERM.

    Args:
        site: what ``make_site`` makes.
        address: where.
        tell: gets the URL, once the server listens.

    Raises:
        ConfigError: the address is taken or does not exist, or the certificate cannot be used.
    """
    stop = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        stop.set()

    with open_server(site, address) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True)
        previous = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
        thread.start()
        try:
            tell(server.url)
            # In turns: on Windows a wait without an end hears no signal.
            while not stop.wait(0.5):
                pass
        finally:
            server.shutdown()
            for number, handler in previous.items():
                signal.signal(number, handler)
