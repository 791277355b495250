"""The shared record of an attempt: the sh wrapper that writes its log and exit code to shared storage, and the names.

For replica 17, attempt 1 of a run, the wrapper writes below the directory of ``[logs] shared``:

* ``JOB-rRUN-TAG/17-1.log`` while the command runs: its standard output and error, as they come;
* ``JOB-rRUN-TAG/17-1.end`` at its end: one line, ``exit 0 2026-11-26T15:00:00Z``. It is written below ``.skahactl``
  and renamed into place, so a reader sees the whole line or none.

The wrapper is POSIX sh (dash, bash, busybox ash, zsh as sh) and needs sh, mkdir, tee, mv and date. Its processes:

* The main shell receives the platform's signals, and exits with the code of the command.
* A pipeline below it: one shell starts the command and waits for it; ``tee`` copies its output to the log and to the
  platform; the last shell reads from a second pipe which processes there are and how they ended, passes signals on
  to the command, and writes the end. Both pipes are anonymous: nothing depends on files but the record itself.
* Only the command has the signals' default actions. Everything else ignores them or passes them on, because the local
  platform sends TERM to the whole process group.
* The main shell handles TERM from its first line on: the first process of a container never gets a signal that it
  does not handle. A TERM before the command exists is passed on to it when it does.
* The main shell holds back a signal of the first two seconds for one second. By then the last shell is ready to pass
  it on. A report of the last shell would be a second signal, and bash loses one of two that arrive together.
* bash in its POSIX mode can also forget the exit code of a process that ends while a signal is handled. The wrapper
  therefore leaves that mode.
* dash and busybox start background processes with INT and QUIT ignored, and offer no way to restore them. The main
  shell therefore passes them on as ALRM and VTALRM. A command that handles INT itself receives it; for others, this
  difference to a command without a wrapper remains. The platform sends TERM.
* A daemon that the command left behind keeps the pipe to ``tee`` open. Ten seconds after the command's end, ``tee``
  is killed; a shell cannot find out earlier whether it still has something to write.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from skahactl.model import Job, Request, base32_tag

#: A path of the record with only safe characters: Cavern misreads others (skaha-api 15).
SAFE_PATH = re.compile(r"/[A-Za-z0-9._/-]*")
#: The directory below the shared one that holds an end until it is renamed.
TEMPORARY = ".skahactl"
_END = re.compile(rb"exit (\d{1,3}) (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)\n")
_NAME = "skahactl"

_SCRIPT = """\
skahactl_early=
trap 'skahactl_early=TERM' TERM
skahactl_log=$1/$2.log skahactl_end=$1/$2.end skahactl_new=${1%/*}/.skahactl/${1##*/}-$2
shift 2
(trap '' TERM; : 3>&1) 2>/dev/null || exec >/dev/null
(trap '' TERM; : 3>&2) || exec 2>/dev/null
skahactl_time() { date -u +%Y-%m-%dT%H:%M:%SZ; }
skahactl_warn() { (trap '' PIPE; echo "skahactl: warning: $1" >&2); }
skahactl_write() { mkdir -p "${skahactl_log%/*}" "${skahactl_new%/*}" && echo "$1" >"$skahactl_new"; }
if ! (
trap '' TERM
for skahactl_tool in tee mv date; do command -v "$skahactl_tool" || exit; done
skahactl_write "start $(skahactl_time)" && : >"$skahactl_log" || exit
[ ! -e "$skahactl_end" ] || : >"$skahactl_end"
) >/dev/null 2>&1
then
[ -z "$skahactl_early" ] || exit 143
skahactl_warn "cannot write $skahactl_log: only the server has the log and the result"
exec "$@"
fi
(set +o posix) 2>/dev/null && set +o posix
skahactl_send() {
if [ -z "$skahactl_pid" ]
then skahactl_early=$1 skahactl_again=1
elif [ "$skahactl_start" ] && [ "$(($(date +%s) - skahactl_start))" -lt 2 ]
then (sleep 1; kill -s "$1" "$skahactl_pid") </dev/null >/dev/null 2>&1 9>&- &
else kill -s "$1" "$skahactl_pid" 2>/dev/null
fi
}
skahactl_begin() {
skahactl_pid=$1
[ -z "$skahactl_early" ] || skahactl_send "$skahactl_early"
}
skahactl_catch() {
for skahactl_key in HUP TERM USR1 USR2; do trap "skahactl_send $skahactl_key" "$skahactl_key"; done
}
skahactl_wait() {
while wait "$1"; skahactl_code=$?; kill -0 "$1"; do :; done 2>/dev/null
wait "$1" 2>/dev/null
skahactl_key=$?
[ "$skahactl_key" = 127 ] || skahactl_code=$skahactl_key
exit "$skahactl_code"
}
skahactl_pid= skahactl_command= skahactl_ready=
skahactl_tee= skahactl_exit= skahactl_timer= skahactl_lost=
skahactl_start=$(trap '' TERM; date +%s)
skahactl_catch
trap 'skahactl_send ALRM' INT
trap 'skahactl_send VTALRM' QUIT
exec 9>&1
{
trap '' HUP INT QUIT TERM USR1 USR2
{
(trap - HUP INT QUIT TERM USR1 USR2; echo ready >&3; exec "$@" 3>&- 9>&-) 2>&1 &
echo "pid $!" >&3
wait "$!"
echo "exit $? $(skahactl_time)" >&3
} 2>/dev/null | (trap '' PIPE; exec tee -a "$skahactl_log") >&9 9>&- &
echo "tee $!" >&3
wait "$!"
echo "copy $?" >&3
} 3>&1 2>/dev/null | {
skahactl_early= skahactl_start=
skahactl_catch
trap 'skahactl_send INT' ALRM
trap 'skahactl_send QUIT' VTALRM
exec 3<&0 9>&-
until [ "$skahactl_pid" ]; do
skahactl_again=
read -r skahactl_key skahactl_value || [ "$skahactl_again" ] || exit 137
case $skahactl_key in
tee) skahactl_tee=$skahactl_value ;;
pid) skahactl_command=$skahactl_value ;;
ready) skahactl_ready=1 ;;
esac
[ -z "$skahactl_command" ] || [ -z "$skahactl_ready" ] || skahactl_begin "$skahactl_command"
done
(
trap '' HUP INT QUIT TERM USR1 USR2
exec 4>&2 2>/dev/null
while read -r skahactl_key skahactl_value skahactl_at; do
case $skahactl_key in
tee) skahactl_tee=$skahactl_value ;;
exit) skahactl_exit=$skahactl_value skahactl_line="exit $skahactl_value $skahactl_at" ;;
copy) case $skahactl_exit/$skahactl_value in ?*/0 | ?*/137) ;; *) skahactl_lost=1 ;; esac ;;
esac
if [ "$skahactl_exit" ] && [ "$skahactl_tee" ] && [ -z "$skahactl_timer" ]; then
(
skahactl_at=$(date +%s)
while [ "$(($(date +%s) - skahactl_at))" -lt 10 ]; do sleep 1; done
kill -KILL "$skahactl_tee"
) </dev/null >/dev/null 3<&- 4>&- &
skahactl_timer=$!
fi
done
[ -z "$skahactl_timer" ] || kill -KILL "$skahactl_timer"
exec 2>&4
[ "$skahactl_exit" ] || exit 137
if ! { skahactl_write "$skahactl_line" && mv -f "$skahactl_new" "$skahactl_end"; } 2>/dev/null
then skahactl_warn "cannot write $skahactl_end: only the server has the result"
elif [ "$skahactl_lost" ] || [ ! -e "$skahactl_log" ]
then skahactl_warn "$skahactl_log is incomplete: only the server has the whole log"
fi
exit "$skahactl_exit"
) <&3 &
skahactl_wait "$!"
} &
skahactl_begin "$!"
skahactl_wait "$skahactl_pid"
"""


def shared_problem(text: str) -> str | None:
    """Return what is wrong with a directory for ``[logs] shared``, or None."""
    plain = text.replace("{name}", "name").replace("{user}", "user")
    if not text.startswith("/"):
        return "expected an absolute path, as the container sees it"
    if "{" in plain or "}" in plain:
        return "only the placeholders {name} and {user} are allowed here"
    if not SAFE_PATH.fullmatch(plain):
        return "only A-Z a-z 0-9 . _ / - are allowed: the storage service misreads other characters"
    if {".", ".."} & set(plain.split("/")):
        return "the components . and .. are not allowed"
    return None


@dataclass(frozen=True, slots=True)
class RecordDirectory:
    """The directory of one run's records, as the replicas see it: ``DIR/JOB-rRUN-TAG``."""

    path: str

    @classmethod
    def of_run(cls, shared: str, job: str, run: int | str, digest: str) -> RecordDirectory:
        """Return the directory of the records of a run.

        ``shared``: the directory of the manifest; ``run``: the number of the run, or a word in its place; ``digest``:
        the hash of the run's content, in hex.
        """
        return cls(f"{shared.rstrip('/')}/{job}-r{run}-{base32_tag(bytes.fromhex(digest[:8]))}")

    def log(self, replica: int, attempt: int) -> str:
        return f"{self.path}/{replica}-{attempt}.log"

    def end(self, replica: int, attempt: int) -> str:
        return f"{self.path}/{end_name(replica, attempt)}"

    def wrap(self, command: Sequence[str], replica: int, attempt: int) -> tuple[str, ...]:
        """Return the argv that runs ``command`` and writes the record of this attempt."""
        return ("sh", "-c", _SCRIPT, _NAME, self.path, f"{replica}-{attempt}", *command)


@dataclass(frozen=True, slots=True)
class RecordedEnd:
    """How an attempt ended: its exit code (128 + N: killed by signal N), and when, in seconds since the epoch."""

    exit_code: int
    finished: float


def end_name(replica: int, attempt: int) -> str:
    """Return the file name of an end: ``17-1.end``."""
    return f"{replica}-{attempt}.end"


def parse_end(content: bytes) -> RecordedEnd | None:
    """Return the end that a file contains; None if the content is not exactly one line in the format."""
    found = _END.fullmatch(content)
    if found is None or int(found[1]) > 255:
        return None
    try:
        at = datetime.strptime(found[2].decode("ascii"), "%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        return None
    return RecordedEnd(int(found[1]), at.replace(tzinfo=UTC).timestamp())


def wrapped_request(job: Job, request: Request, replica: int, run: int | str) -> Request:
    """Return the request of a first attempt as it is sent: with ``[logs] shared``, the command is wrapped."""

    if job.shared is None or not request.command:
        return request
    record = RecordDirectory.of_run(job.shared, job.name, run, job.digest)
    return replace(request, command=record.wrap(request.command, replica, 1))
