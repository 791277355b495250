"""Addresses that cannot be, hosts that need no proxy, and secrets in a server's words."""

from __future__ import annotations

import json
import ssl
from base64 import b64encode
from dataclasses import replace
from urllib.parse import quote, quote_plus

import httpx
import pytest

from skahactl.errors import ProfileError
from skahactl.model import Request, Secret
from skahactl.profile import Profile, address_problem
from skahactl.skaha import encoding, failures
from skahactl.skaha.credentials import require_safe_secrets
from skahactl.skaha.failures import HttpReply
from skahactl.skaha.transport import proxy_for


@pytest.mark.parametrize(
    "host", ["h:99999", "h:abc", "h:0", "h:", "a..b", "a" * 64 + ".org", "xn--zz-", "a\0b", "a b", "[zz]", "-a.b", ""]
)
def test_an_impossible_address_has_a_reason(host: str) -> None:
    assert address_problem(f"https://{host}/skaha/v1", ("https", "http")) is not None


@pytest.mark.parametrize(
    "host", ["ws-uv.canfar.net", "[::1]:8000", "127.0.0.1:1", "bücher.example", "xn--bcher-kva.example"]
)
def test_a_possible_address_has_none(host: str) -> None:
    assert address_problem(f"https://{host}/skaha/v1", ("https", "http")) is None


@pytest.mark.parametrize(
    ("listed", "host", "is_direct"),
    [
        ("fd00::1", "[fd00::1]", True),
        ("[fd00::1]", "[fd00::1]:8443", True),
        ("fd00::/8", "[fd12::34]", True),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("example.org", "ws.example.org", True),
        (".example.org", "example.org", True),
        ("example.org:8443", "example.org:8443", True),
        ("example.org:8443", "example.org", False),
        ("ample.org", "example.org", False),
        ("other.org example.org", "example.org", True),
        ("*", "example.org", True),
        ("", "example.org", False),
    ],
)
def test_no_proxy_follows_the_rules_of_curl(listed: str, host: str, is_direct: bool) -> None:
    environ = {"https_proxy": "http://proxy:3128", "no_proxy": listed}
    assert (proxy_for(f"https://{host}/skaha/v1", environ) is None) == is_direct


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), "does not speak TLS on this port"),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), "ended the connection during the TLS handshake"),
    ],
)
def test_the_number_of_a_tls_error_is_not_read_as_an_errno(error: ssl.SSLError, text: str) -> None:
    if "WRONG" in str(error):
        error.reason = "WRONG_VERSION_NUMBER"
    wrapped = httpx.ConnectError(str(error))
    wrapped.__cause__ = error
    assert text in failures.error_of_exception(wrapped).message


def test_a_secret_is_hidden_in_every_spelling() -> None:
    secret = 'p"ss wörd&$x'
    request = Request("headless", "a/b:1", env=(("TOKEN", Secret("env", "T")),))
    known = encoding.secret_texts(request, replace(request, env=(("TOKEN", secret),)))
    sent = encoding.value(secret)
    spellings = [
        secret,
        sent,
        quote(secret),
        quote_plus(secret),
        quote_plus(sent),
        quote_plus(sent).replace("%5C", "%5c"),
        json.dumps(secret)[1:-1],
        b64encode(secret.encode()).decode(),
    ]
    for spelling in spellings:
        shown = HttpReply(400, {"content-type": "text/plain"}, f"bad value <{spelling}>".encode(), known).words
        assert shown == "bad value <***>", spelling


def test_a_redirect_hides_a_token_in_its_path() -> None:
    reply = HttpReply(302, {"location": "https://h/login/the-token-of-alice/x?y=z"}, b"", ["the-token-of-alice"])
    assert "the-token-of-alice" not in failures.error_of_reply(reply).message


def test_secrets_of_a_manifest_need_a_safe_line() -> None:
    require_safe_secrets(Profile("p", "https://h/skaha/v1"))
    require_safe_secrets(Profile("p", "http://127.0.0.1:1/skaha/v1"))
    with pytest.raises(ProfileError):
        require_safe_secrets(Profile("p", "http://h.example/skaha/v1"))
