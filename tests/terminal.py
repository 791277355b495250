"""A command in a terminal of its own: keys in, all that was written out."""

from __future__ import annotations

import os
import pty
import signal
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


def keep_output(terminal: int) -> None:
    """Ctrl-C throws away what the terminal has not read yet; a real one has, when a person presses it."""
    modes = termios.tcgetattr(terminal)
    modes[3] |= termios.NOFLSH
    termios.tcsetattr(terminal, termios.TCSANOW, modes)


class Terminal:
    """A command in a real terminal; ``text`` is what it showed."""

    def __init__(self, words: Sequence[str], folder: Path, environ: Mapping[str, str]):
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            keep_output(0)
            os.chdir(folder)
            os.execvpe(words[0], list(words), {**environ, "TERM": "xterm"})
        self.text = b""
        self.returncode: int | None = None  # as subprocess has it: negative after a signal
        self._answered = 0  # how much of the text had been shown at the last answer

    def read_until(self, word: bytes, seconds: float = 120) -> None:
        """Read until a word is shown after the last answer."""
        limit = time.monotonic() + seconds
        while word not in self.text[self._answered :]:
            assert time.monotonic() < limit, self.text
            self._read()
            time.sleep(0.02)

    def answer(self, question: str, answer: str) -> None:
        """Wait for a question and answer it."""
        self.read_until(question.encode())
        self._answered = len(self.text)
        os.write(self.master, answer.encode() + b"\n")

    def ended(self, seconds: float = 120) -> int:
        """The exit code as a shell shows it."""
        limit = time.monotonic() + seconds
        while True:
            self._read()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._read()
                self.close()
                self.returncode = os.waitstatus_to_exitcode(status)
                return self.returncode if self.returncode >= 0 else 128 - self.returncode
            if time.monotonic() > limit:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                raise AssertionError(f"it did not end: {self.text!r}")
            time.sleep(0.02)

    def close(self) -> None:
        if self.master >= 0:
            os.close(self.master)
            self.master = -1

    def _read(self) -> None:
        if self.master < 0:
            return
        os.set_blocking(self.master, False)
        try:
            while data := os.read(self.master, 65536):
                self.text += data
        except OSError:
            return
