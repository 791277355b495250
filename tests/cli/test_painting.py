"""What is painted on a real terminal: a pty of 80x24 and of 200x50, its screen kept by pyte."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pyte
import pytest

from skahactl.ledger import replicas
from tests import ledgers
from tests.skaha_server.process import ROOT
from tests.terminal import keep_output
from tests.workplace import COMMAND, Workplace

SIZES = [(80, 24), (200, 50)]

#: Paints the steps whose numbers come on its standard input, until that ends; then ends like a driver.
SCRIPT = r"""
import os, signal, sys
from skahactl import model as states
from skahactl.model import State
from skahactl.engine.runtime import FailedReplica, RunProgress
from skahactl.model import Limits
from skahactl.ledger.records import JobKey, Run, RunSummary
from skahactl.render.progress import LiveReporter

if "HANGUP" in os.environ:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
TOTAL, JOBS = int(sys.argv[1]), int(sys.argv[2])

def run(number, step):
    done = min(TOTAL, step)
    running = min(8, TOTAL - done)
    kinds = [State.COMPLETED] * done + [State.RUNNING] * running + [State.QUEUED] * (TOTAL - done - running)
    if step > 5:
        kinds[2] = State.FAILED
    counts = states.zero_filled({state: kinds.count(state) for state in set(kinds)})
    made = Run(number, JobKey("https://ws-uv.canfar.net/skaha/v1", "alice", f"tiles{number}"), 1, "canfar", "d",
               "headless", "image", {}, Limits(), 1, "all", (), {}, None, 0.0, 0.0, None, None, False, TOTAL)
    summary = RunSummary(made, counts, states.job_status(counts, 0), 0)
    longest = ((17, 3600.0), (18, 60.0)) if running else ()
    failures = (FailedReplica(3, "271.285", 2, "cannot open 271.285.fits"),) if step > 5 else ()
    left = 10800.0 if step > 1 else None
    return RunProgress(
        summary, tuple(kinds), longest, ((40, "0/12 nodes are available"),), 0.0, 600.0, failures=failures, left=left
    )

reporter = LiveReporter(sys.stderr, os.environ, tick=0.1)
try:
    for line in sys.stdin:
        word = line.strip()
        if word.isdigit():
            reporter.progress([run(number, int(word)) for number in range(1, JOBS + 1)])
        else:
            reporter.say(word)
except KeyboardInterrupt:
    reporter.close()
    print("interrupted", file=sys.stderr)
    sys.exit(130)
reporter.close()
if "HANGUP" in os.environ:
    os._exit(7)
print("tiles1 on canfar (ws-uv.canfar.net): done", file=sys.stderr)
"""


class EmulatedTerminal:
    """A program on a terminal of this size; ``screen`` is what a person would see."""

    def __init__(self, command: list[str], size: tuple[int, int], environ: dict[str, str], stdin: int | None = None):
        self.screen = pyte.Screen(*size)
        self._stream = pyte.ByteStream(self.screen)
        self.master, slave = pty.openpty()
        keep_output(slave)
        self.raw = b""
        self._set_size(size)
        self.process = subprocess.Popen(
            command,
            stdin=slave if stdin is None else stdin,
            stdout=slave,
            stderr=slave,
            env={**environ, "TERM": "xterm-256color", "LANG": "C.UTF-8", "PYTHONUTF8": "1"},
            cwd=ROOT,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(1, termios.TIOCSCTTY, 0),
        )
        os.close(slave)

    def resize(self, size: tuple[int, int]) -> None:
        self.screen.resize(size[1], size[0])
        self._set_size(size)

    def until(self, seen: Callable[[list[str]], bool], seconds: float = 120.0) -> list[str]:
        """Reads until the screen is as wanted; its lines."""
        end = time.monotonic() + seconds
        while not seen(self.lines()):
            assert time.monotonic() < end, "\n".join(["not seen on:", *self.lines()])
            self._read(0.05)
        return self.lines()

    def ended(self, seconds: float = 120.0) -> int:
        """Reads what comes until the program has ended; its exit code."""
        end = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < end, "\n".join(["does not end:", *self.lines()])
            self._read(0.05)
        while self._read(0.1):
            pass
        return self.process.returncode

    def press_interrupt(self) -> None:
        os.write(self.master, b"\x03")

    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display]

    def text(self) -> str:
        return "\n".join(self.lines()).rstrip()

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self.master)

    def _set_size(self, size: tuple[int, int]) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self.master], [], [], seconds)
        if not ready:
            return False
        try:
            data = os.read(self.master, 1 << 16)
        except OSError:  # EIO: the other side is closed
            return False
        self.raw += data
        self._stream.feed(data)
        return bool(data)


class Progress(EmulatedTerminal):
    """The script above; ``step`` paints its next picture."""

    def __init__(self, size: tuple[int, int], total: int, jobs: int = 1, environ: dict[str, str] | None = None):
        steps, self._steps = os.pipe()
        command = [sys.executable, "-c", SCRIPT, str(total), str(jobs)]
        super().__init__(command, size, {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **(environ or {})}, steps)
        os.close(steps)

    def step(self, word: object) -> None:
        os.write(self._steps, f"{word}\n".encode())

    def finish(self) -> None:
        os.close(self._steps)
        self._steps = -1

    def close(self) -> None:
        if self._steps >= 0:
            self.finish()
        super().close()


@contextlib.contextmanager
def closing(terminal: Progress) -> Iterator[Progress]:
    try:
        yield terminal
    finally:
        terminal.close()


def cells(lines: list[str], char: str) -> int:
    """How many cells of this character are in the rows of the grid."""
    return sum(line.count(char) for line in lines if re.match(r" +\d+  \S", line))


def shows(lines: list[str], *parts: str) -> bool:
    return all(any(part in line for line in lines) for part in parts)


@pytest.mark.parametrize("size", SIZES)
def test_a_cell_a_replica_is_drawn_and_updated_in_place(size: tuple[int, int]) -> None:
    with closing(Progress(size, 96)) as terminal:
        terminal.step(4)
        lines = terminal.until(lambda lines: shows(lines, "✓ 4/96", "replica 40 is Pending"))
        assert lines[0] == "tiles1  run 1 · canfar (ws-uv.canfar.net) · image"
        assert re.fullmatch(r". ━+─+┈+    4 %  00:10:0\d  about 3 h left", lines[1])
        assert (cells(lines, "■"), cells(lines, "▸"), cells(lines, "·")) == (4, 8, 84)
        assert shows(lines, "slowest: 17 (1 h), 18 (1 min)", "replica 40 is Pending: 0/12 nodes")
        terminal.step(50)
        lines = terminal.until(
            lambda lines: shows(
                lines, "✓ 49/96", "✗ replica 3  271.285  exit 2  cannot open 271.285.fits", "replica 40 is Pending"
            )
        )
        assert (cells(lines, "■"), cells(lines, "✗"), cells(lines, "▸")) == (49, 1, 8)
        assert sum("tiles1  run" in line for line in lines) == 1
        assert terminal.screen.cursor.hidden
        assert terminal.screen.title == "tiles1 51 % ✗1"


def test_the_clock_continues_between_the_steps() -> None:
    with closing(Progress((80, 24), 10)) as terminal:
        terminal.step(1)
        terminal.until(lambda lines: shows(lines, "18 (1 min)"))
        terminal.until(lambda lines: shows(lines, "18 (1 min 2 s)"))


@pytest.mark.parametrize("size", SIZES)
def test_thousands_of_replicas_fit(size: tuple[int, int]) -> None:
    with closing(Progress(size, 5000)) as terminal:
        terminal.step(300)
        lines = terminal.until(lambda lines: shows(lines, "✓ 299/5000", "replica 40 is Pending"))
        assert lines[-1] == ""
        if size == (80, 24):
            assert shows(lines, "each cell is")
        assert cells(lines, "✗") == 1


def test_more_jobs_than_lines_have_one_each() -> None:
    with closing(Progress((80, 24), 10, jobs=30)) as terminal:
        terminal.step(8)
        lines = terminal.until(lambda lines: shows(lines, "and 8 more jobs"))
        assert sum("7/10" in line and line.endswith("failed: 3") for line in lines) == 22
        assert lines[-1] == ""


@pytest.mark.parametrize("new", [(60, 24), (132, 43), (80, 8), (20, 24)])
def test_a_resize_leaves_one_whole_picture(new: tuple[int, int]) -> None:
    with closing(Progress((80, 24), 96)) as terminal:
        terminal.step("a line that was said")
        terminal.step(6)
        terminal.until(lambda lines: shows(lines, "✓ 5/96"))
        terminal.resize(new)
        terminal.until(lambda lines: b"\x1b[2J" in terminal.raw)
        terminal.step(7)
        lines = terminal.until(lambda lines: shows(lines, "✓ 6/96", "tiles1  "))
        assert sum("tiles1  " in line for line in lines) == 1
        assert sum("✓" in line for line in lines) == 1
        assert lines[0].startswith("a line that was said") or new[1] < 20  # it has scrolled away there


@pytest.mark.parametrize("size", SIZES)
def test_an_interrupt_leaves_screen_and_cursor_clean(size: tuple[int, int]) -> None:
    with closing(Progress(size, 96)) as terminal:
        terminal.step("a line that was said")
        terminal.step(6)
        terminal.until(lambda lines: shows(lines, "✓ 5/96"))
        terminal.press_interrupt()
        assert terminal.ended() == 130
        assert terminal.text() == "a line that was said\ninterrupted"
        assert not terminal.screen.cursor.hidden
        assert (terminal.screen.cursor.x, terminal.screen.cursor.y) == (0, 2)


def test_the_end_leaves_what_was_said_alone() -> None:
    with closing(Progress((80, 24), 96)) as terminal:
        terminal.step(3)
        terminal.step("first")
        terminal.step(6)
        terminal.step("second")
        terminal.until(lambda lines: shows(lines, "✓ 5/96", "second"))
        assert terminal.lines()[:2] == ["first", "second"]
        terminal.finish()
        assert terminal.ended() == 0
        assert terminal.text() == "first\nsecond\ntiles1 on canfar (ws-uv.canfar.net): done"
        assert not terminal.screen.cursor.hidden


def test_a_closed_terminal_is_not_a_reason_to_stop() -> None:
    with closing(Progress((80, 24), 96, environ={"HANGUP": "ignored"})) as terminal:
        terminal.step(3)
        terminal.until(lambda lines: shows(lines, "✓ 3/96"))
        os.close(terminal.master)
        terminal.master = os.open(os.devnull, os.O_RDWR)
        terminal.step(6)
        terminal.step("a line")
        terminal.finish()
        assert terminal.process.wait(timeout=120) == 7


def test_colour_only_where_it_is_wanted() -> None:
    for environ, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        with closing(Progress((80, 24), 96, environ=environ)) as terminal:
            terminal.step(6)
            terminal.until(lambda lines: shows(lines, "✓ 5/96"))
            assert bool(re.search(rb"\x1b\[[0-9;]*3[0-9]m", terminal.raw)) == coloured


def command(
    tmp_path: Path, size: tuple[int, int], *words: str, environ: Mapping[str, str] = MappingProxyType({})
) -> EmulatedTerminal:
    return EmulatedTerminal([*COMMAND, *words], size, {**Workplace(tmp_path).environ, **environ})


def test_a_table_fits_the_terminal(tmp_path: Path) -> None:
    with ledgers.survey(tmp_path / "state")[0] as ledger:
        replicas.set_states(ledger, 1, [3], "Failed", "the reason is a long one " * 5)
    terminal = command(tmp_path, (80, 24), "get", "tiles", "--cached")
    with contextlib.closing(terminal):
        assert terminal.ended() == 0
        lines = terminal.text().splitlines()
        assert lines[0] == "tiles, run 1"
        assert lines[1].split() == ["REPLICA", "STATE", "SESSION", "ITEMS", "STARTED", "TIME", "REASON"]
        assert [line.split()[0] for line in lines[2:]] == ["1", "2", "3", "4", "5", "6"]
        assert [line.endswith("…") for line in lines] == [False] * 4 + [True] + [False] * 2 + [True]
    terminal = command(tmp_path, (80, 24), "get", "tiles", "--cached", environ={"LC_ALL": "C"})
    with contextlib.closing(terminal):
        assert terminal.ended() == 0
        assert terminal.raw.isascii()


def test_a_table_that_cannot_fit_is_not_cut(tmp_path: Path) -> None:
    ledgers.survey(tmp_path / "state")[0].close()
    terminal = command(tmp_path, (40, 50), "get", "tiles", "--cached", "-o", "wide")
    with contextlib.closing(terminal):
        assert terminal.ended() == 0
        assert "…" not in terminal.text()
        whole = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.raw.decode()).splitlines()
        assert [line.split()[0] for line in whole] == ["tiles,", "REPLICA", "1", "2", "3", "4", "5", "6"]


def test_a_watched_table_is_painted_in_place(tmp_path: Path) -> None:
    ledger, run = ledgers.survey(tmp_path / "state")
    terminal = command(tmp_path, (80, 24), "get", "tiles", "--cached", "-w")
    with ledger, contextlib.closing(terminal):
        terminal.until(lambda lines: lines[2:8] and lines[2].split()[:2] == ["3", "Failed"])
        assert [line.split()[0] for line in terminal.lines()[2:8]] == ["3", "4", "5", "6", "1", "2"]
        ledgers.move(ledger, run, {4: ("Completed", ledgers.NOW, ledgers.NOW + 5)})
        lines = terminal.until(lambda lines: shows(lines, "      4  Completed"))
        assert sum("REPLICA" in line for line in lines) == 1
        terminal.press_interrupt()
        assert terminal.ended() == -signal.SIGINT  # it ends by the signal, as shells expect
        assert not terminal.screen.cursor.hidden
        assert "Traceback" not in terminal.text()
        assert len(terminal.text().splitlines()) == 8


def test_jobs_on_every_server_are_watched(tmp_path: Path) -> None:
    ledger, run = ledgers.survey(tmp_path / "state")
    other = ledgers.add(ledger, ledgers.job("tiles", 1), server="https://skaha.example/skaha/v1")
    terminal = command(tmp_path, (100, 24), "get", "jobs", "-A", "--cached", "-w")
    with ledger, contextlib.closing(terminal):
        lines = terminal.until(lambda lines: sum("tiles" in line for line in lines) == 2)
        assert lines[0].split()[:3] == ["PROFILE", "NAME", "RUN"]
        ledgers.move(ledger, run, {4: ("Completed", ledgers.NOW, ledgers.NOW + 5)})
        terminal.until(lambda lines: shows(lines, " 3/6 "))
        assert other.id != run.id
        terminal.press_interrupt()
        assert terminal.ended() == -signal.SIGINT
        assert not terminal.screen.cursor.hidden


def test_tables_of_several_nouns_fit_the_terminal_and_are_not_watched(tmp_path: Path) -> None:
    ledgers.survey(tmp_path / "state")[0].close()
    terminal = command(tmp_path, (80, 24), "get", "jobs,replicas", "tiles", "--cached")
    with contextlib.closing(terminal):
        assert terminal.ended() == 0
        assert shows(terminal.lines(), "NAME ", "tiles, run 1")
        assert not shows(terminal.lines(), "ATTEMPT")
    terminal = command(tmp_path, (80, 24), "get", "jobs,replicas", "tiles", "--cached", "-w")
    with contextlib.closing(terminal):
        assert terminal.ended() == 2
        assert terminal.text().splitlines() == ["error: -w takes one noun", "help: skahactl get jobs tiles -w"]


def test_mistakes_of_a_manifest_are_shown_below_their_lines(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(
        'name = "tiles"\nimage = "a.io/b/c:1"\ncommand = ["x"]\nreplica = 4\n'
        '[env]\n"銀河" = 2\n[resources]\ncores = 0\n'
    )
    terminal = command(tmp_path, (200, 24), "validate", str(tmp_path / "job.toml"))
    with contextlib.closing(terminal):
        assert terminal.ended() == 2
        shown = terminal.text().replace(f"{tmp_path}/", "").splitlines()
    assert shown[0] == "error: job.toml has 3 mistakes"
    assert shown[2:4] == ["4 │ replica = 4", "  │ ^^^^^^^ unknown key; did you mean 'replicas'?"]
    assert [line.rstrip() for line in shown if "^" in line][1].startswith("  │ ^^^^^^ ")
    assert shown[-3:-1] == ["8 │ cores = 0", "  │         ^ expected a number from 1 to 999,999, found 0"]
    assert shown[-1].startswith("  │ help: ")


def test_a_manifest_that_does_not_exist_has_no_mistakes(tmp_path: Path) -> None:
    terminal = command(tmp_path, (80, 24), "apply", "nosuch.toml")
    with contextlib.closing(terminal):
        assert terminal.ended() == 2
        assert terminal.text() == "error: nosuch.toml: cannot be read: No such file or directory"


def test_an_error_is_red_and_its_help_is_a_line_of_its_own(tmp_path: Path) -> None:
    for colour in ("", "1"):
        terminal = command(tmp_path, (80, 24), "get", "jobz", environ={"NO_COLOR": colour})
        with contextlib.closing(terminal):
            assert terminal.ended() == 2
            assert [line.split(":")[0] for line in terminal.text().splitlines()] == ["error", "help"]
            assert (b"\x1b[1;31merror:" in terminal.raw) is not bool(colour)


def test_a_driver_shows_items_and_the_last_line_of_a_failure_then_the_verdict(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(
        """name = "survey"
image = "a.io/b/c:1"
replicas = 1
shell = 'sleep 1; [ "{item}" != b ] || { echo no such image; exit 3; }'
[items]
values = ["a", "b", "c", "銀河"]
each = true
"""
    )
    terminal = command(tmp_path, (100, 24), "apply", str(tmp_path / "job.toml"), "--wait")
    with contextlib.closing(terminal):
        terminal.until(lambda lines: shows(lines, "✗ replica 1  b  exit 3  no such image", "/4 items   ▸ 1 running"))
        assert terminal.ended() == 1
        shown = [re.sub(r" +", " ", line).strip() for line in terminal.text().splitlines()[-3:]]
    assert re.fullmatch(r"✗ survey on local failed 3/4 items in \d+ s; 1 of 1 replica failed", shown[0])
    assert shown[1:] == ["why skahactl logs survey --failed", "again skahactl retry survey --wait (1 item)"]
    assert not terminal.screen.cursor.hidden
