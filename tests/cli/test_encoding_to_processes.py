"""The encoding through the local platform: real processes tell what argument list and environment they got."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from pathlib import Path

import pytest

from skahactl.local.transport import LocalTransport
from skahactl.model import Request
from skahactl.profile import LocalSettings, Profile
from skahactl.skaha.client import Client
from skahactl.skaha.encoding import value_problem
from skahactl.system import SystemClock

IMAGE = "images.canfar.net/skaha/astroml:latest"
TELL = "import json,os,sys; print(json.dumps([sys.argv[1:], {k: v for k, v in os.environ.items() if k[:2] == 'V_'}]))"
PIECES = [
    *"ab$\\\"'` \n\t=%+#{}[],&|;<>*?!~^",
    "$(V_0)",
    "$$",
    "${x}",
    "\\x20",
    "\\\\",
    "\r\n",
    "é",
    "日",
    "\U0001f600",
    "\u2028",
]

Case = tuple[list[str], dict[str, str]]


def cases(count: int, seed: int) -> list[Case]:
    dice = random.Random(seed)

    def text() -> str:
        while True:
            made = "".join(dice.choice(PIECES) for _ in range(dice.choice((0, 1, 2, 4, 9, 30))))
            if value_problem(made) is None:
                return made

    return [
        ([text() for _ in range(dice.randrange(6))], {f"V_{n}": text() for n in range(dice.randrange(4))})
        for _ in range(count)
    ]


async def told(state: Path, sent: list[Case]) -> list[Case]:
    """What the process of each case said that it got."""
    settings = LocalSettings(slots=2)
    environ = {"PATH": os.environ["PATH"], "HOME": str(state), "LANG": "C.UTF-8", "PYTHONUTF8": "1"}
    transport = LocalTransport(state, settings, str(state), environ)
    async with Client(Profile("local", "local"), transport=transport, clock=SystemClock(), environ={}) as client:
        ids = []
        for argv, env in sent:
            request = Request("headless", IMAGE, (sys.executable, "-X", "utf8", "-c", TELL, *argv), tuple(env.items()))
            made = await client.create(request, "case")
            assert made.id is not None, made
            ids.append(made.id)
        while any(session.status in ("Pending", "Running") for session in (await client.sessions()).sessions):
            await asyncio.sleep(0.1)
        return [await _log(client, id) for id in ids]


async def _log(client: Client, id: str) -> Case:
    async with client.log(id) as pieces:
        argv, env = json.loads(b"".join([piece async for piece in pieces]))
    return argv, env


@pytest.mark.parametrize("count", [15, pytest.param(300, marks=pytest.mark.slow)])
def test_processes_get_what_was_written(tmp_path: Path, count: int) -> None:
    sent = cases(count, seed=count)
    assert asyncio.run(told(tmp_path, sent)) == sent
