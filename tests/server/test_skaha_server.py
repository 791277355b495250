"""The test server itself, with raw HTTP and with the public ``canfar`` client, so that what it finds can be trusted."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.skaha_server import FakeSkaha, Plan, logs, mangle
from tests.skaha_server.messages import Refusal
from tests.skaha_server.process import TOKEN, running

pytestmark = pytest.mark.once

IMAGE = "images.canfar.net/skaha/terminal:1.1.1"
FORM = {"Content-Type": "application/x-www-form-urlencoded; charset=UTF-8"}
Body = Callable[[FakeSkaha, httpx.AsyncClient], Awaitable[None]]


class SteppingClock:
    """Time that passes when it is told to, or when somebody sleeps."""

    def __init__(self) -> None:
        self.time = 1_790_000_000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds
        await asyncio.sleep(0)


def against(plan: dict[str, object], body: Body, clock: SteppingClock | None = None) -> None:
    async def run() -> None:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with (
            FakeSkaha(Plan.of(plan), clock=clock) as server,
            httpx.AsyncClient(base_url=server.url, headers=headers, timeout=60, trust_env=False) as client,
        ):
            await body(server, client)

    asyncio.run(run())


async def post(client: httpx.AsyncClient, name: str, **more: str | list[str]) -> httpx.Response:
    return await client.post("/session", data={"name": name, "image": IMAGE, **more})


def test_a_session_lives_and_is_discarded() -> None:
    clock = SteppingClock()

    async def body(server: FakeSkaha, client: httpx.AsyncClient) -> None:
        made = await post(client, "Fits-1-abcde", cores="2", ram="8", cmd="echo", args="hello", env=["REPLICA_ID=1"])
        assert (made.status_code, made.headers["content-type"]) == (200, "text/plain")
        assert made.headers["x-vo-authenticated"] == "alice"
        id = made.text.removesuffix("\n")
        seen = [await _status(client, id)]
        for _ in range(2):
            clock.time += 10
            seen.append(await _status(client, id))
        assert seen == ["Pending", "Running", "Completed"]
        shown = (await client.get("/session")).json()
        assert [row["name"] for row in shown] == ["fits-1-abcde"]
        assert {key: shown[0][key] for key in ("requestedRAM", "requestedCPUCores", "startTime")} == {
            "requestedRAM": "8.59",
            "requestedCPUCores": "2",
            "startTime": "2026-09-21T14:13:20Z",
        }
        assert "ramInUse" not in shown[0]
        text = (await client.get(f"/session/{id}", params={"view": "logs"})).text
        assert text.splitlines()[-1] == "fits-1-abcde: line 5 of 5"
        clock.time += 3600
        assert (await client.get("/session")).json() == []
        gone = await client.get(f"/session/{id}")
        assert (gone.status_code, gone.text) == (404, f"session {id} not found\n")
        assert (await client.get(f"/session/{id}?view=logs")).content == b""

    against({"pending": [5, 5], "running": [10, 10]}, body, clock)


async def _status(client: httpx.AsyncClient, id: str) -> str:
    return str((await client.get(f"/session/{id}")).json()["status"])


def test_start_times_lose_zero_seconds_and_old_servers_use_old_words() -> None:
    clock = SteppingClock()
    clock.time = 1_790_000_040.0

    async def body(server: FakeSkaha, client: httpx.AsyncClient) -> None:
        await post(client, "a-1")
        row = (await client.get("/session")).json()[0]
        assert row["startTime"] == "2026-09-21T14:14Z"
        assert row["expiryTime"] == "2026-10-05T14:14:00Z"
        server.app.plan.version = "old"
        row = (await client.get("/session")).json()[0]
        assert (row["status"], row["appid"], row["ramInUse"]) == ("Succeeded", "<none>", "<none>")
        client.headers.pop("Authorization")
        assert (await client.get("/session")).status_code == 401

    against({"running": [0, 0]}, body, clock)


@pytest.mark.parametrize(
    ("change", "status", "text"),
    [
        ({"image": None}, 400, "Missing parameter 'image'\n"),
        ({"image": " "}, 400, "image is required\n"),
        ({"image": "docker.io/x:1"}, 400, "session image 'docker.io/x:1' must come from one of [images.canfar.net]\n"),
        ({"type": "batch"}, 400, "Invalid session type: batch\n"),
        ({"cores": "0.5"}, 400, "Invalid value for 'cores': 0.5\n"),
        ({"ram": "3", "name": "_"}, 400, "Invalid value for 'ram': 3\n"),
        ({"name": None}, 400, "Missing parameter 'name'\n"),
        ({"name": "a_b"}, 400, "name can only contain alpha-numeric chars and '-'\n"),
        ({"gpus": "0"}, 400, "Invalid value for 'gpus': 0\n"),
        ({"name": "-a"}, 400, "canfar.net/name label value must match Kubernetes label value syntax\n"),
        ({"cmd": "awk", "args": "$1"}, 500, "unexpected exception: java.lang.IndexOutOfBoundsException: No group 1"),
        ({"cmd": "a", "args": "$HOME"}, 400, "Illegal group reference\n"),
    ],
)
def test_refusals_in_the_servers_words(change: dict[str, str | None], status: int, text: str) -> None:
    async def body(server: FakeSkaha, client: httpx.AsyncClient) -> None:
        fields = {"name": "a-1", "image": IMAGE, **change}
        reply = await client.post("/session", data={key: value for key, value in fields.items() if value is not None})
        assert (reply.status_code, reply.text) == (status, text)
        assert not server.app.cluster.sessions

    against({}, body)


@pytest.mark.parametrize("change", [{"name": "a" * 64}, {"name": "a-"}, {"name": "y"}, {"cmd": "x", "args": "-08"}])
def test_what_the_cluster_refuses_is_an_opaque_500(change: dict[str, str]) -> None:
    async def body(server: FakeSkaha, client: httpx.AsyncClient) -> None:
        reply = await client.post("/session", data={"name": "a", "image": IMAGE, **change})
        assert reply.status_code == 500
        assert "jobs.batch" in reply.text
        assert "not found" in reply.text

    against({}, body)


def test_parameters_are_read_as_the_framework_reads_them() -> None:
    async def body(server: FakeSkaha, client: httpx.AsyncClient) -> None:
        query = {"name": "q-1", "image": IMAGE}
        assert (await client.post("/session", params=query, headers=FORM)).status_code == 200
        assert (await client.post("/session", params=query)).text == "Missing parameter 'image'\n"
        assert (await client.post("/session", json=query)).text == "Missing parameter 'image'\n"
        files = {key: (None, value) for key, value in query.items()}
        assert (await client.post("/session", files=files, params={"name": "_"})).status_code == 200
        assert (await client.post("/session", data={"NAME": "m-1", "Image": IMAGE, "name": "n-1"})).status_code == 200
        assert [s.name for s in server.app.cluster.sessions.values()] == ["q-1", "q-1", "m-1"]
        assert (await post(client, "e-1", env=["A=1"], ENV=["B=2"])).status_code == 400
        long = await client.post("/session", params={**query, "args": "x" * 9000}, headers=FORM)
        assert (long.status_code, long.headers["content-type"]) == (400, "text/html")

    against({}, body)


@pytest.mark.parametrize(
    ("cmd", "args", "env", "argv", "got"),
    [
        ("echo", "a  b ", [], ["echo", "a", "", "b"], []),
        ("bash -c", None, [], ["bash -c"], []),
        (None, "", [], [""], []),
        ("x", r"a\\x20b \\x22 \\x24\\x24HOME \\u00e9", [], ["x", "a b", '"', "$HOME", "é"], []),
        ("x", "\\\\\n", ["A=\\\\\n"], ["x", ""], [("A", "")]),
        ("x", "foo\\ b", ["A=1\\"], ["x", "foo", "b"], [("A", "1")]),
        ("awk", "$0", [], ["awk", "${headless.image.bundle}"], []),
        ("x", r"\${skaha.userid}", [], ["x", "alice"], []),
        ("x", "a\nb\n\nc", [], ["x", "a b\nc"], []),
        ("x", r"\$(A) \$\$(A) \$(B)", ["A=v", "C=\\$(A)w"], ["x", "v", "$(A)", "$(B)"], [("A", "v"), ("C", "vw")]),
        ("x", "1e3 08 true yes null", ["A=", "B=1=2", "C=1=", "D=e\\\\x3df"], None, [("C", "1"), ("D", "e=f")]),
    ],
)
def test_commands_and_environment_arrive_as_the_template_makes_them(
    cmd: str | None, args: str | None, env: list[str], argv: list[str] | None, got: list[tuple[str, str]]
) -> None:
    made = mangle.container(cmd, args, env, {"skaha_username": "alice"})
    assert made.argv == (argv or ["x", "1e3", "08", "true", "yes", "null"])
    assert made.env == got


@pytest.mark.parametrize("word", ["y", "N", "0o17", "0XfF", "-08", "+09", "1e3_", "-_1"])
def test_words_that_kubernetes_reads_as_something_else_are_refused(word: str) -> None:
    with pytest.raises(mangle.JobRefused):
        mangle.container("echo", word, [], {})


@pytest.mark.parametrize("word", ["08", "1_000", "yes", "-8", "1e3", "0x1f", "1.5", "12:30:45", "_1", "-", "+", "."])
def test_ordinary_words_are_not_refused(word: str) -> None:
    assert mangle.container("echo", word, [], {}).argv == ["echo", word]


@pytest.mark.parametrize(("args", "status"), [('a"b', 500), ("${x}", 400), ("a$", 400), ("\x01", 500), (r"\\q", 500)])
def test_text_that_breaks_the_template(args: str, status: int) -> None:
    with pytest.raises(Refusal) as refusal:
        mangle.container("echo", args, [], {})
    assert refusal.value.reply.status == status


NAMES = st.one_of(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True), st.sampled_from(["Yes", "null", "oN"]))
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)


@given(VALUES, VALUES, st.lists(st.tuples(NAMES, VALUES)))
def test_the_short_way_of_plain_text_gives_what_the_template_gives(
    cmd: str, args: str, env: list[tuple[str, str]]
) -> None:
    entries = [f"{name}={value}" for name, value in env]
    short = mangle.plain(cmd, args, entries)
    assert short is None or short == mangle.parsed(mangle.assembled(cmd, args, entries), {})


def test_a_fixed_server_takes_text_as_it_is() -> None:
    made = mangle.container("x", r"a\\x20b $HOME", ["A=b=c"], {}, decode="escaped")
    assert (made.argv, made.env) == (["x", r"a\\x20b", "$HOME"], [("A", "b=c")])


def test_users_and_credentials() -> None:
    async def body(server: FakeSkaha, client: httpx.AsyncClient) -> None:
        id = (await post(client, "mine-1")).text.strip()
        other = {"Authorization": "Bearer b"}
        assert (await client.get("/session", headers=other)).json() == []
        assert (await client.delete(f"/session/{id}", headers=other)).status_code == 200
        assert (await client.get(f"/session/{id}")).status_code == 200
        bad = await client.get("/session", headers={"Authorization": "Bearer who-is-this"})
        assert (bad.status_code, bad.text) == (401, "unhandled auth: Authorization Bearer who-is-this\n")
        client.headers.pop("Authorization")
        anonymous = await client.get("/context")
        assert (anonymous.status_code, anonymous.text) == (400, "cannot get group memberships for anonymous\n")

    against({"tokens": {TOKEN: "alice", "b": "bob"}}, body)


def test_another_user_from_a_call_on() -> None:
    async def body(server: FakeSkaha, client: httpx.AsyncClient) -> None:
        users = [(await client.get("/session")).headers["x-vo-authenticated"] for _ in range(3)]
        assert users == ["alice", "alice", "bob"]

    against({"switch_user": [3, "bob"]}, body)


def test_delete_says_200_and_proves_nothing() -> None:
    async def body(server: FakeSkaha, client: httpx.AsyncClient) -> None:
        id = (await post(client, "a-1")).text.strip()
        for still_there in (True, True, False):
            reply = await client.delete(f"/session/{id}")
            assert (reply.status_code, reply.content) == (200, b"")
            assert bool((await client.get("/session")).json()) is still_there
        assert (await client.delete("/session/nobody12")).status_code == 200
        assert (await client.delete("/session")).text == "Cannot kill all sessions.\n"
        assert server.app.unknown_deletes == ["nobody12"]

    against({"delete_ignored": 2}, body)


def test_methods_pages_and_xml_outside_the_interface() -> None:
    async def body(server: FakeSkaha, client: httpx.AsyncClient) -> None:
        put = await client.put("/session")
        assert (put.status_code, put.text, put.headers["allow"]) == (
            405,
            "unsupported: HTTP PUT\n",
            "GET, POST, DELETE",
        )
        assert (await client.head(f"{server.base}/skaha")).status_code == 200
        nothing = await client.get(f"{server.base}/skaha/v0/session")
        assert (nothing.status_code, nothing.headers["content-type"]) == (404, "text/html")
        assert "<vosi:available>true" in (await client.get(f"{server.base}/skaha/availability")).text
        assert (await client.get("/session/")).status_code == 404
        assert (await client.get("/repository")).json() == ["images.canfar.net"]
        assert 16 in (await client.get("/context")).json()["cores"]["options"]

    against({}, body)


FATES = {
    "drop_before": (0, None),
    "drop_after": (1, None),
    "error_before": (0, 500),
    "error_after": (1, 500),
    "slow_reply": (1, None),
    "unavailable": (0, 503),
    "gateway_before": (0, (502, 504)),
    "gateway_after": (1, (502, 504)),
    "late_visible": (0, None),
    "refuse": (0, 500),
}


@pytest.mark.parametrize("fault", FATES)
def test_each_fault_of_a_create(fault: str) -> None:
    made, status = FATES[fault]

    async def body(server: FakeSkaha, client: httpx.AsyncClient) -> None:
        client.timeout = httpx.Timeout(0.3)
        for name in ("a-1", "b-1"):  # two, for faults that toss a coin
            try:
                reply = await post(client, name, env=["REPLICA_ID=1"])
            except httpx.TransportError:
                assert status is None
            else:
                assert reply.status_code in (status if isinstance(status, tuple) else (status,))
                assert reply.headers.get("retry-after") == ("7" if fault == "unavailable" else None)
        assert len((await client.get("/session")).json()) == 2 * made
        assert server.app.dealer.dealt == {fault: 2}
        if fault == "late_visible":
            await asyncio.sleep(0.4)
            assert len((await client.get("/session")).json()) == 2

    against({"faults": {fault: 1.0}, "slow_reply": 0.6, "late": [0.3, 0.35], "retry_after": 7}, body)


def test_a_hundred_replicas_get_the_rates_of_the_plan_in_any_order() -> None:
    rates = {"drop_after": 0.07, "error_after": 0.05}

    def fates(order: list[int]) -> dict[str, str | None]:
        found: dict[str, str | None] = {}

        async def body(server: FakeSkaha, client: httpx.AsyncClient) -> None:
            await asyncio.gather(*(attempt(client, number) for number in order))
            found.update({s.name: s.fault for s in server.app.cluster.sessions.values()})
            assert server.app.dealer.dealt == {"drop_after": 7, "error_after": 5}

        async def attempt(client: httpx.AsyncClient, number: int) -> None:
            with contextlib.suppress(httpx.TransportError):
                await post(client, f"fits-{number}-abcde", env=[f"REPLICA_ID={number}"])

        against({"seed": 11, "faults": rates}, body)
        return found

    assert fates(list(range(1, 101))) == fates(list(range(100, 0, -1)))


def test_a_create_continues_though_its_client_went_away() -> None:
    async def body(server: FakeSkaha, client: httpx.AsyncClient) -> None:
        with pytest.raises(httpx.ReadTimeout):
            await client.post("/session", data={"name": "a-1", "image": IMAGE}, timeout=0.05)
        await asyncio.sleep(0.4)
        assert [s.name for s in server.app.cluster.sessions.values()] == ["a-1"]

    against({"post_latency": 0.4}, body)


def test_list_faults_outages_and_a_closed_port() -> None:
    async def body(server: FakeSkaha, client: httpx.AsyncClient) -> None:
        seen = [(await client.get("/session")).status_code for _ in range(40)]
        assert {200, 500, 502} == set(seen)
        assert (await client.post(f"{server.base}/_test/outage", json={"seconds": 60})).status_code == 200
        down = await client.get("/context")
        assert (down.status_code, down.text, down.headers["retry-after"]) == (
            503,
            "temporarily unavailable: null\n",
            "1",
        )
        await client.post(f"{server.base}/_test/outage", json={"seconds": 0})
        assert (await client.get("/context")).status_code == 200
        await server.refuse()
        with pytest.raises(httpx.ConnectError):
            await httpx.AsyncClient(trust_env=False).get(server.url)
        await server.listen()
        assert (await client.get("/context")).status_code == 200

    against({"list_faults": {"error": 0.3, "gateway": 0.3}}, body)


def test_steering_and_state() -> None:
    async def body(server: FakeSkaha, client: httpx.AsyncClient) -> None:
        for number in (1, 2, 3):
            await post(client, f"fits-{number}-abcde", cmd="echo", env=[f"REPLICA_ID={number}"])
        admin = f"{server.base}/_test"
        await client.post(f"{admin}/session", json={"name": "my-notebook", "kind": "notebook"})
        await client.post(f"{admin}/fail", json={"sessions": ["fits-1-abcde"]})
        await client.post(f"{admin}/forget", json={"sessions": ["fits-2-abcde"]})
        await client.post(f"{admin}/suspend", json={"sessions": ["fits-3-abcde"]})
        rows = {row["name"]: row for row in (await client.get("/session")).json()}
        assert {name: row["status"] for name, row in rows.items()} == {
            "fits-1-abcde": "Failed",
            "fits-3-abcde": "Pending",
            "my-notebook": "Running",
        }
        assert "startTime" not in rows["fits-3-abcde"]
        events = await client.get(f"/session/{rows['fits-3-abcde']['id']}?view=events")
        assert (events.status_code, events.text.endswith("not found.\n")) == (404, True)
        state = (await client.get(f"{admin}/state")).json()
        assert state["jobs"]["fits"]["most_alive"] == 3
        assert [s["replica"] for s in state["sessions"]] == ["1", "2", "3", None]
        assert state["requests"]["create"] == 3
        assert state["connections"]["open"] == 1

    against({}, body)


def test_logs_are_empty_at_first_and_may_lose_their_beginning() -> None:
    async def body(server: FakeSkaha, client: httpx.AsyncClient) -> None:
        id = (await post(client, "a-1")).text.strip()
        reads = [(await client.get(f"/session/{id}?view=logs")).content for _ in range(2)]
        assert reads[0] == b""
        assert len(reads[1]) == 3_000_000
        described = (await client.get(f"{server.base}/_test/state")).json()["sessions"][0]
        assert described["log_sha256"] == hashlib.sha256(reads[1]).hexdigest()
        server.app.plan.log_keep = 100
        assert (await client.get(f"/session/{id}?view=logs")).content == reads[1][-100:]

    against({"running": [0, 0], "logs_empty": 1, "log_lines": 0, "log_bytes": 3_000_000}, body)


def test_a_command_that_runs_once_an_item_marks_their_ends() -> None:
    assert logs.positions(["sh", "-c", "script", "skahactl", "1", "a.fits", "3", "7"]) == [1, 3]
    assert logs.positions(["sh", "-c", "script", "skahactl", "1", "x", "y", "2", "z", "8"]) == [1, 2]
    assert logs.positions(["sh", "-c", "script"]) == []

    async def body(server: FakeSkaha, client: httpx.AsyncClient) -> None:
        id = (await post(client, "a-1", cmd="sh", args="-c run skahactl 1 a 2 b")).text.strip()
        text = (await client.get(f"/session/{id}?view=logs")).text
        assert text.splitlines()[1::2] == ["::skahactl item 1 exit 1", "::skahactl item 2 exit 1"]
        assert await _status(client, id) == "Failed"

    against({"running": [0, 0], "log_lines": 0, "item_fail": 1.0}, body)


def test_private_images_need_credentials() -> None:
    async def body(server: FakeSkaha, client: httpx.AsyncClient) -> None:
        fields = {"name": "a-1", "image": "images.canfar.net/mine/secret:1"}
        assert (await client.post("/session", data=fields)).text.startswith("No authentication provided for unknown or")
        for text, status in (("me:word", 200), ("me", 400), ("me:a:b", 400)):
            header = {"x-skaha-registry-auth": base64.b64encode(text.encode()).decode()}
            assert (await client.post("/session", data=fields, headers=header)).status_code == status

    against({"strict_images": True}, body)


CANFAR = """
import json, sys
from canfar.sessions import Session
with Session(url=sys.argv[1], token=sys.argv[2]) as session:
    ids = session.create(name="peer", image=sys.argv[3], cores=2, ram=8, cmd="echo", args="hello there",
                         env={"A": "b"}, replicas=3)
    found = session.fetch(kind="headless")
    logs = session.logs(ids)
    info = session.info(ids)
    events = session.events(ids)
    gone = session.destroy(ids)
    statuses = sorted(row["status"] for row in info)
    print(json.dumps([ids, [row["id"] for row in found], statuses, logs, gone, len(events)]))
"""


@pytest.mark.skipif(importlib.util.find_spec("canfar") is None, reason="the public client is not installed")
def test_the_public_client_works_here(tmp_path: Path) -> None:
    with running(tmp_path / "server", {}) as server:
        command = [sys.executable, "-c", CANFAR, server.url, TOKEN, IMAGE]
        environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "NO_COLOR": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        ids, found, statuses, texts, gone, events = json.loads(done.stdout.splitlines()[-1])
        assert len(ids) == 3
        assert sorted(found) == sorted(ids)
        assert statuses == ["Running"] * 3
        assert all("line 1" in texts[id] for id in ids)
        assert gone == dict.fromkeys(ids, True)
        assert events == 3
        sessions = server.state()["sessions"]
        assert sorted(s["name"] for s in sessions) == ["peer-1", "peer-2", "peer-3"]
        assert all(s["argv"] == ["echo", "hello", "there"] for s in sessions)
        assert all(["A", "b"] in s["env"] for s in sessions)
        assert all(s["deleted"] for s in sessions)


def test_the_process_ends_with_the_test(tmp_path: Path) -> None:
    with running(tmp_path, {"seed": 3}) as server:
        assert server.state()["sessions"] == []
        server.tell("plan", post_latency=0.1)
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url, trust_env=False)
