"""Steering and looking inside, for tests: /_test/..., no credentials, never disturbed."""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING

from tests.skaha_server import logs
from tests.skaha_server.messages import Call, Reply, compact
from tests.skaha_server.sessions import Session, most_alive, twins

if TYPE_CHECKING:
    from tests.skaha_server.app import App


def handle(app: App, call: Call) -> Reply:
    """GET state, counts; POST plan, outage, session, finish, fail, forget, suspend, admit, delete."""
    verb = call.path.removeprefix("/_test/")
    data = json.loads(call.body) if call.body else {}
    try:
        if verb == "state":
            return compact(state(app))
        if verb == "counts":  # cheap enough to be asked every few milliseconds
            return compact(dict(app.counts))
        if verb == "plan":
            app.plan.patch(data)
            return compact({})
        if verb == "outage":  # {"kind": error | unavailable | gateway | drop, "seconds": S}; no seconds: until 0
            app.outage = (data.get("kind", "unavailable"), app.clock.now() + data.get("seconds", math.inf))
            return compact({})
        if verb == "session":
            return compact({"id": add(app, **data).id})
        return compact({"changed": steer(app, verb, data)})
    except (ValueError, TypeError, KeyError) as error:
        return Reply(400, f"{type(error).__name__}: {error}\n".encode())


def add(
    app: App,
    name: str,
    kind: str = "headless",
    user: str | None = None,
    running: float = math.inf,
    status: str = "Running",
) -> Session:
    """A session that somebody made elsewhere; ``status`` Pending, Running, Completed or Failed."""
    now = app.clock.now()
    session = Session(
        id=app.cluster.new_id(),
        name=name,
        user=user or app.plan.user,
        kind=kind,
        image=app.plan.images[0],
        visible=now,
        asked=now,
        runs=math.inf if status == "Pending" else now,
        ends=now if status in ("Completed", "Failed") else now + running,
        outcome="Failed" if status == "Failed" else "Completed",
        memory=app.plan.memory,
        told=True,
        started=now,
        fault="other",
    )
    app.cluster.sessions[session.id] = session
    return session


def steer(app: App, verb: str, data: dict[str, list[str]]) -> list[str]:
    """Does ``verb`` to the sessions that are there and have one of these ids or names; all, if none are named."""
    cluster, keys, now = app.cluster, data.get("sessions"), app.clock.now()
    changed = []
    for session in cluster.sessions.values():
        if session.there(now) and (keys is None or session.id in keys or session.name in keys):
            changed.append(session.id)
            _steer_one(app, verb, session)
    return changed


def _steer_one(app: App, verb: str, session: Session) -> None:
    match verb:
        case "finish":
            app.cluster.finish(session, "Completed")
        case "fail":
            app.cluster.finish(session, "Failed")
        case "forget":
            app.cluster.forget(session)
        case "suspend" | "admit":
            app.cluster.suspend(session, verb == "suspend")
        case "delete":
            session.deleted = app.clock.now()
        case _:
            raise ValueError(f"unknown verb: {verb}")


def state(app: App) -> dict[str, object]:
    """Everything: every session ever made, the requests by kind, and what can be counted only here."""
    sessions = list(app.cluster.sessions.values())
    jobs: dict[str, dict[str, int]] = {}
    for prefix in {session.job_prefix for session in sessions}:
        of = [session for session in sessions if session.job_prefix == prefix]
        lost = {session.id for session in twins(of)}
        jobs[prefix] = {
            "made": len(of),
            "twins": len(lost),
            "most_alive": most_alive(of),
            "most_alive_without_twins": most_alive([session for session in of if session.id not in lost]),
        }
    return {
        "now": app.clock.now(),
        "sessions": [described(app, session) for session in sessions],
        "jobs": jobs,
        "requests": dict(app.counts),
        "most_in_flight": dict(app.most_in_flight),
        "faults": app.dealer.dealt,
        "creates": app.requests,
        "unknown_deletes": app.unknown_deletes,
        "list_calls": app.counts["list"],
        "log_bytes": app.log_bytes,
        "connections": dict(app.connections),
        "create_seconds": list(app.create_seconds),
        "cpu_seconds": time.process_time(),  # of this process, its start included
    }


def described(app: App, session: Session) -> dict[str, object]:
    now = app.clock.now()
    length, sha = logs.digest(session, app.plan) if app.plan.log_bytes < 1 << 24 else (-1, "")
    return {
        "id": session.id,
        "name": session.name,
        "user": session.user,
        "kind": session.kind,
        "image": session.image,
        "status": session.status(now) if session.there(now) else None,
        "alive": session.visible <= now < session.dead,
        "replica": session.replica_id,
        "attempt": session.attempt,
        "argv": session.argv,
        "env": session.env,
        "cores": session.cores,
        "ram": session.ram,
        "gpus": session.gpus,
        "asked": session.asked,
        "visible": session.visible,
        "runs": _finite(session.runs),
        "ends": _finite(session.ends),
        "outcome": session.outcome,
        "deleted": session.deleted,
        "deletes": session.deletes,
        "fault": session.fault,
        "told": session.told,
        "positions": logs.positions(session.argv),
        "log_bytes": length,
        "log_sha256": sha,
        "log_reads": session.log_reads,
    }


def _finite(time: float) -> float | None:
    return time if math.isfinite(time) else None
