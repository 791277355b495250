"""A person's machine for tests: a home, a state directory, a folder with manifests, a profile, and the real command."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.skaha_server.process import ROOT, TOKEN, Server
from tests.terminal import Terminal

COMMAND = (sys.executable, "-m", "skahactl")
PYTHON = (sys.executable, "-c")
SHELL = ("bash", "-c")
Done = subprocess.CompletedProcess[str]
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

_FORK = """
import gc, importlib, json, os, pkgutil, sys
import skahactl
from skahactl.cli import run
for module in pkgutil.walk_packages(skahactl.__path__, "skahactl."):
    if module.name != "skahactl.__main__":
        importlib.import_module(module.name)
gc.freeze()
folder, calls, codes = sys.argv[1], json.loads(sys.argv[2]), []
for number, words in enumerate(calls):
    child = os.fork()
    if child == 0:
        for stream, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{folder}/{number}.{name}", os.O_WRONLY | os.O_CREAT), stream)
        sys.argv[1:] = words
        try:
            run()
        except SystemExit as end:  # its streams are flushed
            os._exit(end.code)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(codes))
"""


@dataclass
class Workplace:
    """Runs ``skahactl`` with nothing of the real user's: everything lies below ``root``.

    Its profile is for ``server``, with ``client`` over CLIENT; without a server, it is the local platform.
    """

    root: Path
    server: Server | None = None
    client: Mapping[str, float] = field(default_factory=dict)
    extra: dict[str, str] = field(default_factory=dict)  # more environment

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        if self.server is not None:
            settings = "\n".join(f"{key} = {value}" for key, value in {**CLIENT, **self.client}.items())
            auth = '[auth]\nmethod = "token"\ntoken-env = "TEST_TOKEN"'
            self.profile(f'server = "{self.server.url}"\n\n{auth}\n\n[client]\n{settings}\n')

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def environ(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "HOME": str(self.root),
            "SKAHACTL_STATE_DIR": str(self.state),
            "SKAHACTL_PROFILE": "local",
            "SKAHACTL_DEBUG": "1",
            "LANG": "C.UTF-8",
            "TEST_TOKEN": TOKEN,
            **self.extra,
        }

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.write_text(text, encoding="utf-8")
        return path

    def profile(self, text: str) -> None:
        """Have the commands use a profile of this text."""
        self.extra["SKAHACTL_PROFILE"] = str(self.write("profile.toml", text))

    def add_profile(self, name: str, text: str) -> Path:
        """Write a profile that commands find by its name."""
        folder = self.root / ".config/skahactl/profiles"
        folder.mkdir(parents=True, exist_ok=True)
        return self.write(f".config/skahactl/profiles/{name}.toml", text)

    def slots(self, number: int, **local: float) -> None:
        """Give the local platform so many slots, and other settings of [local]."""
        lines = "".join(f"{key.replace('_', '-')} = {value}\n" for key, value in local.items())
        self.add_profile("local", f"server = 'local'\n[local]\nslots = {number}\n{lines}")

    def job(self, name: str, shell: str, replicas: int = 1, more: str = "", file: str | None = None) -> str:
        """Write a manifest of a shell line; its file's name. ``more`` are further lines, after the top keys."""
        file = file or f"{name}.toml"
        self.write(file, f"name = '{name}'\nimage = 'x/y:1'\nreplicas = {replicas}\nshell = '''{shell}'''\n{more}\n")
        return file

    def start(
        self,
        *words: str,
        program: Sequence[str] = COMMAND,
        extra: Mapping[str, str] | None = None,
        **options: Any,
    ) -> subprocess.Popen[str]:
        """Start a command, or another program, and do not wait; ``options`` are Popen's."""
        usual: dict[str, Any] = {
            "cwd": self.root,
            "env": {**self.environ, **(extra or {})},
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
        }
        return subprocess.Popen([*program, *words], **{**usual, **options})

    def at_a_terminal(self, *words: str) -> Terminal:
        """Start a command in a terminal of its own."""
        return Terminal([*COMMAND, *words], self.root, self.environ)

    def run(
        self, *words: str, expect: int | None = 0, timeout: float = 300, input: str | None = None, **options: Any
    ) -> Done:
        """Run to the end; another exit code than ``expect``, a traceback, or no end in time is an error."""
        if input is not None:
            options["stdin"] = subprocess.PIPE
        process = self.start(*words, **options)
        try:
            out, err = process.communicate(input, timeout)
        except subprocess.TimeoutExpired:
            _, out, err = end(process)
            raise AssertionError(f"skahactl {' '.join(words)} did not end in {timeout} s\n{out}\n{err}") from None
        assert "Traceback" not in str(err), err
        if expect is not None:
            assert process.returncode == expect, (words, process.returncode, (out or "")[-2000:], err)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def data(self, *words: str, expect: int | None = 0) -> Any:
        """What a command prints with ``-o json``."""
        return json.loads(self.run(*words, "-o", "json", expect=expect).stdout)

    def each(self, *lines: str | Sequence[str], **options: Any) -> list[Done]:
        """What each of these calls answers, one after the other, without a standard input; a traceback is an error.

        Each is a process of its own, forked from one that has imported everything: to start and to import is nearly
        all that such a call costs. What depends on the start itself is tested elsewhere.
        """
        calls = [line.split() if isinstance(line, str) else list(line) for line in lines]
        with tempfile.TemporaryDirectory() as folder:
            done = self.run(folder, json.dumps(calls), program=(*PYTHON, _FORK), **options)
            answers = []
            for number, code in enumerate(json.loads(done.stdout)):
                out, err = (Path(folder, f"{number}.{name}").read_text() for name in ("out", "err"))
                assert "Traceback" not in err, err
                answers.append(subprocess.CompletedProcess(calls[number], code, out, err))
        return answers

    def states(self, job: str) -> list[str]:
        """The replicas' states, as ``get`` shows them."""
        return [row["state"] for row in self.data("get", "replicas", job)]

    def recorded(self, job: str) -> list[str]:
        """The replicas' states in the last run, as the ledger holds them: what a driver keeps up to date."""
        return [
            row[0]
            for row in self._rows(
                "SELECT state FROM replicas WHERE run = (SELECT max(runs.id) FROM runs JOIN jobs ON jobs.id = job"
                " WHERE name = ?) ORDER BY number",
                job,
            )
        ]

    def run_of(self, job: str) -> int:
        """The number of the last run."""
        return int(self._rows("SELECT max(number) FROM runs JOIN jobs ON jobs.id = job WHERE name = ?", job)[0][0])

    def is_driven(self, job: str) -> bool:
        return bool(self._rows("SELECT pid FROM drivers JOIN jobs ON jobs.id = job WHERE name = ?", job))

    def is_asked_to_go(self, job: str) -> bool:
        """Whether a delete of its last run is on record."""
        sql = "SELECT deleting FROM runs JOIN jobs ON jobs.id = job WHERE name = ? ORDER BY number DESC"
        return bool(self._rows(sql, job)[0][0])

    def _rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """From the ledger; none before it is there."""
        path = self.state / "ledger.sqlite3"
        if not path.exists():
            return []
        with contextlib.closing(sqlite3.connect(path, timeout=20)) as connection:
            try:
                return connection.execute(sql, values).fetchall()
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):  # it is just being made
                    return []
                raise

    def kept_logs(self) -> set[str]:
        """SHA-256 of every log that is kept."""
        return {hashlib.sha256(path.read_bytes()).hexdigest() for path in (self.state / "logs").rglob("*.log")}

    def clear(self, *jobs: str) -> None:
        """End what a test left running."""
        left = [job for job in jobs if set(self.recorded(job)) - {"Completed", "Failed", "Deleted", "Skipped"}]
        if left:
            self.run("delete", *left, "--ignore-not-found", expect=None)


def wait_for(
    holds: Callable[[], object],
    seconds: float = 120,
    every: float = 0.02,
    process: subprocess.Popen[Any] | None = None,
) -> None:
    """Wait until a condition holds; that ``process`` ends before is an error."""
    limit = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < limit, "it did not come true in time"
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(every)


def end(process: subprocess.Popen[str], number: int = signal.SIGKILL, timeout: float = 120) -> tuple[int, str, str]:
    """Send a signal, unless the process has ended, and wait: exit code, stdout, stderr."""
    process.send_signal(number)
    out, err = process.communicate(timeout=timeout)
    return shell_code(process.returncode), out, err


def shell_code(returncode: int) -> int:
    """The exit code as a shell shows it: 128 and the number of the signal that ended the process."""
    return returncode if returncode >= 0 else 128 - returncode
