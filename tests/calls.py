"""Hundreds of short calls of the command: each a process of its own, forked from one that has imported everything.

To start and to import is nearly all that such a call costs. What depends on the start itself is tested elsewhere.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

_PARENT = """
import gc, importlib, json, os, pkgutil, sys
import skahactl
from skahactl.cli import run
for module in pkgutil.walk_packages(skahactl.__path__, "skahactl."):
    if module.name != "skahactl.__main__":
        importlib.import_module(module.name)
gc.freeze()
folder, calls, codes = sys.argv[1], json.loads(sys.argv[2]), []
for number, words in enumerate(calls):
    child = os.fork()
    if child == 0:
        for stream, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{folder}/{number}.{name}", os.O_WRONLY | os.O_CREAT), stream)
        sys.argv[1:] = words
        try:
            run()
        except SystemExit as end:  # its streams are flushed
            os._exit(end.code)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(codes))
"""


def answers(
    calls: Iterable[Sequence[str]], cwd: Path, environ: Mapping[str, str]
) -> list[subprocess.CompletedProcess[str]]:
    """What each of these calls answers, without a standard input; a traceback is an error."""
    calls = [list(words) for words in calls]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", _PARENT, folder, json.dumps(calls)],
            cwd=cwd,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        found = []
        for number, code in enumerate(json.loads(done.stdout)):
            out, err = (Path(folder, f"{number}.{name}").read_text() for name in ("out", "err"))
            assert "Traceback" not in err, err
            found.append(subprocess.CompletedProcess(calls[number], code, out, err))
    return found
