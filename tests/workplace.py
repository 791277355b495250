"""A person's machine for tests of the command line: a home, a state directory, a profile, and the real command."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests import calls
from tests.skaha_server.process import ROOT, TOKEN, Server

#: With a server whose replies come late, or never.
IMPATIENT = {"timeout": 1}
#: Seconds, short enough for tests; lateness and slow replies of the server stay below ``settle``. ``timeout`` is
#: beyond what a busy machine needs for an answer: what a test counts on is not in doubt.
CLIENT = {
    "timeout": 60,
    "settle": 3,
    "poll-min": 0.2,
    "poll-max": 1,
    "concurrency": 16,
    "backoff": 0.2,
    "grace": 0,
    "log-patience": 5,
}


@dataclass
class Workplace:
    """Runs ``skahactl`` with nothing of the real user's: everything lies below ``root``."""

    root: Path
    server: Server
    client: Mapping[str, float] = field(default_factory=dict)
    extra: dict[str, str] = field(default_factory=dict)  # variables of the environment

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        settings = "\n".join(f"{key} = {value}" for key, value in {**CLIENT, **self.client}.items())
        auth = '[auth]\nmethod = "token"\ntoken-env = "TEST_TOKEN"'
        self.write("profile.toml", f'server = "{self.server.url}"\n\n{auth}\n\n[client]\n{settings}\n')

    @property
    def environ(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "HOME": str(self.root),
            "SKAHACTL_STATE_DIR": str(self.root / "state"),
            "SKAHACTL_PROFILE": str(self.root / "profile.toml"),
            "SKAHACTL_DEBUG": "1",
            "TEST_TOKEN": TOKEN,
            **self.extra,
        }

    def write(self, name: str, text: str) -> None:
        (self.root / name).write_text(text, encoding="utf-8")

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "skahactl", *words],
            cwd=self.root,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, expect: int | None = 0, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Runs a command; another exit code than ``expect`` is an error that shows what it said."""
        process = self.start(*words)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=120)
            raise AssertionError(f"skahactl {' '.join(words)} did not end in {timeout} s\n{out}\n{err}") from None
        assert "Traceback" not in err, err
        if expect is not None:
            assert process.returncode == expect, (
                f"skahactl {' '.join(words)}: {process.returncode}\n{out[-2000:]}\n{err}"
            )
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def each(self, *lines: str) -> list[subprocess.CompletedProcess[str]]:
        """What each of these lines answers, one after the other."""
        return calls.answers(map(str.split, lines), self.root, self.environ)

    def data(self, *words: str, expect: int | None = 0) -> Any:
        """What a command with ``-o json`` prints."""
        return json.loads(self.run(*words, "-o", "json", expect=expect).stdout)

    def kept_logs(self) -> set[str]:
        """SHA-256 of every log that is kept."""
        files = (self.root / "state" / "logs").rglob("*.log")
        return {hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL, and its pipes closed; a process that has ended by itself is only reaped."""
    process.kill()
    process.communicate(timeout=120)
