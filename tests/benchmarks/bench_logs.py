"""``logs`` of one replica with 1 GB, and of 100 with 10 MB each, against curl of the same URLs.

    pytest -m benchmark tests/benchmarks/bench_logs.py -s

Once from a server on this machine that writes as fast as it can, where starting Python and the HTTP client are all
that is measured; and once at 1 Gbit/s, as over a network, with a quarter of the text: there the server's rate is the
measure, and a longer log would only hide our start. LOGS_BYTES (1 GB) and LOGS_PAIRS (5) set the size and the pairs
of runs.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import pytest

from tests.benchmarks.pairs import compare
from tests.benchmarks.table import Table
from tests.skaha_server.process import ROOT

BYTES = int(os.environ.get("LOGS_BYTES", "1000000000"))
PAIRS = int(os.environ.get("LOGS_PAIRS", "5"))
GIGABIT = 125_000_000  # bytes per second

pytestmark = [pytest.mark.benchmark, pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")]

#: Lists the sessions argv[3:], and answers a GET for a log with argv[1] bytes, at argv[2] bytes per second for all
#: together (0: no limit).
SERVER = """
import asyncio, json, sys
size, rate = int(sys.argv[1]), int(sys.argv[2])
listed = json.dumps([
    {"id": id, "name": id, "type": "headless", "status": "Completed", "userid": "me", "image": "a/b:1"}
    for id in sys.argv[3:]
]).encode()
block = b"".join(b"%06d the quick brown fox jumps over the lazy dog\\n" % n for n in range(1200))
free = 0.0

async def serve(reader, writer):
    global free
    loop = asyncio.get_running_loop()
    try:
        while head := await reader.readuntil(b"\\r\\n\\r\\n"):
            if b"view=logs" not in head.split(b"\\r\\n")[0]:
                writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\n")
                writer.write(b"Content-Length: %d\\r\\n\\r\\n" % len(listed) + listed)
                continue
            writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Type: text/plain\\r\\nContent-Length: %d\\r\\n\\r\\n" % size)
            for left in range(size, 0, -len(block)):
                writer.write(block[:left])
                await writer.drain()
                if rate:
                    free = max(free, loop.time()) + len(block) / rate
                    if free - loop.time() > 0.005:
                        await asyncio.sleep(free - loop.time())
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    writer.close()

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


@contextlib.contextmanager
def serving(size: int, rate: int, sessions: Sequence[str]) -> Iterator[str]:
    """The URL of a server whose logs have ``size`` bytes each."""
    words = [sys.executable, "-c", SERVER, str(size), str(rate), *sessions]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/skaha/v1"
        finally:
            process.kill()


def written(command: Sequence[str], environ: Mapping[str, str]) -> int:
    """How many bytes the command writes to its output."""
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        return sum(map(len, iter(partial(process.stdout.read, 1 << 20), b"")))


@pytest.mark.parametrize(("rate", "total"), [(0, BYTES), (GIGABIT, BYTES // 4)], ids=["here", "network"])
@pytest.mark.parametrize("count", [1, 100])
def test_logs(tmp_path: Path, count: int, rate: int, total: int, table: Table) -> None:
    size = total // count
    sessions = [f"s{number:07d}" for number in range(count)]
    with serving(size, rate, sessions) as url:
        (tmp_path / "there.toml").write_text(f'server = "{url}"\n[auth]\nmethod = "none"\n')
        environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "HOME": str(tmp_path),
            "SKAHACTL_STATE_DIR": str(tmp_path / "state"),
            "SKAHACTL_PROFILE": str(tmp_path / "there.toml"),
        }
        ours = [sys.executable, "-m", "skahactl", "logs", *sessions, "--prefix", "never"]
        theirs = ["curl", "-sS", *(f"{url}/session/{session}?view=logs" for session in sessions)]
        pair = compare(ours, theirs, pairs=PAIRS, env=environ)
        for command in (ours, theirs):
            assert written(command, environ) == size * count
    where = "at 1 Gbit/s" if rate else "on this machine"
    table.pair(f"logs of {count} with {size / 1e6:g} MB, {where}", "curl", pair, "1.5, 100 MB")
