"""Certificates: what is wrong with one is told before anything is sent, and a server's refusal is understood."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from skahactl.errors import AuthError, ProfileError, UnreachableError
from skahactl.model import Request
from skahactl.platforms import open_client
from skahactl.profile import Auth, ClientSettings, Profile
from skahactl.skaha import credentials
from tests.certificates import Pair, file, issued
from tests.workplace import Done, Workplace

ROOT = Path(__file__).resolve().parents[2]


class Answers(BaseHTTPRequestHandler):
    """As much of a server as ``profile check`` asks for."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        pages = {"/skaha/availability": b"<vosi:available>true</vosi:available>", "/skaha/v1/session": b"[]"}
        body = pages.get(self.path, b"{}")
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("x-vo-authenticated", "alice")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


class Demanding(ThreadingHTTPServer):
    """Wants a certificate of its authority; each handshake in its own thread."""

    daemon_threads = True

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.context = context

    def finish_request(self, request: Any, client_address: Any) -> None:
        with contextlib.suppress(OSError), self.context.wrap_socket(request, server_side=True) as secure:
            super().finish_request(secure, client_address)


@dataclass
class Place:
    """A server that demands a certificate of ``authority``, and a folder."""

    root: Path
    authority: Pair
    url: str

    def profile(self, certificate: Path) -> Profile:
        client = ClientSettings(timeout=10, ca_file=str(self.root / "ca.pem"))
        return Profile("test", self.url, auth=Auth("x509", certificate=str(certificate)), client=client)

    def check(self, certificate: Path, *, trust: bool = True) -> Done:
        """``skahactl profile check`` with this certificate."""
        ca = f'[client]\ntimeout = 10\nca-file = "{self.root}/ca.pem"\n' if trust else ""
        text = f'server = "{self.url}"\n[auth]\nmethod = "x509"\ncertificate = "{certificate}"\n{ca}'
        here = Workplace(self.root)
        return here.run("profile", "check", str(here.write("profile.toml", text)), expect=None)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    root = tmp_path_factory.mktemp("tls")
    authority = issued("Test Authority")
    served = issued("server", authority)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file(root / "server.pem", served.pem, served.key_pem))
    context.load_verify_locations(file(root / "ca.pem", authority.pem))
    context.verify_mode = ssl.CERT_REQUIRED
    with Demanding(context) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Place(root, authority, f"https://127.0.0.1:{server.server_port}/skaha/v1")
        server.shutdown()
        thread.join()


def test_a_good_certificate_is_enough(place: Place, tmp_path: Path) -> None:
    good = issued("alice", place.authority)
    done = place.check(file(tmp_path / "good.pem", good.pem, good.key_pem, place.authority.pem))
    assert done.returncode == 0, done.stderr
    assert "alice" in done.stdout
    assert "valid until" in done.stdout


def test_an_expired_one_is_reported_and_not_sent(place: Place, tmp_path: Path) -> None:
    old = issued("alice", place.authority, days=-1)
    done = place.check(file(tmp_path / "old.pem", old.pem, old.key_pem))
    assert done.returncode == 3
    assert "expired 24 h ago" in done.stderr or "expired 1 d ago" in done.stderr
    assert "skahactl login" in done.stderr


def test_a_foreign_one_is_refused_by_the_server(place: Place, tmp_path: Path) -> None:
    foreign = issued("alice", issued("Other Authority"))
    done = place.check(file(tmp_path / "foreign.pem", foreign.pem, foreign.key_pem))
    assert done.returncode == 3
    assert "the server does not accept this certificate (unknown ca)" in done.stderr


def test_a_server_that_no_authority_vouches_for_is_not_talked_to(place: Place, tmp_path: Path) -> None:
    good = issued("alice", place.authority)
    done = place.check(file(tmp_path / "good.pem", good.pem, good.key_pem), trust=False)
    assert done.returncode == 4
    assert "the certificate of the server is not t" in done.stderr
    assert "ca-file" in done.stderr


def test_a_file_that_others_may_read_is_refused(place: Place, tmp_path: Path) -> None:
    good = issued("alice", place.authority)
    loose = file(tmp_path / "loose.pem", good.pem, good.key_pem, mode=0o644)
    done = place.check(loose)
    assert done.returncode == 3
    assert f"chmod 600 {loose}" in done.stderr
    assert "mode 0644" in done.stderr


def _encrypted(pair: Pair) -> bytes:
    return pair.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))


def test_every_other_fault_of_a_file_has_its_words(tmp_path: Path) -> None:
    authority = issued("Authority")
    good = issued("alice", authority)
    later = issued("alice", authority, since=0.5, days=2)
    faults = {
        "no private key": [good.pem],
        "the file contains no certificate": [good.key_pem],
        "does not match the private key": [authority.pem, good.pem, good.key_pem],
        "encrypted": [good.pem, _encrypted(good)],
        "the certificate and its key cannot be read": [good.pem, good.key_pem.replace(b"\nM", b"\n!")],
        "not valid before": [later.pem, later.key_pem],
    }
    for words, parts in faults.items():
        error = _refused(file(tmp_path / "cert.pem", *parts), words)
        assert ("check the clock" in str(error.hint)) == (words == "not valid before")
    _refused(tmp_path / "none.pem", "does not exist")
    _refused(tmp_path, "cannot be read")


def test_an_rsa_key_as_proxies_have_it_is_known_from_another(tmp_path: Path) -> None:
    mine, another = issued("alice", bits=2048), issued("alice", bits=2048)
    path = file(tmp_path / "mine.pem", mine.pem, mine.key_pem)
    found = credentials.check(_profile("https://127.0.0.1/skaha/v1", path), time.time(), {})
    assert found == mine.certificate.not_valid_after_utc.timestamp()
    _refused(file(tmp_path / "cert.pem", mine.pem, another.key_pem), "does not match the private key")


def _refused(path: Path, words: str) -> AuthError:
    with pytest.raises(AuthError, match=words) as told:
        credentials.check(_profile("https://127.0.0.1/skaha/v1", path), time.time(), {})
    assert told.value.where == str(path)
    assert "PRIVATE" not in str(told.value.data())
    return told.value


def test_the_whole_chain_ends_with_its_first_end(tmp_path: Path) -> None:
    soon = issued("Authority", days=0.25)
    leaf = issued("alice", soon, days=20)
    path = file(tmp_path / "cert.pem", leaf.pem, leaf.key_pem, soon.pem)
    ends = credentials.ends_at(_profile("https://127.0.0.1/skaha/v1", path))
    assert ends == soon.certificate.not_valid_after_utc.timestamp()
    assert credentials.ends_at(Profile("p", "https://127.0.0.1/skaha/v1")) is None
    assert credentials.ends_at(_profile("https://127.0.0.1/skaha/v1", tmp_path / "none")) is None


def test_a_certificate_needs_https(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="needs https"):
        credentials.check(_profile("http://127.0.0.1/skaha/v1", tmp_path / "x"), time.time(), {})


def test_a_renewed_certificate_is_taken_up_without_a_restart(place: Place, tmp_path: Path) -> None:
    """The driver of a long job: refused first, then the file is replaced, and the same client goes on."""
    good, foreign = issued("alice", place.authority), issued("alice", issued("Other"))
    path = file(tmp_path / "cert.pem", foreign.pem, foreign.key_pem)

    async def main() -> None:
        async with open_client(place.profile(path), environ={}) as client:
            with pytest.raises(
                (AuthError, UnreachableError), match=r"unknown ca|connection broke"
            ):  # a reset may hide it
                await client.sessions()
            file(path, good.pem, good.key_pem, b"\n")
            assert (await client.sessions()).user == "alice"
            file(path, b"half written")
            assert (await client.sessions()).user == "alice"

    asyncio.run(main())


def test_a_create_that_is_dropped_is_never_taken_for_certain(place: Place, tmp_path: Path) -> None:
    """The refusal itself is certain; a reset that hides it is not."""
    foreign = issued("alice", issued("Other"))
    path = file(tmp_path / "cert.pem", foreign.pem, foreign.key_pem)

    async def main() -> tuple[str, str]:
        async with open_client(place.profile(path), environ={}) as client:
            made = await client.create(Request("headless", "images.canfar.net/a/b:1"), "n")
        return made.outcome, made.error.code if made.error else ""

    assert asyncio.run(main()) in (("auth", "certificate"), ("ambiguous", "lost"))


def _profile(url: str, certificate: Path) -> Profile:
    return Profile("test", url, auth=Auth("x509", certificate=str(certificate)))
