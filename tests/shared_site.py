"""A server with shared storage, and machines with their own records that reach it only over HTTP.

skahactl runs in a mount namespace of its own, in which the directory of the server is hidden: it has to ask the storage
service, as on a laptop.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.faulty_proxy import FaultyProxy, proxy_to

ROOT = Path(__file__).resolve().parents[1]
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

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "skahactl", "-p", str(self.root / "profile.toml"), *words]

    def environment(self, machine: str) -> dict[str, str]:
        return environment_of(self.root, machine)

    def start(self, *words: str, machine: str = "laptop") -> subprocess.Popen[str]:
        folder = self.root / machine
        folder.mkdir(exist_ok=True)
        return subprocess.Popen(
            [*HIDDEN, str(self.root / "server"), *self.command(*words)],
            cwd=folder,
            env=self.environment(machine),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, machine: str = "laptop", expect: int = 0) -> subprocess.CompletedProcess[str]:
        process = self.start(*words, machine=machine)
        out, err = process.communicate(timeout=120)
        assert process.returncode == expect, (out, err)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def request(self, method: str, path: str) -> httpx.Response:
        """A request of another client to the server."""
        headers = {"Authorization": f"Bearer {(self.root / 'token').read_text().strip()}"}
        return httpx.request(method, self.url + path, headers=headers, trust_env=False, timeout=60).raise_for_status()

    def write_job(self, machine: str = "laptop", replicas: int = 4, extra: str = "") -> None:
        """A job of which replica 3 fails in its first attempt. Replicas begin when ``gate`` exists."""
        folder = self.root / machine
        folder.mkdir(exist_ok=True)
        (folder / "job.toml").write_text(
            'name = "tiles"\nimage = "images.canfar.net/a/b:1"\n'
            f"shell = '''until [ -e {self.gate} ]; do sleep 0.1; done\n"
            "echo \"replica $REPLICA_ID begins\"; sleep 0.5; printf 'no newline at the end'\n"
            'if [ "$REPLICA_ID" = 3 ] && [ -z "$SKAHACTL_ATTEMPT" ]; then exit 7; fi\'\'\'\n'
            f'replicas = {replicas}\n[logs]\nshared = "{self.shared}"\n{extra}'
        )

    def replicas(self, job: str, machine: str = "laptop") -> list[dict[str, object]]:
        return json.loads(self.run("get", "replicas", job, "-o", "json", machine=machine).stdout)  # type: ignore[no-any-return]

    def wait_until_ended(self, count: int) -> None:
        """Until so many ends are recorded, and the server has discarded the sessions."""
        limit = time.monotonic() + 60
        while len(list(self.shared.rglob("*.end"))) < count:
            assert time.monotonic() < limit
            time.sleep(0.1)
        time.sleep(MEMORY + 1)


def environment_of(root: Path, machine: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "HOME": str(root / machine),
        "SKAHACTL_STATE_DIR": str(root / machine / "state"),
    }


@contextlib.contextmanager
def shared_site(root: Path) -> Iterator[SharedSite]:
    if not can_hide():
        pytest.skip("needs mount namespaces")
    (root / "server" / "shared").mkdir(parents=True)
    folder = root / "server" / ".config" / "skahactl" / "profiles"
    folder.mkdir(parents=True)
    (folder / "local.toml").write_text(f'server = "local"\n[local]\nslots = 8\nmemory = {MEMORY}\n')
    (root / "token").write_text("0123456789abcdef0123456789abcdef\n")
    (root / "token").chmod(0o600)
    process = subprocess.Popen(
        [sys.executable, "-m", "skahactl", "serve", "--token-file", str(root / "token"), "--storage", "shared"],
        cwd=root / "server",
        env=environment_of(root, "server"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        with proxy_to(process.stdout.readline().strip()) as (url, proxy):
            site = SharedSite(root, url, proxy)
            site.gate.touch()
            (root / "profile.toml").write_text(
                f'server = "{url}"\n[auth]\nmethod = "token"\ntoken-file = "token"\n'
                f'[storage]\nroot = "{site.shared}"\nurl = "{site.storage}"\n'
                f"[client]\nmemory = {MEMORY}\npoll-min = 0.2\nbackoff = 0.2\nsettle = 1\n"
            )
            yield site
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        process.stdout.close()
