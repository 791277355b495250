"""``login``: a certificate by HTTP Basic, from netrc or a prompt, written so that nothing is ever half there."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import ssl
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from skahactl import profiles
from skahactl.commands.login import require_https
from skahactl.errors import AuthError, ProfileError
from skahactl.model import Request
from skahactl.profile import Auth, Profile
from skahactl.skaha import credentials
from skahactl.skaha.client import Client
from skahactl.system import SystemClock
from tests.certificates import Pair, file, issued
from tests.workplace import Workplace

pytestmark = pytest.mark.once

PASSWORD = "correct horse:battery"


@dataclass
class Service:
    """Gives certificates to alice; ``asked`` are the paths and headers it saw."""

    authority: Pair
    asked: list[tuple[str, str]] = field(default_factory=list)
    answer: tuple[int, bytes] | None = None  # instead of a certificate
    port: int = 0

    @contextlib.contextmanager
    def running(self, root: Path) -> Iterator[Service]:
        served = issued("server", self.authority)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file(root / "server.pem", served.pem, served.key_pem))
        file(root / "ca.pem", self.authority.pem)
        with ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"service": self})) as server:
            server.socket = context.wrap_socket(server.socket, server_side=True)
            self.port = server.server_port
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            yield self
            server.shutdown()
            thread.join()

    def reply(self, authorization: str) -> tuple[int, bytes]:
        if authorization != "Basic " + base64.b64encode(f"alice:{PASSWORD}".encode()).decode():
            return 401, b"wrong\n"
        made = issued("alice", self.authority, days=30)
        return self.answer or (200, made.pem + made.key_pem + self.authority.pem)


class Handler(BaseHTTPRequestHandler):
    service: Service

    def do_GET(self) -> None:
        authorization = self.headers.get("Authorization", "")
        self.service.asked.append((self.path, authorization))
        status, body = self.service.reply(authorization)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Location", "/elsewhere")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


class Home(Workplace):
    """A home with a profile ``mine`` whose login-url is the service."""

    def __init__(self, root: Path, service: Service) -> None:
        super().__init__(root, extra={"SKAHACTL_PROFILE": ""})
        self.certificate = root / ".ssl" / "cadcproxy.pem"
        url = f"https://127.0.0.1:{service.port}/cred/generate?daysValid=30"
        self.add_profile(
            "mine",
            f'server = "https://skaha.example.org/skaha/v1"\n[auth]\nmethod = "x509"\nlogin-url = "{url}"\n'
            f'[client]\ntimeout = 10\nca-file = "{root}/ca.pem"\n',
        )

    def netrc(self, password: str = PASSWORD, mode: int = 0o600) -> None:
        file(self.root / ".netrc", f'machine 127.0.0.1 login alice password "{password}"\n'.encode(), mode=mode)

    def login(self, *words: str, expect: int = 0) -> str:
        """What it said on stderr; nothing goes to stdout, and no password anywhere."""
        done = self.run("login", *(words or ("mine",)), "-vv", expect=expect)
        assert done.stdout == ""
        assert PASSWORD not in done.stderr
        return done.stderr


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with Service(issued("Authority")).running(tmp_path) as service:
        yield service


@pytest.fixture
def home(tmp_path: Path, service: Service) -> Home:
    return Home(tmp_path, service)


def test_it_is_written_privately_and_its_profile_used(home: Home, service: Service) -> None:
    home.netrc()
    told = home.login()
    assert "valid until" in told
    assert stat.S_IMODE(home.certificate.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.certificate.parent.stat().st_mode) == 0o700
    assert profiles.default_name(home.environ) == "mine"
    assert [path for path, _ in service.asked] == ["/cred/generate?daysValid=30"]
    assert os.listdir(home.certificate.parent) == ["cadcproxy.pem"]


def test_a_wrong_password_changes_nothing(home: Home) -> None:
    home.certificate.parent.mkdir()
    file(home.certificate, b"the former one")
    home.netrc("wrong")
    said = home.login(expect=3)
    assert "wrong user name or password" in said
    assert f"{home.root}/.netrc" in said
    assert home.certificate.read_bytes() == b"the former one"
    assert profiles.default_name(home.environ) is None


@pytest.mark.parametrize("answer", [(200, b"<html>Welcome</html>"), (503, b""), (302, b"")])
def test_an_answer_without_a_certificate_changes_nothing(
    home: Home, service: Service, answer: tuple[int, bytes]
) -> None:
    service.answer = answer
    home.certificate.parent.mkdir()
    file(home.certificate, b"the former one")
    home.netrc()
    assert "certificate" in home.login(expect=4)
    assert home.certificate.read_bytes() == b"the former one"
    assert os.listdir(home.certificate.parent) == ["cadcproxy.pem"]
    assert len(service.asked) == 1, "redirects are not followed"


@pytest.mark.parametrize(
    ("since", "days", "says"), [(-20.0, -10.0, "the certificate expired"), (5.0, 10.0, "not valid before")]
)
def test_a_certificate_that_is_not_valid_now_changes_nothing(
    home: Home, service: Service, since: float, days: float, says: str
) -> None:
    old = issued("alice", service.authority, since=since, days=days)
    service.answer = (200, old.pem + old.key_pem)
    home.certificate.parent.mkdir()
    file(home.certificate, b"the former one")
    home.netrc()
    assert says in home.login(expect=4)
    assert home.certificate.read_bytes() == b"the former one"
    assert os.listdir(home.certificate.parent) == ["cadcproxy.pem"]
    assert profiles.default_name(home.environ) is None


def test_a_page_without_end_is_not_a_certificate(home: Home, service: Service) -> None:
    service.answer = (200, b"-" * (2 << 20))
    home.netrc()
    assert "a large page" in home.login(expect=4)


@pytest.mark.parametrize(
    ("proxy", "says"),
    [
        ("http://127.0.0.1:abc", "the address of the proxy is not valid"),
        ("http://[::1", "the address of the proxy is not valid"),
        ("socks5://h:1", "SOCKS proxies are not supported"),
        ("ftp://u:secret@h", "kind of proxy 'ftp'"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_reported(home: Home, proxy: str, says: str) -> None:
    """For login and for any other command."""
    url = "https://login.test/cred"
    text = f'server = "https://skaha.test/skaha/v1"\n[auth]\nmethod = "x509"\nlogin-url = "{url}"\n'
    home.add_profile("away", text)
    home.add_profile("open", text.split("[auth]")[0])
    file(home.root / ".netrc", b"machine login.test login alice password secret\n")
    for words in (["login", "away"], ["get", "sessions", "-p", "open"]):
        told = home.run(*words, expect=2, extra={"https_proxy": proxy}).stderr
        assert says in told
        assert "secret" not in told


def test_passwords_that_others_can_read_are_not_used(home: Home, service: Service) -> None:
    home.netrc(mode=0o644)
    assert "chmod 600" in home.login(expect=3)
    assert service.asked == []


def test_a_device_holds_no_passwords(home: Home, service: Service) -> None:
    (home.root / ".netrc").symlink_to("/dev/null")
    told = home.login(expect=3)
    assert "chmod" not in told
    assert service.asked == []


def test_a_server_that_no_authority_vouches_for_gets_no_password(home: Home, service: Service, tmp_path: Path) -> None:
    file(tmp_path / "ca.pem", issued("Other").pem)
    home.netrc()
    assert "is not trusted" in home.login(expect=4)
    assert service.asked == []


def test_without_a_terminal_and_netrc_it_says_what_is_needed(home: Home, service: Service) -> None:
    assert "~/.netrc" in home.login(expect=3)
    home.netrc()
    assert "~/.netrc" in home.login("mine", "--user", "bob", expect=3)
    assert service.asked == []


def test_on_a_terminal_it_asks_and_shows_no_password(home: Home) -> None:
    terminal = home.at_a_terminal("login", "mine")
    terminal.answer("Username for mine (skaha.example.org): ", "alice")
    terminal.answer("Password of alice: ", PASSWORD)
    assert terminal.ended() == 0, terminal.text
    assert PASSWORD.encode() not in terminal.text
    assert home.certificate.exists()


def test_profiles_without_certificates_say_what_to_do(home: Home) -> None:
    home.add_profile("t", 'server = "https://a/skaha/v1"\n[auth]\nmethod = "token"\ntoken-file = "~/t"\n')
    assert f"{home.root}/t" in home.login("t", expect=2)
    assert "needs no login" in home.login("local")


def test_a_token_in_the_environment_does_not_pass_for_the_profile_s_own(home: Home) -> None:
    home.add_profile("t", 'server = "https://a/skaha/v1"\n[auth]\nmethod = "token"\ntoken-env = "SKAHACTL_TOKEN"\n')
    home.extra["SKAHACTL_TOKEN"] = "x"
    assert "overrides the certificate of profile mine" in (told := home.login("mine", expect=2))
    assert told.endswith("unset SKAHACTL_TOKEN; skahactl login mine\n")
    assert "which skahactl cannot get for you" in home.login("t", expect=2)


def test_what_the_environment_alone_describes_never_becomes_the_default(home: Home, service: Service) -> None:
    home.netrc()
    extra = {"SKAHACTL_SERVER": "https://skaha.test/skaha/v1", "SKAHACTL_CERTIFICATE": str(home.certificate)}
    for words, code in ((["login", "environment"], 2), (["get", "sessions"], 3)):
        told = home.run(*words, expect=code, extra=extra).stderr
        assert "SKAHACTL_CERTIFICATE" in told
        assert "skahactl login" not in told
    assert profiles.default_name(home.environ) is None
    assert service.asked == []


@pytest.mark.parametrize(
    ("auth", "says"),
    [
        ('method = "x509"', "log in with: skahactl login mine"),
        ('method = "token"\ntoken-env = "T"', "set T to a valid token"),
        ('method = "none"', "profile mine has no credentials"),
    ],
)
def test_whoever_is_not_known_hears_how_to_log_in_there(auth: str, says: str) -> None:
    """For a list and for a create alike."""
    kind, _, rest = auth.removeprefix('method = "').partition('"')
    profile = Profile("mine", "http://skaha.test/skaha/v1", auth=Auth(kind, token_env="T" if rest else None))

    hints: list[str | None] = []

    async def main() -> None:
        transport = httpx.MockTransport(lambda request: httpx.Response(401))
        async with Client(profile, transport=transport, clock=SystemClock(), environ={"T": "abc"}) as client:
            made = await client.create(Request("headless", "images.canfar.net/a/b:1"), "n")
            hints.append(made.error and made.error.hint)
            await client.sessions()

    with pytest.raises(AuthError) as told:
        asyncio.run(main())
    hints.append(told.value.hint)
    assert [says in (hint or "") for hint in hints] == [True, True]


def test_a_missing_token_names_no_login(tmp_path: Path) -> None:
    with pytest.raises(AuthError) as told:
        credentials.token(Auth("token", token_file=str(tmp_path / "none")), {}, "rel2")
    assert told.value.hint == "write a token to it (mode 0600), or set SKAHACTL_TOKEN"


def test_a_password_goes_over_https_only() -> None:
    for url in ("http://example.org/cred", "ftp://example.org/x", "example.org"):
        with pytest.raises(ProfileError, match="only over https"):
            require_https(url)
    require_https("https://example.org/cred")
