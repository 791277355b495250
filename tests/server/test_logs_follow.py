"""Logs followed: what is new in each reading, in simulated time where hours are the point."""

from __future__ import annotations

import asyncio
import contextlib
import io
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skahactl.engine.runtime import OutageReport
from skahactl.errors import UnreachableError
from skahactl.logs.follow import (
    END_OF_LOG,
    GONE,
    LIVE,
    LOCAL,
    REMOTE,
    WAITING,
    Follower,
    LogStream,
    ReadPace,
    StreamRead,
)
from skahactl.logs.keep import GAP, Tail
from skahactl.logs.writers import LastLines, Lines, WriterChain, last_lines_at
from skahactl.logs.writers import WriterOptions as Shape
from tests.log_server import lines
from tests.simulated_time import SimulatedClock, SimulatedLoop, run

HOUR = 3600.0


async def pieces(text: bytes, size: int = 60_000) -> AsyncIterator[bytes]:
    for start in range(0, len(text), size):
        yield text[start : start + size]


def read(tail: Tail, text: bytes, size: int = 60_000) -> None:
    async def body() -> None:
        if not await tail.read(pieces(text, size)):
            assert await tail.read(pieces(text, size))

    asyncio.run(body())


@given(
    st.lists(st.tuples(st.integers(0, 3000), st.booleans()), min_size=1, max_size=8),
    st.integers(300, 5000),
)
def test_every_line_once_while_the_log_grows_and_rotates(steps: list[tuple[int, bool]], size: int) -> None:
    """A log grows by some lines between two readings, and keeps only its newest lines where it was rotated; as long
    as rotation leaves a part that was seen, nothing is lost, repeated or said to be missing."""
    out = io.BytesIO()
    tail = Tail(out.write)
    first = last = 0
    for grown, rotates in steps:
        before = last
        last += grown
        if rotates and before - first > 600:
            first = before - 600
        read(tail, lines(first, last), size)
    assert out.getvalue() == lines(0, last)


def test_lines_lost_between_two_readings_leave_a_line_that_says_so() -> None:
    out = io.BytesIO()
    tail = Tail(out.write)
    for first, last in ((0, 1000), (5000, 6000), (5500, 6500)):
        read(tail, lines(first, last))
    assert out.getvalue() == lines(0, 1000) + GAP + lines(5000, 6500)


def test_a_log_that_began_again_with_the_same_lines() -> None:
    """The platform ran the session once more from the start: a shorter text, or another one at the place known."""
    out = io.BytesIO()
    tail = Tail(out.write)
    head = lines(0, 2000)
    read(tail, head + b"first time\n" * 3000)
    read(tail, head + b"second time\n")
    assert out.getvalue() == head + b"first time\n" * 3000 + GAP + head + b"second time\n"


def test_an_empty_answer_means_nothing() -> None:
    out = io.BytesIO()
    tail = Tail(out.write)
    for text in (lines(0, 10), b"", lines(0, 20)):
        read(tail, text)
    assert out.getvalue() == lines(0, 20)


@given(st.lists(st.binary(max_size=40), max_size=20), st.integers(0, 12))
def test_the_last_lines_are_those_of_tail(parts: list[bytes], count: int) -> None:
    text = b"".join(parts)
    wanted = b"".join(io.BytesIO(text).readlines()[-count:]) if count else b""
    out = io.BytesIO()
    last = LastLines(out.write, count)
    for part in parts:
        last(part)
    assert out.getvalue() == b""
    last.release()
    last(b"and on")
    assert out.getvalue() == wanted + b"and on"
    assert text[last_lines_at(io.BytesIO(text), count) :] == wanted


def test_the_last_lines_of_a_long_log_need_no_room_for_the_rest() -> None:
    """100 MB pass while no file may grow beyond 1 MB."""
    code = (
        "import resource; from skahactl.logs.writers import LastLines; out = []\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)); last = LastLines(out.append, 2)\n"
        "for number in range(100):\n    last(b'%d' % number + b'x' * 999_997 + b'\\n')\n"
        "last.release(); print([line[:2] for line in b''.join(out).splitlines()])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("[b'98', b'99']\n", "")


def test_the_last_lines_of_a_long_file_are_found_from_its_end(tmp_path: Path) -> None:
    path = tmp_path / "long.log"
    path.write_bytes(lines(0, 400_000))

    class Counted(io.FileIO):
        taken = 0

        def readinto(self, buffer: object) -> int:
            size = super().readinto(buffer)  # type: ignore[arg-type]
            self.taken += size or 0
            return size or 0

    with Counted(path) as raw, io.BufferedReader(raw) as stream:
        place = last_lines_at(stream, 40_000)
        assert raw.taken < 3_000_000
    assert place == 360_000 * 32


@given(st.lists(st.lists(st.binary(max_size=30), min_size=1, max_size=6), min_size=1, max_size=4), st.randoms())
def test_prefixed_lines_are_never_mixed(texts: list[list[bytes]], draw: object) -> None:
    out: list[bytes] = []
    chains = [WriterChain(out.append, Shape(prefixed=True), f"job/{n}") for n, _ in enumerate(texts)]
    waiting = [(n, part) for n, parts in enumerate(texts) for part in parts]
    order = sorted(range(len(waiting)), key=lambda at: (draw.random(), at))  # type: ignore[attr-defined]
    by_log: dict[int, Iterator[bytes]] = {n: iter(parts) for n, parts in enumerate(texts)}
    for at in order:
        chains[waiting[at][0]](next(by_log[waiting[at][0]]))
    for chain in chains:
        chain.close()
    written = b"".join(out)
    assert written == b"" or written.endswith(b"\n")
    for number, parts in enumerate(texts):
        prefix = f"job/{number} | ".encode()
        mine = b"".join(line.removeprefix(prefix) for line in io.BytesIO(written) if line.startswith(prefix))
        text = b"".join(parts)
        assert mine == (text if not text or text.endswith(b"\n") else text + b"\n")


def test_a_line_without_end_is_broken_in_bounded_memory() -> None:
    out: list[bytes] = []
    one = Lines(out.append, b"a | ")
    for _ in range(300):
        one(b"x" * 10_000)
    assert sum(map(len, out)) > 1_900_000
    assert all(part.startswith(b"a | ") and part.endswith(b"\n") for part in out)


class Platform:
    """Sessions whose logs grow with the clock: so many lines a second, each with the second of its writing.

    A line has 48 bytes, so that ``pieces`` are whole lines.
    """

    def __init__(
        self, clock: SimulatedClock, rate: int, ends: dict[str, float], starts: dict[str, float] | None = None
    ):
        self.clock = clock
        self.rate = rate
        self.ends = ends
        self.starts = starts or {}
        self.reads = 0
        self.polls = 0
        self.down: tuple[float, float] | None = None
        self.open = self.most_open = 0

    def log(self, session: str) -> bytes:
        written = int((min(self.clock.monotonic(), self.ends[session]) - self.starts.get(session, 0.0)) * self.rate)
        return b"".join(b"%010.1f line %08d of the log of this run\n" % (n / self.rate, n) for n in range(written))

    @contextlib.asynccontextmanager
    async def read(self, session: str) -> AsyncIterator[AsyncIterator[bytes]]:
        self.reads += 1
        self._fail()
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        await asyncio.sleep(0)
        try:
            yield pieces(self.log(session))
        finally:
            self.open -= 1

    async def poll(self) -> StreamRead | None:
        """None while the platform does not answer, as SessionWatch.poll."""
        self.polls += 1
        if self._is_down():
            return None
        now = self.clock.monotonic()
        found = []
        for number, (session, end) in enumerate(self.ends.items(), 1):
            start = self.starts.get(session, 0.0)
            state = WAITING if now < start else LIVE if now < end else END_OF_LOG
            found.append(LogStream((0, number, 1), f"job/{number}", session, state))
        return StreamRead(tuple(found), False)

    def _is_down(self) -> bool:
        return self.down is not None and self.down[0] <= self.clock.monotonic() < self.down[1]

    def _fail(self) -> None:
        if self._is_down():
            raise UnreachableError("the platform does not answer")


class Screen:
    """What was written, and when it came after it had been written there."""

    def __init__(self, clock: SimulatedClock) -> None:
        self.clock = clock
        self.text: dict[str, bytearray] = {}
        self.latest = 0.0
        self.said: list[str] = []

    def sink(self, stream: LogStream) -> WriterChain:
        def write(data: bytes) -> None:
            if data[:10].strip():
                self.latest = max(self.latest, self.clock.monotonic() - float(data[:10]))
            self.text.setdefault(stream.session or "", bytearray()).extend(data)

        return WriterChain(write, Shape(), stream.label)


def followed(
    platform: Callable[[SimulatedClock], Platform], pace: ReadPace, most: int = 32
) -> tuple[Platform, Screen, Follower]:
    loop = SimulatedLoop()
    clock = SimulatedClock(loop)
    made = platform(clock)
    screen = Screen(clock)
    follower = Follower(
        made.poll,
        made.read,
        screen.sink,
        lambda: None,
        screen.said.append,
        outage=OutageReport("canfar", screen.said.append),
        clock=clock,
        pace=pace,
        most=most,
    )
    run(loop, follower.run())
    return made, screen, follower


@pytest.mark.parametrize("rate", [10, 3])
def test_an_hour_of_lines_moves_few_bytes_and_none_comes_late(rate: int) -> None:
    platform, screen, follower = followed(lambda clock: Platform(clock, rate, {"a": HOUR}), REMOTE)
    whole = platform.log("a")
    assert bytes(screen.text["a"]) == whole
    every_five_seconds = sum(len(whole) * second / HOUR for second in range(0, int(HOUR), 5))
    assert follower.moved * 5 < every_five_seconds
    assert screen.latest <= 60
    assert platform.polls < 250


def test_the_first_lines_come_at_once() -> None:
    _, screen, _ = followed(lambda clock: Platform(clock, 10, {"a": 60.0}), REMOTE)
    assert screen.latest < 8


@pytest.mark.once
def test_here_lines_come_within_a_second_or_two() -> None:
    _, screen, _ = followed(lambda clock: Platform(clock, 10, {"a": 600.0}), LOCAL)
    assert screen.latest < 2


def test_idle_logs_are_read_seldom() -> None:
    platform, screen, _ = followed(
        lambda clock: Platform(clock, 1, {"a": HOUR}, {"a": HOUR - 3.5}), ReadPace(list_most=30)
    )
    assert len(bytes(screen.text["a"]).splitlines()) == 3
    assert platform.reads < 10  # nothing is read before the session runs


def test_only_so_many_are_followed_at_once_and_all_in_the_end() -> None:
    ends = {f"s{number}": 100.0 + number for number in range(40)}
    platform, screen, _ = followed(lambda clock: Platform(clock, 1, ends), REMOTE, most=8)
    assert platform.most_open <= 8
    assert all(bytes(screen.text[session]) == platform.log(session) for session in ends)
    assert [text for text in screen.said if "--max" in text] == [
        "following 8 of 40 logs; others follow as these end (--max)"
    ]


def test_an_outage_is_reported_once_and_outlasted() -> None:
    def made(clock: SimulatedClock) -> Platform:
        platform = Platform(clock, 1, {"a": 3000.0})
        platform.down = (600.0, 1800.0)
        return platform

    platform, screen, _ = followed(made, REMOTE)
    assert bytes(screen.text["a"]) == platform.log("a")
    assert screen.said == [
        "canfar: the platform does not answer; retrying",
        "canfar: connection restored",
    ]


def test_a_log_that_is_gone_continues_from_its_copy(tmp_path: Path) -> None:
    """The platform rotated and forgot the log; the copy has the beginning and the end."""
    loop = SimulatedLoop()
    clock = SimulatedClock(loop)
    copy = tmp_path / "1.1.log"
    copy.write_bytes(lines(0, 3000))
    polls = iter([LIVE, GONE])
    out = io.BytesIO()

    async def poll() -> StreamRead:
        state = next(polls)
        return StreamRead((LogStream((0, 1, 1), "job", "a", state, copy if state == GONE else None),), False)

    @contextlib.asynccontextmanager
    async def reading(_: str) -> AsyncIterator[AsyncIterator[bytes]]:
        yield pieces(lines(1000, 2000))

    def sink(_: LogStream) -> WriterChain:
        return WriterChain(out.write, Shape(), "job")

    follower = Follower(
        poll,
        reading,
        sink,
        lambda: None,
        lambda text: None,
        outage=OutageReport("canfar", lambda text: None),
        clock=clock,
        pace=REMOTE,
    )
    run(loop, follower.run())
    assert out.getvalue() == lines(1000, 3000)


@pytest.mark.parametrize("newest", [None, 300], ids=["whole log", "rotated log"])
def test_a_log_that_is_gone_continues_from_the_shared_record(newest: int | None) -> None:
    """The session vanishes between two readings; the shared copy has all lines from the first one on."""

    class Vanishing(Platform):
        def log(self, session: str) -> bytes:
            whole = super().log("a")
            if session == "a" and newest is not None:
                return b"".join(whole.splitlines(keepends=True)[-newest:])
            return whole

        async def poll(self) -> StreamRead:
            now = self.clock.monotonic()
            state = LIVE if now < self.ends["a"] else GONE
            return StreamRead((LogStream((0, 1, 1), "job/1", "a", state, shared="/arc/logs/1-1.log"),), False)

    platform, screen, follower = followed(lambda clock: Vanishing(clock, 10, {"a": 95.0}), REMOTE)
    assert bytes(screen.text["a"]) == platform.log("/arc/logs/1-1.log")
    assert not follower.lost
