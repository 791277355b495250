"""Results from the shared record, over HTTP: nobody polls for longer than the server remembers.

skahactl runs in a mount namespace of its own, in which the directory of the server is hidden: it has to ask the storage
service, as on a laptop.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MEMORY = 4.0  # seconds that the server remembers a finished session
#: Runs a command that does not see the directory in the first argument.
HIDDEN = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"']


def can_hide() -> bool:
    try:
        return subprocess.run([*HIDDEN, "/mnt", "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


pytestmark = pytest.mark.skipif(not can_hide(), reason="needs mount namespaces")


@dataclass
class Site:
    """A server with storage, and machines with their own records that use it."""

    root: Path
    url: str = ""

    @property
    def shared(self) -> Path:
        return self.root / "server" / "shared"

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "skahactl", "-p", str(self.root / "profile.toml"), *words]

    def environment(self, machine: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "HOME": str(self.root / machine),
            "SKAHACTL_STATE_DIR": str(self.root / machine / "state"),
        }

    def run(self, *words: str, machine: str = "laptop", expect: int = 0) -> subprocess.CompletedProcess[str]:
        folder = self.root / machine
        folder.mkdir(exist_ok=True)
        done = subprocess.run(
            [*HIDDEN, str(self.root / "server"), *self.command(*words)],
            cwd=folder,
            env=self.environment(machine),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == expect, (done.stdout, done.stderr)
        return done

    def replicas(self, job: str, machine: str = "laptop") -> list[dict[str, object]]:
        return json.loads(self.run("get", "replicas", job, "-o", "json", machine=machine).stdout)  # type: ignore[no-any-return]

    def wait_until_ended(self, count: int) -> None:
        """Until so many ends are recorded, and the server has discarded the sessions."""
        limit = time.monotonic() + 60
        while len(list(self.shared.rglob("*.end"))) < count:
            assert time.monotonic() < limit
            time.sleep(0.1)
        time.sleep(MEMORY + 1)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    (tmp_path / "server" / "shared").mkdir(parents=True)
    folder = tmp_path / "server" / ".config" / "skahactl" / "profiles"
    folder.mkdir(parents=True)
    (folder / "local.toml").write_text(f'server = "local"\n[local]\nslots = 4\nmemory = {MEMORY}\n')
    (tmp_path / "token").write_text("0123456789abcdef0123456789abcdef\n")
    (tmp_path / "token").chmod(0o600)
    process = subprocess.Popen(
        [sys.executable, "-m", "skahactl", "serve", "--token-file", str(tmp_path / "token"), "--storage", "shared"],
        cwd=tmp_path / "server",
        env=site.environment("server"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    site.url = process.stdout.readline().strip()
    (tmp_path / "profile.toml").write_text(
        f'server = "{site.url}"\n[auth]\nmethod = "token"\ntoken-file = "token"\n'
        f'[storage]\nroot = "{site.shared}"\nurl = "{site.url.removesuffix("/skaha/v1")}/arc"\n'
        f"[client]\nmemory = {MEMORY}\npoll-min = 0.2\nbackoff = 0.2\nsettle = 1\n"
    )
    yield site
    process.send_signal(signal.SIGTERM)
    process.wait(30)
    process.stdout.close()


def write_job(site: Site, machine: str = "laptop", extra: str = "") -> None:
    folder = site.root / machine
    folder.mkdir(exist_ok=True)
    (folder / "job.toml").write_text(
        'name = "tiles"\nimage = "images.canfar.net/a/b:1"\n'
        "shell = '''echo \"replica $REPLICA_ID begins\"; sleep 0.5; printf 'no newline at the end'\n"
        'if [ "$REPLICA_ID" = 3 ] && [ -z "$SKAHACTL_ATTEMPT" ]; then exit 7; fi\'\'\'\n'
        f'replicas = 4\n[logs]\nshared = "{site.shared}"\n{extra}'
    )


def test_results_and_logs_are_complete_although_no_command_ran_meanwhile(site: Site) -> None:
    write_job(site)
    site.run("apply", "job.toml")
    site.wait_until_ended(4)

    rows = site.replicas("tiles")
    assert [(row["state"], row["exit_code"], row["source"]) for row in rows] == [
        ("Completed", 0, "shared record"),
        ("Completed", 0, "shared record"),
        ("Failed", 7, "shared record"),
        ("Completed", 0, "shared record"),
    ]
    assert all(row["finished"] is not None and row["finished_after"] is None for row in rows)
    shown = site.run("logs", "tiles", "--prefix", "never").stdout
    assert shown.count("begins\n") == 4
    assert shown.count("no newline at the end") == 4
    assert f"{site.shared}/tiles-r1-" in site.run("describe", "tiles").stdout
    assert "Failed" in site.run("apply", "job.toml", expect=1).stderr

    site.run("retry", "tiles", "--wait")
    rows = site.replicas("tiles")
    assert [(row["state"], row["attempt"]) for row in rows] == [
        ("Completed", 1),
        ("Completed", 1),
        ("Completed", 2),
        ("Completed", 1),
    ]


def test_another_machine_takes_the_results_over(site: Site) -> None:
    write_job(site)
    site.run("apply", "job.toml")
    site.wait_until_ended(4)
    write_job(site, "desktop")
    told = site.run("apply", "job.toml", "--adopt", "unknown", "-v", machine="desktop", expect=1).stderr
    assert "4 results taken over from the shared record" in told
    assert not [line for line in told.splitlines() if "/session/" in line]
    assert [(row["state"], row["exit_code"]) for row in site.replicas("tiles", "desktop")] == [
        ("Completed", 0),
        ("Completed", 0),
        ("Failed", 7),
        ("Completed", 0),
    ]
    assert "replica 3 begins" in site.run("logs", "tiles/3", machine="desktop").stdout
    site.run("retry", "tiles", "--wait", machine="desktop")
    assert {row["state"] for row in site.replicas("tiles", "desktop")} == {"Completed"}


def test_a_retry_runs_only_the_items_that_failed(site: Site) -> None:
    folder = site.root / "laptop"
    folder.mkdir()
    (folder / "job.toml").write_text(
        'name = "items"\nimage = "images.canfar.net/a/b:1"\n'
        "shell = '''echo item {item}; [ {item} != b ] || [ -n \"$SKAHACTL_ATTEMPT\" ]'''\nreplicas = 1\n"
        f'[items]\nvalues = ["a", "b", "c"]\neach = true\n[logs]\nshared = "{site.shared}"\n'
    )
    site.run("apply", "job.toml")
    site.wait_until_ended(1)
    items = json.loads(site.run("get", "items", "items", "-o", "json").stdout)
    assert [(row["item"], row["state"]) for row in items] == [("a", "Completed"), ("b", "Failed"), ("c", "Completed")]
    site.run("retry", "items", "--wait")
    second = next(site.shared.rglob("1-2.log")).read_text()
    assert [line for line in second.splitlines() if line.startswith("item ")] == ["item b"]


def test_a_driver_on_the_platform_that_is_killed_continues_where_it_was(site: Site) -> None:
    """The driver is itself a session; its local record is on the shared storage."""
    write_job(site, "laptop")
    job = site.root / "laptop" / "job.toml"
    words = site.command("apply", str(job), "--wait")
    settings = [f"SKAHACTL_STATE_DIR={site.shared}/state", f"PYTHONPATH={ROOT}"]
    driver = ["create", "headless", "images.canfar.net/a/b:1", "-n", "driver", "--", "env", *settings, *words]
    site.run(*driver, machine="starter")
    limit = time.monotonic() + 60
    while not list(site.shared.glob("tiles-r1-*")):
        assert time.monotonic() < limit
        time.sleep(0.1)
    site.run("delete", "driver", "--no-logs", machine="starter")
    site.run(*driver, machine="again")
    site.wait_until_ended(4)
    ended = {path.name for path in site.shared.glob("tiles-r1-*/*.end")}
    assert ended == {"1-1.end", "2-1.end", "3-1.end", "4-1.end"}
    result = subprocess.run(
        site.command("get", "jobs", "-o", "json"),
        env={**site.environment("laptop"), "SKAHACTL_STATE_DIR": f"{site.shared}/state"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    (tiles,) = json.loads(result.stdout)
    assert (tiles["status"], tiles["counts"]["Completed"], tiles["counts"]["Failed"]) == ("Failed", 3, 1)
