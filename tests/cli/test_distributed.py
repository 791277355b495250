"""``skahactl.helpers.distributed`` against NumPy and the rules of its arguments."""

from __future__ import annotations

import os
import pydoc
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain, count, islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skahactl.helpers import distributed
from skahactl.split.shares import bounds

totals = st.one_of(st.integers(1, 12), st.integers(1, 10_000))


@given(st.integers(0, 3000), totals, st.data())
def test_chunk_is_numpys_array_split(items: int, total: int, data: st.DataObject) -> None:
    replica = data.draw(st.integers(1, total))
    assert list(distributed.chunk(range(items), replica, total)) == list(
        np.array_split(np.arange(items), total)[replica - 1]
    )


@given(st.integers(0, 300), totals)
def test_every_item_goes_to_one_replica(items: int, total: int) -> None:
    chunks = [bounds(items, replica, total) for replica in range(1, total + 1)]
    assert [start for start, _ in chunks] == [0, *(stop for _, stop in chunks[:-1])]
    assert chunks[-1][1] == items
    sizes = [stop - start for start, stop in chunks]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] - sizes[-1] <= 1
    assert [len(range(replica - 1, items, total)) for replica in range(1, total + 1)] == sizes


@given(st.lists(st.integers()), st.integers(1, 40))
def test_stripes_are_dealt_like_cards(items: list[int], total: int) -> None:
    stripes = [list(distributed.stripe(items, replica, total)) for replica in range(1, total + 1)]
    dealt = [stripe[at] for at in range(len(items)) for stripe in stripes if at < len(stripe)]
    assert dealt == items
    assert list(chain.from_iterable(distributed.chunk(iter(items), r, total) for r in range(1, total + 1))) == items


@pytest.mark.parametrize("kind", [list, tuple, iter, dict.fromkeys, lambda items: (i for i in items), np.array])
def test_any_iterable(kind: object) -> None:
    assert list(distributed.chunk(kind(range(10)), 2, 3)) == [4, 5, 6]  # type: ignore[operator]
    assert list(distributed.stripe(kind(range(10)), 2, 3)) == [1, 4, 7]  # type: ignore[operator]


def test_a_length_that_lies_is_not_believed() -> None:
    class Frame:  # a pandas DataFrame has as many as it has rows, and yields its columns
        def __len__(self) -> int:
            return 1000

        def __iter__(self) -> Iterator[str]:
            return iter(["ra", "dec", "flux"])

    assert list(distributed.chunk(Frame(), 1, 2)) == ["ra", "dec"]


def test_lazy() -> None:
    def never() -> Iterator[int]:
        raise AssertionError("read too early")
        yield 0

    distributed.chunk(never(), 1, 2)
    distributed.stripe(never(), 1, 2)
    assert list(islice(distributed.stripe(count(), 3, 7), 3)) == [2, 9, 16]
    assert next(distributed.chunk(range(10**15), 10**6, 10**6)) == 10**15 - 10**9


@pytest.mark.parametrize(
    ("replica", "total", "error", "words"),
    [
        (0, 3, ValueError, "count from 1"),
        (-1, 3, ValueError, "count from 1"),
        (4, 3, ValueError, "replica 4 of 3 does not exist"),
        (1, 0, ValueError, "at least 1"),
        (1, -5, ValueError, "at least 1"),
        (1, None, ValueError, "REPLICA_COUNT is not set"),
        (None, 3, ValueError, "REPLICA_ID is not set"),
        (1.0, 3, TypeError, "integer"),
        ("1", 3, TypeError, "integer"),
        (True, 3, TypeError, "integer"),
        (1, 3.5, TypeError, "integer"),
    ],
)
@pytest.mark.parametrize("function", [distributed.chunk, distributed.stripe])
def test_wrong_arguments_are_errors_at_the_call(function, replica, total, error, words) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=words):
        function([1, 2, 3], replica, total)


def test_numpys_integers_are_integers() -> None:
    assert list(distributed.stripe("abcd", np.int64(2), np.int32(2))) == ["b", "d"]


def script(code: str, **variables: str) -> tuple[str, str]:
    """What a program prints, and the last line of its errors, with these variables and no others of ours."""
    ours = ("REPLICA_ID", "REPLICA_COUNT", "skaha_sessionid")
    env = {name: value for name, value in os.environ.items() if name not in ours} | variables
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    return done.stdout.strip(), (done.stderr.strip().splitlines() or [""])[-1]


SHARES = """
from skahactl.helpers import distributed
print(list(distributed.chunk(range(1000)))[:10], list(distributed.stripe(range(1000)))[:3])
"""


def test_the_variables_say_which() -> None:
    printed, _ = script(SHARES, REPLICA_ID="2", REPLICA_COUNT="100")
    assert printed == f"{list(range(10, 20))} [1, 101, 201]"


def test_without_variables_all_items() -> None:
    assert script(SHARES)[0] == f"{list(range(10))} [0, 1, 2]"


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"REPLICA_ID": "1"}, "REPLICA_COUNT is not set"),
        ({"REPLICA_COUNT": "3"}, "REPLICA_ID is not set"),
        ({"REPLICA_ID": "one", "REPLICA_COUNT": "3"}, "REPLICA_ID is not a whole number: 'one'"),
        ({"REPLICA_ID": "1", "REPLICA_COUNT": "3.0"}, "REPLICA_COUNT is not a whole number: '3.0'"),
        ({"REPLICA_ID": "", "REPLICA_COUNT": "3"}, "REPLICA_ID is not a whole number: ''"),
        ({"REPLICA_ID": "0", "REPLICA_COUNT": "3"}, "count from 1"),
        ({"REPLICA_ID": "4", "REPLICA_COUNT": "3"}, "replica 4 of 3 does not exist"),
        ({"skaha_sessionid": "abcdefgh"}, "not set in this session"),
    ],
)
def test_wrong_variables_are_errors(variables: dict[str, str], words: str) -> None:
    printed, error = script(SHARES, **variables)
    assert printed == ""
    assert error.startswith("ValueError: ")
    assert words in error


def test_imports_the_standard_library_alone() -> None:
    code = "import sys, skahactl.helpers.distributed; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    loaded, error = script(code)
    assert error == ""
    assert not {"cyclopts", "httpx", "pydantic", "rich", "numpy", "sqlite3", "asyncio", "subprocess"} & {
        *loaded.split()
    }


@pytest.mark.parametrize("function", [distributed.chunk, distributed.stripe])
def test_help_tells_the_rules_and_the_difference(function: object) -> None:
    text = pydoc.render_doc(function, renderer=pydoc.plaintext)
    for word in ("REPLICA_ID", "REPLICA_COUNT", "older helper", "ValueError", "Examples"):
        assert word in text


def test_the_examples_of_help() -> None:
    import doctest

    assert doctest.testmod(distributed) == (0, 4)
