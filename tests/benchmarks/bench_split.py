"""``split`` of a long list against what people use: mawk, GNU split, wc, and the older Python helper.

    python -m pytest -m benchmark tests/benchmarks/bench_split.py -s

SPLIT_LINES sets the length of the list (default 20,000,000 lines, 1.1 GB), SPLIT_PAIRS the pairs of runs (5). GNU split
has no equal of chunk: its ``-n l/K/N`` cuts by bytes.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.benchmarks.pairs import compare, measure
from tests.benchmarks.peers import needs_canfar
from tests.benchmarks.table import Table
from tests.splitting import SPLIT

LINES = int(os.environ.get("SPLIT_LINES", "20000000"))
PAIRS = int(os.environ.get("SPLIT_PAIRS", "5"))
OURS = " ".join(SPLIT)
#: argv: chunk or stripe, replica, total, and a file unless stdin is read.
HELPER = """
import sys
from canfar.helpers import distributed
lines = open(sys.argv[4], "rb") if len(sys.argv) > 4 else sys.stdin.buffer
sys.stdout.buffer.writelines(getattr(distributed, sys.argv[1])(lines, int(sys.argv[2]), int(sys.argv[3])))
"""

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.skipif(not shutil.which("mawk") or not shutil.which("split"), reason="needs mawk and GNU split"),
]


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory in memory, if there is room for two lists, so that no disk is measured."""
    memory = Path("/dev/shm")
    room = memory.is_dir() and shutil.disk_usage(memory).free > 2 * 55 * LINES
    with tempfile.TemporaryDirectory(dir=memory if room else None) as made:
        yield Path(made)


@pytest.fixture(scope="module")
def list_(place: Path) -> Path:
    """Lines of 55 bytes, names like those of images in a survey."""
    with open(place / "list", "wb") as stream:
        for first in range(0, LINES, 100_000):
            names = range(first, min(LINES, first + 100_000))
            stream.write(b"".join(b"/arc/projects/survey/tiles/tile-%08d-r-calexp.fits\n" % name for name in names))
    return place / "list"


@pytest.fixture(scope="module")
def helper(place: Path) -> str:
    """The older helper in a program, as the words of a shell's line."""
    (place / "helper.py").write_text(HELPER)
    return f"{sys.executable} {place / 'helper.py'}"


def shell(line: str) -> list[str]:
    return ["sh", "-c", line]


def row(table: Table, what: str, against: str, ours: str, theirs: str, aim: str, out: Path | None = None) -> None:
    pair = compare(shell(ours), shell(theirs), pairs=PAIRS, stdout=out)
    table.pair(f"split {what}, {LINES / 1e6:g} million lines", against, pair, aim)


def test_stripe_of_a_file(list_: Path, table: Table) -> None:
    ours = f"exec {OURS} -s stripe -n 2/10 {list_}"
    row(table, "-s stripe -n 2/10 FILE", "mawk 'NR%10==2'", ours, f"exec mawk 'NR%10==2' {list_}", "1")


def test_stripe_of_a_pipe(list_: Path, table: Table) -> None:
    ours = f"cat {list_} | {OURS} -s stripe -n 2/10"
    row(table, "-s stripe -n 2/10 < PIPE", "mawk 'NR%10==2'", ours, f"cat {list_} | mawk 'NR%10==2'", "1")


def test_stripe_against_gnu_split(list_: Path, table: Table) -> None:
    ours = f"exec {OURS} -s stripe -n 2/10 {list_}"
    row(table, "-s stripe -n 2/10 FILE", "GNU split -n r/2/10", ours, f"exec split -n r/2/10 {list_}", "")


@needs_canfar
@pytest.mark.parametrize("strategy", ["stripe", "chunk"])
def test_against_the_older_helper(list_: Path, helper: str, strategy: str, table: Table) -> None:
    ours, theirs = f"exec {OURS} -s {strategy} -n 5/10 {list_}", f"exec {helper} {strategy} 5 10 {list_}"
    row(table, f"-s {strategy} -n 5/10 FILE", f"canfar's distributed.{strategy}", ours, theirs, "1")


def test_chunk_of_a_file(list_: Path, table: Table) -> None:
    """Against counting the lines twice and copying as many bytes as the share has."""
    ours = [*SPLIT, "-n", "5/10", str(list_)]
    share = list_.with_name("share")
    measure(ours, stdout=share)
    count = f"wc -l < {list_} > /dev/null"
    theirs = f"{count}; {count}; cat {share}"
    out = list_.with_name("out")
    row(table, "-n 5/10 FILE", "wc -l twice, copying the share", f"exec {' '.join(ours)}", theirs, "1, 100 MB", out)


def test_chunk_against_mawk(list_: Path, table: Table) -> None:
    first, last = 4 * LINES // 10, 5 * LINES // 10
    theirs = f"wc -l < {list_} > /dev/null; exec mawk 'NR>{last} {{exit}} NR>{first}' {list_}"
    row(table, "-n 5/10 FILE", "wc -l and mawk", f"exec {OURS} -n 5/10 {list_}", theirs, "")


@needs_canfar
def test_chunk_of_a_pipe(list_: Path, helper: str, table: Table) -> None:
    """Memory, below twice the input: the first replica has to hold what the others get until the end is known."""
    lines = LINES * 9 // 10  # split holds at most 1 GiB
    ours, theirs = (f"head -n {lines} {list_} | {words}" for words in (f"{OURS} -n 1/10", f"{helper} chunk 1 10"))
    pair = compare(shell(ours), shell(theirs), pairs=PAIRS)
    what = f"split -n 1/10 < PIPE, {lines / 1e6:g} million lines"
    table.pair(what, "canfar's distributed.chunk", pair, f"{2 * 0.9 * list_.stat().st_size / 1e6:.0f} MB")
