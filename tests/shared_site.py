"""A server with shared storage, and machines with their own records that reach it only over HTTP.

skahactl runs in a mount namespace of its own, in which the directory of the server is hidden: it has to ask the storage
service, as on a laptop.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faulty_proxy import FaultyProxy, proxy_to
from tests.serve_process import ServeProcess
from tests.workplace import COMMAND, Done, Workplace, wait_for

MEMORY = 4.0  # seconds that the server remembers a finished session
#: Runs a command that does not see the directory in the first argument.
HIDDEN = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"']


def can_hide() -> bool:
    try:
        return subprocess.run([*HIDDEN, "/mnt", "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@dataclass
class SharedSite:
    """A server with storage, and machines with their own records that use it through a proxy."""

    root: Path
    url: str
    proxy: FaultyProxy

    @property
    def shared(self) -> Path:
        return self.root / "server" / "shared"

    @property
    def gate(self) -> Path:
        return self.root / "server" / "gate"

    @property
    def storage(self) -> str:
        """The address of the storage service."""
        return f"{self.url.removesuffix('/skaha/v1')}/arc"

    @property
    def command(self) -> list[str]:
        return [*COMMAND, "-p", str(self.root / "profile.toml")]

    def at(self, machine: str) -> Workplace:
        return Workplace(self.root / machine)

    def start(self, *words: str, machine: str = "laptop") -> subprocess.Popen[str]:
        program = [*HIDDEN, str(self.root / "server"), *self.command]
        return self.at(machine).start(*words, program=program)

    def run(self, *words: str, machine: str = "laptop", expect: int = 0) -> Done:
        program = [*HIDDEN, str(self.root / "server"), *self.command]
        return self.at(machine).run(*words, program=program, expect=expect)

    def data(self, *words: str, machine: str = "laptop") -> Any:
        return json.loads(self.run(*words, "-o", "json", machine=machine).stdout)

    def request(self, method: str, path: str) -> httpx.Response:
        """A request of another client to the server."""
        headers = {"Authorization": f"Bearer {(self.root / 'token').read_text().strip()}"}
        return httpx.request(method, self.url + path, headers=headers, trust_env=False, timeout=60).raise_for_status()

    def write_job(self, machine: str = "laptop", replicas: int = 4, extra: str = "") -> None:
        """A job of which replica 3 fails in its first attempt. Replicas begin when ``gate`` exists."""
        self.at(machine).write(
            "job.toml",
            'name = "tiles"\nimage = "images.canfar.net/a/b:1"\n'
            f"shell = '''until [ -e {self.gate} ]; do sleep 0.1; done\n"
            "echo \"replica $REPLICA_ID begins\"; sleep 0.5; printf 'no newline at the end'\n"
            'if [ "$REPLICA_ID" = 3 ] && [ -z "$SKAHACTL_ATTEMPT" ]; then exit 7; fi\'\'\'\n'
            f'replicas = {replicas}\n[logs]\nshared = "{self.shared}"\n{extra}',
        )

    def replicas(self, job: str, machine: str = "laptop") -> Any:
        return self.data("get", "replicas", job, machine=machine)

    def wait_until_ended(self, count: int) -> None:
        """Until so many ends are recorded, and the server has discarded the sessions."""
        wait_for(lambda: len(list(self.shared.rglob("*.end"))) >= count)
        time.sleep(MEMORY + 1)


@contextlib.contextmanager
def shared_site(root: Path) -> Iterator[SharedSite]:
    if not can_hide():
        pytest.skip("needs mount namespaces")
    here = Workplace(root / "server")
    here.slots(8, memory=MEMORY)
    (here.root / "shared").mkdir()
    (root / "token").write_text("0123456789abcdef0123456789abcdef\n")
    (root / "token").chmod(0o600)
    served = ServeProcess(here, "--token-file", str(root / "token"), "--storage", "shared")
    try:
        with proxy_to(served.url) as (url, proxy):
            site = SharedSite(root, url, proxy)
            site.gate.touch()
            (root / "profile.toml").write_text(
                f'server = "{url}"\n[auth]\nmethod = "token"\ntoken-file = "token"\n'
                f'[storage]\nroot = "{site.shared}"\nurl = "{site.storage}"\n'
                f"[client]\nmemory = {MEMORY}\npoll-min = 0.2\nbackoff = 0.2\nsettle = 1\n"
            )
            yield site
    finally:
        served.stop()
