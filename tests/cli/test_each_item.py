"""``each = true`` in real shells: what a program gets, what the log says, what a later attempt runs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skahactl.manifest.placeholders import each_command, each_ends
from skahactl.model import Each, Replica
from tests.manifests import job
from tests.workplace import wait_for

SHELLS = [["dash"], ["busybox", "sh"], ["bash", "--posix"], ["bash"]]
SHELLS = [shell for shell in SHELLS if shutil.which(shell[0])] or [["sh"]]

NASTY = [
    "plain",
    "two words",
    "it's",
    '"quoted"',
    "$HOME",
    "`id`",
    "a\\nb",
    "*",
    "-e",
    "{item}",
    "ü",
    "semi;colon",
    "#x",
    "!",
]

pytestmark = pytest.mark.parametrize("shell", SHELLS, ids=" ".join)


def replica(directory: Path, text: str, items: list[str] | None = None) -> Replica:
    """The only replica of a job with these items."""
    (directory / "items.txt").write_text("".join(f"{item}\n" for item in items or []), encoding="utf-8")
    source = '[items]\nfile = "items.txt"\neach = true\n' if items else ""
    return job(directory, f"replicas = 1\n{text}\n{source}" if items else text).replicas[0]


def made(one: Replica) -> Each:
    assert one.each is not None
    return one.each


def call(shell: list[str], argv: tuple[str, ...], **env: str) -> subprocess.CompletedProcess[bytes]:
    """Runs a wrapper's argv, with another shell in the place of its ``sh``."""
    environ = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **env}
    return subprocess.run([*shell, *argv[1:]], env=environ, capture_output=True, timeout=120, check=False)


def marks(output: bytes) -> list[tuple[int, int]]:
    return list(each_ends([output]))


def test_each_item_arrives_as_one_argument(shell: list[str], tmp_path: Path) -> None:
    one = replica(
        tmp_path, """command = ["printf", "<%s>\\n", "{item}", "a'{item}'b{item}", "{replica}/{replicas}"]""", NASTY
    )
    done = call(shell, one.request.command)
    told = [line for line in done.stdout.decode().splitlines() if not line.startswith("::")]
    assert told == [text for item in NASTY for text in (f"<{item}>", f"<a'{item}'b{item}>", "<1/1>")]
    assert marks(done.stdout) == [(number, 0) for number in range(1, len(NASTY) + 1)]
    assert done.returncode == 0
    assert done.stderr == b""


def test_the_environment_of_an_item(shell: list[str], tmp_path: Path) -> None:
    one = replica(
        tmp_path,
        """shell = 'printf "%s|%s|%s\\n" "$ITEM" "$TILE" "$SAME"'\n[env]\nTILE = "x {item}'s"\nSAME = "{replica}"\n""",
        ["a b", "$c"],
    )
    assert dict(one.request.env)["SAME"] == "1"
    assert "TILE" not in dict(one.request.env)
    done = call(shell, one.request.command, SAME="1")
    assert [line for line in done.stdout.decode().splitlines() if "|" in line] == ["a b|x a b's|1", "$c|x $c's|1"]


def test_a_failure_does_not_stop_the_others(shell: list[str], tmp_path: Path) -> None:
    one = replica(tmp_path, """shell = 'exit {item}'""", ["0", "3", "00", "200"])
    done = call(shell, one.request.command)
    assert marks(done.stdout) == [(1, 0), (2, 3), (3, 0), (4, 200)]
    assert done.returncode == 1


def test_a_program_that_is_not_there_or_dies(shell: list[str], tmp_path: Path) -> None:
    one = replica(tmp_path, """command = ["{item}"]""", ["no-such-program", "true"])
    done = call(shell, one.request.command)
    assert marks(done.stdout) == [(1, 127), (2, 0)]
    assert b"no-such-program" in done.stderr
    one = replica(tmp_path, """shell = 'kill -KILL $$'""", ["x"])
    assert marks(call(shell, one.request.command).stdout) == [(1, 137)]


def test_a_later_attempt_runs_what_is_missing_under_the_same_positions(shell: list[str], tmp_path: Path) -> None:
    one = replica(tmp_path, """command = ["echo", "{item}"]""", ["a", "b", "c", "d"])
    done = call(shell, each_command(made(one), [2, 4]))
    assert done.stdout == b"b\n::skahactl item 2 exit 0\nd\n::skahactl item 4 exit 0\n"


def test_the_columns_of_a_table(shell: list[str], tmp_path: Path) -> None:
    names = ["galaxy", "name", *(f"c{number}" for number in range(3, 13)), "ra deg"]
    rows = [[f"{name}-{row}" for name in names] for row in (1, 2)]
    (tmp_path / "t.csv").write_text("\n".join(",".join(row) for row in [names, *rows]) + "\n")
    one = job(
        tmp_path,
        """command = ["sh", "-c", 'printf "%s\\n" "$@" "$ITEM" "$ITEM_C12" "$ITEM_RA_DEG"', "x", "{galaxy}", "{name}",
        "{item.name}", "{c12}"]\n[items]\ncsv = "t.csv"\nper-replica = 2\neach = true""",
    ).replicas[0]
    done = call(shell, one.request.command)
    told = [line for line in done.stdout.decode().splitlines() if not line.startswith("::")]
    expected = [
        [f"galaxy-{n}", "tiles", f"name-{n}", f"c12-{n}", f"galaxy-{n}", f"c12-{n}", f"ra deg-{n}"] for n in (1, 2)
    ]
    assert told == expected[0] + expected[1]


def test_the_combinations_of_a_matrix(shell: list[str], tmp_path: Path) -> None:
    one = job(
        tmp_path,
        """command = ["sh", "-c", 'echo "$1 $ITEM $ITEM_CHAIN"', "x", "{item} {target}"]
        [items]\nmatrix = { target = ["M 31", "M33"], chain = [1, 2] }\nper-replica = 4\neach = true""",
    ).replicas[0]
    done = call(shell, one.request.command)
    told = [line for line in done.stdout.decode().splitlines() if not line.startswith("::")]
    assert told == [f"{t},{c} {t} {t},{c} {c}" for t in ("M 31", "M33") for c in (1, 2)]


def test_a_mark_after_a_line_without_an_end(shell: list[str], tmp_path: Path) -> None:
    one = replica(tmp_path, """command = ["printf", "%s", "{item}"]""", ["half", "::skahactl item 7 exit 0 said it"])
    done = call(shell, one.request.command)
    assert done.stdout.startswith(b"half::skahactl item 1 exit 0\n")
    assert marks(done.stdout) == [(1, 0), (2, 0)]


def test_the_environment_is_left_alone(shell: list[str], tmp_path: Path) -> None:
    """A variable of the user's that a simpler wrapper would use itself."""
    one = replica(tmp_path, """shell = 'echo "$code $bad $i $item"'""", ["a", "b"])
    done = call(shell, one.request.command, code="C", bad="B", i="I", item="T")
    assert done.stdout.count(b"C B I T\n") == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_item_and_the_wrapper(shell: list[str], tmp_path: Path, number: int) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import pathlib, signal, sys, time\n"
        "def end(number, frame):\n    pathlib.Path('ended').touch()\n    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\npathlib.Path('started').touch()\ntime.sleep(30)\n"
    )
    one = replica(tmp_path, f"""command = ["{sys.executable}", "worker.py", "{{item}}"]""", ["a", "b"])
    with subprocess.Popen([*shell, *one.request.command[1:]], stdout=subprocess.PIPE, cwd=tmp_path) as process:
        wait_for((tmp_path / "started").exists)
        process.send_signal(number)
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 143
    assert (tmp_path / "ended").exists()
    assert marks(output) == []


@given(
    ends=st.lists(st.tuples(st.integers(1, 999_999_999), st.integers(0, 255), st.binary(max_size=30)), max_size=12),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=20),
)
def test_marks_are_found_however_the_log_is_cut(
    shell: list[str], ends: list[tuple[int, int, bytes]], sizes: list[int]
) -> None:
    log = b"".join(noise + b"::skahactl item %d exit %d\n" % (number, code) for number, code, noise in ends)
    chunks, at, turn = [], 0, 0
    while at < len(log):
        size = sizes[turn % len(sizes)]
        chunks.append(log[at : at + size])
        at, turn = at + size, turn + 1
    assert list(each_ends(chunks)) == [(number, code) for number, code, _ in ends]


def test_a_cut_mark_does_not_count(shell: list[str]) -> None:
    assert marks(b"::skahactl item 1 exit 0\n::skahactl item 2 exit 1") == [(1, 0)]
    assert marks(b"::skahactl item 1 exit 0 \n::skahactl item 2 exit 0x\n::skahactl item 3 exit 0\r\n") == [(3, 0)]
