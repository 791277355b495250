"""Answers of the platform, or of what stands before it, that are not what they should be: the real command."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.skaha_server.process import running
from tests.workplace import Workplace

pytestmark = pytest.mark.once

JOB = "name = 'tiles'\nimage = 'images.canfar.net/skaha/astroml:latest'\ncommand = ['true']\nreplicas = 2\n"
KUBECTL = "error: You must be logged in to the server\nthe server has asked for the client to provide credentials\n"


def test_events_that_cannot_be_read_cost_no_log(tmp_path: Path) -> None:
    plan = {"running": [0.2, 0.2], "fail": 1.0, "answers": {"events": [500, "text/plain", "unexpected exception: x"]}}
    with running(tmp_path / "server", plan) as server:
        here = Workplace(tmp_path / "here", server)
        for name, answer in (("a", [500, "text/plain", "unexpected exception"]), ("b", [200, "text/plain", KUBECTL])):
            server.tell("plan", answers={"events": answer})
            before = server.counts().get("logs", 0)
            here.write("job.toml", JOB.replace("tiles", name))
            here.run("apply", "job.toml", "--wait", expect=1)
            rows = here.data("get", "replicas", name)
            assert [(row["state"], row["log"]["complete"]) for row in rows] == [("Failed", True)] * 2
            assert server.counts()["logs"] - before == 2, "each log is read once"


def test_a_page_in_a_logs_place_is_not_kept_for_it(tmp_path: Path) -> None:
    page = [200, "text/html", "<html>Sign in to WiFi</html>"]
    plan = {"running": [0.2, 0.2], "answers": {"logs": page}}
    with running(tmp_path / "server", plan) as server:
        here = Workplace(tmp_path / "here", server)
        here.write("job.toml", JOB)
        here.run("apply", "job.toml", "--wait", "--timeout", "4s", expect=5)
        assert server.counts()["logs"] > 0
        assert here.kept_logs() == set()
        server.tell("plan", answers={})
        here.run("apply", "job.toml", "--wait")
        assert here.kept_logs() == {row["log_sha256"] for row in server.state()["sessions"]}


def test_creates_that_the_platform_does_not_take_for_now_end_with_4(tmp_path: Path) -> None:
    with running(tmp_path / "server", {"faults": {"unavailable": 1.0}, "retry_after": 3600}) as server:
        here = Workplace(tmp_path / "here", server)
        here.write("job.toml", JOB)
        outcome = here.data("apply", "job.toml", expect=4)
        assert outcome["exit"] == 4
        assert {step["outcome"] for step in outcome["jobs"][0]["steps"]} == {"not created"}


def test_a_start_that_is_a_number_is_shown_as_none(tmp_path: Path) -> None:
    row = '[{"id": "abcdefgh", "name": "x", "status": "Running", "type": "headless", "startTime": 1700000000}]'
    with running(tmp_path / "server", {"answers": {"list": [200, "application/json", row]}}) as server:
        assert "abcdefgh" in Workplace(tmp_path / "here", server).run("get", "sessions").stdout


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ('[{"id": "abcdefgh", "name": "x\\ud800", "status": "Running", "type": "\\udfff"}]', 0),
        ("[" * 100_000, 4),
        ('[{"id": "abcdefgh", "name": "x", "cores": ' + "9" * 5000 + "}]", 4),
    ],
    ids=["lone surrogates", "nested", "digits"],
)
def test_json_that_python_cannot_write_or_read(tmp_path: Path, body: str, code: int) -> None:
    with running(tmp_path / "server", {}) as server:
        here = Workplace(tmp_path / "here", server)
        here.write("job.toml", JOB)
        here.run("apply", "-q", "job.toml")
        server.tell("plan", answers={"list": [200, "application/json", body]})
        for words in (("get", "sessions"), ("get", "sessions", "-o", "json"), ("get", "tiles")):
            here.run(*words, expect=code)
        here.run("resume", "tiles", "--timeout", "1s", expect=code or 5)
