"""The client over a real socket: what is sent, what each answer means, and what is never told."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from skahactl import __version__
from skahactl.errors import AuthError, SkahactlError, UnreachableError, UsageError
from skahactl.model import Request, Resources, Secret
from skahactl.platforms import open_client
from skahactl.profile import Auth, ClientSettings, Profile, Registry
from skahactl.skaha import models
from skahactl.skaha.client import Client, Throttle
from skahactl.skaha.failures import HttpReply
from skahactl.skaha.models import CreateOutcome, CreateResult, Event
from skahactl.skaha.transport import proxy_for

TOKEN = "eyJhbGciOi.the-token.c2ln"
ENVIRON = {"TOKEN": TOKEN, "PASSWORD": "hunter2=hunter2", "REGISTRY": "registry-secret"}
REQUEST = Request("headless", "images.canfar.net/skaha/astroml:latest", ("python", "x.py"), (("A", "1"),))
SECRET = replace(REQUEST, env=(("P", Secret("env", "PASSWORD")),))


class Wire:
    """A server that keeps what it is sent, byte for byte, and answers what it is told to."""

    def __init__(self, *answers: bytes | None, delay: float = 0.0) -> None:
        self.answers = list(answers)  # None: the connection is dropped; the last one is repeated
        self.delay = delay
        self.heads: list[str] = []
        self.bodies: list[bytes] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/skaha/v1"

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Wire]:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            await server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            self.heads.append(head)
            size = int(self.header("content-length") or 0)
            self.bodies.append(await reader.readexactly(size))
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            await asyncio.sleep(self.delay)
            if answer is not None:
                writer.write(answer)
                await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    def header(self, name: str) -> str | None:
        lines = [line.partition(":") for line in self.heads[-1].split("\r\n")[1:]]
        return next((value.strip() for key, _, value in lines if key.lower() == name), None)


def answer(status: int, body: str | bytes = "", kind: str = "text/plain", **headers: str) -> bytes:
    data = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} Words", f"Content-Type: {kind}", f"Content-Length: {len(data)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + data


def profile(url: str, **changes: Any) -> Profile:
    fast = ClientSettings(timeout=0.5, concurrency=8)
    return replace(Profile("test", url, auth=Auth("token", token_env="TOKEN"), client=fast), **changes)


Use = Callable[[Client], Awaitable[Any]]


def exchange(wire: Wire, use: Use, lines: list[str] | None = None, verbose: int = 0, **changes: Any) -> Any:
    """What ``use`` gives with a client of ``wire``; the lines of -v go to ``lines``."""

    async def main() -> Any:
        async with wire.listening():
            client = open_client(
                profile(wire.url, **changes),
                environ=ENVIRON,
                report=(lines if lines is not None else []).append,
                verbose=verbose,
            )
            async with client:
                return await use(client)

    return asyncio.run(main())


def created(reply: bytes | None, request: Request = REQUEST) -> CreateResult:
    found: CreateResult = exchange(Wire(reply), lambda client: client.create(request, "fits-1-abcde"))
    return found


def test_a_create_is_one_ascii_form_without_a_query() -> None:
    wire = Wire(answer(200, "abcd1234\n", x_vo_authenticated="alice"))
    made = exchange(wire, lambda client: client.create(replace(REQUEST, env=(("A", "é = 1"),)), "fits-1-abcde"))
    assert made == CreateResult(CreateOutcome.CREATED, "abcd1234")
    assert wire.heads[0].startswith("POST /skaha/v1/session HTTP/1.1\r\n")
    assert wire.header("content-type") == "application/x-www-form-urlencoded; charset=UTF-8"
    assert wire.header("user-agent") == f"skahactl/{__version__}"
    assert wire.header("authorization") == f"Bearer {TOKEN}"
    assert dict(parse_qsl(wire.bodies[0].decode("ascii")))["env"] == "A=\\\\xe9\\\\x20\\\\x3d\\\\x201"


def test_what_the_public_client_sends_for_the_same_job_is_sent() -> None:
    """Parameter for parameter, the order aside; the public one puts them into the query."""
    canfar = pytest.importorskip("canfar.sessions")
    wire = Wire(answer(200, "abcd1234\n"))

    async def theirs() -> None:
        async with wire.listening(), canfar.AsyncSession(url=wire.url, token=TOKEN) as session:
            await session.create(
                name="fits",
                image="images.canfar.net/skaha/astroml:latest",
                cores=8,
                ram=32,
                gpu=1,
                cmd="python",
                args="/arc/x.py --tile=271.281 -j 16",
                env={"LEVEL": "debug"},
            )

    asyncio.run(theirs())
    sent = parse_qsl(wire.heads[0].split(" ")[1].partition("?")[2], keep_blank_values=True)
    ours = Request(
        "headless",
        "images.canfar.net/skaha/astroml:latest",
        ("python", "/arc/x.py", "--tile=271.281", "-j", "16"),
        (("LEVEL", "debug"), ("REPLICA_ID", "1"), ("REPLICA_COUNT", "1")),
        Resources(8.0, 32.0, 1),
    )
    exchange(wire, lambda client: client.create(ours, "fits"))
    assert sorted(parse_qsl(wire.bodies[-1].decode(), keep_blank_values=True)) == sorted(sent)
    assert len(sent) == 11


def test_private_images_send_the_registry_header() -> None:
    wire = Wire(answer(200, "abcd1234"))
    registry = Registry("images.canfar.net", "bob", secret_env="REGISTRY")
    exchange(wire, lambda client: client.create(REQUEST, "n"), registry=registry)
    assert base64.b64decode(wire.header("x-skaha-registry-auth") or "") == b"bob:registry-secret"


HTML = "<html><head><title>Bad Gateway</title></head><body>nginx</body></html>"
NO_JOB = 'unexpected exception: java.lang.RuntimeException: ApiException: code 404 jobs.batch "skaha-x" not found'


@pytest.mark.parametrize(
    ("reply", "outcome", "code"),
    [
        (answer(400, "Invalid value for 'cores': 17\n"), "rejected", "rejected"),
        (answer(400, "cannot get group memberships for anonymous\n"), "auth", "not-logged-in"),
        (answer(401, "Token has expired"), "auth", "not-logged-in"),
        (answer(403, "Not authorized to use the skaha system\n"), "auth", "forbidden"),
        (answer(404, HTML, "text/html"), "not-created", "no-such-service"),
        (answer(405, "unsupported: HTTP POST\n"), "not-created", "no-such-service"),
        (answer(500, NO_JOB), "rejected", "rejected"),
        (answer(503, "temporarily unavailable: null\n", Retry_After="30"), "not-created", "unavailable"),
        (answer(503, HTML, "text/html"), "ambiguous", "server-error"),
        (answer(503, "<html>temporarily unavailable</html>", "text/html"), "ambiguous", "server-error"),
        (answer(503, "no healthy upstream"), "ambiguous", "server-error"),
        (answer(500, "unexpected exception: java.io.IOException: Cannot run"), "ambiguous", "server-error"),
        (answer(502, HTML, "text/html"), "ambiguous", "server-error"),
        (answer(504, HTML, "text/html"), "ambiguous", "server-error"),
        *((answer(status, "not now"), "not-created", "not-handled") for status in (408, 421, 429, 501)),
        *((answer(status, "never"), "rejected", "rejected") for status in (413, 414, 415, 431)),
        (answer(302, "", Location="https://login.example.org/?next=x"), "ambiguous", "redirected"),
        (answer(200, HTML, "text/html"), "ambiguous", "unreadable"),
        (answer(200, ""), "ambiguous", "unreadable"),
        (answer(200, "two words"), "ambiguous", "unreadable"),
        (None, "ambiguous", "lost"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabcd", "ambiguous", "lost"),
        (b"nonsense\r\n\r\n", "ambiguous", "lost"),
    ],
)
def test_each_answer_to_a_create_is_certain_or_ambiguous(reply: bytes | None, outcome: str, code: str) -> None:
    made = created(reply)
    assert made.error is not None
    assert (made.outcome, made.error.code, made.id) == (outcome, code, None)


def test_retry_after_is_read_in_both_forms() -> None:
    words = "temporarily unavailable: null\n"
    assert created(answer(503, words, Retry_After="30")).retry_after == 30.0
    dates = {"Date": "Sun, 22 Nov 2026 16:00:00 GMT", "Retry_After": "Sun, 22 Nov 2026 16:01:30 GMT"}
    assert created(answer(503, words, **dates)).retry_after == 90.0
    assert created(answer(503, words, Retry_After="soon")).retry_after is None


@pytest.mark.parametrize(
    ("told", "seconds"),
    [("100000000", 3600.0), ("9" * 400, 3600.0), ("\u00b2", None), ("\u0663", None), ("-5", None), ("1e3", None)],
)
def test_retry_after_holds_for_an_hour_at_most(told: str, seconds: float | None) -> None:
    assert HttpReply(503, {"retry-after": told}, b"").retry_after == seconds


def test_a_date_to_retry_after_is_within_an_hour_too() -> None:
    headers = {"retry-after": "Mon, 23 Nov 2099 00:00:00 GMT", "date": "Mon, 23 Nov 2026 00:00:00 GMT"}
    assert HttpReply(503, headers, b"").retry_after == 3600.0


@pytest.mark.parametrize("body", ["OK", "OK\n", "created", "a1b2c3d4e", "1bcdefgh", "A1B2C3D4", "a1b2-3d4"])
def test_a_word_is_not_a_session_id(body: str) -> None:
    found = created(answer(200, body))
    assert found.outcome == CreateOutcome.AMBIGUOUS
    assert found.error is not None
    assert found.error.message == "the reply of the server contains no session id"


def test_odd_numbers_in_options_are_left_out() -> None:
    body = '{"cores": {"options": [1, "inf", 1e999, NaN, 4]}}'
    assert exchange(Wire(answer(200, body)), lambda client: client.options()).cores == (1, 4)


def test_the_servers_words_are_reported_and_a_page_is_its_status() -> None:
    refused = created(answer(400, "Invalid value for 'cores': 17\n")).error
    assert refused is not None
    assert refused.message == "Invalid value for 'cores': 17"
    assert "get resources" in (refused.hint or "")
    page = created(answer(502, HTML, "text/html")).error
    assert page is not None
    assert (page.message, page.http_status) == ("Bad Gateway", 502)
    away = created(answer(503, "temporarily unavailable: null\n")).error
    assert away is not None
    assert away.message == "temporarily unavailable"
    noisy = created(answer(400, "a\x1b[31mred\x07\nline")).error
    assert noisy is not None
    assert noisy.message == "a [31mred line"


def test_no_connection_is_certain_and_a_late_answer_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    async def main() -> tuple[CreateResult, CreateResult, CreateResult]:
        late = Wire(answer(200, "abcd1234"), delay=0.8)
        async with late.listening():
            made = []
            for address in (f"http://127.0.0.1:{port}/skaha/v1", "http://no-such-host.invalid/skaha/v1", late.url):
                async with open_client(profile(address, auth=Auth()), environ={}) as client:
                    made.append(await client.create(REQUEST, "n"))
            await asyncio.sleep(0.5)
        return made[0], made[1], made[2]

    refused, unknown, late = asyncio.run(main())
    assert (refused.outcome, refused.error and refused.error.message) == (
        "not-created",
        "no connection: Connection refused",
    )
    assert unknown.outcome == CreateOutcome.NOT_CREATED
    assert (late.outcome, late.error and late.error.code) == ("ambiguous", "timeout")


def test_a_secret_is_in_no_message_no_report_and_no_exception() -> None:
    told: list[str] = []
    echo = f"unhandled auth: Authorization Bearer {TOKEN}"
    hidden = (TOKEN, "hunter2", "registry-secret", base64.b64encode(b"bob:registry-secret").decode())
    registry = Registry("images.canfar.net", "bob", secret_env="REGISTRY")
    for status in (400, 401, 403, 500, 503):
        body = f"{echo} P=hunter2=hunter2 hunter2\\\\x3dhunter2 {hidden[-1]}"
        made = exchange(
            Wire(answer(status, body)), lambda c: c.create(SECRET, "n"), lines=told, verbose=2, registry=registry
        )
        told.append(repr(made))
        with pytest.raises(SkahactlError) as raised:
            exchange(Wire(answer(status, echo)), lambda c: c.sessions(), lines=told, verbose=2)
        told += [*traceback.format_exception(raised.value), repr(raised.value.data())]
    with pytest.raises(UnreachableError) as lost:
        exchange(Wire(None), lambda c: c.sessions(), lines=told, verbose=2)
    told += traceback.format_exception(lost.value)
    text = "\n".join(told)
    assert "env=P=<env:PASSWORD>" in text
    assert [secret for secret in hidden if secret in text] == []


def test_verbose_tells_one_line_a_request() -> None:
    lines: list[str] = []
    exchange(Wire(answer(200, "[]")), lambda client: client.sessions(), lines=lines)
    (line,) = lines
    assert line.startswith("GET http://127.0.0.1:")
    assert line.endswith(" s")
    assert "/skaha/v1/session 200 " in line


def test_every_path_is_below_the_base_and_has_no_slash_at_its_end() -> None:
    wire = Wire(answer(200, "[]"))

    async def all_of_them(client: Client) -> None:
        await client.sessions()
        await client.images("headless")
        await client.delete("abcd1234")
        await client.renew("abcd1234")
        async with client.log("abcd1234") as pieces:
            assert b"".join([piece async for piece in pieces]) == b"[]"

    exchange(wire, all_of_them)
    assert [head.split(" HTTP")[0] for head in wire.heads] == [
        "GET /skaha/v1/session",
        "GET /skaha/v1/image?type=headless",
        "DELETE /skaha/v1/session/abcd1234",
        "POST /skaha/v1/session/abcd1234",
        "GET /skaha/v1/session/abcd1234?view=logs",
    ]
    assert wire.bodies[3] == b"action=renew"


@pytest.mark.parametrize("id", ["", ".", ".."])
def test_an_id_that_names_the_collection_is_never_sent(id: str) -> None:
    wire = Wire(answer(200, ""))
    with pytest.raises(UsageError, match="is not a session id"):
        exchange(wire, lambda client: client.delete(id))
    assert wire.heads == []


ROW = {"id": "a1b2c3d4", "userid": "alice", "type": "headless", "status": "Running", "name": "run7-0003"}


def test_replies_of_every_server_version_are_read_alike() -> None:
    (new,) = models.parse_sessions(json.dumps([{**ROW, "startTime": "2025-04-10T15:45Z", "connectURL": ""}]).encode())
    old_row = {**ROW, "startTime": "2025-04-10T15:45:00Z", "connectURL": "not-applicable", "expiryTime": "<none>"}
    (old,) = models.parse_sessions(json.dumps([{**old_row, "ramInUse": "<none>", "requestedRAM": "16G"}]).encode())
    assert new == old
    assert (new.started, new.expires, new.url) == (1744299900.0, None, None)
    words = {
        "Succeeded": "Completed",
        "Error": "Failed",
        "Failed (DeadlineExceeded)": "Failed",
        "Complete": "Completed",
    }
    words |= {"Unknown": "Pending", "": "Pending", "Terminating": "Terminating", "Running": "Running"}
    assert {word: models.parse_status(word) for word in words} == words


def test_options_may_be_numbers_or_texts() -> None:
    body = b'{"cores":{"options":[1,"2",4.0]},"memoryGB":{"options":["8"]},"maxInteractiveSessions":"5"}'
    options = models.parse_options(body)
    assert (options.cores, options.ram, options.gpus) == ((1, 2, 4), (8,), ())


def test_events_with_blanks_and_placeholders() -> None:
    table = (
        "TYPE      REASON             MESSAGE                                    FIRST-TIME             LAST-TIME\n"
        "Warning   FailedScheduling   0/9 nodes are available: 9 Insufficient cpu.   <none>   2026-11-22T16:00:00Z\n"
    )
    message = "0/9 nodes are available: 9 Insufficient cpu."
    assert models.parse_events(table.encode()) == (
        Event("Warning", "FailedScheduling", message, "<none>", "2026-11-22T16:00:00Z"),
    )
    assert models.parse_events(b"<none>\n") == ()
    with pytest.raises(models.UnreadableReply):
        models.parse_events(b"error: You must be logged in\nto the server\n")


def test_a_missing_session_and_a_missing_pod_are_none() -> None:
    assert exchange(Wire(answer(404, "session x not found\n")), lambda c: c.session("x")) is None
    assert exchange(Wire(answer(404, "session x not found.\n")), lambda c: c.events("x")) is None
    with pytest.raises(UnreachableError, match="404"):
        exchange(Wire(answer(404, HTML, "text/html")), lambda c: c.session("x"))


@pytest.mark.parametrize("body", [HTML, "{}", "[1]", "[{}]", '[{"id": "a"', "", "null", "\xff", "[" * 200_000])
def test_what_is_not_a_list_of_sessions_is_never_read_as_an_empty_one(body: str) -> None:
    with pytest.raises(UnreachableError, match="not a reply from a Skaha server"):
        exchange(Wire(answer(200, body)), lambda client: client.sessions())


def test_renew_tells_the_servers_words() -> None:
    words = "No active job for user PosixPrincipal with session x\n"
    assert exchange(Wire(answer(400, words)), lambda client: client.renew("x")) == words.strip()
    assert exchange(Wire(answer(200)), lambda client: client.renew("x")) is None
    with pytest.raises(AuthError):
        exchange(Wire(answer(400, "cannot get group memberships for anonymous\n")), lambda client: client.renew("x"))


def test_a_log_that_breaks_off_is_an_error_after_its_first_part() -> None:
    cut = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\nfirst part"
    got = []

    async def read(client: Client) -> None:
        async with client.log("x") as pieces:
            async for piece in pieces:
                got.append(piece)

    with pytest.raises(UnreachableError, match="broke"):
        exchange(Wire(cut), read)
    assert b"".join(got) == b"first part"
    with pytest.raises(AuthError):
        exchange(Wire(answer(401, "Unauthorized\n")), read)


def test_a_web_page_is_not_a_log() -> None:
    page = "<html>Sign in to WiFi</html>"
    got = []

    async def read(client: Client) -> None:
        async with client.log("x") as pieces:
            got.extend([piece async for piece in pieces])

    with pytest.raises(UnreachableError, match="not a reply from a Skaha server: a web page"):
        exchange(Wire(answer(200, page, "text/html; charset=utf-8")), read)
    assert not got
    exchange(Wire(answer(200, page)), read)
    assert b"".join(got).decode() == page, "a log may begin like a page"


def test_creates_are_bounded_lowered_and_raised_again() -> None:
    async def main() -> None:
        throttle = Throttle(8)
        now, most = 0, 0

        async def one(works: bool) -> None:
            nonlocal now, most
            async with throttle.slot():
                now += 1
                most = max(most, now)
                await asyncio.sleep(0)
                now -= 1
                throttle.record_success() if works else throttle.record_overload()

        await asyncio.gather(*(one(True) for _ in range(50)))
        assert (most, throttle.limit) == (8, 8)
        await asyncio.gather(*(one(False) for _ in range(8)))  # under way together: one struggle
        assert throttle.limit == 4
        for _ in range(5):
            await one(False)
        assert throttle.limit == 1
        for _ in range(60):
            await one(True)
        assert throttle.limit == 8

    asyncio.run(main())


def test_a_cancelled_create_gives_its_turn_back() -> None:
    async def main() -> None:
        throttle = Throttle(1)

        async def hold(seconds: float) -> None:
            async with throttle.slot():
                await asyncio.sleep(seconds)

        first = asyncio.create_task(hold(0.05))
        waiting = [asyncio.create_task(hold(0)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await first
        waiting[1].cancel()  # in the moment in which the turn is its own
        await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 2)
        await asyncio.wait_for(hold(0), 2)

    asyncio.run(main())


def test_a_503_lowers_what_the_client_sends_at_once() -> None:
    async def use(client: Client) -> list[int]:
        seen = [client.concurrency]
        await client.create(REQUEST, "a")
        seen.append(client.concurrency)
        for _ in range(6):
            await client.create(REQUEST, "a")
        return [*seen, client.concurrency]

    wire = Wire(answer(503, "temporarily unavailable: null\n"), answer(200, "abcd1234"))
    assert exchange(wire, use) == [8, 4, 7]


def test_credentials_go_to_https_or_this_machine_only() -> None:
    with pytest.raises(SkahactlError, match="https or to this machine"):
        open_client(profile("http://example.org/skaha/v1"), environ=ENVIRON)
    open_client(profile("http://localhost/skaha/v1"), environ=ENVIRON)
    open_client(profile("http://example.org/skaha/v1", auth=Auth()), environ=ENVIRON)


@pytest.mark.parametrize(
    ("server", "environ", "proxy"),
    [
        ("https://a.example.org/skaha/v1", {"HTTPS_PROXY": "proxy:3128"}, "http://proxy:3128"),
        ("https://a.example.org/skaha/v1", {"https_proxy": "http://p:1", "HTTPS_PROXY": "http://q:1"}, "http://p:1"),
        ("https://a.example.org/skaha/v1", {"all_proxy": "http://p:1"}, "http://p:1"),
        ("https://a.example.org/skaha/v1", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "x,.example.org"}, None),
        ("https://a.example.org/skaha/v1", {"HTTPS_PROXY": "http://p:1", "no_proxy": "ample.org"}, "http://p:1"),
        ("https://a.example.org/skaha/v1", {"HTTP_PROXY": "http://p:1"}, None),
        ("http://127.0.0.1:8080/skaha/v1", {"http_proxy": "http://p:1", "all_proxy": "http://p:1"}, None),
    ],
)
def test_proxies_of_the_environment_are_honoured(server: str, environ: dict[str, str], proxy: str | None) -> None:
    assert proxy_for(server, environ) == proxy


def test_a_proxy_that_cannot_be_reached_gives_no_connection() -> None:
    async def main() -> CreateResult:
        environ = {**ENVIRON, "HTTPS_PROXY": "http://127.0.0.1:9"}
        async with open_client(profile("https://a.example.invalid/skaha/v1"), environ=environ) as client:
            return await client.create(REQUEST, "n")

    assert asyncio.run(main()).outcome == CreateOutcome.NOT_CREATED


def test_a_token_is_read_from_a_private_file_at_each_request(tmp_path: Path) -> None:
    file = tmp_path / "token"
    auth = Auth("token", token_file=str(file))
    wire = Wire(answer(200, "[]"))

    async def use(client: Client) -> list[str | None]:
        seen = []
        for text in ("first-token\n", "second-token"):
            file.write_text(text)
            file.chmod(0o600)
            await client.sessions()
            seen.append(wire.header("authorization"))
        file.chmod(0o640)
        with pytest.raises(AuthError, match="is readable by other users"):
            await client.sessions()
        file.write_text("")
        file.chmod(0o600)
        made = await client.create(REQUEST, "n")
        assert (made.outcome, made.error and made.error.message) == ("auth", "the token file is empty")
        file.write_text("two words\nX-Evil: 1")
        with pytest.raises(AuthError, match="invalid token"):
            await client.sessions()
        return seen

    assert exchange(wire, use, auth=auth) == ["Bearer first-token", "Bearer second-token"]
    assert len(wire.heads) == 2
