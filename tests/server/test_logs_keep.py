"""Logs kept: real sockets, real files, real limits of a process."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skahactl.errors import SkahactlError, UnreachableError
from skahactl.ledger.database import open_ledger
from skahactl.logs.copies import log_path
from skahactl.logs.keep import GAP, ROTATED, Fetched, describe_write_error, fetch, overlap
from skahactl.manifest.placeholders import ItemMarks
from skahactl.skaha.client import Client
from tests import ledgers
from tests.log_server import LogServer, lines, serving
from tests.skaha_server.process import running
from tests.workplace import PYTHON, Workplace

pytestmark = pytest.mark.once


def keeping(body: Callable[[LogServer, Client], Awaitable[None]]) -> None:
    async def main() -> None:
        async with serving() as (server, client):
            await body(server, client)

    asyncio.run(main())


#: Plain marks of a hundred items.
MARKS = ItemMarks(tuple(range(1, 101)))
LAST = lines(999, 1000).decode().strip()


def test_what_was_read_is_kept_for_the_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "logs" / "there" / "1.1.log"

    async def body(server: LogServer, client: Client) -> None:
        server.texts["a"] = lines(0, 1000)
        assert await fetch(client, "a", path, marks=None) == Fetched(32000, str(path), "kept", None, (), LAST)
        assert path.read_bytes() == lines(0, 1000)
        assert await fetch(client, "a", path, marks=None) == Fetched(32000, str(path), "unchanged", None, (), LAST)
        server.texts["a"] = lines(0, 1001)
        assert (await fetch(client, "a", path, marks=None)).state == "kept"
        assert path.read_bytes() == lines(0, 1001)

    keeping(body)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for folder in (path.parent, path.parent.parent, tmp_path / "state"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert os.listdir(path.parent) == ["1.1.log"]


def test_an_empty_answer_replaces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "1.1.log"

    async def body(server: LogServer, client: Client) -> None:
        assert await fetch(client, "a", path, marks=None) == Fetched(0, None, "empty", None, ())
        assert not path.exists()
        server.texts["a"] = lines(0, 10)
        await fetch(client, "a", path, marks=None)
        server.texts["a"] = b""
        assert await fetch(client, "a", path, marks=None) == Fetched(
            320, str(path), "empty", None, (), lines(9, 10).decode().strip()
        )

    keeping(body)
    assert path.read_bytes() == lines(0, 10)
    assert os.listdir(tmp_path) == ["1.1.log"]


def test_a_lost_beginning_is_taken_from_the_copy(tmp_path: Path) -> None:
    path = tmp_path / "1.1.log"

    async def body(server: LogServer, client: Client) -> None:
        for first, last in ((0, 50_000), (40_000, 90_000), (89_999, 120_000)):
            server.texts["a"] = lines(first, last)
            fetched = await fetch(client, "a", path, marks=None)
            assert (fetched.state, fetched.cut) == ("kept", None)
            assert path.read_bytes() == lines(0, last)
        assert (await fetch(client, "a", path, marks=None)).state == "unchanged"

    keeping(body)


def test_what_was_lost_unseen_is_said_where_it_is_missing_and_once(tmp_path: Path) -> None:
    path = tmp_path / "1.1.log"

    async def body(server: LogServer, client: Client) -> None:
        server.texts["a"] = lines(0, 5000) + b"half a li"
        await fetch(client, "a", path, marks=None)
        server.texts["a"] = lines(7000, 9000)
        fetched = await fetch(client, "a", path, marks=None)
        assert (fetched.state, fetched.cut) == ("kept", "cut")
        assert path.read_bytes() == lines(0, 5000) + b"half a li\n" + GAP + lines(7000, 9000)
        server.texts["a"] = lines(8000, 9500)
        fetched = await fetch(client, "a", path, marks=None)
        assert (fetched.state, fetched.cut) == ("kept", "cut")
        assert path.read_bytes() == lines(0, 5000) + b"half a li\n" + GAP + lines(7000, 9500)

    keeping(body)


def test_a_text_of_equal_lines_does_not_grow_with_every_reading(tmp_path: Path) -> None:
    path = tmp_path / "1.1.log"

    async def body(server: LogServer, client: Client) -> None:
        server.texts["a"] = b"begin\n" + b"waiting\n" * 5000
        await fetch(client, "a", path, marks=None)
        server.texts["a"] = b"waiting\n" * 3000
        for _ in range(3):
            await fetch(client, "a", path, marks=None)

    keeping(body)
    assert path.read_bytes() == b"begin\n" + b"waiting\n" * 5000


def test_a_log_that_was_long_when_first_read_is_perhaps_cut(tmp_path: Path) -> None:
    async def body(server: LogServer, client: Client) -> None:
        text = lines(0, ROTATED // 32 + 1000)
        server.texts["a"] = text
        assert (await fetch(client, "a", tmp_path / "late.log", marks=None)).cut == "perhaps cut"
        server.texts["a"] = text[:100_000]
        assert (await fetch(client, "a", tmp_path / "early.log", marks=None)).cut is None
        server.texts["a"] = text
        assert (await fetch(client, "a", tmp_path / "early.log", marks=None)).cut is None

    keeping(body)


def test_marks_are_read_from_the_whole_copy_and_without_one(tmp_path: Path) -> None:
    path = tmp_path / "1.1.log"
    mark = b"::skahactl item %d exit %d\n"

    async def body(server: LogServer, client: Client) -> None:
        first = lines(0, 40_000) + mark % (1, 0)
        server.texts["a"] = first
        assert (await fetch(client, "a", path, marks=MARKS)).ends == ((1, 0),)
        server.texts["a"] = first[500_000:] + lines(40_000, 80_000) + b"no newline" + mark % (22, 3)
        assert (await fetch(client, "a", path, marks=MARKS)).ends == ((1, 0), (22, 3))
        server.texts["a"] = b"".join(lines(n, n + 3000) + mark % (n, n % 3) for n in range(1, 60))
        fetched = await fetch(client, "a", None, marks=MARKS)
        assert fetched.ends == tuple((n, n % 3) for n in range(1, 60))
        assert (fetched.path, fetched.bytes) == (None, len(server.texts["a"]))

    keeping(body)


def test_a_broken_connection_leaves_the_copy_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "1.1.log"

    async def body(server: LogServer, client: Client) -> None:
        server.texts["a"] = lines(0, 1000)
        await fetch(client, "a", path, marks=None)
        server.texts["a"] = lines(0, 100_000)
        server.breaks_after = 1_000_000
        with pytest.raises(UnreachableError):
            await fetch(client, "a", path, marks=None)

    keeping(body)
    assert path.read_bytes() == lines(0, 1000)
    assert os.listdir(tmp_path) == ["1.1.log"]


def test_paths_tell_the_run_and_stay_apart(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        paths = set()
        for server, user, now in (
            ("https://ws-uv.canfar.net/skaha/v1", "alice", 0.0),
            ("https://ws-uv.canfar.net/skaha/v1", "bob", 0.0),
            ("https://ws-uv.canfar.net/skaha/v0", "alice", 0.0),
            ("local", "alice", 0.0),
            ("local", "alice", 86400.0),
        ):
            run = ledgers.add(ledger, ledgers.job("tiles", 100), server=server, user=user, now=now)
            paths.add(log_path(tmp_path, run, 7, 2))
    shown = tmp_path / "logs" / "alice@ws-uv.canfar.net" / "tiles" / "1-19700101T000000Z" / "007.2.log"
    assert shown in paths
    assert len(paths) == 5
    assert all(path.is_relative_to(tmp_path / "logs") and ".." not in path.parts for path in paths)


@given(st.binary(min_size=0, max_size=300), st.integers(0, 300), st.binary(max_size=300))
def test_an_overlap_is_text_that_both_have(old: bytes, start: int, more: bytes) -> None:
    new = old[start:] + more
    shared = overlap(io.BytesIO(old), io.BytesIO(new))
    if shared is not None:
        assert old.endswith(new[:shared])
        assert shared >= len(old[start:])
    else:
        assert len(old[start:]) < 32


#: Keeps a log, and tells how it ended, and how much memory that took (kB).
KEEPER = """
import asyncio, json, re, resource, sys
from pathlib import Path
from skahactl.errors import SkahactlError
from skahactl.logs.keep import fetch
from skahactl.manifest.placeholders import ItemMarks
from skahactl.platforms import open_client
from skahactl.profile import Auth, Profile

async def main(url, session, paths, limit):
    profile = Profile("test", url, auth=Auth("token", token_env="TEST_TOKEN"))
    async with open_client(profile) as client:
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        kept = (fetch(client, session, Path(path), marks=ItemMarks(tuple(range(1, 101)))) for path in paths)
        return await asyncio.gather(*kept, return_exceptions=True)

url, session, limit, *paths = sys.argv[1:]
results = asyncio.run(main(url, session, paths, int(limit)))
status = Path("/proc/self/status")  # getrusage counts what this process was forked from, too
peak = int(re.search(r"VmHWM:\\s*(\\d+) kB", status.read_text())[1]) if status.exists() else 0
errors = [e for e in results if isinstance(e, BaseException)]
told = [(e.where, e.message, e.hint) if isinstance(e, SkahactlError) else repr(e) for e in errors]
print(json.dumps({"peak": peak, "sizes": [r.bytes for r in results if r not in errors], "errors": told}))
"""


def kept_in_a_process(tmp_path: Path, size: int, copies: int, limit: int = 0) -> dict[str, list[int]]:
    import json

    with running(tmp_path / "server", {"log_bytes": size}) as server:
        session = server.tell("session", name="long", status="Completed")["id"]
        paths = [str(tmp_path / "state" / f"{number}.log") for number in range(copies)]
        words = (KEEPER, server.url, session, str(limit), *paths)
        done = Workplace(tmp_path).run(*words, program=PYTHON)
    found: dict[str, list[int]] = json.loads(done.stdout)
    return found


def test_memory_is_bounded(tmp_path: Path) -> None:
    found = kept_in_a_process(tmp_path, 64_000_000, 1)
    assert found["sizes"][0] >= 64_000_000
    assert found["peak"] < 100_000  # kB


@pytest.mark.slow
def test_memory_is_bounded_with_a_gigabyte(tmp_path: Path) -> None:
    found = kept_in_a_process(tmp_path, 1_000_000_000, 1)
    assert found["sizes"][0] >= 1_000_000_000
    assert found["peak"] < 100_000


def test_a_hundred_logs_at_once(tmp_path: Path) -> None:
    found = kept_in_a_process(tmp_path, 1_000_000, 100)
    assert len(found["sizes"]) == 100
    assert found["peak"] < 250_000  # each of the hundred has a buffer of 1 MB and a connection's


@pytest.mark.parametrize(
    ("number", "code", "remedy"),
    [
        (errno.ENOSPC, "disk-full", "make room there (skahactl prune --logs)"),
        (errno.EDQUOT, "disk-full", "make room there (skahactl prune --logs)"),
        (errno.EPERM, "log-not-kept", "make sure that you can write to its directory"),
    ],
)
def test_a_full_disk_is_not_any_other_error(number: int, code: str, remedy: str) -> None:
    with pytest.raises(SkahactlError) as caught, describe_write_error(Path("x.log"), is_kept=True):
        raise OSError(number, os.strerror(number))
    assert caught.value.code == code
    assert str(caught.value.hint).startswith(remedy)


def test_a_log_that_cannot_be_written_is_reported_and_nothing_remains(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "0.log").write_bytes(b"what was kept before\n")
    found = kept_in_a_process(tmp_path, 8_000_000, 1, limit=3_000_000)
    ((where, message, hint),) = found["errors"]  # type: ignore[misc]
    assert where == str(state / "0.log")
    assert message == f"the log cannot be saved: {os.strerror(errno.EFBIG)}"
    assert "until the platform discards the session" in hint
    assert os.listdir(state) == ["0.log"]
    assert (state / "0.log").read_bytes() == b"what was kept before\n"
