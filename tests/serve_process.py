"""The local platform over HTTP: ``skahactl serve`` as a process of its own."""

from __future__ import annotations

import signal
from collections.abc import Sequence

import httpx

from tests.workplace import COMMAND, Workplace, end


class ServeProcess:
    """``skahactl serve`` at a workplace."""

    def __init__(self, here: Workplace, *options: str, program: Sequence[str] = COMMAND):
        self.here = here
        self.process = here.start("serve", *options, program=program)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url, self.process.communicate()[1]
        self.port = int(self.url.split(":")[2].split("/")[0])

    @property
    def token(self) -> str:
        return (self.here.state / "local" / f"serve-{self.port}.token").read_text().strip()

    def client(self, **headers: str) -> httpx.Client:
        known = {"authorization": f"Bearer {self.token}", **headers}
        return httpx.Client(base_url=self.url, headers=known, timeout=60, trust_env=False)

    def stop(self, number: int = signal.SIGINT) -> tuple[int, str]:
        """Exit code, as a shell shows it, and stderr after a signal."""
        code, _, words = end(self.process, number)
        return code, words
