"""The Skaha v1 interface: a call in, a reply out (skaha-api 1 to 8)."""

from __future__ import annotations

from collections import Counter
from urllib.parse import unquote

from skahactl.system import Clock
from tests.skaha_server import admin, create, logs, messages, parameters, views
from tests.skaha_server.faults import Dealer
from tests.skaha_server.messages import Call, Refusal, Reply, words
from tests.skaha_server.plan import LIST_LIES, Plan
from tests.skaha_server.sessions import INTERACTIVE_DEADLINE, Cluster, Session


class App:
    """One server: its plan, its sessions, and what it counted."""

    def __init__(self, plan: Plan, clock: Clock):
        self.plan = plan
        self.clock = clock
        self.cluster = Cluster(plan, clock.now)
        self.dealer = Dealer(plan)
        self.counts: Counter[str] = Counter()
        self.in_flight: Counter[str] = Counter()
        self.most_in_flight: Counter[str] = Counter()
        self.requests: list[dict[str, object]] = []  # every create, as its parameters were read
        self.unknown_deletes: list[str] = []
        self.log_bytes = 0
        self.lie: str | None = None  # of LIST_LIES, for the list that is being answered
        self.lists: list[tuple[float, list[dict[str, object]]]] = []  # true ones, with their times
        self.outage: tuple[str, float] | None = None  # kind, until when
        self.calls = 0
        self.connections: Counter[str] = Counter(ever=0, open=0, most=0)
        self.create_seconds: list[float] = []  # from each create's arrival to its answer

    async def handle(self, call: Call) -> Reply:
        """The answer to any request; never raises."""
        if call.path.startswith("/_test/"):
            return admin.handle(self, call)
        kind = _kind(call)
        self.counts[kind] += 1
        self.in_flight[kind] += 1
        self.most_in_flight[kind] = max(self.most_in_flight[kind], self.in_flight[kind])
        try:
            return await self._answer(call, kind)
        except Refusal as refusal:
            return refusal.reply
        finally:
            self.in_flight[kind] -= 1

    async def _answer(self, call: Call, kind: str) -> Reply:
        down = self._down()
        if down is not None:
            self.counts["outage"] += 1
            return down
        segments = [unquote(part) for part in call.path.split("/")[1:]]
        if segments[0] != "skaha":
            return messages.page(404, "Not Found")
        if segments[1:2] != ["v1"]:
            return _outside(call, segments)
        allowed = {"session": ("GET", "POST", "DELETE")}.get(segments[2] if len(segments) > 2 else "", ("GET",))
        if len(segments) < 3 or segments[2] not in ("session", "context", "image", "repository"):
            return messages.page(404, "Not Found")
        if call.method not in allowed:
            raise words(405, f"unsupported: HTTP {call.method}", Allow=", ".join(allowed))
        user = self._user(call)
        if kind in self.plan.answers:
            status, content_type, body = self.plan.answers[kind]
            return Reply(int(status), body.encode(), content_type)
        reply = await self._endpoint(call, kind, segments[2:], user)
        if reply.status < 400 and reply.drop is None and reply.content_type != "text/html":
            reply.headers = {"server": "OpenCADC/cadc-rest", "x-vo-authenticated": user, **reply.headers}
        return reply

    async def _endpoint(self, call: Call, kind: str, path: list[str], user: str) -> Reply:
        if path[0] == "context":
            return messages.compact(views.context(self.plan))
        if path[0] == "image":
            return self._images(parameters.read(call).first("type"))
        if path[0] == "repository":
            return messages.compact(list(self.plan.registries))
        if len(path) > 2:
            raise words(400, f"Invalid request: {'/'.join(path[1:])}")
        id = path[1] if len(path) > 1 else None
        if call.method == "POST":
            return await self._post(call, id, user)
        await self.clock.sleep(self.plan.list_latency if kind == "list" else self.plan.call_latency)
        fault = self.dealer.call(kind)
        if fault is not None and fault not in LIST_LIES:
            return self._broken(fault)
        self.lie = fault
        if call.method == "DELETE":
            return self._delete(user, id)
        return self._get(call, user, id)

    # who calls, and whether anything answers

    def _user(self, call: Call) -> str:
        self.calls += 1
        kind, _, token = call.header("authorization").partition(" ")
        deny = self.plan.deny
        if deny == "expired":
            raise Refusal(
                Reply(401, b"Token has expired", headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})
            )
        if deny == "forbidden":
            raise words(403, "Not authorized to use the skaha system")
        if deny == "anonymous" or kind.lower() != "bearer":
            if self.plan.version == "old":
                raise words(401, "Unauthorized", WWW_Authenticate="Bearer")
            raise words(400, "cannot get group memberships for anonymous", WWW_Authenticate="Bearer")
        if deny == "echo" or (self.plan.tokens is not None and token not in self.plan.tokens):
            raise words(401, f"unhandled auth: Authorization Bearer {token}", WWW_Authenticate="Bearer")
        switch = self.plan.switch_user
        if switch is not None and self.calls >= switch[0]:
            return switch[1]
        return self.plan.tokens[token] if self.plan.tokens else self.plan.user

    def _down(self) -> Reply | None:
        if self.outage is None or self.clock.now() >= self.outage[1]:
            return None
        return self._broken(self.outage[0])

    def _broken(self, fault: str) -> Reply:
        replies = {
            "error": messages.api_error(),
            "unavailable": messages.unavailable(self.plan.retry_after),
            "gateway": messages.page(502, "Bad Gateway"),
            "drop": Reply(drop="reset"),
        }
        return replies[fault]

    # create

    async def _post(self, call: Call, id: str | None, user: str) -> Reply:
        asked = self.clock.monotonic()
        given = parameters.read(call)
        if id is not None:
            return self._renew(user, id, given.first("action"))
        env = dict(entry.partition("=")[::2] for entry in given.all("env"))
        name = given.first("name") or ""
        fault = self.dealer.create(name, env.get("REPLICA_ID"))
        self.requests.append({"at": self.clock.now(), "pairs": given.pairs, "fault": fault, "query": call.query})
        await self._until(asked + self.plan.post_latency / 2)
        refused = self._not_made(fault, name)
        if refused is not None:
            return refused
        made = create.check(given, call.header("x-skaha-registry-auth"), user, self.plan, self.cluster)
        if made.refused or fault == "refuse":
            raise create.refusal(made)
        session = self._made(made.session, fault)
        await self._until(asked + self.plan.post_latency)
        self.create_seconds.append(self.clock.monotonic() - asked)
        return await self._told(session, fault)

    async def _until(self, moment: float) -> None:
        """Sleeps; what this server itself needs for a create is part of the create's latency, not added to it."""
        await self.clock.sleep(max(0.0, moment - self.clock.monotonic()))

    def _not_made(self, fault: str | None, name: str) -> Reply | None:
        if fault == "drop_before":
            return Reply(drop="reset" if self.dealer.coin(name) else "close")
        if fault == "error_before":
            return messages.no_fork()
        if fault == "unavailable":
            return messages.unavailable(self.plan.retry_after)
        if fault == "gateway_before":
            return self._gateway(name)
        return None

    def _made(self, session: Session, fault: str | None) -> Session:
        session.fault = fault
        if fault == "late_visible":
            session.visible += self.dealer.lateness(session.name)
        self.cluster.add(session)
        if logs.item_failures(session, self.plan):
            session.outcome = "Failed"
        return session

    async def _told(self, session: Session, fault: str | None) -> Reply:
        if fault in ("drop_after", "late_visible"):
            return Reply(drop="reset" if self.dealer.coin(session.name) else "close")
        if fault == "error_after":
            return messages.api_error()
        if fault == "gateway_after":
            return self._gateway(session.name)
        if fault == "slow_reply":
            await self.clock.sleep(self.plan.slow_reply)
        else:
            session.told = True
        return Reply(200, f"{session.id}\n".encode())

    def _gateway(self, name: str) -> Reply:
        return messages.page(502, "Bad Gateway") if self.dealer.coin(name) else messages.page(504, "Gateway Time-out")

    def _renew(self, user: str, id: str, action: str | None) -> Reply:
        if action is None or id == "":
            raise words(400, "Cannot modify an existing session")
        if action != "renew":
            raise words(400, "unrecognized action")
        session, now = self.cluster.one(user, id), self.clock.now()
        if session is None or session.status(now) != "Running" or session.started is None:
            raise words(400, f"No active job for user PosixPrincipal [uidNumber=10001,10001,{user}] with session {id}")
        elapsed = int(now - session.started)
        if session.deadline - elapsed < INTERACTIVE_DEADLINE:
            session.deadline = elapsed + INTERACTIVE_DEADLINE
        return Reply(200)

    # read and delete

    def _images(self, kind: str | None) -> Reply:
        known = ("carta", "notebook", "desktop", "contributed", "headless", "firefly", "desktop-app")
        if kind is not None and kind not in known:
            raise words(400, f"unknown type: {kind}")
        rows = [
            {"id": id, "types": ["headless", "notebook"], "digest": f"sha256:{n:064x}"}
            for n, id in enumerate(self.plan.images)
        ]
        return messages.pretty([row for row in rows if kind is None or kind in row["types"]])

    def _delete(self, user: str, id: str | None) -> Reply:
        if id is None:
            raise words(400, "Cannot kill all sessions.")
        if id not in self.cluster.sessions:
            self.unknown_deletes.append(id)
        self.cluster.delete(user, id)
        return Reply(200)

    def _get(self, call: Call, user: str, id: str | None) -> Reply:
        given, now = parameters.read(call), self.clock.now()
        view = given.first("view") or ""
        if id is None:
            return self._list(user, given, view)
        session = self.cluster.one(user, id)
        if view == "logs":
            return self._logs(session)
        if session is None:
            dot = "." if view == "events" else ""
            raise words(404, f"session {id} not found{dot}")
        if view == "events":
            if session.suspended:
                raise words(404, f"session {id} not found.")
            return Reply(200, views.events(session, now).encode())
        return messages.pretty(views.session_object(session, now, self.plan))

    def _list(self, user: str, given: parameters.Parameters, view: str) -> Reply:
        if self.plan.list_page:
            return messages.page(200, "Sign in to the network")
        if view == "stats":
            return messages.compact(views.STATS)
        if self.plan.list_trickles:
            return messages.trickle()
        now = self.clock.now()
        sessions = [] if self.plan.list_empty else self.cluster.of(user)
        rows = self._lied([views.session_object(session, now, self.plan) for session in sessions])
        if view.lower() == "interactive":
            rows = [row for row in rows if row["type"] != "headless"]
        for key in ("type", "status"):
            wanted = given.first(key)
            if wanted is not None:
                rows = [row for row in rows if str(row[key]).lower() == wanted.lower()]
        return messages.pretty(rows)

    def _lied(self, rows: list[dict[str, object]]) -> list[dict[str, object]]:
        """The rows as a server shows them whose cache is cold, old or torn (``plan.list_faults``)."""
        now = self.clock.now()
        self.lists = [(at, old) for at, old in self.lists if now - at < 3 * self.plan.stale] + [(now, rows)]
        if self.lie == "empty":
            return []
        if self.lie == "stale":
            return next((old for at, old in reversed(self.lists) if now - at >= self.plan.stale), [])
        if self.lie == "partial":
            return [row for number, row in enumerate(rows) if (number + self.calls) % 2]
        return rows + rows[::3] if self.lie == "doubled" else rows

    def _logs(self, session: Session | None) -> Reply:
        if session is None:
            return Reply(200)
        session.log_reads += 1
        if session.log_reads <= self.plan.logs_empty:
            return Reply(200)
        length, parts = logs.chunks(session, self.plan, self.clock.now())
        self.log_bytes += length
        return Reply(200, parts, length=length)


def _kind(call: Call) -> str:
    """How a request is counted."""
    parts = call.path.strip("/").split("/")
    if parts[:3] != ["skaha", "v1", "session"]:
        return parts[-1] or "root"
    if call.method == "POST":
        return "create" if len(parts) == 3 else "renew"
    if call.method == "DELETE":
        return "delete"
    if len(parts) == 3:
        return "list"
    view = call.query.partition("view=")[2].partition("&")[0]
    return view if view in ("logs", "events") else "get"


def _outside(call: Call, segments: list[str]) -> Reply:
    """What is not below /v1; HEAD is answered as GET, its body left out by the connection."""
    rest = segments[1:]
    if call.method not in ("GET", "HEAD"):
        raise words(405, f"unsupported: HTTP {call.method}", Allow="GET, HEAD")
    if rest in ([], [""], ["index.html"]):
        return Reply(200, b"<html><title>Skaha</title></html>", "text/html")
    if rest == ["capabilities"]:
        base = f"http://{call.header('host')}/skaha"
        return Reply(200, (views.CAPABILITIES % base).encode(), "text/xml")
    if rest == ["availability"]:
        return Reply(200, views.AVAILABILITY.encode(), "text/xml")
    return messages.page(404, "Not Found")
