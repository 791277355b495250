"""The local platform's answers: texts, order of checks, shapes, in the words of a Skaha server."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from skahactl.local.api import start_time
from tests.local_platform import FORM, IMAGE, create, ended, platform, sessions, until
from tests.workplace import Workplace

Check = Callable[[httpx.AsyncClient], Awaitable[Any]]


def on_platform(tmp_path: Path, check: Check, **settings: Any) -> Any:
    async def run() -> Any:
        async with platform(tmp_path, **settings) as client:
            return await check(client)

    return asyncio.run(run())


GOOD = {"image": IMAGE, "name": "a", "cmd": "true"}


@pytest.mark.parametrize(
    ("changes", "status", "body"),
    [
        ({"image": None, "name": None}, 400, "Missing parameter 'image'\n"),
        ({"image": " "}, 400, "image is required\n"),
        ({"image": "a b", "type": "x"}, 400, "session image 'a b' must come from one of [images.canfar.net]\n"),
        ({"type": "batch", "cores": "99"}, 400, "Invalid session type: batch\n"),
        ({"cores": "0.5", "ram": "3"}, 400, "Invalid value for 'cores': 0.5\n"),
        ({"cores": "17"}, 400, "Invalid value for 'cores': 17\n"),
        ({"cores": "nan"}, 400, "Invalid value for 'cores': nan\n"),
        ({"cores": "1e999"}, 400, "Invalid value for 'cores': 1e999\n"),
        ({"ram": "3", "name": None}, 400, "Invalid value for 'ram': 3\n"),
        ({"name": None, "type": "notebook"}, 400, "Missing parameter 'name'\n"),
        ({"name": " "}, 400, "Missing parameter 'name'\n"),
        ({"name": "a_b", "gpus": "0"}, 400, "name can only contain alpha-numeric chars and '-'\n"),
        ({"gpus": "0"}, 400, "Invalid value for 'gpus': 0\n"),
        ({"gpus": "1.0"}, 400, "Invalid value for 'gpus': 1.0\n"),
        ({"name": "---"}, 400, "canfar.net/name label value cannot be blank\n"),
        ({"name": "-a"}, 400, "canfar.net/name label value must match Kubernetes label value syntax\n"),
        ({"args": "$HOME"}, 400, "Illegal group reference\n"),
    ],
)
def test_what_is_refused_in_the_servers_words_and_order(
    tmp_path: Path, changes: dict[str, str | None], status: int, body: str
) -> None:
    fields = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}

    async def check(client: httpx.AsyncClient) -> None:
        reply = await client.post("/session", data=fields, headers=FORM)
        assert (reply.status_code, reply.text, reply.headers["content-type"]) == (status, body, "text/plain")
        assert await sessions(client) == {}

    on_platform(tmp_path, check)


@pytest.mark.parametrize(
    "changes", [{"name": "a" * 64}, {"name": "a-"}, {"name": "Y"}, {"name": "n"}, {"args": "y"}, {"env": "1A=x"}]
)
def test_what_kubernetes_would_refuse(tmp_path: Path, changes: dict[str, str]) -> None:
    async def check(client: httpx.AsyncClient) -> None:
        reply = await client.post("/session", data={**GOOD, **changes}, headers=FORM)
        assert reply.status_code == 500
        assert re.search(r'jobs\.batch \\"skaha-headless-[a-z0-9-]+\\" not found', reply.text)
        assert await sessions(client) == {}

    on_platform(tmp_path, check)


@pytest.mark.parametrize("changes", [{"type": "notebook"}, {"type": "carta"}, {"cmd": None}])
def test_what_needs_an_image_is_refused(tmp_path: Path, changes: dict[str, str | None]) -> None:
    fields = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}

    async def check(client: httpx.AsyncClient) -> None:
        reply = await client.post("/session", data=fields, headers=FORM)
        assert reply.status_code == 400
        assert "starts no images" in reply.text

    on_platform(tmp_path, check)


def test_where_parameters_may_stand(tmp_path: Path) -> None:
    async def check(client: httpx.AsyncClient) -> None:
        none = "Missing parameter 'image'\n"
        good = {"IMAGE": IMAGE, "Name": "In-Query", "cmd": "true"}
        assert (await client.post("/session", params=good)).text == none
        assert (await client.post("/session", json=good)).text == none
        assert (await client.post("/session", params=good, files={"cmd": (None, "true")})).text == none
        assert (await client.post("/session", params=good, headers=FORM)).status_code == 200
        both = await client.post("/session", params={"name": "first"}, data={**good, "name": "second"})
        assert both.status_code == 200
        multipart = {key: (None, value) for key, value in {**good, "Name": "in-multipart"}.items()}
        assert (await client.post("/session", files=multipart)).status_code == 200
        unlucky = await client.post("/session", content="env=A%3D1&ENV=B%3D2&image=i&name=a&cmd=true", headers=FORM)
        assert (unlucky.status_code, unlucky.text) == (400, "null\n")
        assert set(await ended(client)) == {"in-query", "first", "in-multipart"}

    on_platform(tmp_path, check)


def test_bodies_are_read_in_their_character_set(tmp_path: Path) -> None:
    async def check(client: httpx.AsyncClient) -> None:
        body = f"image={IMAGE}&cmd=echo&args=%C3%A9&name=a"
        logs = []
        for charset in ("; charset=UTF-8", ""):
            headers = {"content-type": "application/x-www-form-urlencoded" + charset}
            session = (await client.post("/session", content=body + str(len(logs)), headers=headers)).text.strip()
            await ended(client)
            logs.append((await client.get(f"/session/{session}", params={"view": "logs"})).text)
        assert logs == ["é\n", "Ã©\n"]

    on_platform(tmp_path, check)


def test_the_session_object(tmp_path: Path) -> None:
    async def check(client: httpx.AsyncClient) -> None:
        fields = {**GOOD, "name": "Run-7", "cores": "2", "ram": "8", "gpus": "1", "cmd": "sleep", "args": "30"}
        created = await client.post("/session", data=fields, headers=FORM)
        assert re.fullmatch(r"[a-z][a-z0-9]{7}\n", created.text)
        assert created.headers["content-type"] == "text/plain"
        session = created.text.strip()
        await until(lambda: sessions(client), lambda seen: seen == {"run-7": "Running"})
        reply = await client.get(f"/session/{session}")
        assert reply.headers["content-type"] == "application/json"
        assert reply.headers["server"] == "OpenCADC/cadc-rest"
        row = reply.json()
        assert reply.headers["x-vo-authenticated"] == row["userid"]
        assert list(row) == [
            "id", "userid", "runAsUID", "runAsGID", "supplementalGroups", "image", "type", "status", "name",
            "startTime", "expiryTime", "connectURL", "requestedRAM", "requestedCPUCores", "requestedGPUCores",
            "isFixedResources", "exactStartTime",
        ]  # fmt: skip
        assert (row["requestedRAM"], row["requestedCPUCores"], row["requestedGPUCores"]) == ("8.59", "2", "1")
        assert (row["connectURL"], row["isFixedResources"], row["name"]) == ("", True, "run-7")
        assert reply.text == json.dumps(row, indent=2, ensure_ascii=False)
        assert (await client.get("/session")).json() == [row]
        assert (await client.get("/session/")).json() == row
        public = (await client.get("/session", params={"view": "all"})).json()
        assert [list(entry) for entry in public] == [["userid", "type", "status", "startTime"]]
        renewed = await client.post(f"/session/{session}", data={"action": "renew"}, headers=FORM)
        assert (renewed.status_code, renewed.content) == (200, b"")
        await client.delete(f"/session/{session}")

    on_platform(tmp_path, check)


def test_a_queued_session_is_pending_without_times_events_or_log(tmp_path: Path) -> None:
    async def check(client: httpx.AsyncClient) -> None:
        first = await create(client, "first", "sleep", "30")
        second = await create(client, "second", "true")
        row = (await client.get(f"/session/{second}")).json()
        assert row["status"] == "Pending"
        assert not {"startTime", "expiryTime", "requestedRAM", "requestedCPUCores"} & set(row)
        events = await client.get(f"/session/{second}", params={"view": "events"})
        assert (events.status_code, events.text) == (404, f"session {second} not found.\n")
        logs = await client.get(f"/session/{second}", params={"view": "logs"})
        assert (logs.status_code, logs.content, logs.headers["content-type"]) == (200, b"", "text/plain")
        renewed = await client.post(f"/session/{second}", data={"action": "renew"}, headers=FORM)
        assert renewed.status_code == 400
        assert re.fullmatch(
            r"No active job for user PosixPrincipal \[uidNumber=\d+,\d+,.+\] with session \w{8}\n", renewed.text
        )
        for session in (second, first):
            await client.delete(f"/session/{session}")

    on_platform(tmp_path, check, slots=1)


def test_lists_are_ordered_by_id_and_filtered_exactly(tmp_path: Path) -> None:
    async def check(client: httpx.AsyncClient) -> None:
        for number in range(6):
            await create(client, f"s-{number}", "sh", "-c", f"exit {number % 2}")
        await ended(client)

        async def names(**query: str) -> list[str]:
            return sorted(row["name"] for row in (await client.get("/session", params=query)).json())

        rows = (await client.get("/session")).json()
        assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)
        assert await names(status="completed") == ["s-0", "s-2", "s-4"]
        assert await names(STATUS="Failed", type="HEADLESS") == ["s-1", "s-3", "s-5"]
        assert await names(status="Failed", view="unknown") == ["s-1", "s-3", "s-5"]
        for query in (
            {"status": ""},
            {"status": "Succeeded"},
            {"type": "notebook"},
            {"type": ""},
            {"view": "Interactive"},
        ):
            assert (await client.get("/session", params=query)).text == "[]"

    on_platform(tmp_path, check)


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("GET", "/session/a1234567", 404, "session a1234567 not found\n"),
        ("GET", "/session/", 404, "session  not found\n"),
        ("GET", "/session/a@b", 400, "canfar.net/id label value must match Kubernetes label value syntax\n"),
        ("GET", "/session/" + "a" * 64, 400, "canfar.net/id label value exceeds 63 characters\n"),
        ("GET", "/session/a1234567?view=logs", 200, ""),
        ("GET", "/session/a1234567?view=events", 404, "session a1234567 not found.\n"),
        ("GET", "/session/a/app/b", 400, "Invalid request: a/app/b\n"),
        ("POST", "/session/a", 400, "Cannot modify an existing session\n"),
        ("POST", "/session/", 400, "Cannot modify an existing session\n"),
        ("DELETE", "/session/a", 200, ""),
        ("DELETE", "/session/", 200, ""),
        ("DELETE", "/session/a@b", 200, ""),
        ("DELETE", "/session", 400, "Cannot kill all sessions.\n"),
        ("PUT", "/session", 405, "unsupported: HTTP PUT\n"),
        ("HEAD", "/session", 405, None),
        ("POST", "/context", 405, "unsupported: HTTP POST\n"),
        ("GET", "/image", 200, "[]"),
        ("GET", "/image?type=headless", 200, "[]"),
        ("GET", "/image?type=Headless", 400, "unknown type: Headless\n"),
        ("GET", "/repository", 200, '["images.canfar.net"]'),
    ],
)
def test_other_requests(tmp_path: Path, method: str, path: str, status: int, body: str | None) -> None:
    async def check(client: httpx.AsyncClient) -> None:
        reply = await client.request(method, "http://local/skaha/v1" + path, headers=FORM)
        assert reply.status_code == status
        assert body is None or reply.text == body
        if status == 405:
            assert reply.headers["allow"] == ("GET" if "context" in path else "GET, POST, DELETE")

    on_platform(tmp_path, check)


def test_documents_outside_the_version(tmp_path: Path) -> None:
    async def check(client: httpx.AsyncClient) -> None:
        assert (await client.get("http://local/skaha/")).status_code == 200
        assert (await client.head("http://local/skaha")).status_code == 200
        availability = await client.get("http://local/skaha/availability")
        assert availability.headers["content-type"] == "text/xml"
        assert "<vosi:available>true</vosi:available>" in availability.text
        assert (await client.get("http://local/skaha/availability?detail=min")).content == b""
        capabilities = (await client.get("http://local/skaha/capabilities")).text
        assert "http://www.opencadc.org/std/platform#session-1" in capabilities
        assert ">http://local/skaha/v1/session<" in capabilities
        for path in ("/", "/skaha/v0/session", "/skaha/v1", "/skaha/v1/sessions", "/other"):
            missing = await client.get("http://local" + path)
            assert (missing.status_code, missing.text) == (404, f"not found: {path}\n")

    on_platform(tmp_path, check)


def test_context_and_statistics(tmp_path: Path) -> None:
    async def check(client: httpx.AsyncClient) -> None:
        context = (await client.get("/context")).json()
        assert context["cores"]["options"] == list(range(1, 17))
        assert context["memoryGB"]["options"][:4] == [1, 2, 4, 6]
        assert context["gpus"]["options"] == list(range(1, 29))
        assert isinstance(context["maxInteractiveSessions"], str)
        stats = (await client.get("/session", params={"view": "stats"})).json()
        assert stats["cores"]["cpuCoresAvailable"] == 2
        assert stats["ram"]["requestedRAM"] == "0G"

    on_platform(tmp_path, check)


def test_events_are_a_table(tmp_path: Path) -> None:
    async def check(client: httpx.AsyncClient) -> None:
        session = await create(client, "fails", "false")
        await ended(client)
        reply = await client.get(f"/session/{session}", params={"view": "events"})
        assert reply.headers["content-type"] == "text/plain"
        head, *rows = reply.text.splitlines()
        assert head.split() == ["TYPE", "REASON", "MESSAGE", "FIRST-TIME", "LAST-TIME"]
        assert [row.split()[1] for row in rows] == ["Scheduled", "Started", "Failed"]
        message, first = head.index("MESSAGE"), head.index("FIRST-TIME")
        assert rows[2][message:first].strip() == "The command ended: exit code 1"

    on_platform(tmp_path, check)


def test_a_log_is_streamed_as_far_as_it_goes(tmp_path: Path) -> None:
    async def check(client: httpx.AsyncClient) -> None:
        line = "head -c 3000000 /dev/zero; echo out; echo err >&2; echo > there; sleep 30"
        session = await create(client, "long", "sh", "-c", line)
        await until(lambda: asyncio.sleep(0, (tmp_path / "there").exists()), bool)
        pieces = []
        async with client.stream("GET", f"/session/{session}", params={"view": "logs"}) as reply:
            async for piece in reply.aiter_raw():
                pieces.append(len(piece))
        assert sum(pieces) == 3_000_000 + len("out\nerr\n")
        assert max(pieces) < 1_000_000
        async with client.stream("GET", f"/session/{session}", params={"view": "logs"}):
            pass  # not read: the file is closed all the same, which the test's end would show
        await client.delete(f"/session/{session}")

    on_platform(tmp_path, check)


def test_a_queue_that_cannot_be_used_is_a_refused_connection(tmp_path: Path) -> None:
    (tmp_path / "local").write_text("a file where the directory should be")

    async def check(client: httpx.AsyncClient) -> None:
        with pytest.raises(httpx.ConnectError, match="cannot use its queue"):
            await client.get("/session")

    on_platform(tmp_path, check)


def test_a_queue_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "local").mkdir()
    store = sqlite3.connect(tmp_path / "local" / "queue.db")
    store.execute("PRAGMA user_version = 99")
    store.close()

    async def check(client: httpx.AsyncClient) -> None:
        with pytest.raises(httpx.ConnectError, match="newer skahactl"):
            await client.post("/session", data=GOOD, headers=FORM)

    on_platform(tmp_path, check)


def test_a_damaged_queue_is_named_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "queue.db").write_bytes(b"this is not a database, whatever it is" * 100)

    async def check(client: httpx.AsyncClient) -> None:
        with pytest.raises(httpx.ConnectError, match="damaged"):
            await client.post("/session", data=GOOD, headers=FORM)

    on_platform(tmp_path, check)
    assert (tmp_path / "local" / "queue.db").read_bytes().startswith(b"this is not")


def test_a_damaged_queue_is_an_error_at_once_in_every_command(here: Workplace) -> None:
    here.run("apply", here.job("quick", "true"), "--wait")
    path = here.state / "local" / "queue.db"
    path.write_text("garbage")
    for words in ("retry quick -r 1 --wait", "apply quick.toml --rerun --wait", "wait quick", "delete quick"):
        done = here.run(*words.split(), expect=2)
        assert "it is damaged" in done.stderr
        assert f"mv {path} {path}.damaged" in done.stderr


@pytest.mark.parametrize(
    ("epoch", "text"),
    [(1744299933.9, "2025-04-10T15:45:33Z"), (1744299900.5, "2025-04-10T15:45Z"), (0, "1970-01-01T00:00Z")],
)
def test_start_times_omit_zero_seconds(epoch: float, text: str) -> None:
    assert start_time(epoch) == text


def test_handlers_run_off_the_event_loop(tmp_path: Path) -> None:
    """The loop goes on turning while requests wait for a queue that another process has locked."""

    async def check(client: httpx.AsyncClient) -> None:
        await client.get("/session")
        blocker = sqlite3.connect(tmp_path / "local" / "queue.db", isolation_level=None)
        blocker.execute("BEGIN EXCLUSIVE")
        waiting = asyncio.create_task(client.get("/session"))
        for _ in range(30):
            await asyncio.sleep(0.01)
        assert not waiting.done()
        blocker.execute("COMMIT")
        blocker.close()
        assert (await waiting).status_code == 200

    on_platform(tmp_path, check)
