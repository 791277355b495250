"""A home for tests of the command line whose ledger was made beforehand: nothing of the real user's is in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.skaha_server.process import ROOT


class Home:
    """Starts the real command in ``root``, on the local platform unless told otherwise."""

    def __init__(self, root: Path):
        self.root = root
        self.state = root / "state"
        self.environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "HOME": str(root),
            "SKAHACTL_STATE_DIR": str(self.state),
            "SKAHACTL_PROFILE": "local",
            "SKAHACTL_DEBUG": "1",
        }

    def start(self, *words: str, **others: object) -> subprocess.Popen[bytes]:
        """``others`` are Popen's."""
        pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        command = [sys.executable, "-m", "skahactl", *words]
        return subprocess.Popen(command, **{**pipes, "cwd": self.root, "env": self.environ, **others})

    def ended(self, process: subprocess.Popen[bytes], expect: int) -> tuple[bytes, str]:
        """What it wrote; another exit code, or a traceback, is an error."""
        out, err = process.communicate(timeout=120)
        assert process.returncode == expect, (process.args, process.returncode, out[-2000:], err.decode()[-2000:])
        assert b"Traceback" not in err, err.decode()
        return out, err.decode()
