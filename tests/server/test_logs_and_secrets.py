"""What stays on this machine: logs as the manifest says, several jobs in one loop, sessions taken over; no secret."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote_plus

import pytest

from tests.skaha_server.process import TOKEN, Server, running
from tests.workplace import Workplace

pytestmark = pytest.mark.once

IMAGE = 'image = "images.canfar.net/skaha/astroml:latest"'
JOB = f'name = "fits"\n{IMAGE}\ncommand = ["true"]\nreplicas = 4\n'


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path / "server", {"running": [0.2, 0.4], "log_lines": 3}) as started:
        yield started


@pytest.mark.parametrize(
    "keep", [pytest.param("all", marks=pytest.mark.slow), "failed", pytest.param("none", marks=pytest.mark.slow)]
)
def test_logs_are_kept_as_the_manifest_says_and_their_size_is_reported(
    tmp_path: Path, server: Server, keep: str
) -> None:
    server.tell("plan", fail=0.5, seed=2)
    here = Workplace(tmp_path / "here", server)
    here.write("job.toml", f'name = "kept"\n{IMAGE}\ncommand = ["x"]\nreplicas = 6\n[logs]\nkeep = "{keep}"\n')
    here.run("apply", "job.toml", "--wait", expect=1)
    rows = here.data("get", "replicas", "kept")
    assert {row["state"] for row in rows} == {"Completed", "Failed"}
    wanted = {"all": {"Completed", "Failed"}, "failed": {"Failed"}, "none": set()}[keep]
    assert all((row["log"]["path"] is not None) == (row["state"] in wanted) for row in rows)
    files = list((here.state).rglob("*.log"))
    assert len(files) == sum(row["state"] in wanted for row in rows)
    folder = here.state / "logs"
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.exists() else 0
    assert here.data("describe", "kept")["log_bytes"] == size
    assert (size > 0) == bool(wanted)
    assert len(here.run("logs", "kept").stdout.splitlines()) == 18, "while the platform has them, they can be read"
    told = here.data("prune", "--older-than", "0s", "--dry-run")
    assert [row["log_bytes"] for row in told] == [size]
    here.run("prune", "--older-than", "0s", "--logs", "--yes")
    assert [path for path in folder.rglob("*") if path.is_file()] == []
    here.run("prune", "--older-than", "0s", "--yes")
    assert here.data("get", "jobs") == []


def test_replicas_that_wrote_nothing_leave_nothing_behind(tmp_path: Path, server: Server) -> None:
    server.tell("plan", fail=1.0, log_lines=0)
    here = Workplace(tmp_path / "here", server, {"log-patience": 0})
    here.write("job.toml", f'name = "mute"\n{IMAGE}\ncommand = ["x"]\nreplicas = 2\n')
    here.run("apply", "job.toml", "--wait", expect=1)
    rows = here.data("get", "replicas", "mute")
    assert [row["log"] for row in rows] == [{"path": None, "shared": None, "bytes": 0, "complete": True}] * 2
    assert here.run("get", "replicas", "mute", "-o", "wide").stdout.count("  empty") == 2
    folder = here.state / "logs"
    size = sum(path.stat().st_size for path in folder.rglob("*.events"))
    assert here.data("describe", "mute")["log_bytes"] == size > 0
    here.run("prune", "--older-than", "0s", "--yes")
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_events_that_cannot_be_kept_stop_no_driver(tmp_path: Path, server: Server) -> None:
    server.tell("plan", fail=1.0, running=[1.0, 1.5])
    here = Workplace(tmp_path / "here", server)
    here.write("job.toml", f'name = "full"\n{IMAGE}\ncommand = ["x"]\nreplicas = 2\n')
    here.run("apply", "job.toml")
    for number in (1, 2):
        in_the_way = Path(here.data("get", "jobs", "full")[0]["logs"]) / f"{number}.1.log.events"
        in_the_way.mkdir(parents=True)
    told = here.run("resume", "full", expect=1).stderr
    assert told.count("the events cannot be saved: ") == 1
    assert [row["log"]["complete"] for row in here.data("get", "replicas", "full")] == [True, True]


def test_several_manifests_continue_in_one_loop_with_one_list_call_a_poll(tmp_path: Path, server: Server) -> None:
    server.tell("plan", running=[1.5, 2.0])
    here = Workplace(tmp_path / "here", server, {"poll-min": 0.5, "poll-max": 0.5})
    for name in ("one", "two", "three"):
        here.write(f"{name}.toml", f'name = "{name}"\n{IMAGE}\ncommand = ["x"]\nreplicas = 2\n')
    here.write("four.toml", f'name = "four"\nafter = ["one", "two"]\n{IMAGE}\ncommand = ["x"]\n')
    here.run("apply", "four.toml", "one.toml", "two.toml", "three.toml", "--wait")
    assert {row["status"] for row in here.data("get", "jobs")} == {"Completed"}
    state = server.state()
    ended = [row["ends"] for row in state["sessions"] if not row["name"].startswith(("three", "four"))]
    (last,) = (row for row in state["sessions"] if row["name"].startswith("four"))
    assert last["asked"] > max(ended)
    span = last["ends"] - min(row["asked"] for row in state["sessions"])
    looks = 6 + 2 * span / 0.5  # one a poll, and one when creates or logs are done; each job its own would be 4 a poll
    assert state["list_calls"] <= looks, "one list for all of them"


def test_sessions_of_another_machine_are_taken_over_or_counted_as_gone(tmp_path: Path, server: Server) -> None:
    server.tell("plan", running=[600, 600])
    first = Workplace(tmp_path / "first", server)
    first.write("job.toml", JOB)
    first.run("apply", "job.toml")
    ids = {int(row["replica"]): row["id"] for row in server.state()["sessions"]}
    server.tell("delete", sessions=[ids[3]])
    second = Workplace(tmp_path / "second", server)
    second.write("job.toml", JOB)
    second.run("apply", "job.toml", expect=2)
    second.run("apply", "job.toml", "--adopt", "create", "--dry-run")
    assert second.data("get", "jobs") == []
    said = second.run("apply", "job.toml", "--adopt", "unknown").stderr
    assert "  1 Unknown: the server has no session and no result of it. If no other machine ran it: " in said
    assert "finished unobserved" not in said
    rows = {row["replica"]: (row["state"], row["session"]) for row in second.data("get", "replicas", "fits")}
    assert rows == {number: ("Running", ids[number]) for number in (1, 2, 4)} | {3: ("Unknown", None)}
    second.run("retry", "fits", "--unknown")
    state = server.state()
    assert Counter(int(row["replica"]) for row in state["sessions"] if row["alive"]) == Counter(range(1, 5))
    second.run("delete", "fits")
    assert not any(row["alive"] for row in server.state()["sessions"])


def test_no_secret_is_stored_or_shown(tmp_path: Path, server: Server) -> None:
    """The bytes of everything that was written or said, for a token, a registry's secret and two of a job's."""
    secrets = {"SURVEY": "sUrVey|s3cret=", "REGISTRY": "r3gistry-s3cret", "FILE": "s3cret of a file"}

    class Secretive(Workplace):
        @property
        def environ(self) -> dict[str, str]:
            return {**super().environ, "SURVEY_TOKEN": secrets["SURVEY"], "REGISTRY_SECRET": secrets["REGISTRY"]}

    here = Secretive(tmp_path / "here", server)
    profile = (here.root / "profile.toml").read_text()
    registry = 'registry = "images.canfar.net"\nregistry-user = "me"\nregistry-secret-env = "REGISTRY_SECRET"\n'
    here.write("profile.toml", registry + profile)
    (tmp_path / "token.txt").write_text(secrets["FILE"] + "\n")
    here.write(
        "job.toml",
        f'name = "secret"\n{IMAGE}\ncommand = ["x", "$TOKEN"]\nreplicas = 3\n[env]\n'
        f'TOKEN = {{ from-env = "SURVEY_TOKEN" }}\nOTHER = {{ from-file = "{tmp_path}/token.txt" }}\n',
    )
    said = []
    for words, code in (
        (("apply", "job.toml", "--dry-run", "-vv"), 0),
        (("apply", "job.toml", "--dry-run", "-o", "json"), 0),
        (("apply", "job.toml", "--wait", "-vv", "--log-file", "requests.log"), 0),
        (("describe", "secret", "-o", "json"), 0),
        (("get", "replicas", "secret", "-o", "json", "-vv"), 0),
        (("apply", "job.toml", "--rerun", "-o", "json"), 0),
        (("diff", "job.toml"), 0),
        (("profile", "show"), 0),
    ):
        done = here.run(*words, expect=code)
        said.append(done.stdout + done.stderr)
    sent = [dict(row["env"]) for row in server.state()["sessions"]]
    assert {(env["TOKEN"], env["OTHER"]) for env in sent} == {(secrets["SURVEY"], secrets["FILE"])}
    server.tell("plan", deny="echo")
    for words in (("apply", "job.toml", "-vv"), ("get", "sessions", "-vv"), ("delete", "secret", "-o", "json")):
        done = here.run(*words, expect=3)
        said.append(done.stdout + done.stderr)
    files = {path: path.read_bytes() for path in here.root.rglob("*") if path.is_file()}
    files |= {Path(f"output {number}"): text.encode() for number, text in enumerate(said)}
    assert any(path.suffix == ".sqlite3" for path in files)
    assert any(path.name == "requests.log" and content for path, content in files.items())
    for secret in (*secrets.values(), TOKEN):
        for form in forms(secret):
            assert [path for path, content in files.items() if form in content] == [], secret


def forms(secret: str) -> tuple[bytes, ...]:
    """The secret as it is, as a form has it, and as the encoding writes it."""
    encoded = "".join(char if char.isalnum() else f"\\\\x{ord(char):02x}" for char in secret)
    texts = (secret, quote_plus(secret), encoded, quote_plus(encoded))
    return (*(text.encode() for text in texts), base64.b64encode(f"me:{secret}".encode()))
