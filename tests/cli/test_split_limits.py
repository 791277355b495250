"""What ``skahactl split`` holds in memory, byte-order marks, and what an interruption leaves on stderr."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.splitting import SPLIT, environment, run

pytestmark = pytest.mark.once

BOM = b"\xef\xbb\xbf"


def peak_memory(words: list[str], cwd: Path, expect: int) -> int:
    """MB that a call takes at most, above those of a call with an empty list."""
    code = (
        "import resource, runpy, sys\nsys.argv = ['skahactl', *sys.argv[1:]]\n"
        "try:\n    runpy.run_module('skahactl', run_name='__main__')\n"
        "finally:\n    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "split", *words],
        cwd=cwd,
        env=environment() | {"SKAHACTL_DEBUG": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    assert done.returncode in (expect, None), done.stderr
    return int(done.stderr.split()[-1]) // 1024


@pytest.fixture(scope="module")
def million(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three million lines, 60 MB."""
    place = tmp_path_factory.mktemp("million")
    with open(place / "list", "wb") as stream:
        for begin in range(0, 3_000_000, 100_000):
            stream.write(b"".join(b"item-%014d\n" % number for number in range(begin, begin + 100_000)))
    (place / "done").write_bytes(b"item-%014d\n" % 5)
    (place / "empty").write_bytes(b"")
    return place


def test_a_long_list_is_not_held(million: Path) -> None:
    bare = peak_memory(["empty", "--count", "--of", "3"], million, 0)
    for words, expect in (
        (["--count", "--of", "3", "-s", "stripe"], 0),
        (["--all", "--of", "3"], 0),
        (["--count", "--of", "3", "--exclude", "done"], 0),
        (["--count", "--of", "3", "-s", "size"], 2),
    ):
        assert peak_memory(["list", *words], million, expect) < bare + 20, words


def test_counts_are_those_of_the_shares(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"".join(b"%d\n" % number for number in range(11)) + b"last")
    (tmp_path / "done").write_bytes(b"0\n1\n10\nlast\n")
    for strategy, source in (("chunk", ["list"]), ("stripe", ["/dev/stdin"])):
        for exclude in ([], ["--exclude", "done"]):
            words = [*source, "-s", strategy, *exclude, "--of", "5"]
            feed = (tmp_path / "list").read_bytes()
            counts = run(*words, "--count", cwd=tmp_path, stdin=feed).stdout.decode().split("\n")[:-1]
            every = run(*words, "--all", cwd=tmp_path, stdin=feed).stdout.decode().split("\n")[:-1]
            left = [sum(row.startswith(f"{replica}\t") for row in every) for replica in range(1, 6)]
            assert [row.split("\t")[1] for row in counts] == [str(number) for number in left]
            assert sum(int(row.split("\t")[1]) + int(row.split("\t")[2]) for row in counts) == 12


def test_a_pipe_that_never_ends_is_refused_before_memory_runs_out() -> None:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))

    with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as endless:
        done = subprocess.run(
            [*SPLIT, "--all", "--of", "3"],
            stdin=endless.stdout,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=120,
            preexec_fn=limited,
        )
        endless.kill()
    assert done.returncode == 2
    assert "longer than 1 GiB" in done.stderr


def test_names_without_files_are_reported_at_once(million: Path) -> None:
    began = time.monotonic()
    done = run("list", "-s", "size", "-n", "1/3", cwd=million)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.count(b"No such file") == 3
    assert b"and more" in done.stderr
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("data", [BOM + b"a\nb\nc\n", BOM + b"a\0b\0c\0"])
@pytest.mark.parametrize("strategy", ["chunk", "stripe"])
def test_a_byte_order_mark_is_not_part_of_the_first_item(tmp_path: Path, data: bytes, strategy: str) -> None:
    (tmp_path / "list").write_bytes(data)
    for words, stdin in ((["list"], b""), ([], data)):
        got = [run(*words, "-s", strategy, "-n", f"{i}/3", stdin=stdin, cwd=tmp_path).stdout for i in (1, 2)]
        assert got == [b"a\n", b"b\n"]
    (tmp_path / "list").write_bytes(b"a\n" + BOM + b"b\n")
    assert run("list", "-n", "1/1", cwd=tmp_path).stdout == b"a\n" + BOM + b"b\n"


@pytest.mark.parametrize("shell", [["sh"], ["busybox", "sh"]])
def test_the_script_drops_a_byte_order_mark_too(tmp_path: Path, shell: list[str]) -> None:
    (tmp_path / "list").write_bytes(BOM + b"a\nb\nc\n")
    (tmp_path / "split.sh").write_bytes(run("--script").stdout)
    for strategy in ("chunk", "stripe"):
        done = subprocess.run(
            [*shell, "split.sh", "-s", strategy, "-n", "1/2", "list"], cwd=tmp_path, capture_output=True, timeout=60
        )
        assert done.stdout == run("list", "-s", strategy, "-n", "1/2", cwd=tmp_path).stdout
        assert done.stdout.startswith(b"a\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_command_says_where_it_stopped(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "list").write_bytes(b"a\nb\nc\nd\n")
    script = "echo {}; case {} in b) exit 3;; c) exec sleep 60;; esac"
    process = subprocess.Popen(
        [*SPLIT, "list", "-n", "1/1", "--", "sh", "-c", script],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    while process.stdout.readline() != b"c\n":
        pass
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=60)
    lines = err.decode().splitlines()
    assert "skahactl split: interrupted during item 3: c; items done before: 2 (1 of them failed)" in lines
    assert sum("interrupted" in line for line in lines) == 1
    assert process.returncode not in (0, 1, 2)


@pytest.mark.parametrize("name", ["skaha_sessionid", "SKAHA_SESSIONID"])
def test_both_spellings_of_the_session_mean_inside_a_session(name: str) -> None:
    done = run(stdin=b"a\n", env={name: "k9p2x0aa"})
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"not set in this session" in done.stderr
