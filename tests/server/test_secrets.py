"""Secrets: read once per command, from regular files, within a time; a missing one holds replicas, and rejects none."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.skaha_server.process import Server, running
from tests.workplace import SHELL, Workplace

pytestmark = pytest.mark.once

JOB = """
name = "secretive"
image = "images.canfar.net/skaha/astroml:latest"
command = ["run"]
replicas = 4
[env]
TOKEN = { %s }
[limits]
alive = 2
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path / "server", {"pending": [0.0, 0.0], "running": [1.0, 1.0]}) as server:
        yield server


@pytest.fixture
def here(tmp_path: Path, server: Server) -> Workplace:
    return Workplace(tmp_path / "here", server)


def test_what_is_not_a_regular_file_is_refused_at_once(here: Workplace, server: Server) -> None:
    os.mkfifo(here.root / "fifo")
    (here.root / "large").write_bytes(b"x" * 65537)
    reasons = {
        "fifo": "it is not a regular file",
        "/dev/zero": "it is not a regular file",
        "large": "it has more than 64 KiB",
        ".": "it is not a regular file",
    }
    for number, source in enumerate(reasons):
        here.write(f"{number}.toml", JOB % f'from-file = "{source}"')
    told = here.each(*(f"apply {number}.toml" for number in range(len(reasons))))
    for reason, done in zip(reasons.values(), told, strict=True):
        assert (done.returncode, reason in done.stderr) == (2, True), done
    assert server.state()["sessions"] == []


@pytest.mark.parametrize("source", ["secret", "/dev/stdin", "/dev/fd/9"])
def test_a_file_is_read_once_and_arrives_in_every_replica(here: Workplace, server: Server, source: str) -> None:
    here.write("secret", "s3cret\n")
    here.write("job.toml", JOB % f'from-file = "{source}"')
    line = f"{sys.executable} -m skahactl apply job.toml --wait < secret 9< secret"
    here.run(line, program=SHELL)
    assert [dict(row["env"])["TOKEN"] for row in server.state()["sessions"]] == ["s3cret"] * 4


def test_a_missing_secret_holds_only_the_replicas_that_need_it(here: Workplace, server: Server) -> None:
    both = '[common]\nimage = "images.canfar.net/skaha/astroml:latest"\ncommand = ["run"]\nreplicas = 2\n'
    both += '[[job]]\nname = "needs"\n'
    both += 'env = {{ TOKEN = {{ from-env = "SURVEY_TOKEN" }} }}\n[job.limits]\nalive = {}\n[[job]]\nname = "free"\n'
    both += "[job.limits]\nalive = {}\n"
    here.extra["SURVEY_TOKEN"] = "s3cret"
    here.write("jobs.toml", both.format(1, 1))
    here.run("apply", "jobs.toml")
    del here.extra["SURVEY_TOKEN"]
    here.write("jobs.toml", both.format(2, 2))
    held = here.run("apply", "jobs.toml", expect=3)
    assert "SURVEY_TOKEN" in held.stderr
    states = {name: [row["state"] for row in here.data("get", "replicas", name)] for name in ("needs", "free")}
    assert states["needs"][1] == "Queued"
    assert "Queued" not in states["free"]


def test_a_registry_secret_is_read_once_and_a_missing_one_holds_the_replicas(here: Workplace, server: Server) -> None:
    registry = 'registry = "images.canfar.net"\nregistry-user = "me"\nregistry-secret-env = "REGISTRY_SECRET"\n'
    here.write("profile.toml", registry + (here.root / "profile.toml").read_text())
    here.write("job.toml", JOB.partition("[env]")[0] + "[limits]\nalive = 2\n")
    assert "REGISTRY_SECRET is not set" in here.run("apply", "job.toml", expect=2).stderr
    here.extra["REGISTRY_SECRET"] = "s3cret"
    here.run("apply", "job.toml")
    del here.extra["REGISTRY_SECRET"]
    here.run("wait", "secretive/1-2", "--timeout", "60s")
    assert "REGISTRY_SECRET" in here.run("apply", "job.toml", expect=3).stderr
    states = [row["state"] for row in here.data("get", "replicas", "secretive")]
    assert states == ["Completed", "Completed", "Queued", "Queued"]


def test_a_registry_secret_that_others_can_read_is_refused(here: Workplace, server: Server) -> None:
    registry = 'registry = "images.canfar.net"\nregistry-user = "me"\nregistry-secret-file = "secret"\n'
    here.write("profile.toml", registry + (here.root / "profile.toml").read_text())
    here.write("secret", "s3cret\n")
    (here.root / "secret").chmod(0o644)
    here.write("job.toml", JOB.partition("[env]")[0])
    assert f"chmod 600 {here.root}/secret" in here.run("apply", "job.toml", expect=2).stderr
    assert server.state()["sessions"] == []


def test_a_missing_secret_is_an_error_for_a_new_run_and_holds_replicas_of_an_old_one(
    here: Workplace, server: Server
) -> None:
    here.write("job.toml", JOB % 'from-env = "SURVEY_TOKEN"')
    refused = here.run("apply", "job.toml", expect=2)
    assert "SURVEY_TOKEN is not set" in refused.stderr
    here.extra["SURVEY_TOKEN"] = "s3cret"
    here.run("apply", "job.toml")
    del here.extra["SURVEY_TOKEN"]
    here.run("wait", "secretive/1-2", "--timeout", "60s")
    held = here.run("apply", "job.toml", expect=3)
    assert "SURVEY_TOKEN" in held.stderr
    states = [row["state"] for row in here.data("get", "replicas", "secretive")]
    assert states == ["Completed", "Completed", "Queued", "Queued"]
    here.extra["SURVEY_TOKEN"] = "s3cret"
    here.run("apply", "job.toml", "--wait")
    assert len(server.state()["sessions"]) == 4


def test_a_driver_ends_when_only_replicas_are_left_that_need_a_missing_secret(here: Workplace, server: Server) -> None:
    here.write("job.toml", JOB % 'from-env = "SURVEY_TOKEN"')
    here.extra["SURVEY_TOKEN"] = "s3cret"
    here.run("apply", "job.toml")
    del here.extra["SURVEY_TOKEN"]
    for words in (("resume", "secretive"), ("apply", "job.toml", "--wait")):
        said = here.run(*words, expect=3).stderr
        missing = "secretive: [env] TOKEN: the variable SURVEY_TOKEN is not set; "
        assert said.count(f"warning: {missing}replicas that need it stay Queued\n") == 1
        assert f"error: {missing}2 replicas stay Queued\n" in said
        assert "export SURVEY_TOKEN=...\nhelp: to continue: skahactl resume secretive\n" in said
    states = [row["state"] for row in here.data("get", "replicas", "secretive")]
    assert states == ["Completed", "Completed", "Queued", "Queued"]
    here.extra["SURVEY_TOKEN"] = "s3cret"
    here.run("resume", "secretive")


def test_a_driver_continues_while_another_job_needs_no_secret(here: Workplace, server: Server) -> None:
    both = '[common]\nimage = "images.canfar.net/skaha/astroml:latest"\ncommand = ["run"]\nreplicas = 4\n'
    both += 'limits = { alive = 1 }\n[[job]]\nname = "needs"\n'
    both += 'env = { TOKEN = { from-env = "SURVEY_TOKEN" } }\n[[job]]\nname = "free"\n'
    both += '[[job]]\nname = "last"\nafter = ["needs"]\n'
    here.write("jobs.toml", both)
    here.extra["SURVEY_TOKEN"] = "s3cret"
    here.run("apply", "jobs.toml")
    del here.extra["SURVEY_TOKEN"]
    assert "error: needs: [env] TOKEN" in here.run("apply", "jobs.toml", "--wait", expect=3).stderr
    states = {name: [row["state"] for row in here.data("get", "replicas", name)] for name in ("needs", "free", "last")}
    assert states == {
        "needs": ["Completed", *["Queued"] * 3],
        "free": ["Completed"] * 4,
        "last": ["Queued"] * 4,
    }
