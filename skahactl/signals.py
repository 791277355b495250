"""The signals that ask a command to end."""

from __future__ import annotations

import signal

INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def handled_signals() -> list[signal.Signals]:
    """Those to act upon: what the caller ignores (nohup, the ``&`` of a script) stays ignored."""
    return [number for number in INTERRUPTIONS if signal.getsignal(number) != signal.SIG_IGN]
