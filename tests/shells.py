"""Interactive shells on a pseudo terminal, driven as a person drives them: keys in, screen out."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path

from tests.skaha_server.process import ROOT
from tests.workplace import Workplace

PROMPT = "READY> "
_ESCAPES = re.compile(
    r"\x1b\[[0-9;?<>=]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[=>78]|[\x07\r\x0e\x0f]"
)
_COMPLETIONS = ROOT / "completions"
_ZSH = (
    "unsetopt beep; setopt no_always_last_prompt no_list_ambiguous; LISTMAX=10000; "
    "autoload -Uz compinit; compinit -u -D"
)


class Shell:
    """One interactive shell in ``folder``. ``words``: how it is called. ``setup``: a line typed once it is ready."""

    def __init__(self, words: list[str], folder: Path, environ: Mapping[str, str], setup: str = ""):
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execvpe(words[0], words, dict(environ))
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 60, 120, 0, 0))
        self._screen = ""
        self.wait_for(PROMPT)
        if setup:
            self.send(f"{setup}; echo set''up\r")
            self.wait_for("setup", PROMPT)

    def tab(self, typed: str, *words: str) -> str:
        """Types, presses Tab until the words are shown, and gives all that was shown since the first Tab."""
        self.send("\x15")  # whatever was on the line goes
        self.drain()
        self.send("\r")
        self.wait_for(PROMPT)
        self.send(typed)
        self.wait_for(typed.strip()[-4:])
        self.drain()
        shown = ""
        for seconds in (5, 15, 60):
            self.send("\t")
            with contextlib.suppress(AssertionError):
                return shown + self.wait_for(*words, seconds=seconds) + self.drain()
            shown, self._screen = shown + self._screen, ""
        raise AssertionError(f"Tab after {typed!r} shows no {words} but {_clean(shown)!r}")

    def send(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def wait_for(self, *texts: str, seconds: float = 60) -> str:
        """What the shell wrote until all of ``texts`` were there; AssertionError if they do not come."""
        deadline = time.monotonic() + seconds
        while not all(text in _clean(self._screen) for text in texts):
            assert time.monotonic() < deadline, f"no {texts} in {_clean(self._screen)!r}"
            self._read(0.5)
        text, self._screen = _clean(self._screen), ""
        return text

    def drain(self) -> str:
        """All there is, until nothing more has come for a while."""
        while self._read(0.2):
            pass
        text, self._screen = _clean(self._screen), ""
        return text

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self.terminal], [], [], seconds)
        if not ready:
            return False
        try:
            data = os.read(self.terminal, 65536)
        except OSError:
            return False
        self._screen += data.decode("utf-8", "replace")
        return bool(data)

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.terminal)


def _clean(text: str) -> str:
    return _ESCAPES.sub("", text)


def home_at(home: Path) -> Workplace:
    """A home where no profile is chosen and the record is in its usual place; skahactl in PATH is this one."""
    programs = home / "bin"
    programs.mkdir(parents=True, exist_ok=True)
    program = programs / "skahactl"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m skahactl "$@"\n')
    program.chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}"
    return Workplace(home, extra={"PATH": path, "SKAHACTL_PROFILE": "", "SKAHACTL_STATE_DIR": "", "TERM": "xterm"})


def bash(folder: Path, environ: Mapping[str, str]) -> Shell:
    setup = (
        f"bind 'set bell-style none'; bind 'set show-all-if-ambiguous on'; source '{_COMPLETIONS / 'skahactl.bash'}'"
    )
    return Shell(["bash", "--norc", "--noprofile", "-i"], folder, {**environ, "PS1": PROMPT}, setup)


def zsh_file(folder: Path, environ: Mapping[str, str]) -> Shell:
    """The script as a file ``_skahactl`` in fpath."""
    setup = f"fpath=('{_COMPLETIONS}' $fpath); {_ZSH}"
    return Shell(["zsh", "-f", "-i"], folder, {**environ, "PS1": PROMPT}, setup)


def zsh_source(folder: Path, environ: Mapping[str, str]) -> Shell:
    """The script read by ``source``."""
    setup = f"{_ZSH}; source <(skahactl completion zsh)"
    return Shell(["zsh", "-f", "-i"], folder, {**environ, "PS1": PROMPT}, setup)


def fish(folder: Path, environ: Mapping[str, str]) -> Shell:
    prompt = f"function fish_prompt; echo -n '{PROMPT}'; end; function fish_greeting; end"
    words = ["fish", "--no-config", "-i", "-C", f"{prompt}; source '{_COMPLETIONS / 'skahactl.fish'}'"]
    return Shell(words, folder, environ)


SHELLS = {"bash": bash, "zsh_file": zsh_file, "zsh_source": zsh_source, "fish": fish}
