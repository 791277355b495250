"""The test server in a process of its own, as tests of the command line use it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "the-token-of-the-test"


@dataclass(frozen=True)
class Server:
    """A server that runs; ``url`` is what a profile names."""

    base: str

    @property
    def url(self) -> str:
        return f"{self.base}/skaha/v1"

    def state(self) -> Any:
        return httpx.get(f"{self.base}/_test/state", timeout=60, trust_env=False).raise_for_status().json()

    def counts(self) -> dict[str, int]:
        """Requests so far by kind; cheap."""
        counts: dict[str, int] = httpx.get(f"{self.base}/_test/counts", timeout=60, trust_env=False).json()
        return counts

    def tell(self, verb: str, **data: object) -> Any:
        """POST /_test/VERB: plan, outage, session, finish, fail, forget, suspend, admit, delete."""
        reply = httpx.post(f"{self.base}/_test/{verb}", json=data, timeout=60, trust_env=False)
        assert reply.status_code == 200, reply.text
        return reply.json()


@contextlib.contextmanager
def running(directory: Path, plan: dict[str, object]) -> Iterator[Server]:
    """Starts a server with this plan; it ends with the block, or with the test's process."""
    directory.mkdir(parents=True, exist_ok=True)
    plan_file, port_file = directory / "plan.json", directory / "port"
    plan_file.write_text(json.dumps(plan))
    command = [sys.executable, "-m", "tests.skaha_server", "--port-file", str(port_file), "--plan", str(plan_file)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE)
    try:
        yield Server(f"http://127.0.0.1:{_port(process, port_file)}")
    finally:
        process.communicate(b"", timeout=120)


def _port(process: subprocess.Popen[bytes], port_file: Path) -> int:
    until = time.monotonic() + 120
    while not port_file.exists():
        assert process.poll() is None, f"the test server ended with {process.returncode}"
        assert time.monotonic() < until, "the test server does not listen"
        time.sleep(0.01)
    return int(port_file.read_text())
