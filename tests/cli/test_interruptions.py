"""Ctrl-C, closed terminals, gone readers, full disks: each ends soon, says what is, and leaves the job whole."""

from __future__ import annotations

import errno
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.workplace import COMMAND, SHELL, Workplace, end, wait_for

pytestmark = pytest.mark.once

#: What a driver that heard nothing would wait for, in seconds: longer than any test does.
LONG = 3600


@pytest.fixture
def here(tmp_path: Path) -> Workplace:
    here = Workplace(tmp_path)
    here.slots(4)
    return here


@pytest.fixture
def long(here: Workplace) -> Iterator[str]:
    """A manifest whose replicas say that they began, and run for long."""
    yield here.job("long", f"echo begun; sleep {LONG}", 2)
    here.clear("long")


def is_running(here: Workplace) -> Callable[[], bool]:
    return lambda: here.states("long") == ["Running"] * 2


def is_whole(here: Workplace) -> bool:
    with sqlite3.connect(here.state / "ledger.sqlite3") as connection:
        answer: bool = connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    connection.close()
    return answer


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "terminated"),
        pytest.param(signal.SIGHUP, 129, "terminated", marks=pytest.mark.slow),
    ],
)
def test_a_driver_that_is_stopped_says_how_to_continue_look_and_stop(
    here: Workplace, long: str, number: int, code: int, word: str
) -> None:
    process = here.start("apply", long, "--wait")
    wait_for(lambda: here.is_driven("long") and here.recorded("long") == ["Running"] * 2)
    ended, out, err = end(process, number)
    assert (ended, out) == (code, "")
    assert word in err
    for advice in ("skahactl resume long", "skahactl get replicas long", "skahactl delete long"):
        assert advice in err
    assert "Traceback" not in err
    assert here.states("long") == ["Running"] * 2  # the job keeps running
    assert not here.is_driven("long")


def test_a_driver_under_nohup_outlives_its_terminal(here: Workplace, long: str) -> None:
    process = here.start("apply", long, "--wait", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    wait_for(lambda: here.is_driven("long"))
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.5)
    assert end(process, signal.SIGTERM)[0] == 143


@pytest.mark.parametrize(
    "words",
    [("logs", "-f", "long"), ("wait", "long"), pytest.param(("get", "replicas", "long", "-w"), marks=pytest.mark.slow)],
)
def test_what_only_looks_is_interrupted_at_once(here: Workplace, long: str, words: tuple[str, ...]) -> None:
    here.run("apply", long)
    process = here.start(*words, "-v")
    assert process.stderr is not None
    while not process.stderr.readline().startswith("GET "):  # it has begun to look
        assert process.poll() is None
    code, _, err = end(process, signal.SIGINT)
    assert code == 130
    assert "Traceback" not in err


def test_ctrl_c_at_a_terminal_leaves_a_clean_screen_and_advice(here: Workplace, long: str) -> None:
    terminal = here.at_a_terminal("apply", long, "--wait")
    terminal.read_until(b"2 running")
    os.write(terminal.master, b"\x03")
    assert terminal.ended() == 130
    assert b"skahactl resume long" in terminal.text
    assert terminal.text.rfind(b"\x1b[?25h") > terminal.text.rfind(b"\x1b[?25l")  # the cursor is back
    assert b"Traceback" not in terminal.text


def test_a_question_is_answered_or_left(here: Workplace, long: str) -> None:
    here.run("apply", long)
    for answer, code, runs in ((b"\x03", 130, 1), (b"n\r", 1, 1), (b"y\r", 0, 2)):
        terminal = here.at_a_terminal("apply", long, "--replace")
        terminal.read_until(b"[y/N]")
        assert b"2 Running" in terminal.text or b"Pending" in terminal.text
        os.write(terminal.master, answer)
        assert terminal.ended() == code
        assert here.run_of("long") == runs


def test_ctrl_c_at_a_terminal_ends_a_followed_log(here: Workplace, long: str) -> None:
    here.run("apply", long)
    terminal = here.at_a_terminal("logs", "-f", "long")
    terminal.read_until(b"begun")
    os.write(terminal.master, b"\x03")
    assert terminal.ended() == 130
    assert b"Traceback" not in terminal.text


@pytest.mark.parametrize("words", [("apply", "long.toml", "--wait"), ("logs", "-f", "long")])
def test_a_closed_terminal_ends_the_command_and_not_the_job(here: Workplace, long: str, words: tuple[str, ...]) -> None:
    here.run("apply", long)
    terminal = here.at_a_terminal(*words)
    terminal.read_until(b"begun" if words[0] == "logs" else b"2 running")
    terminal.close()
    assert terminal.ended() == 129
    assert here.states("long") == ["Running"] * 2


def test_a_reader_that_goes_away_is_not_an_error(here: Workplace, long: str) -> None:
    here.run("apply", long)
    here.run("apply", here.job("wordy", "seq 100000", 1), "--wait")  # more than a pipe holds
    line = f"{sys.executable} -m skahactl {{}} | {{}}; exit ${{{{PIPESTATUS[0]}}}}"
    for words, reader, code in (("apply long.toml", "true", 0), ("logs wordy", "head -c 3", 141)):
        assert "Broken" not in here.run(line.format(words, reader), program=SHELL, expect=code).stderr


def test_a_reader_that_went_away_before_the_first_word(here: Workplace, long: str) -> None:
    here.run("apply", long)
    reading, writing = os.pipe()
    os.close(reading)
    process = here.start("get", "jobs", stdout=writing)
    os.close(writing)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (141, "")


def test_a_command_substitution_returns_at_once(here: Workplace, long: str) -> None:
    line = f"x=$({sys.executable} -m skahactl apply long.toml 2>&1); echo got $?"
    assert here.run(line, program=SHELL).stdout == "got 0\n"
    wait_for(is_running(here))


@pytest.mark.parametrize("closed", [pytest.param("2>&-", marks=pytest.mark.slow), "<&- >&- 2>&-"])
def test_streams_that_the_caller_closed(here: Workplace, closed: str) -> None:
    here.job("quick", "echo done", 1)
    here.run(f"{sys.executable} -m skahactl apply quick.toml --wait {closed}", program=SHELL)
    assert here.recorded("quick") == ["Completed"]
    assert here.run("logs", "quick").stdout == "done\n"


@pytest.mark.parametrize("words", ["help", "schema", "get jobs", "logs quick", "describe quick"])
@pytest.mark.parametrize("output", [">&-", ">/dev/full"])
def test_a_stdout_that_cannot_be_written_is_named(here: Workplace, words: str, output: str) -> None:
    here.run("apply", here.job("quick", "echo done"), "--wait")
    done = here.run(f"{sys.executable} -m skahactl {words} {output}", program=SHELL, expect=1)
    reason = os.strerror(errno.EBADF if output == ">&-" else errno.ENOSPC)
    assert done.stderr == f"error: standard output: cannot write: {reason}\n"


def test_a_working_directory_that_is_gone(here: Workplace) -> None:
    file = here.root / here.job("quick", "echo done", 1)

    line = 'mkdir there && cd there && rmdir ../there && exec "$@"'
    gone = ("sh", "-c", line, "sh", *COMMAND)
    assert here.run("validate", str(file), "-o", "name", program=gone).stdout == "quick\n"
    assert here.run("get", "jobs", program=gone).stderr == "no jobs in the local record for local\n"
    told = here.run("apply", "quick.toml", program=gone, expect=1).stderr
    assert told.splitlines()[0] == "error: the working directory is gone"


def test_a_stderr_that_is_full_changes_no_exit_code(here: Workplace) -> None:
    here.job("quick", "echo done", 1)
    here.job("bad", "exit 3", 1)
    with open("/dev/full", "w") as full:
        for words, code in (
            (("apply", "quick.toml"), 0),
            (("apply", "quick.toml", "--wait"), 0),
            (("apply", "bad.toml", "--wait"), 1),
            (("get", "replicas", "nobody"), 2),
            (("delete", "quick"), 0),
        ):
            here.run(*words, stderr=full, expect=code)
        assert here.run("get", "jobs", stdout=full, expect=1).stderr.endswith("No space left on device\n")


def test_a_log_file_that_cannot_be_opened(here: Workplace) -> None:
    here.job("quick", "echo done", 1)
    for path, reason in (("gone/x.log", "No such file or directory"), (".", "Is a directory")):
        told = here.run("apply", "quick.toml", "--log-file", path, expect=2).stderr
        assert told == f"error: {path}: the log file cannot be opened: {reason}\n"
    assert here.run("get", "jobs").stderr == "no jobs in the local record for local\n"


def test_a_log_file_that_cannot_be_written_stops_nothing(here: Workplace) -> None:
    here.job("quick", "echo done", 2)
    done = here.run("apply", "quick.toml", "--wait", "--log-file", "/dev/full")
    assert done.stderr.count("/dev/full: the log file cannot be written: No space left on device") == 1
    assert here.recorded("quick") == ["Completed"] * 2


def test_a_log_file_in_a_folder_that_is_removed(here: Workplace) -> None:
    here.job("quick", "rm -rf folder; echo done", 2)
    (here.root / "folder").mkdir()
    done = here.run("apply", "quick.toml", "--wait", "--log-file", "folder/x.log")
    assert not (here.root / "folder").exists()
    assert "log file" not in done.stderr
    assert here.recorded("quick") == ["Completed"] * 2


def file_size(limit: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def test_a_disk_that_is_full_while_a_log_is_kept(here: Workplace) -> None:
    shell = "until [ -e go ]; do sleep 0.1; done; head -c 400000 /dev/zero | tr '\\0' x; echo"
    here.job("wordy", shell, 1)
    here.run("apply", "wordy.toml")  # the worker has room
    process = here.start("resume", "wordy", preexec_fn=file_size(200_000))
    here.write("go", "")
    assert process.stderr is not None
    told = next((line for line in process.stderr if "File too large" in line or "disk" in line), "")
    assert "wordy" in told
    assert end(process, signal.SIGTERM)[0] == 143, "it goes on trying"
    assert is_whole(here)
    assert here.recorded("wordy") == ["Completed"]  # the end is recorded first
    here.run("resume", "wordy")
    assert len(here.run("logs", "wordy").stdout) == 400_001


@pytest.fixture
def unsaved(here: Workplace) -> Path:
    """A file in the place of the directory of saved logs, and a job with two logs that are not saved."""
    here.job("unsaved", "echo result; until [ -e go ]; do sleep 0.1; done; exit 1", 2)
    here.run("apply", "unsaved.toml")
    here.write("go", "")
    wait_for(lambda: here.states("unsaved") == ["Failed"] * 2)
    return here.write("state/logs", "")


@pytest.mark.parametrize(
    "words",
    [("delete", "unsaved"), ("apply", "unsaved.toml", "--replace", "--yes"), ("apply", "unsaved.toml", "--rerun")],
)
def test_nothing_is_deleted_if_the_log_cannot_be_saved(here: Workplace, unsaved: Path, words: tuple[str, ...]) -> None:
    done = here.run(*words, expect=1, timeout=60)
    assert done.stderr.count("the log cannot be saved: Not a directory") == 1
    assert ("skahactl delete unsaved --no-logs" in done.stderr) == (words[0] == "delete")
    assert here.run_of("unsaved") == 1
    assert not here.is_asked_to_go("unsaved")
    assert here.run("logs", "unsaved").stdout.count("result") == 2
    unsaved.unlink()
    here.run(*words, expect=None)  # the next run may end before the command, and fails like this one
    assert len(list(unsaved.rglob("1-*/*.log"))) == 2


def test_a_running_job_is_not_replaced_if_its_logs_cannot_be_saved(here: Workplace, long: str) -> None:
    here.run("apply", long)
    wait_for(lambda: here.states("long") == ["Running"] * 2)
    here.write("state/logs", "")
    here.job("long", "sleep 101", 2)
    done = here.run("apply", long, "--replace", "--yes", expect=1, timeout=60)
    assert done.stderr.count("the log cannot be saved") == 1
    assert not here.is_asked_to_go("long")
    assert here.states("long") == ["Running"] * 2
    here.run("delete", "long", "--no-logs")


def test_only_the_log_of_another_replica_is_saved_before_a_delete_that_fails(here: Workplace, long: str) -> None:
    here.job("long", "echo result; sleep 100", 2)
    here.run("apply", long)
    wait_for(lambda: here.states("long") == ["Running"] * 2)
    in_the_way = Path(here.data("get", "jobs", "long")[0]["logs"]) / ".1.1.log.new"
    in_the_way.mkdir(parents=True)
    assert "skahactl delete long --no-logs" in here.run("delete", "long", expect=1, timeout=60).stderr
    assert here.states("long") == ["Running", "Deleted"]
    in_the_way.rmdir()
    here.run("delete", "long")
    assert here.states("long") == ["Deleted"] * 2
    assert here.run("logs", "long").stdout.count("result") == 2


def test_a_driver_waits_until_its_logs_can_be_saved(here: Workplace, unsaved: Path) -> None:
    process = here.start("resume", "unsaved", "-v")
    assert process.stderr is not None
    said = ""
    while "the log cannot be saved" not in said:
        said += process.stderr.readline()
    time.sleep(2)
    unsaved.unlink()
    _, rest = process.communicate(timeout=120)
    said += rest
    assert process.returncode == 1
    assert said.count("the log cannot be saved") == 1
    assert 3 < said.count("GET ") < 60, "it does not poll in a busy loop"
    assert [row["log"]["complete"] for row in here.data("get", "replicas", "unsaved")] == [True, True]


@pytest.mark.parametrize("limit", [pytest.param(30_000, marks=pytest.mark.slow), 90_000])
def test_a_disk_that_is_full_while_the_ledger_is_written(here: Workplace, limit: int) -> None:
    here.job("wide", "true", 40)
    done = here.run("apply", "wide.toml", "--wait", expect=None, timeout=60, preexec_fn=file_size(limit))
    assert done.returncode != 0
    assert "ledger" in done.stderr or "disk" in done.stderr or "File too large" in done.stderr, done.stderr
    here.run("apply", "wide.toml", "--wait")
    assert is_whole(here)
    assert here.recorded("wide") == ["Completed"] * 40


def test_a_state_directory_that_cannot_be_written(here: Workplace, long: str) -> None:
    here.extra["SKAHACTL_STATE_DIR"] = "/proc/skahactl"
    done = here.run("apply", long, expect=2)
    assert "/proc/skahactl" in done.stderr
    assert "SKAHACTL_STATE_DIR" in done.stderr
    here.extra.pop("SKAHACTL_STATE_DIR")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_driver_ends_by_the_signal_after_its_message(here: Workplace, long: str, number: signal.Signals) -> None:
    process = here.start("apply", long, "--wait")
    wait_for(lambda: here.recorded("long").count("Running") == 2)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == -number
    assert "skahactl resume long" in err


def test_a_command_list_of_a_shell_stops_at_ctrl_c(here: Workplace, long: str) -> None:
    line = f"{' '.join(COMMAND)} apply {long} --wait; echo went on"
    process = here.start(f"set -m; {line}", program=SHELL)
    wait_for(lambda: here.recorded("long").count("Running") == 2)
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True).stdout
    subprocess.run(["kill", "-INT", *children.split()], check=True)
    out, _ = process.communicate(timeout=60)
    assert "went on" not in out


@pytest.mark.parametrize("words", ["--help", "apply --help", "split -n 1/1 big", "schema", "profile list"])
def test_a_reader_that_left_gives_141_without_a_message(here: Workplace, words: str) -> None:
    here.write("big", "line\n" * 200_000)
    reader, writer = os.pipe()
    os.close(reader)
    done = here.run(*words.split(), expect=141, stdout=writer)
    os.close(writer)
    assert done.stderr == ""


def test_an_internal_error_has_a_code_of_its_own(here: Workplace) -> None:
    here.write("cyclopts.py", "raise RuntimeError('planted')\n")
    here.extra["PYTHONPATH"] = f"{here.root}:{here.environ['PYTHONPATH']}"
    here.extra["SKAHACTL_DEBUG"] = ""
    done = here.run("apply", "job.toml", expect=70)
    assert done.stderr.startswith("error: cyclopts.py:1: internal error: RuntimeError: planted\nhelp: ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_command_also_if_a_library_replaces_its_exception(
    here: Workplace, number: signal.Signals
) -> None:
    """As pydantic does while it builds a model."""
    here.write(
        "cyclopts.py",
        f"import os\ntry:\n    os.kill(os.getpid(), {number})\nexcept BaseException as error:\n"
        "    raise ValueError(str(error)) from None\n",
    )
    here.extra["PYTHONPATH"] = f"{here.root}:{here.environ['PYTHONPATH']}"
    done = here.run("apply", "job.toml", expect=-number)
    assert done.stderr == ""


def test_ctrl_c_during_the_first_imports_prints_no_traceback(here: Workplace) -> None:
    code = (
        "import os, signal, sys\nclass Interrupting:\n    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'skahactl.cli':\n            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupting())\nfrom skahactl.__main__ import run\n"
    )
    done = here.run(program=(sys.executable, "-c", code), expect=-signal.SIGINT)
    assert done.stderr == ""
