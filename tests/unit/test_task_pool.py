"""The bounded pool: one task per key, never more than the limit, every result handed out once."""

from __future__ import annotations

import asyncio

import pytest

from skahactl.engine.pool import TaskPool


def test_it_never_runs_more_than_its_limit_and_keeps_the_order() -> None:
    running, most, order = 0, 0, []

    async def work(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        order.append(number)
        await asyncio.sleep(0.001)
        running -= 1
        return number * 10

    async def main() -> list[tuple[int, int]]:
        done = asyncio.Event()
        pool: TaskPool[int, int] = TaskPool(3, done.set)
        assert all(pool.submit(number, lambda n=number: work(n)) for number in range(10))  # type: ignore[misc]
        assert not pool.submit(4, lambda: work(4)), "a key is in the pool once"
        assert 9 in pool
        await done.wait()
        return pool.events()

    events = asyncio.run(main())
    assert most == 3
    assert order == list(range(10))
    assert sorted(events) == [(number, number * 10) for number in range(10)]


def test_a_released_key_makes_room_before_it_ends() -> None:
    async def main() -> None:
        pool: TaskPool[str, None] = TaskPool(1, lambda: None)
        written = asyncio.Event()

        async def first() -> None:
            pool.release("first")
            await written.wait()

        async def second() -> None:
            written.set()

        pool.submit("first", first)
        pool.submit("second", second)
        await asyncio.wait_for(written.wait(), 5)
        await pool.stop(5)
        assert pool.idle

    asyncio.run(main())


def test_an_unexpected_error_stops_the_pool_and_is_kept() -> None:
    async def main() -> TaskPool[int, None]:
        done = asyncio.Event()
        pool: TaskPool[int, None] = TaskPool(1, done.set)

        async def fail() -> None:
            raise KeyError("x")

        async def never() -> None:
            raise AssertionError("started after a failure")

        pool.submit(1, fail)
        pool.submit(2, never)
        await done.wait()
        assert not pool.submit(3, never)
        return pool

    pool = asyncio.run(main())
    assert isinstance(pool.failure, KeyError)
    assert pool.idle


@pytest.mark.parametrize("hurried", [True, False])
def test_stop_waits_as_long_as_it_may_and_no_longer(hurried: bool) -> None:
    async def main() -> tuple[bool, bool]:
        pool: TaskPool[str, None] = TaskPool(2, lambda: None)
        ended = {"short": False, "long": False}

        async def work(name: str, seconds: float) -> None:
            await asyncio.sleep(seconds)
            ended[name] = True

        pool.submit("short", lambda: work("short", 0.05))
        pool.submit("long", lambda: work("long", 60))
        await asyncio.sleep(0)
        hurry = asyncio.Event()
        if hurried:
            hurry.set()
        await asyncio.wait_for(pool.stop(0.2, hurry, 0.1), 5)
        return ended["short"], ended["long"]

    assert asyncio.run(main()) == (True, False)
