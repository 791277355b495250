"""The Skaha v1 HTTP interface, answered from the queue on this machine (skaha-api 13)."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

from skahactl.local import answers, checks, environment, pages, parameters, queue, template, views, workers
from skahactl.local.answers import HttpAnswer, HttpRefusal, bad, missing
from skahactl.local.calls import CallAbandoned, LocalCall
from skahactl.local.launch import launch
from skahactl.local.store import QUEUED, StoreError, connect, immediate, log_path, prepare
from skahactl.profile import LocalSettings

#: Seconds that a request gives the processes of a dead worker to end.
REAPING = 0.25
_RESOURCES = ("session", "context", "image", "repository")


class Platform:
    """Answers requests from any thread; holds nothing but its settings.

    ``directory``: where commands run unless the settings or the caller name one; ``environ``: of the creating process.
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
        self.slots = max(1, settings.slots or os.cpu_count() or 1)
        self.user = environment.local_user()

    def answer(self, call: LocalCall) -> HttpAnswer:
        """The answer to a request.

        Raises OSError, sqlite3.Error or StoreError when the queue cannot be used; nothing was done then.
        """
        try:
            answer = self._routed(call)
        except HttpRefusal as refusal:
            plain = answers.text(refusal.body, refusal.status)
            return HttpAnswer(plain.status, {**plain.headers, **refusal.headers}, plain.body)
        except template.TemplateRejected as rejected:
            return answers.text(rejected.body, rejected.status)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            raise StoreError(f"its file is damaged ({error}); move queue.db away to start with an empty one") from error
        if answer.status != 200:
            return answer
        known = {"server": "OpenCADC/cadc-rest", "x-vo-authenticated": self.user}
        return HttpAnswer(answer.status, {**answer.headers, **known}, answer.body, answer.log)

    def _routed(self, call: LocalCall) -> HttpAnswer:
        parts = call.path.split("/")[1:]
        if parts[0] == "skaha" and parts[1:] in ([], [""], ["index.html"], ["capabilities"], ["availability"]):
            return self._document(call, parts[-1])
        if parts[:2] != ["skaha", "v1"] or len(parts) < 3 or parts[2] not in _RESOURCES:
            return answers.html(pages.not_found(call.path), 404)
        if parts[2] == "session":
            return self._session(call, parts[3:])
        call.allow("GET")
        if parts[2] == "context":
            return answers.compact(pages.CONTEXT)
        if parts[2] == "repository":
            return answers.compact(pages.REPOSITORIES)
        return self._images(call)

    def _document(self, call: LocalCall, name: str) -> HttpAnswer:
        call.allow("GET", "HEAD")
        if name == "capabilities":
            return answers.xml(pages.capabilities(f"{call.origin}/skaha"))
        if name == "availability":
            return answers.empty() if "detail=min" in call.query.split("&") else answers.xml(pages.AVAILABILITY)
        return answers.html(pages.INDEX)

    def _images(self, call: LocalCall) -> HttpAnswer:
        kind = parameters.query_parameters(call.query).one("type")
        if kind is not None and kind not in (*checks.KINDS, "desktop-app"):
            raise bad(f"unknown type: {kind}")
        return answers.pretty([])

    def _session(self, call: LocalCall, parts: list[str]) -> HttpAnswer:
        call.allow("GET", "POST", "DELETE")
        if len(parts) > 3:
            raise bad(f"Invalid request: {'/'.join(parts)}")
        with closing(self._open()) as store:
            if len(parts) > 1:
                return _desktop_apps(call.method, parts)
            if call.method == "GET":
                return self._get(store, call, parts[0]) if parts else self._list(store, call)
            if call.method == "DELETE":
                return self._delete(store, parts)
            form = parameters.post_parameters(call.query, call.headers, call.body)
            return self._renew(store, form, parts[0]) if parts else self._create(store, form, call)

    def _open(self) -> sqlite3.Connection:
        """The queue, after what every request does first: reap, forget, top up."""
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
        """One immediate transaction: ``step``, and the reservation of the workers it needs; then these start."""
        booked: list[tuple[str, int]] = []
        try:
            with immediate(store):
                step()
                booked = workers.reserve(store, self.root, self.slots, time.time())
        except BaseException:
            workers.release(self.root, booked)
            raise
        launch(self.root, booked, self.settings.kill_after)

    def _create(self, store: sqlite3.Connection, form: parameters.Parameters, call: LocalCall) -> HttpAnswer:
        wanted = checks.session_request(form)
        session = checks.new_id()
        order = self._order(wanted, session, self.settings.directory or call.directory or self.directory)

        def enqueue() -> None:
            queue.enqueue(store, order, time.time())
            if call.abandoned.is_set():
                raise CallAbandoned

        self._staff(store, enqueue)
        return answers.text(session + "\n")

    def _order(self, wanted: checks.SessionRequest, session: str, directory: str) -> queue.QueuedSession:
        """What the session is to run: the server's template step, and the environment built around its result."""
        job = f"skaha-headless-{self.user}-{session}".lower()
        place = os.path.abspath(os.path.expanduser(directory))
        platform = environment.platform_environment(session, wanted.cores, place, self.environ)
        decoded = template.decode_request(
            wanted.cmd, wanted.args, wanted.env, user=self.user, job=job, platform=platform
        )
        checks.check_host_name(wanted.name, job)
        env = (*environment.base_environment(self.environ), *decoded.env, *platform)
        return queue.QueuedSession(
            session, wanted.name, wanted.image, wanted.cores, wanted.ram, wanted.gpus, decoded.argv, env, place
        )

    def _list(self, store: sqlite3.Connection, call: LocalCall) -> HttpAnswer:
        query = parameters.query_parameters(call.query)
        view, kind, state = query.one("view") or "", query.one("type"), query.one("status")
        rows = queue.list_sessions(store)
        if view == "stats":
            return answers.pretty(views.stats_view(rows, self.slots))
        if view.lower() == "interactive" or (kind is not None and kind.lower() != "headless"):
            return answers.pretty([])
        chosen = [row for row in rows if state is None or views.session_status(row).lower() == state.lower()]
        show = views.public_view if view == "all" else views.session_view
        return answers.pretty([show(row, self.user) for row in chosen])

    def _get(self, store: sqlite3.Connection, call: LocalCall, session: str) -> HttpAnswer:
        view = parameters.query_parameters(call.query).one("view")
        if view == "logs":
            return self._log(store, session)
        if view == "events":
            row = queue.find_session(store, session)
            if row is None or row["started"] is None:
                raise missing(f"session {session} not found.")
            return answers.text(views.events_view(row))
        if not session:  # the empty id filters nothing: the first session
            row = next(iter(queue.list_sessions(store)), None)
        else:
            checks.host_label("canfar.net/id", session)
            row = queue.find_session(store, session)
        if row is None:
            raise missing(f"session {session} not found")
        return answers.pretty(views.session_view(row, self.user))

    def _log(self, store: sqlite3.Connection, session: str) -> HttpAnswer:
        """The output so far; nothing for sessions that have none or are not known."""
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
        return answers.empty()

    def _renew(self, store: sqlite3.Connection, form: parameters.Parameters, session: str) -> HttpAnswer:
        action = form.one("action")
        if action is None or not session:
            raise bad("Cannot modify an existing session")
        if action != "renew":
            raise bad("unrecognized action")
        if not queue.renew(store, session, time.time()):
            who = f"PosixPrincipal [uidNumber={os.getuid()},{os.getgid()},{self.user}]"
            raise bad(f"No active job for user {who} with session {session}")
        return answers.empty()


def _desktop_apps(method: str, parts: list[str]) -> HttpAnswer:
    """There are no desktops here, and so no apps in them (skaha-api 6)."""
    session, app = parts[0], parts[2] if len(parts) == 3 else None
    if method == "POST":
        raise missing(f"session {session} not found") if app is None else bad("Cannot modify an existing app.")
    if method == "DELETE":
        if app is None:
            raise bad("Missing app ID")
        return answers.empty()
    if app is None:
        return answers.pretty([])
    raise missing(f"desktop app with session {session} and app ID {app} was not found")
