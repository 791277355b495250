"""``skahactl split`` against GNU split, and what happens to bytes."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skahactl.errors import UsageError
from skahactl.split.shares import Share, balanced, bounds
from skahactl.split.sources import HEAD, open_list
from skahactl.split.strategies import BLOCK, chunk
from tests.splitting import SPLIT, environment, run, share

quick = settings(max_examples=60)
#: Bytes with many ends of lines and no NUL.
texts = st.lists(st.sampled_from([b"\n", b"a", b"bc", b"\r\n", b"\xff", b" ", b"x" * 300]), max_size=80).map(b"".join)
totals = st.one_of(st.integers(1, 12), st.integers(1, 10_000))
pipes = st.booleans()


def lines_of(text: bytes) -> list[bytes]:
    """Lines with their ends, as GNU split counts them."""
    return [line for line in text.replace(b"\n", b"\n\0").split(b"\0") if line]


def gnu(text: bytes, replica: int, total: int) -> bytes:
    with tempfile.NamedTemporaryFile() as file:
        file.write(text)
        file.flush()
        return subprocess.run(
            ["split", "-n", f"r/{replica}/{total}", file.name], capture_output=True, check=True
        ).stdout


@pytest.mark.skipif(not shutil.which("split"), reason="GNU split is not here")
@quick
@given(texts, totals, pipes, st.data())
@example(b"a\nb", 2, False, None)
def test_stripe_is_gnu_split(text: bytes, total: int, pipe: bool, data: st.DataObject | None) -> None:
    replica = data.draw(st.integers(1, min(total, 30))) if data else 2
    assert share(text, "stripe", replica, total, pipe=pipe) == gnu(text, replica, total)


@quick
@given(texts, totals, pipes, st.data())
def test_chunk_is_lines_between_bounds(text: bytes, total: int, pipe: bool, data: st.DataObject) -> None:
    replica = data.draw(st.integers(1, min(total, 30)))
    lines = lines_of(text)
    start, stop = bounds(len(lines), replica, total)
    assert share(text, "chunk", replica, total, pipe=pipe) == b"".join(lines[start:stop])


@pytest.mark.parametrize("strategy", ["chunk", "stripe"])
@quick
@given(lists=st.lists(texts, min_size=1, max_size=4), total=st.integers(1, 6), pipe=pipes, null=st.booleans())
def test_shares_are_together_the_whole_list(
    strategy: str, lists: list[bytes], total: int, pipe: bool, null: bool
) -> None:
    end = b"\0" if null else b"\n"
    items = [line.removesuffix(b"\n") for text in lists for line in lines_of(text)]
    shares = [share(lists, strategy, replica, total, null=null, pipe=pipe) for replica in range(1, total + 1)]
    parts = [(text if text.endswith(end) else text + end).split(end)[:-1] if text else [] for text in shares]
    if strategy == "chunk":
        assert list(itertools.chain.from_iterable(parts)) == items
    else:
        assert [parts[at % total][at // total] for at in range(len(items))] == items
    assert sum(map(len, parts)) == len(items)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("pipe", [False, True])
@pytest.mark.parametrize("strategy", ["chunk", "stripe"])
def test_lists_longer_than_any_buffer(strategy: str, pipe: bool) -> None:
    lines = [b"%d" % (number**5) + b"\n" for number in range(150_000)]
    text = b"".join(lines) + b"last"
    assert len(text) > 2 << 20
    lines.append(b"last")
    for replica, total in ((1, 1), (1, 3), (2, 3), (3, 3), (77, 1000), (10_000, 10_000)):
        start, stop = bounds(len(lines), replica, total)
        mine = lines[start:stop] if strategy == "chunk" else lines[replica - 1 :: total]
        assert share(text, strategy, replica, total, pipe=pipe) == b"".join(mine)


@pytest.mark.parametrize("strategy", ["chunk", "stripe"])
@pytest.mark.parametrize("name", ["/proc/self/mountinfo", "/sys/devices/system/cpu/online"])
def test_a_file_with_a_size_that_is_not_that_of_its_bytes(name: str, strategy: str) -> None:
    """/proc says 0, /sys a page, some FUSE file systems either."""
    if not os.path.exists(name):
        pytest.skip(f"no {name} here")
    lines = Path(name).read_bytes().splitlines(keepends=True)
    assert lines
    parts = [run(name, "-s", strategy, "-n", f"{replica}/2").stdout.splitlines(keepends=True) for replica in (1, 2)]
    assert sorted(parts[0] + parts[1]) == sorted(lines)


@pytest.mark.parametrize("strategy", ["chunk", "stripe"])
def test_a_line_of_10_mb(strategy: str, tmp_path: Path) -> None:
    long = bytes(range(11, 256)) * 42_000
    (tmp_path / "list").write_bytes(b"a\n" + long + b"\nb\n")
    for pipe in (False, True):
        stdin = (tmp_path / "list").read_bytes() if pipe else b""
        done = run(*([] if pipe else ["list"]), "-s", strategy, "-n", "2/3", cwd=tmp_path, stdin=stdin)
        assert done.stdout == long + b"\n"


@pytest.mark.parametrize(
    ("stdin", "words", "printed"),
    [
        (b"a\nb\nc", ["-n", "2/2"], b"c"),  # a last line without its end stays so
        (b"a\nb\nc", ["-n", "2/2", "-0"], b"c\0"),
        (b"\n\na\n\n", ["-n", "1/1"], b"\n\na\n\n"),  # empty lines are items
        (b"\n\na\n\n", ["-s", "stripe", "-n", "2/2"], b"\n\n"),
        (b"\xff\xfe\n\xe9\n", ["-n", "2/2"], b"\xe9\n"),
        (b"a\0b\nc\0d", ["-n", "1/1", "-0"], b"a\0b\nc\0d\0"),  # NUL-separated: newlines are part of an item
        (b"a\0b\nc\0d\0", ["-n", "2/3", "-0"], b"b\nc\0"),
        (b"a\0b\0", ["-n", "2/2"], b"b\n"),
        (b"a\nb\n", ["-0", "-n", "1/1"], b"a\0b\0"),
        (b"", ["-n", "1/2"], b""),
        (b"1\n2\n3\n", ["--replica", "2", "--of", "5"], b"2\n"),
        (b"1\n2\n3\n", ["--replica", "4", "--of", "5"], b""),
    ],
)
def test_bytes(stdin: bytes, words: list[str], printed: bytes) -> None:
    done = run(*words, stdin=stdin)
    assert (done.stdout, done.returncode, done.stderr) == (printed, 0, b"")


def test_a_nul_counts_in_the_first_64_kib_alone() -> None:
    line = b"x" * 1023 + b"\n"
    late = line * (HEAD // len(line)) + b"a\0b\n"
    assert share(late, "stripe", 1, 1) == late
    with pytest.raises(UsageError, match="a NUL after the first 64 KiB"):
        share(late, "stripe", 1, 1, null=True)
    early = late[2:]
    assert share(early, "stripe", 2, 2, null=True) == b"b\n\0"
    with pytest.raises(UsageError, match="an item contains a newline"):
        share(early, "stripe", 2, 2)


def test_carriage_returns_are_mentioned_and_stay() -> None:
    done = run("-n", "1/2", stdin=b"a\r\nb\r\n")
    assert done.stdout == b"a\r\n"
    assert b"carriage return" in done.stderr
    assert run("-q", "-n", "1/2", stdin=b"a\r\nb\r\n").stderr == b""
    assert run("-n", "1/2", stdin=b"a\rb\n").stderr == b""


def test_carriage_returns_of_excluded_items_are_mentioned(tmp_path: Path) -> None:
    (tmp_path / "done.txt").write_bytes(b"a\r\n")
    done = run("-n", "1/1", "--exclude", "done.txt", stdin=b"a\nb\n", cwd=tmp_path)
    assert done.stdout == b"a\nb\n"
    assert b"done.txt: lines end with a carriage return" in done.stderr


def test_the_rest_of_an_open_file_is_the_list(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"header\na\nb\nc\n")
    for strategy, printed in (("chunk", b"a\nb\n"), ("stripe", b"a\nc\n")):
        with open(tmp_path / "list", "rb", buffering=0) as stream:
            stream.seek(7)
            words = ["-s", strategy, "-n", "1/2"]
            done = subprocess.run([*SPLIT, *words], stdin=stream, capture_output=True, env=environment())
            assert done.stdout == printed


def test_replica_variables_are_the_default(tmp_path: Path) -> None:
    list_ = b"".join(b"%d\n" % number for number in range(1000))
    assert run(stdin=list_, env={"REPLICA_ID": "1", "REPLICA_COUNT": "100"}).stdout.split() == list_.split()[:10]
    done = run("-s", "stripe", stdin=list_, env={"REPLICA_ID": "1", "REPLICA_COUNT": "100", "skaha_sessionid": "x"})
    assert done.stdout.split() == list_.split()[::100]
    done = run(stdin=b"a\nb\n")
    assert (done.stdout, done.returncode) == (b"a\nb\n", 0)
    assert b"REPLICA_ID and REPLICA_COUNT are not set" in done.stderr


def test_globs_are_sorted_by_bytes_and_each_name_comes_once(tmp_path: Path) -> None:
    names = [b"B.fits", b"a.fits", b"\xff.fits", "é.fits".encode(), b"with blank.fits", b"Z.txt"]
    for name in names:
        (tmp_path / os.fsdecode(name)).touch()
    done = run("--glob", "*.fits", "--glob", "[aB]*", "-n", "1/1", cwd=tmp_path)
    assert done.stdout == b"".join(sorted(name + b"\n" for name in names if name != b"Z.txt"))
    (tmp_path / "a\nb.fits").touch()
    whole = run("--glob", "*.fits", "-n", "1/1", "-0", cwd=tmp_path).stdout
    assert whole.split(b"\0")[:-1] == sorted([*(n for n in names if n != b"Z.txt"), b"a\nb.fits"])


def test_finished_items_are_taken_out_after_assignment(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"".join(b"%d\n" % number for number in range(1, 10)))
    (tmp_path / "done").write_bytes(b"1\n2\n3")
    for item, content in (("4", "ok"), ("7", ""), ("8", "ok")):
        (tmp_path / f"{item}.OK").write_text(content)
    words = ["--exclude", "done", "--unless", "{}.OK", "list"]
    shares = [run(*words, "-n", f"{replica}/3", cwd=tmp_path).stdout for replica in (1, 2, 3)]
    assert shares == [b"", b"5\n6\n", b"7\n9\n"]
    assert run(*words, "--count", "-n", "3", cwd=tmp_path).stdout == b"1\t0\t3\n2\t2\t1\n3\t2\t1\n"
    assert run(*words, "--all", "--of", "3", cwd=tmp_path).stdout == b"2\t5\n2\t6\n3\t7\n3\t9\n"
    assert run(*words, "-n", "2/3", "-s", "stripe", cwd=tmp_path).stdout == b"5\n"


def test_all_and_count(tmp_path: Path) -> None:
    assert run("--all", "--of", "2", "-s", "stripe", stdin=b"a\nb\nc").stdout == b"1\ta\n2\tb\n1\tc\n"
    assert run("--all", "-n", "2/2", "-0", stdin=b"a\nb\nc").stdout == b"1\ta\0001\tb\0002\tc\0"
    assert run("--count", "-n", "3", stdin=b"a\nb\nc\nd\n").stdout == b"1\t2\t0\n2\t1\t0\n3\t1\t0\n"
    assert run("--count", stdin=b"a\n", env={"REPLICA_COUNT": "2"}).stdout == b"1\t1\t0\n2\t0\t0\n"


def test_json(tmp_path: Path) -> None:
    done = run("-o", "json", "-n", "2/2", "-s", "stripe", stdin=b'a\nb"\xff\nc\n')
    rows = json.loads(done.stdout)
    assert rows == [{"replica": 2, "item": 'b"\udcff'}]
    assert os.fsencode(rows[0]["item"]) == b'b"\xff'
    assert run("-o", "json", "-n", "1/1").stdout == b"[]\n"
    done = run("-o", "jsonl", "--all", "--of", "2", stdin=b"a\0b\nc\0")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"replica": 1, "item": "a"},
        {"replica": 2, "item": "b\nc"},
    ]
    done = run("-o", "json", "--count", "--of", "2", stdin=b"a\n")
    assert json.loads(done.stdout) == [
        {"replica": 1, "items": 1, "excluded": 0, "bytes": None},
        {"replica": 2, "items": 0, "excluded": 0, "bytes": None},
    ]


def test_size_balances_and_keeps_the_order_of_the_list(tmp_path: Path) -> None:
    for name, size in zip("abcdef", (5, 50, 20, 20, 15, 0), strict=True):
        (tmp_path / name).write_bytes(b"x" * size)
    list_ = b"a\nb\nc\nd\ne\nf\n"
    shares = [run("-s", "size", "-n", f"{replica}/2", stdin=list_, cwd=tmp_path).stdout for replica in (1, 2)]
    assert shares == [b"a\nb\nf\n", b"c\nd\ne\n"]
    done = run("-s", "size", "--count", "-n", "2", stdin=list_, cwd=tmp_path)
    assert done.stdout == b"1\t3\t0\t55\n2\t3\t0\t55\n"
    assert run("-s", "size", "--all", "--of", "2", stdin=list_, cwd=tmp_path).stdout.startswith(b"1\ta\n1\tb\n2\tc\n")


@given(st.lists(st.integers(0, 30), max_size=8), st.integers(1, 4))
def test_size_is_within_the_bound_of_the_best(weights: list[int], total: int) -> None:
    owners = balanced(weights, total)
    heaviest = max(_loads(weights, owners, total))
    best = min(
        (max(_loads(weights, owners, total)) for owners in itertools.product(range(1, total + 1), repeat=len(weights))),
        default=0,
    )
    assert heaviest * 3 * total <= best * (4 * total - 1)


@given(st.lists(st.integers(0, 5), max_size=200), totals)
def test_size_gives_every_item_to_one_replica_and_all_the_same_answer(weights: list[int], total: int) -> None:
    owners = balanced(weights, total)
    assert len(owners) == len(weights)
    assert all(1 <= owner <= total for owner in owners)
    assert owners == balanced(list(weights), total)
    if total >= len(weights):
        assert len(set(owners)) == len(weights)  # none idle while another has two


def _loads(weights: list[int], owners: list[int] | tuple[int, ...], total: int) -> list[int]:
    loads = [0] * total
    for weight, owner in zip(weights, owners, strict=True):
        loads[owner - 1] += weight
    return loads


def test_ties_go_by_position() -> None:
    assert balanced([7, 7, 7, 7], 2) == [1, 2, 1, 2]
    assert balanced([1, 9, 9, 1], 2) == [1, 1, 2, 2]


def test_chunks_of_a_file_of_several_blocks(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(b"".join(b"%d\n" % (number * 7919 % 10007) for number in range(9_000)) * 120 + b"no end")
    lines = lines_of(path.read_bytes())
    assert path.stat().st_size > 4 * BLOCK
    for total in (2, 7, 5000):
        for replica in (1, 2, total // 2 + 1, total):
            start, stop = bounds(len(lines), replica, total)
            found = b"".join(chunk([open_list(str(path), 0)], Share(replica, total), False))
            assert found == b"".join(lines[start:stop]), (replica, total)
