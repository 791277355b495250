"""A job of 1,000 replicas: what it takes of memory, connections and calls, and what is done to it as a whole."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.skaha_server.process import Server, running
from tests.workplace import Workplace

pytestmark = pytest.mark.once

JOB = """
name = "many"
image = "images.canfar.net/skaha/astroml:latest"
command = ["process"]
replicas = {replicas}
"""


def measured(here: Workplace, *words: str) -> tuple[int, int]:
    """Runs a command, its output into a file; its peak memory in MB and the most descriptors it had open."""
    with open(here.root / "said", "w") as said:
        command = [sys.executable, "-m", "skahactl", *words]
        process = subprocess.Popen(command, cwd=here.root, env=here.environ, stdout=said, stderr=said)
        memory = descriptors = 0
        while process.poll() is None:
            memory, descriptors = max(memory, peak(process.pid)), max(descriptors, opened(process.pid))
            time.sleep(0.02)
    assert process.returncode == 0, (here.root / "said").read_text()[-2000:]
    return memory, descriptors


def peak(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM")), 0)


def opened(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def since(server: Server, before: Mapping[str, int]) -> dict[str, int]:
    return {kind: count - before.get(kind, 0) for kind, count in server.counts().items() if count > before.get(kind, 0)}


@pytest.mark.parametrize("replicas", [150, pytest.param(1000, marks=pytest.mark.slow)])
def test_as_a_whole(tmp_path: Path, replicas: int) -> None:
    with running(tmp_path / "server", {"running": [0.5, 1.5], "log_lines": 3}) as server:
        here = Workplace(tmp_path / "here", server, {"poll-min": 1, "poll-max": 2, "settle": 2400})
        here.write("job.toml", JOB.format(replicas=replicas))
        begun = time.monotonic()
        memory, descriptors = measured(here, "apply", "job.toml", "--wait")
        took = time.monotonic() - begun
        calls = since(server, {})
        assert (calls["create"], calls["logs"]) == (replicas, replicas), "one create and one log each"
        assert calls["list"] <= took + 5, "one list call a poll"
        assert set(calls) <= {"create", "logs", "list", "context", "image"}
        state = server.state()
        assert state["connections"]["most"] <= 16 + 2
        assert descriptors <= 16 + 32
        assert memory <= 160

        server.tell("plan", running=[600, 600])
        here.run("apply", "job.toml", "--rerun")
        before = server.counts()
        here.run("renew", "many")
        assert since(server, before) == {"list": 2, "renew": replicas}
        before, begun = server.counts(), time.monotonic()
        here.run("delete", "many")
        calls = since(server, before)
        assert replicas <= calls["delete"] <= 1.1 * replicas, "asked again only if it stays"
        assert calls["list"] <= 5 + 8 * (time.monotonic() - begun)
        assert set(calls) == {"delete", "get", "list", "logs"}, "logs are saved first, and every delete is verified"
        assert not any(row["alive"] for row in server.state()["sessions"])
        (job,) = here.data("get", "jobs")
        assert (job["status"], job["counts"]["Deleted"]) == ("Deleted", replicas)
