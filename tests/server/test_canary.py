"""The canary: proof that a server decodes what is encoded, against one that does and one that does not."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from skahactl.skaha import canary
from tests.serve_process import ServeProcess
from tests.workplace import Done, Workplace

pytestmark = pytest.mark.once

IMAGE = "images.canfar.net/skaha/terminal:1.1.1"


def check(here: Workplace, server: str, token: str, expect: int = 0) -> Done:
    auth = '[auth]\nmethod = "token"\ntoken-env = "TOKEN"'
    here.write("p.toml", f'server = "{server}"\n{auth}\n[client]\nlog-patience = 0.5\n')
    return here.run("profile", "check", "p.toml", "--canary", IMAGE, expect=expect, extra={"TOKEN": token})


def remembered(here: Workplace, server: str, later: float = 0.0) -> bool | None:
    return canary.remembered_result(here.state, server, time.time() + later)


def test_a_server_that_decodes_is_proven(here: Workplace) -> None:
    served = ServeProcess(here)
    assert "arrived byte for byte" in check(here, served.url, served.token).stdout
    assert remembered(here, served.url) is True
    assert remembered(here, served.url, later=31 * 86400) is None
    assert remembered(here, "https://another/skaha/v1") is None
    served.stop()


class Literal(BaseHTTPRequestHandler):
    """A server that was mended: it escapes what it is sent, so that the text arrives as it was sent."""

    logs: dict[str, bytes]
    runs = True

    def do_POST(self) -> None:
        form = parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode(), keep_blank_values=True)
        argv = [dict(form)["cmd"], *dict(form)["args"].split(" ")]
        done = subprocess.run(argv, capture_output=True, check=False)
        self.logs["abcd1234"] = done.stdout + done.stderr if self.runs else b""
        self._answer(200, b"abcd1234\n")

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/skaha/availability":
            self._answer(200, b"<available>true</available><note>Skaha Service Available.</note>")
        elif parts.path == "/skaha/v1/context":
            self._answer(200, json.dumps({"cores": {"options": [1, 2]}}).encode())
        elif parts.path == "/skaha/v1/session":
            self._answer(200, json.dumps([{"id": id, "status": "Failed"} for id in self.logs]).encode())
        elif parts.path.removeprefix("/skaha/v1/session/") not in self.logs:
            self._answer(404, b"session abcd1234 not found\n")
        elif parts.query == "view=logs":
            self._answer(200, self.logs["abcd1234"])
        else:
            self._answer(200, b'{"id": "abcd1234", "status": "Failed"}')

    def do_DELETE(self) -> None:
        self.logs.pop(self.path.rsplit("/", 1)[1], None)
        self._answer(200, b"")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@contextlib.contextmanager
def literal(*, runs: bool = True) -> Iterator[tuple[str, dict[str, bytes]]]:
    logs: dict[str, bytes] = {}
    handler = type("Handler", (Literal,), {"logs": logs, "runs": runs})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/skaha/v1", logs
        server.shutdown()
        thread.join()


def test_a_server_that_decodes_differently_is_reported_and_remembered(here: Workplace) -> None:
    with literal() as (server, logs):
        done = check(here, server, "a-token", expect=1)
        assert "does not decode commands" in done.stderr
        assert "x20" in done.stderr  # what the canary printed
        assert remembered(here, server) is False
        assert logs == {}, "the canary is deleted"


def test_a_canary_without_output_proves_nothing(here: Workplace) -> None:
    with literal(runs=False) as (server, logs):
        done = check(here, server, "a-token", expect=1)
        assert "the result is inconclusive" in done.stderr
        assert remembered(here, server) is None
        assert logs == {}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"s": 1}', '{"s": {"arrived": 1, "at": "x"}}'])
def test_a_spoilt_memory_is_not_a_memory(tmp_path: Path, text: str) -> None:
    (tmp_path / "canary.json").write_text(text)
    assert canary.remembered_result(tmp_path, "s", time.time()) is None
