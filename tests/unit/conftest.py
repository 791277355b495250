"""Tests in this folder start no process and open no server."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

_FORBIDDEN = ("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system", "socket.bind")
_active = False


def _refuse(event: str, arguments: object) -> None:
    if _active and event in _FORBIDDEN:
        raise RuntimeError(f"a unit test must not cause {event}; put it into tests/cli or tests/server")


sys.addaudithook(_refuse)


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    global _active
    _active = True
    yield
    _active = False
