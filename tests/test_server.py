"""The page's server: its files and nothing else, to its own page and nobody else."""

import errno
import http.client
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lesionseg.app.address import cannot_listen
from lesionseg.app.building import SOURCES
from lesionseg.app.server import _TYPES, HEADERS, Address, Server, open_server
from lesionseg.app.site import Site
from lesionseg.errors import ConfigError

SITE = {
    "index.html": b"<!doctype html>",
    "main.js": b"1",
    "ort/run.mjs": b"2",
    "ort/run.wasm": b"\0asm",
    "model.onnx": b"weights",
    "manifest.webmanifest": b"{}",
}


@contextmanager
def running(address: Address | None = None, site: Site = SITE) -> Iterator[Server]:
    with open_server(site, address or Address(port=0)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as one:
        yield one


def ask(server: Server, method: str = "GET", path: str = "/", **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in {"Host": f"127.0.0.1:{server.port}", **headers}.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    answer.body = answer.read()  # type: ignore[attr-defined]
    connection.close()
    return answer


def test_files_and_their_kinds(server: Server) -> None:
    kinds = {
        "/": "text/html; charset=utf-8",
        "/index.html?backend=wasm": "text/html; charset=utf-8",
        "/main.js": "text/javascript; charset=utf-8",
        "/ort/run.mjs": "text/javascript; charset=utf-8",
        "/ort/run.wasm": "application/wasm",
        "/model.onnx": "application/octet-stream",
        "/manifest.webmanifest": "application/manifest+json; charset=utf-8",
    }
    for path, kind in kinds.items():
        answer = ask(server, path=path)
        assert (answer.status, answer.headers["Content-Type"]) == (200, kind)
        assert answer.body == SITE[path.split("?")[0].lstrip("/") or "index.html"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/"), ("HEAD", "/"), ("GET", "/nothing"), ("POST", "/"), ("OPTIONS", "/")]
)
def test_every_answer_has_the_headers(server: Server, method: str, path: str) -> None:
    answer = ask(server, method, path)
    for name, value in HEADERS.items():
        assert answer.headers.get_all(name) == [value]
    assert answer.headers["Server"] == "lesionseg"
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_the_policy_lets_the_page_run_and_nothing_out() -> None:
    policy = dict(part.strip().split(" ", 1) for part in HEADERS["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == policy["worker-src"] == "'self'"
    assert policy["script-src"] == "'self' 'wasm-unsafe-eval'"
    assert HEADERS["X-Content-Type-Options"] == "nosniff"
    assert (HEADERS["Cross-Origin-Opener-Policy"], HEADERS["Cross-Origin-Embedder-Policy"]) == (
        "same-origin",
        "require-corp",
    )


@pytest.mark.parametrize(
    "path",
    [
        *("/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/ort/../../../etc/passwd", "/..%2f..%2fetc%2fpasswd"),
        *("//etc/passwd", "/ort", "/ort/", "/ort//run.mjs", "/main.js/", "/main.js%00", "/MAIN.JS", "/.", "/~root"),
        *("/C:/Windows/win.ini", "/..\\..\\secret", "http://127.0.0.1/etc/passwd"),
    ],
)
def test_nothing_else_is_found(server: Server, path: str) -> None:
    answer = ask(server, path=path)
    assert answer.status == 404
    assert answer.body == b"404 no such file\n"  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "X"])
def test_nothing_can_be_sent(server: Server, method: str) -> None:
    answer = ask(server, method, "/", Content_Length="5")
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET, HEAD"


def test_a_head_has_no_body(server: Server) -> None:
    answer = ask(server, "HEAD", "/model.onnx")
    assert (answer.status, answer.body, answer.headers["Content-Length"]) == (200, b"", "7")  # type: ignore[attr-defined]


def test_known_files_are_not_sent_again(server: Server) -> None:
    tag = ask(server, path="/model.onnx").headers["ETag"]
    again = ask(server, path="/model.onnx", If_None_Match=tag)
    assert (again.status, again.body) == (304, b"")  # type: ignore[attr-defined]
    assert ask(server, path="/main.js", If_None_Match=tag).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "", "localhost:", "::1", "localhost:{port}0000"]
)
def test_other_names_for_this_machine_are_refused(server: Server, host: str) -> None:
    assert ask(server, Host=host.format(port=server.port)).status == 421


def test_the_refusal_says_how_to_add_a_name(server: Server) -> None:
    answer = ask(server, Host="desk.example:9000")
    assert b"desk.example is not served here; if it is a name of this machine, add --name desk.example" in answer.body  # type: ignore[attr-defined]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "localhost.", "[::1]", "[0:0:0:0:0:0:0:1]"])
@pytest.mark.parametrize("port", ["", ":{port}", ":9000"])
def test_its_own_names_are_served_behind_any_port(server: Server, host: str, port: str) -> None:
    assert ask(server, Host=host + port.format(port=server.port)).status == 200


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("127.0.0.1:{port}", "http://127.0.0.1:{port}", 200),
        # A port that is forwarded, and proxies with HTTPS, which pass on the port or leave it out.
        ("localhost:9000", "http://localhost:9000", 200),
        ("localhost:8443", "https://localhost:8443", 200),
        ("localhost", "https://localhost:8443", 200),
        ("localhost:443", "https://localhost", 200),
        ("localhost:80", "http://localhost", 200),
        # Another program's page on this machine, and other names of it.
        ("localhost:{port}", "http://localhost:3000", 421),
        ("127.0.0.1:{port}", "http://localhost:{port}", 421),
        ("127.0.0.1:{port}", "https://evil.example", 421),
        ("127.0.0.1:{port}", "null", 421),
        ("127.0.0.1:{port}", "", 421),
        ("127.0.0.1:{port}", "http://127.0.0.1:{port}/x", 421),
        ("127.0.0.1:{port}", "http://a@127.0.0.1:{port}", 421),
        ("127.0.0.1:{port}", "file://127.0.0.1:{port}", 421),
        ("127.0.0.1:{port}", "http://[", 421),
    ],
)
def test_other_sites_are_refused(server: Server, host: str, origin: str, status: int) -> None:
    assert ask(server, Host=host.format(port=server.port), Origin=origin.format(port=server.port)).status == status


def raw(server: Server, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_malformed_requests_are_answered(server: Server) -> None:
    host = f"Host: 127.0.0.1:{server.port}\r\n".encode()
    assert raw(server, b"GET / HTTP/1.1\r\n" + host + host + b"\r\n").startswith(b"HTTP/1.1 421 ")
    assert raw(server, b"GET / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 421 ")
    assert b" 414 " in raw(server, b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n" + host + b"\r\n")
    assert b" 431 " in raw(server, b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 200 + b"\r\n")
    assert raw(server, b"GET http://[ HTTP/1.1\r\n" + host + b"\r\n").startswith(b"HTTP/1.1 400 ")
    assert b"400 " in raw(server, b"\x16\x03\x01 what HTTP/9\r\n\r\n")
    assert ask(server).status == 200


def test_further_names() -> None:
    with running(Address(port=0, names=("Desk.example", "[2001:DB8::1]"))) as server:
        assert server.url == f"http://desk.example:{server.port}/"
        for host in ("desk.example", "desk.example:9000", "[2001:db8:0::1]:80"):
            assert ask(server, Host=host).status == 200


@pytest.mark.parametrize("every", ["0.0.0.0", "0", "::", "[::0]"])  # noqa: S104
def test_every_address_needs_a_name(every: str) -> None:
    with pytest.raises(ConfigError, match=r"no name that a browser can ask for\nFix: .*--name"):
        Server(SITE, Address(every, 0))


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


NEEDS_IPV6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


@pytest.mark.parametrize("every", ["0.0.0.0", pytest.param("::", marks=NEEDS_IPV6)])  # noqa: S104
def test_every_address_with_a_name_is_served(every: str) -> None:
    with running(Address(every, 0, names=("desk.example",))) as server:
        assert ask(server, Host=f"desk.example:{server.port}").status == 200
        assert ask(server, Host=f"0.0.0.0:{server.port}").status == 421


@NEEDS_IPV6
@pytest.mark.parametrize("host", ["::1", "[::1]", "0:0::1"])
def test_ipv6(host: str) -> None:
    with running(Address(host, 0)) as server:
        assert server.url == f"http://[::1]:{server.port}/"
        connection = http.client.HTTPConnection("::1", server.port, timeout=10)
        connection.request("GET", "/main.js")
        assert connection.getresponse().read() == b"1"
        connection.close()


def test_every_file_of_the_page_has_a_fixed_type(monkeypatch: pytest.MonkeyPatch) -> None:
    import mimetypes

    # As a Windows registry that another program has changed.
    monkeypatch.setattr(mimetypes, "guess_type", lambda *_: ("text/plain", None))
    build = (SOURCES / "build.mjs").read_text(encoding="utf-8")
    served = {path.suffix for path in SOURCES.rglob("*") if path.is_file()} | set(re.findall(r"\.[a-z]+(?=\")", build))
    assert {".html", ".css", ".js", ".mjs", ".wasm", ".svg", ".png", ".webmanifest"} <= served
    assert served <= set(_TYPES)
    with running(site={"index.html": b"", "style.css": b"", "a.SVG": b"", "x.unknown": b""}) as server:
        kinds = [ask(server, path=path).headers["Content-Type"] for path in ("/", "/style.css", "/a.SVG", "/x.unknown")]
    assert kinds == ["text/html; charset=utf-8", "text/css; charset=utf-8", "image/svg+xml", "application/octet-stream"]


def slowly(connection: socket.socket, host: str) -> int:
    """Bytes of a file's body that come to a client that takes its time."""
    connection.sendall(f"GET /model.onnx HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    head, got = b"", 0
    while data := connection.recv(2**16):
        head, got = head or data, got + len(data)
        time.sleep(0.02)
    return got - head.index(b"\r\n\r\n") - 4


@pytest.mark.long
def test_a_transfer_may_take_longer_than_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lesionseg.app.server._Handler.timeout", 0.5)
    site = {**SITE, "model.onnx": bytes(8_000_000)}
    with running(Address(port=0), site) as server, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        connection.connect(("127.0.0.1", server.port))
        assert slowly(connection, f"127.0.0.1:{server.port}") == 8_000_000


def test_an_address_that_cannot_be_served_is_told(server: Server) -> None:
    with pytest.raises(ConfigError, match=r"127.0.0.1:\d+ cannot be served.*\nFix: choose another --port"):
        Server(SITE, Address(port=server.port))
    with pytest.raises(ConfigError, match="no port 70000"):
        Server(SITE, Address(port=70000))
    with pytest.raises(ConfigError, match=r"192.0.2.1:0 cannot be served.*\nFix: give an address of this machine"):
        Server(SITE, Address("192.0.2.1", 0))


def test_the_reason_decides_the_fix() -> None:
    def fix(number: int) -> str:
        return cannot_listen(Address("::1"), OSError(number, "reason")).fix

    assert "--port from 1024" in fix(errno.EACCES)
    assert "no IPv6" in fix(errno.EAFNOSUPPORT)
    assert "another --host or --port" in fix(errno.EIO)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    words = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    alternative = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command = ["openssl", "req", *words, *alternative, "-keyout", folder / "key.pem", "-out", folder / "cert.pem"]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("no openssl here")
    return folder / "cert.pem", folder / "key.pem"


def test_https(certificate: tuple[Path, Path]) -> None:
    with running(Address("localhost", 0, certificate=certificate[0], key=certificate[1])) as server:
        assert server.url == f"https://localhost:{server.port}/"
        context = ssl.create_default_context(cafile=str(certificate[0]))
        # One that never says hello holds up nobody.
        with socket.create_connection(("127.0.0.1", server.port)):
            connection = http.client.HTTPSConnection("localhost", server.port, timeout=10, context=context)
            connection.request("GET", "/main.js", headers={"Origin": server.url.rstrip("/")})
            assert connection.getresponse().read() == b"1"
            connection.close()


def test_a_wrong_certificate_is_told(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    (tmp_path / "not.pem").write_text("no")
    with pytest.raises(ConfigError, match=r"cannot be used"):
        Server(SITE, Address(port=0, certificate=tmp_path / "not.pem"))
    with pytest.raises(ConfigError, match=r"cannot be used"):
        Server(SITE, Address(port=0, certificate=certificate[0]))
    with pytest.raises(ConfigError, match="a key comes with a certificate"):
        Server(SITE, Address(port=0, key=certificate[1]))


@pytest.mark.skipif(os.name == "nt", reason="Windows ends processes otherwise")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_when_told_to(number: signal.Signals) -> None:
    code = (
        "from lesionseg.app.server import *\n"
        "serve({'index.html': b'x' * 20_000_000}, Address(port=0), lambda url: print(url, flush=True))\n"
        "print('ended')"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        host = url.removeprefix("http://").rstrip("/")
        name, port = host.split(":")
        # A browser that keeps its connection, and one that stopped in the middle of a large file.
        with socket.create_connection((name, int(port))) as idle, socket.create_connection((name, int(port))) as slow:
            slow.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            slow.recv(1000)
            idle.sendall(b"GET / HT")
            time.sleep(0.2)
            process.send_signal(number)
            assert process.wait(timeout=5) == 0
        assert process.stdout.read() == "ended\n"
