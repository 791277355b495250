"""The public ``canfar`` client, as a user's program and command, and the machines that both clients are run on."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.benchmarks.pairs import Measured, measure
from tests.skaha_server.process import TOKEN, Server, running
from tests.workplace import Workplace

IMAGE = "images.canfar.net/skaha/astroml:latest"
CANFAR = Path(sysconfig.get_path("scripts")) / "canfar"

needs_canfar = pytest.mark.skipif(importlib.util.find_spec("canfar") is None, reason="needs canfar (extra peers)")

#: argv: url, token, replicas, connections. A call of canfar's makes at most 256 replicas, so several are made at once.
CREATE = f"""
import asyncio, sys
from canfar.sessions import AsyncSession

async def main(url, token, replicas, connections):
    sizes = [min(250, replicas - first) for first in range(0, replicas, 250)]
    async with AsyncSession(url=url, token=token, concurrency=connections) as session:
        made = await asyncio.gather(*(
            session.create(name=f"fits-{{part}}", image="{IMAGE}", cmd="true", replicas=size)
            for part, size in enumerate(sizes)
        ))
    print(sum(map(len, made)))

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
"""


def canfar_create(server: Server, replicas: int, connections: int) -> list[str]:
    """The words of a program that makes ``replicas`` sessions with canfar."""
    return [sys.executable, "-c", CREATE, server.url, TOKEN, str(replicas), str(connections)]


def canfar_environ(home: Path, server: Server) -> dict[str, str]:
    """canfar's environment: a home of its own, the server and the token as its variables."""
    home.mkdir(parents=True, exist_ok=True)
    return {"PATH": "/usr/bin:/bin", "HOME": str(home), "CANFAR_URL": server.url, "CANFAR_TOKEN": TOKEN}


@contextmanager
def fresh(root: Path, plan: Mapping[str, object]) -> Iterator[tuple[Server, Path]]:
    """A server that has just started, and an empty directory; both gone afterwards."""
    shutil.rmtree(root, ignore_errors=True)
    with running(root / "server", dict(plan)) as server:
        yield server, root / "here"


def job(replicas: int) -> str:
    return f'name = "fits"\nimage = "{IMAGE}"\ncommand = ["true"]\nreplicas = {replicas}\n'


def ours(here: Workplace, *words: str, code: int = 0) -> Measured:
    """One run of ``skahactl``."""
    return measure([sys.executable, "-m", "skahactl", *words], env=here.environ, cwd=here.root, code=code)
