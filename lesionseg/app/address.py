"""Where the page's server listens: checked as a whole, before the page is made."""

from __future__ import annotations

import errno
import ipaddress
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lesionseg.app.hosts import bracketed, check_name
from lesionseg.errors import ConfigError
from lesionseg.io.reading import read_regular

__all__ = ["PORT", "Address", "Listening", "cannot_listen", "check_address"]

PORT = 8517
"""No other program's usual one: the page stays in the browser for offline use, under its address."""

_PEM_BYTES = 2**20
_LAST_PORT = 2**16 - 1
_SocketAddress = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Address:
    """Where the page is served.

    Attributes:
        host: an IPv4 or IPv6 address or a name to listen on.
        port: 0 for any free one.
        names: further host names, without ports, under which browsers may ask for the page.
        certificate, key: PEM files, for HTTPS.
    """

    host: str = "127.0.0.1"
    port: int = PORT
    names: tuple[str, ...] = ()
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class Listening:
    """An address that a server can be bound to.

    Attributes:
        family: ``AF_INET`` or ``AF_INET6``.
        address: the socket address.
        names: under which browsers may ask for the page, as they send them; at least one, the first for the URL.
        context: what encrypts the connections; None for HTTP.
    """

    family: socket.AddressFamily
    address: _SocketAddress
    names: tuple[str, ...]
    context: ssl.SSLContext | None


def check_address(address: Address) -> Listening:
    """Resolve an address, and make sure that a server can be bound to it.

    Raises:
        ConfigError: the host or a name is none, browsers cannot ask for it, the port is taken or not allowed, or the
            certificate cannot be used.
    """
    named = [check_name(name, "--name") for name in address.names]
    for name in named:
        if _is_unspecified(name):
            raise ConfigError(f"--name {name} stands for every address", fix="give the name that browsers ask for")
    if not 0 <= address.port <= _LAST_PORT:
        raise ConfigError(f"there is no port {address.port}", fix="choose one from 1024 to 65535")
    family, bound, own = _resolve(address.host, address.port)
    if not own and not named:
        raise ConfigError(
            f"{address.host} is no name that a browser can ask for",
            fix="give this machine's own address as --host, or add the name that others know it by as --name: "
            "localhost where a port is passed on to this machine, as containers do",
        )
    listening = Listening(family, bound, (*named, *own), _tls(address))
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(bound)
    except OSError as error:
        raise cannot_listen(address, error) from error
    return listening


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, _SocketAddress, tuple[str, ...]]:
    """The family, the socket address, and the names of both that a browser can ask for."""
    name = check_name(host, "--host")
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"--host {host} is not known here: {getattr(error, 'strerror', None) or error}",
            fix="give an IP address or a name of this machine; 127.0.0.1 is reached by this machine alone",
        ) from error
    # AF_INET before AF_INET6, where a name stands for both.
    family, *_, bound = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    numeric = str(bound[0]).partition("%")[0]
    # No browser asks for an address with a zone, nor for the one that stands for all addresses of this machine.
    nameable = not _is_unspecified(numeric) and "%" not in name
    return family, bound, (name, str(ipaddress.ip_address(numeric))) if nameable else ()


def _is_unspecified(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_unspecified
    except ValueError:
        return False


def cannot_listen(address: Address, error: OSError) -> ConfigError:
    """Return the error for an address that the system does not give, with the fix for its reason."""
    fixes = {
        errno.EADDRINUSE: "choose another --port",
        errno.EACCES: "choose a --port from 1024 up",
        errno.EADDRNOTAVAIL: "give an address of this machine as --host; 127.0.0.1 is reached by this machine alone",
        errno.EAFNOSUPPORT: "this machine has no IPv6: give an IPv4 address as --host, for example 127.0.0.1",
    }
    return ConfigError(
        f"{bracketed(check_name(address.host, '--host'))}:{address.port} cannot be served: {error.strerror}",
        fix=fixes.get(error.errno or 0, "choose another --host or --port"),
    )


def _tls(address: Address) -> ssl.SSLContext | None:
    if address.certificate is None:
        if address.key is not None:
            raise ConfigError("a key comes with a certificate", fix="add --certificate FILE")
        return None
    for file in (address.certificate, address.key):
        if file is not None:
            # OpenSSL would wait for the writer of a named pipe.
            read_regular(file, limit=_PEM_BYTES, error=ConfigError, fix="give PEM files, as mkcert makes them")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(address.certificate, address.key)
    except (OSError, ValueError, ssl.SSLError) as error:
        raise ConfigError(
            f"{address.certificate} and its key cannot be used: {error}", fix="give PEM files, as mkcert makes them"
        ) from error
    return context
