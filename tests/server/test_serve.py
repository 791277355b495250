"""serve: the local platform on a real socket, for the public client, and against those who should not get in."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.local_platform import IMAGE
from tests.serve_process import ServeProcess
from tests.workplace import COMMAND, PYTHON, Workplace, wait_for


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    server = ServeProcess(Workplace(tmp_path_factory.mktemp("serve")))
    yield server
    server.stop()


CANFAR = """
import json, re, sys, time
from canfar.sessions import Session
session = Session(url=sys.argv[1], token=sys.argv[2], timeout=30)
ids = session.create(
    name="fits", image="skaha/astroml:latest", cmd="sh", args="-c env", env={"LEVEL": "debug"}, replicas=20
)
assert len(set(ids)) == 20, ids
while True:
    listed = [row for row in session.fetch(kind="headless") if row["id"] in ids]
    if {row["status"] for row in listed} == {"Completed"}:
        break
    time.sleep(0.05)
info = session.info(ids)
logs = session.logs(ids)
events = session.events(ids)
seen = sorted(int(re.search(r"^REPLICA_ID=(.*)$", text, re.M)[1]) for text in logs.values())
destroyed = session.destroy(ids)
left = [row["id"] for row in session.fetch() if row["id"] in ids]
print(json.dumps({
    "listed": sorted(row["name"] for row in listed), "info": len(info), "seen": seen,
    "levels": sum("LEVEL=debug" in text for text in logs.values()),
    "events": sum("Started" in text for entry in events for text in entry.values()),
    "destroyed": sum(destroyed.values()), "left": left, "stats": sorted(session.stats()),
}))
"""


@pytest.mark.once
def test_the_public_client_creates_looks_and_destroys(server: ServeProcess) -> None:
    pytest.importorskip("canfar")
    done = server.here.run(CANFAR, server.url, server.token, program=PYTHON)
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "listed": sorted(f"fits-{number}" for number in range(1, 21)),
        "info": 20,
        "seen": list(range(1, 21)),
        "levels": 20,
        "events": 20,
        "destroyed": 20,
        "left": [],
        "stats": ["cores", "ram"],
    }


FORM = {"image": IMAGE, "name": "evil", "cmd": "touch", "args": "evil-ran"}


def refused(server: ServeProcess, status: int, **headers: str) -> str:
    """A create with these headers is answered with ``status``, and made nothing; the body."""
    with server.client(**headers) as client:
        reply = client.post("/session", data=FORM)
    with server.client() as client:
        assert client.get("/session").json() == []
    assert reply.status_code == status
    assert reply.headers["content-type"] == "text/plain"
    assert not (server.here.root / "evil-ran").exists()
    return reply.text


def test_a_form_of_a_web_page_is_refused(server: ServeProcess) -> None:
    assert "web pages" in refused(server, 403, Origin="https://evil.example")
    assert "web pages" in refused(server, 403, Origin="null")
    assert "web pages" in refused(server, 403, Origin=server.url.removesuffix("/skaha/v1"))


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost.evil:{port}"]
)
def test_a_foreign_host_is_refused(server: ServeProcess, host: str) -> None:
    refused(server, 403, Host=host.format(port=server.port))


def test_localhost_is_this_server_too(server: ServeProcess) -> None:
    with server.client(Host=f"LOCALHOST:{server.port}") as client:
        assert client.get("/session").status_code == 200


@pytest.mark.parametrize("value", ["Bearer wrong", "Bearer", "", "Bearer {token}x", "Basic {token}", "{token}"])
def test_a_wrong_token_is_refused(server: ServeProcess, value: str) -> None:
    value = value.format(token=server.token)
    body = refused(server, 401, Authorization=value)
    assert server.token not in body


def test_no_token_is_refused_everywhere(server: ServeProcess) -> None:
    with httpx.Client(trust_env=False) as client:
        for path in ("/v1/session", "/v1/context", "", "/capabilities", "/nowhere"):
            reply = client.get(server.url.removesuffix("/v1") + path)
            assert (reply.status_code, reply.text) == (401, "Unauthorized\n")
            assert reply.headers["www-authenticate"].startswith("Bearer")


def test_bodies_have_a_limit(server: ServeProcess) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(40):
            yield b"x" * 65536

    form = {"content-type": "application/x-www-form-urlencoded"}
    with server.client(**form) as client:
        assert client.post("/session", content=b"x" * (2 * 1024 * 1024 + 1)).status_code == 413
        assert client.post("/session", content=pieces()).status_code == 413
        fits = client.post("/session", content=b"x=" + b"x" * (2 * 1024 * 1024 - 2))
        assert (fits.status_code, fits.text) == (400, "Missing parameter 'image'\n")


def test_a_log_is_streamed_and_a_head_has_no_body(server: ServeProcess) -> None:
    with server.client() as client:
        fields = {**FORM, "name": "big", "cmd": "head", "args": "-c 5000000 /dev/zero"}
        session = client.post("/session", data=fields).text.strip()
        wait_for(lambda: client.get(f"/session/{session}").json()["status"] == "Completed")
        with client.stream("GET", f"/session/{session}", params={"view": "logs"}) as reply:
            assert reply.headers["transfer-encoding"] == "chunked"
            assert sum(len(piece) for piece in reply.iter_raw()) == 5_000_000
        client.delete(f"/session/{session}")
        assert client.head(server.url.removesuffix("/v1")).status_code == 200
        assert client.put("/session").text == "unsupported: HTTP PUT\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_cleanly(tmp_path: Path, number: int) -> None:
    """A closed terminal ends it as TERM does."""
    server = ServeProcess(Workplace(tmp_path))
    token, url = server.token, server.url
    kept = tmp_path / "state" / "local" / f"serve-{server.port}.token"
    assert kept.stat().st_mode & 0o777 == 0o600
    with server.client() as client:
        fields = {**FORM, "name": "lasts", "cmd": "sh", "args": "-c sleep\\\\x200.5;echo\\\\x20x>evil-ran"}
        assert client.post("/session", data=fields).status_code == 200
        _, words = server.stop(number)
    assert server.process.returncode == -(signal.SIGTERM if number == signal.SIGHUP else number)
    assert "Traceback" not in words
    assert url in words
    assert f'SKAHACTL_TOKEN="$(cat {kept})"' in words
    assert re.search(r"bearer token is in \S+\.token\b", words)
    assert token not in words, "stderr may be a log that others can read"
    assert not kept.exists()
    wait_for((tmp_path / "evil-ran").exists)  # sessions go on without the server


def test_a_port_in_use_is_a_clear_error(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "cannot listen on 127.0.0.1" in serve_fails(tmp_path, "--port", str(taken.getsockname()[1]))
    assert "the port must be between 0 and 65535" in serve_fails(tmp_path, "--port", "70000")


@pytest.mark.once
def test_the_token_may_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    assert "cannot be read" in serve_fails(tmp_path, "--token-file", str(file))
    file.write_text("short\n")
    assert "16 characters" in serve_fails(tmp_path, "--token-file", str(file))
    file.write_text("a-token-of-my-own-choice\n")
    file.chmod(0o644)
    assert "readable by other users" in serve_fails(tmp_path, "--token-file", str(file))
    file.chmod(0o600)
    server = ServeProcess(Workplace(tmp_path), "--token-file", str(file))
    try:
        known = {"authorization": "Bearer a-token-of-my-own-choice"}
        assert httpx.get(server.url + "/session", headers=known, trust_env=False).json() == []
    finally:
        _, words = server.stop()
    assert "a-token-of-my-own-choice" not in words
    assert file.exists(), "what we did not make we do not remove"


def serve_fails(home: Path, *options: str) -> str:
    done = Workplace(home).run("serve", *options, expect=2)
    assert done.stdout == ""
    return done.stderr


@pytest.mark.once
def test_idle_and_half_sent_connections_do_not_block_it(tmp_path: Path) -> None:
    """With few files to open, many connections without a token, and some that send half a request."""
    limited = ["sh", "-c", 'ulimit -n 150; exec "$@"', "sh"]
    server = ServeProcess(Workplace(tmp_path), program=(*limited, *COMMAND))
    others = []
    try:
        for number in range(200):
            other = socket.create_connection(("127.0.0.1", server.port), timeout=60)
            others.append(other)
            with contextlib.suppress(OSError):  # it may be closed already
                other.sendall(b"POST /skaha/v1/session HTTP/1.1\r\nHo" if number % 2 else b"")
        with server.client() as client:
            assert client.get("/session").json() == []
    finally:
        for other in others:
            other.close()
        code, words = server.stop()
    assert code == 130
    assert "Traceback" not in words
    assert len(words) < 2000


def test_a_profile_of_it_is_added_with_a_token_in_a_file_below_home(server: ServeProcess) -> None:
    """The shell does not expand the tilde in quotes; the check sends the token."""
    (server.here.root / "tok").write_text(f"{server.token}\n")
    (server.here.root / "tok").chmod(0o600)
    words = ["profile", "add", "remote", "--server", server.url, "--auth", "token", "--token-file", "~/tok"]
    server.here.run(*words)
    server.here.run("-p", "remote", "get", "sessions")


def test_a_profile_that_the_server_does_not_accept_is_not_written(server: ServeProcess) -> None:
    """Nothing in the hint refers to a profile, because there is none."""
    words = ["profile", "add", "refused", "--server", server.url]
    said = server.here.run(*words, "--auth", "none", expect=3).stderr
    assert said.endswith("help: nothing was written; use --auth token or x509, or add --no-check\n")
    said = server.here.run(*words, "--token-env", "WRONG", extra={"WRONG": "x"}, expect=3).stderr
    assert said.endswith("help: nothing was written; set WRONG to a valid token, or add --no-check\n")
    assert "unknown profile" in server.here.run("-p", "refused", "get", "sessions", expect=2).stderr
