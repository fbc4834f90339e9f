"""Host names as browsers send them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lesionseg.app.hosts import bracketed, check_name, is_local, is_own_origin, split_host
from lesionseg.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("desk", "desk"),
        ("Desk.Example", "desk.example"),
        ("desk.example.", "desk.example"),
        ("my_machine", "my_machine"),
        ("b\u00fccher.example", "xn--bcher-kva.example"),
        ("192.168.1.20", "192.168.1.20"),
        ("::1", "::1"),
        ("[2001:DB8:0:0::1]", "2001:db8::1"),
    ],
)
def test_a_name_is_normalised(text: str, name: str) -> None:
    assert check_name(text, "--name") == name
    assert split_host(bracketed(name)) == (name, None)
    assert split_host(f"{bracketed(name)}:9000") == (name, 9000)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            "a b",
            "evil\nX",
            "a\n",
            "\na",
            "a\0",
            "a..b",
            ".a",
            "-a",
            "a-",
            "a" * 64,
            "a." * 130,
            "[a]",
            "[::1",
            "::1]",
        ),
        *(
            "http://desk",
            "desk/x",
            "user@desk",
            "a,b",
            "*",
            "*.example",
            "127.0.0.1%lo",
            "\ud800",
            "\u00fc" * 300,
            "a\u3002\u3002b",
        ),
    ],
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is no host name") as caught:
        check_name(text, "--name")
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(("text", "name"), [("localhost:9000", "localhost"), ("[::1]:80", r"\[::1\]")])
def test_a_port_is_refused_with_the_name_to_write(text: str, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"holds a port\nFix: write --name {name}: names count without ports"):
        check_name(text, "--name")


@given(st.text())
def test_headers_of_any_text(text: str) -> None:
    found = split_host(text)
    if found is not None:
        assert split_host(bracketed(found[0])) == (found[0], None)
    assert is_own_origin(text, ("localhost", None)) in (True, False)


def test_only_this_machine() -> None:
    for host in ("127.0.0.1", "127.0.0.2", "localhost", "Localhost", "::1", "[::1]"):
        assert is_local(host)
    for host in ("0.0.0.0", "::", "192.168.1.20", "desk", "fe80::1", ""):  # noqa: S104
        assert not is_local(host)
