"""Running ``skahactl split`` in tests: as a process, and in this one for the many cases of Hypothesis."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from skahactl.split.execute import SplitRequest, execute
from skahactl.split.shares import Share
from skahactl.split.sources import open_all

SPLIT = (sys.executable, "-m", "skahactl", "split")


def environment(variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours, without what says which replica this is, and with ``variables``."""
    ours = ("REPLICA_ID", "REPLICA_COUNT", "skaha_sessionid", "SKAHA_SESSIONID")
    return {name: value for name, value in os.environ.items() if name not in ours} | dict(variables or {})


def run(
    *words: str | bytes | Path, stdin: bytes | None = b"", cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """``skahactl split`` with a pipe as stdin, or /dev/null for None."""
    source = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
    return subprocess.run([*SPLIT, *words], capture_output=True, cwd=cwd, env=environment(env), timeout=60, **source)  # type: ignore[call-overload, no-any-return]


def share(
    data: Sequence[bytes] | bytes, strategy: str, replica: int, total: int, *, null: bool = False, pipe: bool = False
) -> bytes:
    """What a replica gets of lists with these bytes, read from files or, with ``pipe``, from pipes."""
    lists = [data] if isinstance(data, bytes) else data
    with tempfile.TemporaryDirectory() as place:
        names = []
        for number, content in enumerate(lists):
            path = Path(place, str(number))
            path.write_bytes(content)
            names.append(str(path))
        feeders = [subprocess.Popen(["cat", name], stdout=subprocess.PIPE) for name in names] if pipe else []
        if pipe:
            names = [f"/dev/fd/{feeder.stdout.fileno()}" for feeder in feeders]  # type: ignore[union-attr]
        sources = tuple(open_all(names, (), 0))
        with open(Path(place, "out"), "wb+") as out:
            execute(SplitRequest(sources, strategy, Share(replica, total), null=null), out.fileno(), print)
            out.seek(0)
            answer = out.read()
        for source in sources:
            os.close(source.fd)
        for feeder in feeders:
            feeder.stdout.close()  # type: ignore[union-attr]
            feeder.wait()
        return answer
