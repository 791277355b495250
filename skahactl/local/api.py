"""The Skaha v1 HTTP interface, served from the queue on this machine (skaha-api 13)."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from math import floor
from pathlib import Path

from skahactl.local import http, queue, workers
from skahactl.local.decode import (
    base_environment,
    check_host_name,
    decode_request,
    local_user,
    platform_environment,
)
from skahactl.local.http import CallAbandoned, HttpAnswer, HttpRefusal, LocalCall, bad, missing
from skahactl.local.queue import FAILED, QUEUED, RUNNING, StoreError, connect, immediate, log_path, prepare, queue_path
from skahactl.local.workers import launch
from skahactl.profile import LocalSettings


def session_status(row: sqlite3.Row) -> str:
    return "Pending" if row["state"] == QUEUED else str(row["state"])


def session_view(row: sqlite3.Row, user: str, used: tuple[int, float] | None = None) -> dict[str, object]:
    """Return the JSON object of a session, with keys in the server's order; keys without a value are left out.

    ``used``: bytes of memory, and cores.
    """
    fixed = row["ram"] is not None
    started = row["started"]
    fields: dict[str, object | None] = {
        "id": row["id"],
        "userid": user,
        "runAsUID": str(os.getuid()),
        "runAsGID": str(os.getuid()),
        "supplementalGroups": sorted(os.getgroups()),
        "image": row["image"],
        "type": "headless",
        "status": session_status(row),
        "name": row["name"][:63].rstrip("-"),
        "startTime": None if started is None else start_time(started),
        "expiryTime": None if started is None else _seconds(row["expires"]),
        "connectURL": "",
        "requestedRAM": f"{row['ram'] * 1.073741824:.2f}" if fixed else None,
        "requestedCPUCores": _cores(row["cores"]) if fixed else None,
        "requestedGPUCores": str(row["gpus"] or 0),
        "ramInUse": None if used is None else f"{used[0] / 1e9:.3f}",
        "cpuCoresInUse": None if used is None else f"{used[1]:.3f}",
        "isFixedResources": fixed,
        **_exact_times(row),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _exact_times(row: sqlite3.Row) -> dict[str, object | None]:
    """Return exactStartTime of a session that has started, and endTime and exitCode of one that has ended.

    A server does not send these keys; clients that do not know them ignore them.
    """
    times = {"exactStartTime": row["started"], "endTime": row["ended"]}
    found = {key: at and datetime.fromtimestamp(at, UTC).isoformat() for key, at in times.items()}
    code = row["exit"]
    return {**found, "exitCode": 128 - code if code is not None and code < 0 else code}


def sessions_in_use(rows: Sequence[sqlite3.Row], now: float) -> dict[str, tuple[int, float]]:
    """Return the bytes of memory in use now and the average number of cores since the start, by session id.

    Only Running sessions have an entry. As on a server, a session that has just started has none.
    """
    running = {
        row["pid"]: row
        for row in rows
        if row["state"] == RUNNING and row["pid"] and now - row["started"] >= _FIRST_SAMPLE
    }
    if not running:
        return {}
    here = workers.boot_marker()
    pids = {pid for pid, row in running.items() if row["boot"] == here}
    return {
        running[pid]["id"]: (memory, seconds / (now - running[pid]["started"]))
        for pid, (memory, seconds) in workers.session_usage(pids).items()
    }


def public_view(row: sqlite3.Row, user: str) -> dict[str, object]:
    """Return the part of a session that ``view=all`` shows."""
    whole = session_view(row, user)
    return {name: whole[name] for name in ("userid", "type", "status", "startTime") if name in whole}


def start_time(epoch: float) -> str:
    """Return ISO 8601 as Java prints it: seconds are omitted when they are zero."""
    return _seconds(epoch).replace(":00Z", "Z") if floor(epoch) % 60 == 0 else _seconds(epoch)


def _seconds(epoch: float) -> str:
    return datetime.fromtimestamp(floor(epoch), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _cores(cores: float | None) -> str:
    amount = 1.0 if cores is None else cores
    return str(int(amount)) if amount == int(amount) else f"{amount:.3f}"


def events_view(row: sqlite3.Row) -> str:
    """Return the events of a started session as a table."""
    started = _seconds(row["started"])
    rows = [
        ("Normal", "Scheduled", "Assigned to this machine", started),
        ("Normal", "Started", f"Started the command of {row['name']}, without its image {row['image']}", started),
    ]
    if row["state"] == FAILED:
        rows.append(("Warning", "Failed", f"The command ended: {row['reason']}", _seconds(row["ended"])))
    return text_table([("TYPE", "REASON", "MESSAGE", "FIRST-TIME", "LAST-TIME"), *((*line, line[3]) for line in rows)])


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Format columns like kubectl: as wide as their widest cell, with three spaces between them."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines) + "\n"


def stats_view(rows: Sequence[sqlite3.Row], slots: int) -> dict[str, object]:
    """Return ``view=stats``: the slots and what runs in them (skaha-api 4.3)."""
    running = [row for row in rows if row["state"] == RUNNING]
    cores = sum(row["cores"] or 1.0 for row in running)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 10**9
    return {
        "cores": {
            "requestedCPUCores": cores,
            "cpuCoresAvailable": slots,
            "maxCPUCores": {"cpuCores": http.CORES[-1], "withRam": f"{http.MEMORY[-1]}Gi"},
        },
        "ram": {
            "requestedRAM": f"{sum(row['ram'] or 4.0 for row in running):g}G",
            "ramAvailable": f"{memory}G",
            "maxRAM": {"ram": f"{http.MEMORY[-1]}Gi", "withCPUCores": http.CORES[-1]},
        },
    }


_FIRST_SAMPLE = 1.0  # seconds after the start of a session before its usage is measured

#: Seconds that a request waits for the processes of a dead worker to end.
REAPING = 0.25
_RESOURCES = ("session", "context", "image", "repository")


class Platform:
    """Serves requests from any thread; its only state is its settings.

    Commands run in ``directory`` unless the settings or the caller name another one. ``environ`` is the environment of
    the process that creates the platform.
    """

    def __init__(
        self,
        state_dir: Path,
        settings: LocalSettings,
        directory: str,
        environ: Mapping[str, str],
        now: Callable[[], float] = time.time,
    ):
        self.root = os.path.abspath(state_dir / "local")
        self.settings, self.environ, self.now = settings, environ, now
        self.directory = directory
        self.slots = settings.slot_count
        self.user = local_user()

    def answer(self, call: LocalCall) -> HttpAnswer:
        """Return the reply to a request.

        Raises OSError, sqlite3.Error or StoreError if the queue cannot be used; in that case, nothing was done.
        """
        try:
            answer = self._routed(call)
        except HttpRefusal as refusal:
            return http.text(refusal.body, refusal.status, refusal.headers)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            path = queue_path(self.root)
            hint = f"to start with an empty queue, move the file away: mv {path} {path}.damaged"
            raise StoreError(f"it is damaged ({error})", hint) from error
        if answer.status == 200:
            answer.headers.update({"server": "OpenCADC/cadc-rest", "x-vo-authenticated": self.user})
        return answer

    def _routed(self, call: LocalCall) -> HttpAnswer:
        parts = call.path.split("/")[1:]
        if parts[0] == "skaha" and parts[1:] in ([], [""], ["capabilities"], ["availability"]):
            return self._document(call, parts[-1])
        if parts[:2] != ["skaha", "v1"] or len(parts) < 3 or parts[2] not in _RESOURCES:
            raise missing(f"not found: {call.path}")
        if parts[2] == "session":
            return self._session(call, parts[3:])
        call.allow("GET")
        if parts[2] == "context":
            return http.compact(http.CONTEXT)
        if parts[2] == "repository":
            return http.compact(http.REPOSITORIES)
        return self._images(call)

    def _document(self, call: LocalCall, name: str) -> HttpAnswer:
        call.allow("GET", "HEAD")
        if name == "capabilities":
            return http.xml(http.capabilities(f"{call.origin}/skaha"))
        is_full = name == "availability" and "detail=min" not in call.query.split("&")
        return http.xml(http.AVAILABILITY) if is_full else http.empty()

    def _images(self, call: LocalCall) -> HttpAnswer:
        kind = http.query_parameters(call.query).one("type")
        if kind is not None and kind not in http.KINDS:
            raise bad(f"unknown type: {kind}")
        return http.pretty([])

    def _session(self, call: LocalCall, parts: list[str]) -> HttpAnswer:
        call.allow("GET", "POST", "DELETE")
        if len(parts) > 1:
            raise bad(f"Invalid request: {'/'.join(parts)}")
        with closing(self._open()) as store:
            if call.method == "GET":
                return self._get(store, call, parts[0]) if parts else self._list(store, call)
            if call.method == "DELETE":
                return self._delete(store, parts)
            form = http.post_parameters(call.query, call.headers, call.body)
            return self._renew(store, form, parts[0]) if parts else self._create(store, form, call)

    def _open(self) -> sqlite3.Connection:
        """Open the queue, and do what every request does: reap, discard old sessions, start missing workers."""
        prepare(self.root)
        store = connect(self.root)
        try:
            now = self.now()
            workers.reap(store, self.root, self.settings.kill_after, time.time(), REAPING)
            queue.forget(store, self.root, self.settings.memory, now)
            if workers.missing_workers(store, self.slots):
                self._staff(store, lambda: None)
        except BaseException:
            store.close()
            raise
        return store

    def _staff(self, store: sqlite3.Connection, step: Callable[[], None]) -> None:
        """Run ``step`` and reserve the workers that are missing then, in one transaction; then start these workers."""
        booked: list[tuple[str, int]] = []
        try:
            with immediate(store):
                step()
                booked = workers.reserve(store, self.root, self.slots, time.time())
        except BaseException:
            workers.release(self.root, booked)
            raise
        launch(self.root, booked, self.settings.kill_after)

    def _create(self, store: sqlite3.Connection, form: http.Parameters, call: LocalCall) -> HttpAnswer:
        wanted = http.session_request(form)
        session = http.new_id()
        order = self._order(wanted, session, self.settings.directory or call.directory or self.directory)

        def enqueue() -> None:
            queue.enqueue(store, order, time.time())
            if call.abandoned.is_set():
                raise CallAbandoned

        self._staff(store, enqueue)
        return http.text(session + "\n")

    def _order(self, wanted: http.SessionRequest, session: str, directory: str) -> queue.QueuedSession:
        """Return the queue entry of a create: what the server's template step makes of it, with its environment."""
        job = f"skaha-headless-{self.user}-{session}".lower()
        place = os.path.abspath(os.path.expanduser(directory))
        platform = platform_environment(session, wanted.cores, place, self.environ)
        decoded = decode_request(wanted.cmd, wanted.args, wanted.env, user=self.user, job=job, platform=platform)
        check_host_name(wanted.name, job)
        env = (*base_environment(self.environ), *decoded.env, *platform)
        return queue.QueuedSession(
            session, wanted.name, wanted.image, wanted.cores, wanted.ram, wanted.gpus, decoded.argv, env, place
        )

    def _list(self, store: sqlite3.Connection, call: LocalCall) -> HttpAnswer:
        query = http.query_parameters(call.query)
        view, kind, state = query.one("view") or "", query.one("type"), query.one("status")
        rows = queue.list_sessions(store)
        if view == "stats":
            return http.pretty(stats_view(rows, self.slots))
        if view.lower() == "interactive" or (kind is not None and kind.lower() != "headless"):
            return http.pretty([])
        chosen = [row for row in rows if state is None or session_status(row).lower() == state.lower()]
        if view == "all":
            return http.pretty([public_view(row, self.user) for row in chosen])
        used = sessions_in_use(chosen, time.time())
        return http.pretty([session_view(row, self.user, used.get(row["id"])) for row in chosen])

    def _get(self, store: sqlite3.Connection, call: LocalCall, session: str) -> HttpAnswer:
        view = http.query_parameters(call.query).one("view")
        if view == "logs":
            return self._log(store, session)
        if view == "events":
            row = queue.find_session(store, session)
            if row is None or row["started"] is None:
                raise missing(f"session {session} not found.")
            return http.text(events_view(row))
        if not session:  # an empty id matches the first session
            row = next(iter(queue.list_sessions(store)), None)
        else:
            http.host_label("canfar.net/id", session)
            row = queue.find_session(store, session)
        if row is None:
            raise missing(f"session {session} not found")
        return http.pretty(session_view(row, self.user, sessions_in_use([row], time.time()).get(row["id"])))

    def _log(self, store: sqlite3.Connection, session: str) -> HttpAnswer:
        """Return the output so far; empty for an unknown session and for one without output."""
        headers = {"content-type": "text/plain"}
        row = queue.find_session(store, session)
        if row is None or row["state"] == QUEUED:
            return HttpAnswer(200, headers)
        try:
            log = os.open(log_path(self.root, row["id"]), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return HttpAnswer(200, headers)
        return HttpAnswer(200, headers, log=(log, os.fstat(log).st_size))

    def _delete(self, store: sqlite3.Connection, parts: list[str]) -> HttpAnswer:
        if not parts:
            raise bad("Cannot kill all sessions.")
        queue.delete(store, self.root, parts[0])
        return http.empty()

    def _renew(self, store: sqlite3.Connection, form: http.Parameters, session: str) -> HttpAnswer:
        action = form.one("action")
        if action is None or not session:
            raise bad("Cannot modify an existing session")
        if action != "renew":
            raise bad("unrecognized action")
        if not queue.renew(store, session, time.time()):
            who = f"PosixPrincipal [uidNumber={os.getuid()},{os.getgid()},{self.user}]"
            raise bad(f"No active job for user {who} with session {session}")
        return http.empty()
