"""``skahactl split --script``: the same shares with nothing but sh and awk."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.splitting import environment, run, share

pytestmark = pytest.mark.once

#: Shells and awks, each pair on a PATH that has nothing else.
IMAGES = {
    "dash-mawk": (("dash",), ("mawk",)),
    "dash-gawk": (("dash",), ("gawk",)),
    "bash-mawk": (("bash", "--posix"), ("mawk",)),
    "busybox": (("busybox", "sh"), ("busybox", "awk")),
}
here = [name for name, (shell, awk) in IMAGES.items() if shutil.which(shell[0]) and shutil.which(awk[0])]
texts = st.lists(st.sampled_from([b"\n", b"a", b"b c", b"\r\n", b"\xff", b"\\n$x"]), max_size=40).map(b"".join)


class Image:
    """An image that has a shell and an awk, and no other program."""

    def __init__(self, name: str, root: Path):
        shell, awk = IMAGES[name]
        self.shell = [str(shutil.which(shell[0])), *shell[1:]]
        self.root = root
        (root / "bin").mkdir()
        program = shutil.which(awk[0])
        (root / "bin" / "awk").symlink_to(str(program))  # busybox is what it is called by
        (root / "split.sh").write_bytes(run("--script").stdout)

    def run(
        self,
        words: Sequence[str],
        stdin: bytes | None = b"",
        env: Mapping[str, str] | None = None,
        script: str = "split.sh",
    ) -> subprocess.CompletedProcess[bytes]:
        source = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
        return subprocess.run(  # type: ignore[call-overload, no-any-return]
            [*self.shell, script, *words],
            cwd=self.root,
            capture_output=True,
            env={"PATH": str(self.root / "bin"), **(env or {})},
            **source,
        )


@pytest.fixture(scope="module", params=here)
def image(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Image:
    return Image(request.param, tmp_path_factory.mktemp("image"))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(text=texts, strategy=st.sampled_from(["chunk", "stripe"]), total=st.integers(1, 12), data=st.data())
def test_the_same_shares(image: Image, text: bytes, strategy: str, total: int, data: st.DataObject) -> None:
    replica = data.draw(st.integers(1, total))
    mine = share(text, strategy, replica, total)
    if mine and not mine.endswith(b"\n"):
        mine += b"\n"  # awk ends every line
    done = image.run(["-s", strategy, "-n", f"{replica}/{total}"], text)
    assert (done.stdout, done.stderr, done.returncode) == (mine, b"", 0)


def test_lists_and_variables(image: Image) -> None:
    (image.root / "a=1.txt").write_bytes(b"1\n2\n3")
    (image.root / "second list.txt").write_bytes(b"4\n5\n6\n7\n")
    env = {"REPLICA_ID": "2", "REPLICA_COUNT": "3"}
    assert image.run(["a=1.txt", "second list.txt"], env=env).stdout == b"4\n5\n"
    assert image.run(["-s", "stripe", "a=1.txt", "-"], b"4\n5\n", env=env).stdout == b"2\n5\n"
    assert image.run([str(image.root / "a=1.txt")], env=env).stdout == b"2\n"
    assert image.run(["-n", "1/3"], b"1\n2\n3\n", env=env).stdout == b"1\n"


def test_what_was_given_with_script_is_the_default(image: Image) -> None:
    (image.root / "it's.txt").write_bytes(b"1\n2\n3\n4\n")
    script = run("it's.txt", "--script", "-s", "stripe", "-n", "2/2").stdout
    (image.root / "mine.sh").write_bytes(script)
    assert image.run([], script="mine.sh").stdout == b"2\n4\n"
    assert image.run(["-n", "1/2", "-s", "chunk"], script="mine.sh").stdout == b"1\n2\n"
    assert image.run(["-"], b"a\nb\n", script="mine.sh").stdout == b"b\n"


def test_a_long_line(image: Image) -> None:
    long = b"x" * 10_000_000 + b"\n"
    assert image.run(["-n", "2/2"], b"a\n" + long).stdout == long


def test_everything_outside_a_session(image: Image) -> None:
    done = image.run([], b"a\nb\n")
    assert (done.stdout, done.returncode) == (b"a\nb\n", 0)
    assert b"not set" in done.stderr


@pytest.mark.parametrize(
    ("words", "env", "message"),
    [
        (["-n", "0/3"], {}, "count from 1"),
        (["-n", "4/3"], {}, "replica 4 of 3 does not exist"),
        (["-n", "1/0"], {}, "at least 1"),
        (["-n", "x/3"], {}, "not a whole number"),
        (["-n", "-1/3"], {}, "not a whole number"),
        (["-n", "3"], {}, "(expected I/N, for example 3/10)"),
        (["-s", "size", "-n", "1/2"], {}, "invalid strategy 'size' (chunk or stripe)"),
        (["-x"], {}, "usage"),
        ([], {"REPLICA_ID": "1"}, "REPLICA_COUNT is not"),
        ([], {"REPLICA_COUNT": "1"}, "REPLICA_ID is not"),
        ([], {"REPLICA_ID": "", "REPLICA_COUNT": "3"}, "not a whole number"),
        ([], {"skaha_sessionid": "x"}, "not set in this session"),
        (["-n", "1/2", "absent.txt"], {}, "absent.txt: cannot read"),
        (["-n", "1/2", "."], {}, "is a directory"),
    ],
)
def test_refusals(image: Image, words: list[str], env: dict[str, str], message: str) -> None:
    done = image.run(words, b"a\nb\n", env)
    assert (done.stdout, done.returncode) == (b"", 2)
    assert message in done.stderr.decode()


def test_no_list(image: Image) -> None:
    done = image.run(["-n", "1/3"], stdin=None)
    assert (done.stdout, done.returncode) == (b"", 2)
    assert b"no list: standard input is /dev/null" in done.stderr


def test_the_script_runs_where_it_is_piped_to(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"1\n2\n3\n")
    script = run("--script").stdout
    done = subprocess.run(
        ["sh", "-s", "--", "-n", "3/3", "list"], input=script, capture_output=True, cwd=tmp_path, env=environment()
    )
    assert done.stdout == b"3\n"
