"""Every way in which ``skahactl split`` refuses: exit code, words, and not a byte on stdout."""

from __future__ import annotations

import errno
import os
import pty
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.splitting import SPLIT, environment, run
from tests.terminal import Terminal

LIST = b"a\nb\nc\n"
SESSION = {"skaha_sessionid": "k9p2x0aa"}

REFUSALS: list[tuple[list[str], Mapping[str, str], str]] = [
    (["-n", "0/3"], {}, "replicas count from 1"),
    (["-n", "4/3"], {}, "replica 4 of 3 does not exist"),
    (["-n", "1/0"], {}, "must be at least 1"),
    (["-n", "-1/3"], {}, "replicas count from 1"),
    (["-n", "3"], {}, "-n wants I/N"),
    (["-n", "x/3"], {}, "not a whole number: 'x'"),
    (["-n", "1/"], {}, "not a whole number: ''"),
    (["-n", "1.5/3"], {}, "not a whole number"),
    (["-n", "1/3", "--of", "3"], {}, "give one of the two"),
    (["--replica", "1"], {}, "REPLICA_COUNT is not set"),
    (["--of", "3"], {}, "REPLICA_ID is not set"),
    (["--replica", "0", "--of", "3"], {}, "replicas count from 1"),
    (["--replica", "4", "--of", "3"], {}, "replica 4 of 3 does not exist"),
    (["--replica", "one", "--of", "3"], {}, "--replica is not a whole number: 'one'"),
    (["--replica", "1_0", "--of", "30"], {}, "--replica is not a whole number: '1_0'"),
    (["--replica", "0x1", "--of", "3"], {}, "--replica is not a whole number: '0x1'"),
    (["--replica", "-1", "--of", "3"], {}, "replicas count from 1"),
    (["--replica", "1", "--of", "3.0"], {}, "--of is not a whole number: '3.0'"),
    ([], {"REPLICA_ID": "1"}, "REPLICA_COUNT is not set"),
    ([], {"REPLICA_COUNT": "3"}, "REPLICA_ID is not set"),
    ([], {"REPLICA_ID": "0", "REPLICA_COUNT": "3"}, "replicas count from 1"),
    ([], {"REPLICA_ID": "4", "REPLICA_COUNT": "3"}, "replica 4 of 3 does not exist"),
    ([], {"REPLICA_ID": "x", "REPLICA_COUNT": "3"}, "REPLICA_ID is not a whole number: 'x'"),
    ([], {"REPLICA_ID": "1", "REPLICA_COUNT": "3.0"}, "REPLICA_COUNT is not a whole number: '3.0'"),
    ([], SESSION, "not set in this session"),
    ([], {**SESSION, "REPLICA_ID": "1"}, "REPLICA_COUNT is not set"),
    (["-n", "1/2", "list", "process", "--tile", "{}"], {}, "list ... -- process --tile {}"),
    (["-n", "1/2", "absent.txt"], {}, "absent.txt: cannot read this list: No such file"),
    (["-n", "1/2", "list", "absent.txt"], {}, "absent.txt"),
    (["-n", "1/2", "."], {}, "Is a directory"),
    (["-n", "1/2", "-", "-"], {}, "can be read only once"),
    (["-n", "1/2", "--glob", "*.fits"], {}, "nothing matches --glob '*.fits'"),
    (["-n", "1/2", "--glob", "l*", "--glob", "*.fits"], {}, "nothing matches --glob '*.fits'"),
    (["-n", "1/2", "--glob", "directories", "list", "newlines"], {}, "'directories' has no wildcard"),
    (["-n", "1/2", "--exclude", "absent.txt"], {}, "absent.txt"),
    (["-n", "1/2", "--exclude=-"], {}, "--exclude needs a file"),
    (["-n", "1/2", "--unless", "out.OK"], {}, "has no {}"),
    (["-n", "1/2", "-s", "size"], {}, "cannot get the size of 'a' (No such file or directory); 'b'"),
    (["-n", "1/1", "-s", "size", "directories"], {}, "'.' (is a directory)"),
    (["-n", "1/2", "-s", "round-robin"], {}, "round-robin"),
    (["--all"], {}, "REPLICA_COUNT is not set"),
    (["--count"], {}, "REPLICA_COUNT is not set"),
    (["--count", "--all", "-n", "3"], {}, "--all and --count do not go together"),
    (["--all", "-n", "0"], {}, "at least 1"),
    (["-n", "1/2", "-o", "toml"], {}, "split has no -o toml"),
    (["-n", "1/2", "-o", "json", "-0"], {}, "-o and -0 do not go together"),
    (["-n", "1/2", "--count", "--", "echo"], {}, "a command and --count do not go together"),
    (["-n", "1/2", "--", "no-such-command", "{}"], {}, "no-such-command: cannot run this command"),
    (["-n", "1/2", "--"], {}, "the command after -- is missing"),
    (["--script", "-s", "size"], {}, "--script and -s size do not go together"),
    (["--script", "--glob", "*"], {}, "--script and --glob do not go together"),
    (["--script", "-n", "5/3"], {}, "replica 5 of 3 does not exist"),
    (["--exlude", "list"], {}, "did you mean '--exclude'?"),
    (["-n", "1/2", "list", "-x"], {}, "written ./-x"),
    (["-n", "1/1", "newlines"], {}, "an item contains a newline"),
]


@pytest.mark.once
@pytest.mark.parametrize(("words", "env", "message"), REFUSALS, ids=lambda value: str(value)[:40])
def test_refused_before_the_first_byte(words: list[str], env: Mapping[str, str], message: str, tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(LIST)
    (tmp_path / "directories").write_bytes(b".\n")
    (tmp_path / "newlines").write_bytes(b"a\nb\0c\0")
    done = run(*words, stdin=LIST, env=env, cwd=tmp_path)
    assert done.stdout == b""
    assert message in done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert done.returncode == 2


def test_no_list_with_dev_null_a_terminal_or_nothing_as_input() -> None:
    done = run("-n", "1/2", stdin=None)
    assert (done.stdout, done.returncode) == (b"", 2)
    assert b"no list: standard input is /dev/null" in done.stderr

    ours, theirs = pty.openpty()
    try:
        done = subprocess.run([*SPLIT, "-n", "1/2"], stdin=theirs, capture_output=True, env=environment(), timeout=120)
    finally:
        os.close(ours)
        os.close(theirs)
    assert (done.stdout, done.returncode) == (b"", 2)
    assert b"no list: standard input is a terminal" in done.stderr

    words = ["sh", "-c", 'exec "$@" <&-', "sh", *SPLIT, "-n", "1/2"]
    done = subprocess.run(words, capture_output=True, env=environment(), timeout=120)
    assert (done.stdout, done.returncode) == (b"", 2)
    assert b"no list" in done.stderr


def test_an_unreadable_list(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(LIST)
    (tmp_path / "list").chmod(0)
    if os.access(tmp_path / "list", os.R_OK):
        pytest.skip("the superuser reads everything")
    done = run("-n", "1/2", "list", cwd=tmp_path)
    assert (done.stdout, done.returncode) == (b"", 2)
    assert b"Permission denied" in done.stderr


@pytest.mark.once
@pytest.mark.parametrize("strategy", ["chunk", "stripe"])
@pytest.mark.parametrize("more", [(), ("--exclude", "done"), ("-o", "json"), ("--all",)])
def test_the_reader_goes_away(strategy: str, more: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"0123456789\n" * 200_000)
    (tmp_path / "done").write_bytes(b"x\n")
    line = '"$@" | head -n 1; echo "${PIPESTATUS[0]}"'
    words = ["bash", "-c", line, "bash", *SPLIT, "list", "-s", strategy, "-n", "1/2", *more]
    done = subprocess.run(words, capture_output=True, cwd=tmp_path, env=environment(), timeout=120)
    assert done.stderr == b""
    assert done.stdout.splitlines()[1:] == [b"141"]


@pytest.mark.once
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("lines", [1, 100_000])
@pytest.mark.parametrize("more", [(), ("-s", "stripe"), ("-0",), ("-o", "jsonl"), ("--count",)])
def test_a_full_device(lines: int, more: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"0123456789\n" * lines)
    words = [*SPLIT, "list", "-n", "1/1", *more]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, cwd=tmp_path, env=environment(), timeout=120)
    assert done.returncode == 1
    assert os.strerror(errno.ENOSPC).encode() in done.stderr
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr


def test_a_closed_stdout(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(LIST)
    words = ["sh", "-c", 'exec "$@" >&-', "sh", *SPLIT, "list", "-n", "1/1"]
    done = subprocess.run(words, stderr=subprocess.PIPE, cwd=tmp_path, env=environment(), timeout=120)
    assert (done.returncode, done.stderr) == (1, b"error: standard output: cannot write: Bad file descriptor\n")


def test_an_error_with_json_is_one_object() -> None:
    import json

    done = run("-n", "4/3", "-o", "json", stdin=LIST)
    assert json.loads(done.stderr)["exit"] == 2


def test_a_command_once_an_item(tmp_path: Path) -> None:
    done = run("-n", "1/1", "--", "sh", "-c", 'echo "got $1:$(cat)"; [ "$1" != b ]', "sh", "{}", stdin=LIST)
    assert done.stdout == b"got a:\ngot b:\ngot c:\n"
    assert done.stderr.splitlines() == [
        b"skahactl split: failed with exit code 1: b",
        b"skahactl split: 1 of 3 items failed",
    ]
    assert done.returncode == 1


def test_a_command_gets_items_whole(tmp_path: Path) -> None:
    done = run("-n", "1/1", "--", "printf", "<%s>", stdin=b"a b\0$x\n*\0\xff\0")
    assert (done.stdout, done.returncode) == (b"<a b><$x\n*><\xff>", 0)
    done = run("-n", "1/1", "list", "--", "echo", "-n", "--tile={}.fits,{}", "-q", cwd=_with_list(tmp_path))
    assert done.stdout == b"--tile=a.fits,a -q--tile=b.fits,b -q--tile=c.fits,c -q"


def test_a_killed_command_is_named() -> None:
    done = run("-n", "1/1", "--", "sh", "-c", "kill -9 $$", "{}", stdin=b"a\n")
    assert b"killed by SIGKILL: a" in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_reaches_the_command(number: int, tmp_path: Path) -> None:
    line = "trap 'echo stopped; exit' INT TERM; echo started; sleep 60 & wait"
    words = [*SPLIT, "-n", "1/1", "list", "--", "sh", "-c", line, "{}"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, cwd=_with_list(tmp_path), env=environment()) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        process.send_signal(number)
        assert process.stdout.readline() == b"stopped\n"
        assert process.wait(timeout=120) == -number


@pytest.mark.once
def test_ctrl_c_at_a_terminal_reaches_the_command_once(tmp_path: Path) -> None:
    """The terminal tells both; a second SIGINT would cut short what the command does at the first."""
    code = (
        "import signal, time; signal.signal(signal.SIGINT, lambda *_: print('told', flush=True)); "
        "print('started', flush=True); time.sleep(4); print('over', flush=True)"
    )
    words = [*SPLIT, "-n", "1/1", "list", "--", SPLIT[0], "-c", code, "{}"]
    terminal = Terminal(words, _with_list(tmp_path), environment())
    terminal.read_until(b"started")
    os.kill(terminal.pid, signal.SIGSTOP)  # so that a second one cannot melt into the first
    os.write(terminal.master, b"\x03")
    terminal.read_until(b"told")
    os.kill(terminal.pid, signal.SIGCONT)
    assert terminal.ended() == 130
    assert terminal.text.count(b"told") == 1
    assert b"over" in terminal.text  # the command went on, and was awaited
    assert terminal.text.count(b"started") == 1  # no further item


def test_what_the_caller_ignores_stays_ignored(tmp_path: Path) -> None:
    """``nohup skahactl split ...`` outlives its terminal, and so does the command; other signals still end them."""
    line = "echo started; sleep 60 & wait; echo $?"
    words = ["nohup", *SPLIT, "-n", "1/1", "list", "--", "sh", "-c", line, "{}"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, cwd=_with_list(tmp_path), env=environment()) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=120) == -signal.SIGTERM


def test_a_caller_that_ignores_the_end_of_children(tmp_path: Path) -> None:
    """As some supervisors do; what is inherited so makes every wait for a child fail."""
    done = subprocess.run(
        [*SPLIT, "-n", "1/1", "list", "--", "sh", "-c", 'echo "$0"; exit 3', "{}"],
        capture_output=True,
        cwd=_with_list(tmp_path),
        env=environment(),
        preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN),
        timeout=120,
    )
    assert (done.stdout, done.returncode) == (LIST, 1)
    assert b"failed with exit code 3: a" in done.stderr


def test_the_reader_of_a_command_goes_away(tmp_path: Path) -> None:
    """The items that nobody will read of are left; a command that only a pipe of its own killed has failed."""
    line = '"$@" | head -n 1; echo "${PIPESTATUS[0]}"'
    for_ever = "trap '' TERM; echo \"$0\" >> started; while echo y; do :; done"
    words = ["bash", "-c", line, "bash", *SPLIT, "-n", "1/1", "list", "--", "sh", "-c", for_ever, "{}"]
    done = subprocess.run(words, capture_output=True, cwd=_with_list(tmp_path), env=environment(), timeout=120)
    assert (done.stdout, done.stderr) == (b"y\n141\n", b"")
    assert (tmp_path / "started").read_bytes() == b"a\n"

    done = run("-n", "1/1", "--", "sh", "-c", "kill -PIPE $$", "{}", stdin=LIST)
    assert b"killed by SIGPIPE: a\nskahactl split: killed by SIGPIPE: b" in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize("command", ["./script", "script"])
def test_a_script_that_does_not_say_what_runs_it(command: str, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for place in (tmp_path, tmp_path / "bin"):
        (place / "script").write_text('echo "got $1"\n')
        (place / "script").chmod(0o755)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    done = run("-n", "1/1", "list", "--", command, "{}", cwd=_with_list(tmp_path), env={"PATH": path})
    assert (done.stdout, done.stderr, done.returncode) == (b"got a\ngot b\ngot c\n", b"", 0)


def test_an_item_too_long_for_a_command_or_a_name() -> None:
    long = b"x" * 3_000_000
    done = run("-n", "1/1", "--unless", "out/{}.OK", "--", "echo", "{}", stdin=b"a\n" + long + b"\nb\n")
    assert (done.stdout, done.returncode) == (b"a\nb\n", 1)
    first, last = done.stderr.splitlines()
    assert first.startswith(b"skahactl split: too long for a command: xxx")
    assert first.endswith(b"... (3000000 bytes)")
    assert last == b"skahactl split: 1 of 3 items failed"


def test_no_items_no_command() -> None:
    done = run("-n", "2/2", "--", "no-such-command", stdin=b"a\n")
    assert (done.stdout, done.stderr, done.returncode) == (b"", b"", 0)


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys; from skahactl.cli import main; main(['split', '-n', '1/2']); print(*sys.modules, file=sys.stderr)"
    )
    words = [SPLIT[0], "-c", code]
    done = subprocess.run(words, input=LIST, capture_output=True, env=environment(), timeout=120)
    assert done.stdout == b"a\nb\n"
    heavy = {"httpx", "pydantic", "rich", "sqlite3", "asyncio", "subprocess", "tomllib"}
    assert heavy & {*done.stderr.decode().split()} == set()


def _with_list(place: Path) -> Path:
    (place / "list").write_bytes(LIST)
    return place
