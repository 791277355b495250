"""A ledger restored from an older backup, and a second machine: replicas are not doubled, and the user chooses."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.skaha_server.process import running
from tests.workplace import Workplace

pytestmark = pytest.mark.once

JOB = "name = 'fits'\nimage = 'images.canfar.net/skaha/astroml:latest'\ncommand = ['env']\nreplicas = 6\n"


@pytest.mark.parametrize("options", [(), ("--wait",)], ids=["one pass", "driver"])
def test_what_a_restored_ledger_does_not_know_blocks_the_create(tmp_path: Path, options: tuple[str, ...]) -> None:
    with running(tmp_path / "server", {}) as server:
        here = Workplace(tmp_path / "here", server)
        here.write("job.toml", JOB + "[limits]\nalive = 3\n")
        here.run("apply", "job.toml")
        backup = shutil.copytree(here.state, tmp_path / "backup")
        here.write("job.toml", JOB)
        here.run("apply", "job.toml")
        assert server.counts()["create"] == 6
        shutil.rmtree(here.state)
        shutil.copytree(backup, here.state)

        done = here.run("apply", "job.toml", *(("--timeout", "8s") if options else ()), *options, expect=None)
        assert done.returncode == (5 if options else 2), done.stderr  # a driver goes on with the replicas that run
        assert "unrecognised session" in done.stderr
        assert server.counts()["create"] == 6, "nothing was doubled"
        if not options:
            assert "--adopt create" in done.stderr

        adopted = here.run("apply", "job.toml", "--adopt", "create")
        assert "another command still drives it" in adopted.stderr
        assert server.counts()["create"] == 6
        sessions = {row["session"] for row in here.data("get", "replicas", "fits")}
        assert sessions == {row["id"] for row in server.state()["sessions"]}
        here.run("delete", "fits")
        assert not [row for row in server.state()["sessions"] if row["alive"]]
