"""The wrapper of the shared record, run by real shells: what the platform sees, and what is left in the directory."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from skahactl.manifest.shared_record import RecordDirectory, RecordedEnd, parse_end
from tests.workplace import Workplace

pytestmark = pytest.mark.once

SHELLS = {
    "dash": ["dash"],
    "bash": ["bash", "--posix"],
    "busybox": ["busybox", "sh"],
    "zsh": ["zsh", "--emulate", "sh"],
}
TOOLS = ("sh", "mkdir", "tee", "mv", "date")
NOBODY = 65534


@dataclass(frozen=True)
class Wrapped:
    """A directory for records, and a shell that runs the wrapper."""

    shell: tuple[str, ...]
    directory: Path

    @property
    def record(self) -> RecordDirectory:
        return RecordDirectory(f"{self.directory}/tiles-r3-abcde")

    @property
    def log(self) -> Path:
        return Path(self.record.log(17, 2))

    @property
    def end(self) -> RecordedEnd | None:
        path = Path(self.record.end(17, 2))
        return parse_end(path.read_bytes()) if path.exists() else None

    def argv(self, *command: str) -> list[str]:
        return [*self.shell, *self.record.wrap(command, 17, 2)[1:]]

    def run(self, *command: str, **options: object) -> subprocess.CompletedProcess[bytes]:
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.run(  # type: ignore[call-overload,no-any-return]
            self.argv(*command), stdin=subprocess.DEVNULL, timeout=120, check=False, **options
        )

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.argv(*command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


@pytest.fixture(params=list(SHELLS))
def wrapped(request: pytest.FixtureRequest, tmp_path: Path) -> Wrapped:
    shell = SHELLS[request.param]
    if shutil.which(shell[0]) is None:
        pytest.skip(f"{shell[0]} is not installed")
    return Wrapped(tuple(shell), tmp_path / "shared")


def in_shells(*names: str) -> pytest.MarkDecorator:
    """For a test that mostly waits: in these shells, and in all on demand."""
    chosen = [pytest.param(name, marks=() if name in names else pytest.mark.slow) for name in SHELLS]
    return pytest.mark.parametrize("wrapped", chosen, indirect=True)


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that another user can reach."""
    path = Path(tempfile.mkdtemp(dir="/tmp"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


def test_output_exit_code_and_time_are_recorded(wrapped: Wrapped) -> None:
    before = int(time.time())
    result = wrapped.run("sh", "-c", "echo out; echo err >&2; echo more; printf 'no newline'; exit 3")
    assert (result.returncode, result.stdout, result.stderr) == (3, b"out\nerr\nmore\nno newline", b"")
    assert wrapped.log.read_bytes() == result.stdout
    assert wrapped.end is not None
    assert wrapped.end.exit_code == 3
    assert before <= wrapped.end.finished <= time.time()


def test_nothing_but_the_record_is_left_behind(wrapped: Wrapped) -> None:
    wrapped.run("true")
    left = sorted(path.relative_to(wrapped.directory).as_posix() for path in wrapped.directory.rglob("*"))
    assert left == [".skahactl", "tiles-r3-abcde", "tiles-r3-abcde/17-2.end", "tiles-r3-abcde/17-2.log"]


def test_arguments_arrive_byte_for_byte(wrapped: Wrapped) -> None:
    words = ["", " ", "a b", "*", "$HOME", "`id`", "'", '"', "\\", "line\nbreak", "-n", "é☃", "--", "a\\nb", "%s"]
    result = wrapped.run(sys.executable, "-c", "import sys; print(ascii(sys.argv[1:]))", *words)
    assert result.stdout.decode() == f"{words!a}\n"


def test_the_command_sees_the_environment_and_nothing_of_the_wrapper(wrapped: Wrapped) -> None:
    names = {"skahactl_pid": "x", "skahactl_log": "y", "PLAIN": "z"}
    code = "import os, json; print(sorted(os.environ.items()))"
    clean = {"PATH": os.environ["PATH"], **names}
    result = wrapped.run(sys.executable, "-c", code, env=clean)
    assert "('PLAIN', 'z')" in result.stdout.decode()
    reserved = re.findall(r"'(skahactl_\w+)'", result.stdout.decode())
    assert set(reserved) <= set(names)


def test_the_command_has_only_the_three_standard_files_open(wrapped: Wrapped) -> None:
    code = "import os; print([n for n in range(3, 32) if os.path.exists(f'/proc/self/fd/{n}')])"
    assert wrapped.run(sys.executable, "-c", code).stdout == b"[]\n"


def test_binary_output_passes_unchanged(wrapped: Wrapped) -> None:
    code = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 1000 + b'\\0')"
    result = wrapped.run(sys.executable, "-c", code)
    assert result.stdout == bytes(range(256)) * 1000 + b"\0"
    assert wrapped.log.read_bytes() == result.stdout


@in_shells("dash")
def test_output_of_200_megabytes_is_complete(wrapped: Wrapped) -> None:
    size = 200 << 20
    result = wrapped.run("head", "-c", str(size), "/dev/zero", stdout=subprocess.DEVNULL)
    assert result.returncode == 0
    assert wrapped.log.stat().st_size == size
    wrapped.log.unlink()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_command_that_kills_itself_has_the_code_of_its_signal(wrapped: Wrapped, number: signal.Signals) -> None:
    result = wrapped.run("sh", "-c", f"ulimit -c 0; echo before; kill -{number.value} $$")
    assert (result.returncode, result.stdout, result.stderr) == (128 + number, b"before\n", b"")
    assert wrapped.end is not None
    assert wrapped.end.exit_code == 128 + number


def test_a_command_that_does_not_exist_fails_with_127(wrapped: Wrapped) -> None:
    result = wrapped.run("/no/such/program")
    assert result.returncode == 127
    assert b"/no/such/program" in result.stdout
    assert wrapped.log.read_bytes() == result.stdout


def test_output_is_not_delayed(wrapped: Wrapped) -> None:
    process = wrapped.start("sh", "-c", "printf first; sleep 5; echo second")
    assert process.stdout is not None
    began = time.monotonic()
    assert os.read(process.stdout.fileno(), 100) == b"first"
    while wrapped.log.read_bytes() != b"first":
        assert time.monotonic() - began < 4
    assert wrapped.end is None
    stop(process)


@in_shells("dash", "bash")
@pytest.mark.parametrize("group", [False, True], ids=["main process", "whole group"])
def test_term_reaches_the_command_which_has_its_time_to_finish(wrapped: Wrapped, group: bool) -> None:
    code = """
import signal, sys, time
stopping = []
signal.signal(signal.SIGTERM, lambda number, frame: stopping.append(number))
print("ready", flush=True)
while not stopping: time.sleep(0.05)
print("stopping", flush=True)
time.sleep(1)
print("saved")
sys.exit(7)
"""
    process = wrapped.start(sys.executable, "-c", code)
    read_until(process, b"ready")
    (os.killpg if group else os.kill)(process.pid, signal.SIGTERM)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 7
    assert rest == b"stopping\nsaved\n"
    assert wrapped.log.read_bytes() == b"ready\n" + rest
    assert wrapped.end is not None
    assert wrapped.end.exit_code == 7


@in_shells("dash")
@pytest.mark.parametrize("name", ["HUP", "INT", "QUIT", "TERM", "USR1", "USR2"])
def test_each_signal_reaches_a_command_that_handles_it_once(wrapped: Wrapped, name: str) -> None:
    code = f"""
import signal, time
got = []
signal.signal(signal.SIG{name}, lambda number, frame: got.append(number))
print("ready", flush=True)
while not got: time.sleep(0.05)
time.sleep(0.5)
print("got", *map(int, got))
"""
    process = wrapped.start(sys.executable, "-c", code)
    read_until(process, b"ready")
    os.kill(process.pid, getattr(signal, f"SIG{name}"))
    rest, _ = process.communicate(timeout=60)
    assert rest == b"got %d\n" % getattr(signal, f"SIG{name}")
    assert process.returncode == 0


def test_term_ends_a_command_that_does_not_handle_it(wrapped: Wrapped) -> None:
    process = wrapped.start("sh", "-c", "echo ready; exec sleep 100")
    read_until(process, b"ready")
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(60) == 143
    assert wrapped.end is not None
    assert wrapped.end.exit_code == 143
    stop(process)


@in_shells("dash")
@pytest.mark.parametrize("target", ["main process", "whole group", "first process of a container"])
def test_term_while_the_wrapper_starts_ends_the_command(wrapped: Wrapped, tmp_path: Path, target: str) -> None:
    """The directory takes its time. The first process of a container is not ended by a signal that it does not handle,
    so that a signal before the first trap would be lost."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "mkdir").write_text(f'#!/bin/sh\necho >{tmp_path}/begun\nsleep 1\nexec {program("mkdir")} "$@"\n')
    (tools / "mkdir").chmod(0o755)
    container = ["unshare", "-rpf", "--kill-child"] if target.startswith("first") else []
    if container and subprocess.run([*container, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs process namespaces")
    process = subprocess.Popen(
        [*container, *wrapped.argv("sh", "-c", "echo ready; exec sleep 100")],
        env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    while not (tmp_path / "begun").exists():
        assert process.poll() is None
        time.sleep(0.01)
    pid = process.pid
    if container:
        pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
    (os.killpg if target == "whole group" else os.kill)(pid, signal.SIGTERM)
    began = time.monotonic()
    out, _ = process.communicate(timeout=60)
    assert time.monotonic() - began < 20
    assert process.returncode == 143
    assert out in (b"", b"ready\n")
    assert wrapped.end is not None
    assert wrapped.end.exit_code == 143


def test_several_signals_all_arrive(wrapped: Wrapped) -> None:
    script = "trap 'echo one' USR1; trap 'echo two' USR2; trap 'exit 5' TERM; echo ready; while :; do sleep 0.1; done"
    process = wrapped.start("bash", "-c", script)
    read_until(process, b"ready")
    for number, answer in ((signal.SIGUSR1, b"one"), (signal.SIGUSR2, b"two"), (signal.SIGUSR1, b"one")):
        os.kill(process.pid, number)
        read_until(process, answer)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(60) == 5
    stop(process)


@in_shells("dash")
def test_a_daemon_left_behind_does_not_hold_up_the_end(wrapped: Wrapped) -> None:
    began = time.monotonic()
    process = wrapped.start("sh", "-c", "sleep 300 & echo started; exit 4")
    assert process.wait(60) == 4
    assert time.monotonic() - began < 30
    assert wrapped.end is not None
    assert wrapped.end.exit_code == 4
    assert wrapped.log.read_bytes() == b"started\n"
    assert process.stdout is not None
    assert process.stdout.read(8) == b"started\n"
    stop(process)


@pytest.mark.parametrize("descriptors", ["1>&-", "2>&-", "1>&- 2>&-"])
def test_standard_output_that_is_closed_changes_only_what_the_platform_gets(wrapped: Wrapped, descriptors: str) -> None:
    opener = ["sh", "-c", f'exec "$@" {descriptors}', "opener"]
    command = wrapped.argv("sh", "-c", "echo out; echo err >&2; exit 6")
    result = subprocess.run([*opener, *command], timeout=60, check=False, capture_output=True)
    assert result.returncode == 6
    assert wrapped.log.read_bytes() == b"out\nerr\n"
    assert wrapped.end is not None
    assert wrapped.end.exit_code == 6


def test_a_platform_that_stops_reading_does_not_stop_the_record(wrapped: Wrapped) -> None:
    process = wrapped.start("sh", "-c", "echo first; sleep 0.5; echo second; echo third; exit 2")
    read_until(process, b"first")
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(60) == 2
    assert wrapped.log.read_bytes() == b"first\nsecond\nthird\n"
    assert wrapped.end is not None
    assert wrapped.end.exit_code == 2


def test_a_directory_that_is_a_file_gives_one_warning_and_the_command_runs(wrapped: Wrapped) -> None:
    wrapped.directory.write_text("a file")
    result = wrapped.run("sh", "-c", "echo out; exit 3")
    assert (result.returncode, result.stdout) == (3, b"out\n")
    assert_one_warning(result.stderr, wrapped.log)


def test_a_read_only_directory_gives_one_warning_and_the_command_runs(wrapped: Wrapped, public: Path) -> None:
    there = Wrapped(wrapped.shell, public / "locked" / "logs")
    (public / "locked").mkdir(mode=0o555)
    user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    result = there.run("sh", "-c", "echo out; exit 3", **user)
    assert (result.returncode, result.stdout) == (3, b"out\n")
    assert_one_warning(result.stderr, there.log)


def test_a_full_directory_gives_one_warning_and_the_command_runs(wrapped: Wrapped) -> None:
    (wrapped.directory / ".skahactl").mkdir(parents=True)
    (wrapped.directory / ".skahactl" / "tiles-r3-abcde-17-2").symlink_to("/dev/full")
    result = wrapped.run("sh", "-c", "echo out; exit 3")
    assert (result.returncode, result.stdout) == (3, b"out\n")
    assert_one_warning(result.stderr, wrapped.log)


def test_a_directory_that_fills_up_keeps_the_exit_code_and_the_log_of_the_platform(wrapped: Wrapped) -> None:
    wrapped.log.parent.mkdir(parents=True)
    wrapped.log.symlink_to("/dev/full")
    result = wrapped.run("sh", "-c", "echo out; sleep 0.3; echo more; exit 3")
    assert (result.returncode, result.stdout) == (3, b"out\nmore\n")
    assert wrapped.end is not None
    assert wrapped.end.exit_code == 3


@in_shells("dash", "busybox")
def test_a_directory_removed_while_running_still_gets_the_end(wrapped: Wrapped) -> None:
    process = wrapped.start("sh", "-c", "echo out; sleep 1.5; echo more; exit 3")
    read_until(process, b"out")
    shutil.rmtree(wrapped.directory)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 3
    assert rest.startswith(b"more\n")
    assert_one_warning(rest.removeprefix(b"more\n"), wrapped.log)
    assert wrapped.end is not None
    assert wrapped.end.exit_code == 3


@in_shells("dash", "busybox")
def test_a_directory_that_can_no_longer_be_written_at_the_end_gives_one_warning(wrapped: Wrapped) -> None:
    process = wrapped.start("sh", "-c", "echo out; sleep 1.5; exit 3")
    read_until(process, b"out")
    shutil.rmtree(wrapped.directory)
    wrapped.directory.write_text("a file")
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 3
    assert_one_warning(rest, Path(wrapped.record.end(17, 2)))


def test_the_wrapper_needs_only_sh_mkdir_tee_mv_and_date(tmp_path: Path) -> None:
    wrapped = Wrapped((program("busybox"), "sh"), tmp_path / "shared")
    result = wrapped.run("/bin/echo", "out", env={"PATH": str(busybox_tools(tmp_path, TOOLS))})
    assert (result.returncode, result.stdout, result.stderr) == (0, b"out\n", b"")
    assert wrapped.log.read_bytes() == b"out\n"
    assert wrapped.end is not None


@pytest.mark.parametrize("missing", ["mkdir", "tee", "mv", "date"])
def test_an_image_without_one_of_the_tools_gives_one_warning_and_the_command_runs(tmp_path: Path, missing: str) -> None:
    tools = [tool for tool in TOOLS if tool != missing]
    wrapped = Wrapped((program("dash"),), tmp_path / "shared")
    result = wrapped.run("/bin/echo", "out", env={"PATH": str(busybox_tools(tmp_path, tools))})
    assert (result.returncode, result.stdout) == (0, b"out\n")
    assert_one_warning(result.stderr, wrapped.log)


def test_a_second_start_of_the_same_attempt_replaces_the_record(wrapped: Wrapped) -> None:
    wrapped.run("sh", "-c", "echo first; exit 1")
    process = wrapped.start("sh", "-c", "echo second; sleep 1; exit 2")
    read_until(process, b"second")
    assert wrapped.end is None
    assert process.wait(60) == 2
    assert wrapped.log.read_bytes() == b"second\n"
    assert wrapped.end is not None
    assert wrapped.end.exit_code == 2
    stop(process)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"exit 0",
        b"exit 0 2026-11-26T15:00:00Z",
        b"exit 0 2026-11-26T15:00:00Z\n\n",
        b"exit 256 2026-11-26T15:00:00Z\n",
        b"exit -1 2026-11-26T15:00:00Z\n",
        b"exit 0 2026-13-26T15:00:00Z\n",
        b"exit 0 2026-11-26T15:00:00\n",
        b"start 2026-11-26T15:00:00Z\n",
        b"<html>exit 0 2026-11-26T15:00:00Z\n",
        b"exit \xd9\xa3 2026-11-26T15:00:00Z\n",
    ],
)
def test_content_that_does_not_match_the_format_is_not_trusted(content: bytes) -> None:
    assert parse_end(content) is None


def test_an_end_gives_exit_code_and_time() -> None:
    assert parse_end(b"exit 137 2026-11-26T15:00:00Z\n") == RecordedEnd(137, 1795705200.0)


def test_the_names_of_a_record_contain_job_run_and_content() -> None:
    record = RecordDirectory.of_run("/arc/projects/survey/logs/", "tiles", 2, "ffffffff" + "0" * 56)
    assert record.log(17, 1) == "/arc/projects/survey/logs/tiles-r2-77777/17-1.log"
    assert record.end(17, 3) == "/arc/projects/survey/logs/tiles-r2-77777/17-3.end"


def busybox_tools(directory: Path, names: tuple[str, ...] | list[str]) -> Path:
    """A directory that has these programs, as busybox provides them, and no others."""
    tools = directory / "tools"
    tools.mkdir()
    for name in names:
        (tools / name).symlink_to(program("busybox"))
    return tools


def program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def assert_one_warning(text: bytes, path: Path) -> None:
    assert text.count(b"\n") == 1, text
    assert text.startswith(b"skahactl: warning: ")
    assert os.fsencode(path) in text


def read_until(process: subprocess.Popen[bytes], expected: bytes) -> bytes:
    """What the process wrote up to a line that ends with ``expected``."""
    assert process.stdout is not None
    text = b""
    while not text.rstrip().endswith(expected):
        piece = os.read(process.stdout.fileno(), 1)
        assert piece, text
        text += piece
    return text + os.read(process.stdout.fileno(), 1)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End what is left of the process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


@pytest.mark.once
def test_a_run_that_waits_for_a_slot_keeps_its_number_from_another_record(tmp_path: Path) -> None:
    first, second = (Workplace(tmp_path / name) for name in ("first", "second"))
    for here in (first, second):
        here.job("twice", "true", 1, f"[logs]\nshared = '{tmp_path}/shared'")
    first.slots(1)
    first.run("create", "headless", "x/y:1", "-n", "block", "--", "sleep", "300")
    first.run("apply", "twice.toml")
    second.run("apply", "twice.toml", "--wait")
    first.run("delete", "block")
    first.run("apply", "twice.toml", "--wait")
    names = sorted(path.name.rpartition("-")[0] for path in (tmp_path / "shared").glob("twice-*"))
    assert names == ["twice-r1", "twice-r2"]
    assert [here.run_of("twice") for here in (first, second)] == [1, 2]
