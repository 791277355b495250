"""Process groups that outlive whoever started them, told from later ones with the same number."""

from __future__ import annotations

import os
import signal
import sys
from functools import cache

LINUX = sys.platform.startswith("linux")


@cache
def boot_marker() -> str:
    """What differs from one start of the machine to the next."""
    if LINUX:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    return _output("sysctl", "-n", "kern.boottime")


def start_time(pid: int) -> str | None:
    """When the process started, as a word to compare; None if there is none (a zombie is none)."""
    if LINUX:
        fields = _stat(pid)
        return None if fields is None or fields[0] in "ZX" else fields[19]
    return _output("ps", "-o", "lstart=", "-p", str(pid)) or None


def group_alive(pid: int, when: str, machine: str) -> bool:
    """Whether processes of the group ``pid`` remain whose leader was born ``when``, on the boot ``machine``."""
    if machine != boot_marker():
        return False
    leader = start_time(pid)
    if leader is not None:
        return leader == when
    try:
        os.killpg(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return _has_members(pid, when)


def signal_group(pid: int, number: int) -> None:
    """Send a signal to a group, if it is still there; a stopped one is woken to hear it."""
    try:
        os.killpg(pid, number)
        if number == signal.SIGTERM:
            os.killpg(pid, signal.SIGCONT)
    except (ProcessLookupError, PermissionError):
        return


def _has_members(group: int, when: str) -> bool:
    """Whether a living process that is no older than the lost leader is in its group and session."""
    if not LINUX:
        rows = (line.split() for line in _output("ps", "-A", "-o", "pgid=,stat=").splitlines())
        return any(row[0] == str(group) and not row[1].startswith("Z") for row in rows if len(row) > 1)
    for name in os.listdir("/proc"):
        fields = _stat(int(name)) if name.isdigit() else None
        if fields is None or fields[0] in "ZX" or fields[2] != str(group) or fields[3] != str(group):
            continue
        if int(fields[19]) >= int(when or 0):
            return True
    return False


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the third (the state) on; None if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read().decode("latin-1")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text[text.rindex(")") + 2 :].split()


def _output(*command: str) -> str:
    import subprocess

    environ = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C", "TZ": "UTC"}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environ, check=False)
    return done.stdout.decode("ascii", "replace").strip()
