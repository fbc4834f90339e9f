"""Host names as browsers send them: those that the page's server answers to.

Names are compared without ports: a port that is forwarded (``ssh -L``, ``docker -p``) or a proxy with HTTPS in front
gives the browser another one, and a name alone tells this machine from a foreign one that points here.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from lesionseg.errors import ConfigError

__all__ = ["LOCAL", "bracketed", "check_name", "is_local", "is_own_origin", "split_host"]

LOCAL = ("127.0.0.1", "localhost", "::1")
"""Names of this machine that are always answered to."""

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_LONGEST = 253
_AUTHORITY = re.compile(r"(?P<host>\[[^\[\]]*\]|[^\[\]:]*)(:(?P<port>[0-9]{1,5}))?")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def is_local(host: str) -> bool:
    """Return whether only this machine reaches the address."""
    address = _address(host.removeprefix("[").removesuffix("]"))
    return host.lower() == "localhost" if address is None else address.is_loopback


def bracketed(name: str) -> str:
    """Return a normalised name as a URL has it, IPv6 addresses in brackets."""
    return f"[{name}]" if ":" in name else name


def check_name(text: str, option: str) -> str:
    """Return a host name or IP address in the form in which browsers send it, without brackets.

    Args:
        text: the name, as a user wrote it.
        option: where it is from, for the message.

    Raises:
        ConfigError: it is none.
    """
    name = _normalise(text)
    if name is not None:
        return name
    split = split_host(text)
    if split is not None and split[1] is not None:
        raise ConfigError(
            f"{option} {text!r} holds a port",
            fix=f"write {option} {bracketed(split[0])}: names count without ports; --port is the server's",
        )
    raise ConfigError(
        f"{option} {text!r} is no host name",
        fix="use a name such as desk.example or an IP address, without scheme, port and path",
    )


def split_host(header: str) -> tuple[str, int | None] | None:
    """Return the normalised name and the port of a ``Host`` header; None for what is no host."""
    match = _AUTHORITY.fullmatch(header)
    if match is None:
        return None
    host, port = match["host"], match["port"]
    name = _normalise(host)
    # Without brackets, the parts of an IPv6 address would be ports.
    if name is None or (":" in name) != host.startswith("["):
        return None
    return name, None if port is None else int(port)


def is_own_origin(origin: str, host: tuple[str, int | None]) -> bool:
    """Return whether an ``Origin`` header names the page that ``host`` is asked for.

    The scheme is not compared, as a proxy in front may turn HTTPS into HTTP. The port is, unless ``Host`` has none, as
    proxies leave it out: another program's page on this machine differs by its port alone.
    """
    try:
        scheme, authority, path, query, fragment = urlsplit(origin)
    except ValueError:
        return False
    found = split_host(authority)
    if scheme not in _DEFAULT_PORTS or path or query or fragment or found is None:
        return False
    name, port = host
    asked = _DEFAULT_PORTS[scheme] if found[1] is None else found[1]
    return found[0] == name and (port is None or port == asked)


def _normalise(text: str) -> str | None:
    """A host name in lower case and ASCII, or an IP address in its shortest form; None for what is neither."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    address = _address(bare)
    if address is not None:
        return None if bare != text and address.version == 4 else str(address)
    try:
        name = text.lower() if text.isascii() else text.encode("idna").decode("ascii")
    except UnicodeError:
        return None
    name = name.removesuffix(".")
    if len(name) > _LONGEST or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        return None
    return name


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
