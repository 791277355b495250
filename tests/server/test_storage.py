"""The storage service of the local platform, and the client that reads shared records from it or from a faulty one."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from urllib.parse import unquote

import httpx
import pytest

from skahactl.errors import AuthError, UnreachableError
from skahactl.local.http import HttpAnswer, LocalCall
from skahactl.local.storage import Storage
from skahactl.manifest.shared_record import RecordedEnd
from skahactl.profile import Profile, StorageSettings
from skahactl.skaha.storage import FoundEnds, SharedStorage, newest_run

DIRECTORY = "/arc/logs/tiles-r1-abcde"
Fault = Callable[[httpx.Request], httpx.Response | None]


class FastClock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.slept = 0.0

    def now(self) -> float:
        return 1795705200.0 + self.slept

    def monotonic(self) -> float:
        return self.slept

    async def sleep(self, seconds: float) -> None:
        self.slept += seconds
        await asyncio.sleep(0)


class Service(httpx.AsyncBaseTransport):
    """The storage service over a directory; ``fault`` may answer instead. Counts requests, also those at once."""

    def __init__(self, directory: Path, fault: Fault = lambda request: None) -> None:
        self.requests: Counter[str] = Counter()
        self.most = 0
        self._storage = Storage(directory, "alice")
        self._fault = fault
        self._at_once = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._at_once += 1
        self.most = max(self.most, self._at_once)
        await asyncio.sleep(0)
        self._at_once -= 1
        self.requests[request.url.path.split("/")[2]] += 1
        broken = self._fault(request)
        if broken is not None:
            return broken
        call = LocalCall(request.method, unquote(request.url.path), request.url.query.decode())
        return response(self._storage.answer(call))


def response(answer: HttpAnswer) -> httpx.Response:
    body = answer.body
    if answer.log is not None:
        with open(answer.log[0], "rb") as file:
            body = file.read()
    return httpx.Response(answer.status, headers=answer.headers, content=body)


def client(service: Service, clock: FastClock | None = None) -> SharedStorage:
    profile = Profile(
        "test", "https://example.org/skaha/v1", storage=StorageSettings("/arc", "https://example.org/arc")
    )
    return SharedStorage.open(profile, clock or FastClock(), {}, lambda line: None, lambda beside: service)


def records(tmp_path: Path, count: int, *, missing: frozenset[int] = frozenset()) -> Path:
    folder = tmp_path / "logs" / "tiles-r1-abcde"
    folder.mkdir(parents=True)
    for number in range(1, count + 1):
        (folder / f"{number}-1.log").write_text(f"replica {number}\n")
        if number not in missing:
            (folder / f"{number}-1.end").write_text(f"exit {number % 3} 2026-11-26T15:00:00Z\n")
    return folder


def ends(storage: SharedStorage, *numbers: int) -> FoundEnds:
    return asyncio.run(storage.ends([(DIRECTORY, number, 1) for number in numbers]))


def answer(directory: Path, path: str, query: str = "", method: str = "GET") -> httpx.Response:
    return response(Storage(directory, "alice").answer(LocalCall(method, f"/arc/{path}", query)))


def test_files_are_given_whole(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"text")
    (tmp_path / "empty").touch()
    found = answer(tmp_path, "files/log")
    assert (found.status_code, found.content, found.headers["x-vo-authenticated"]) == (200, b"text", "alice")
    assert (answer(tmp_path, "files/empty").status_code, answer(tmp_path, "files/empty").content) == (204, b"")
    assert answer(tmp_path, "files/missing").status_code == 404
    assert answer(tmp_path, "files/missing").text.startswith("NodeNotFound: vos:")
    assert answer(tmp_path, "files/").status_code == 400
    assert answer(tmp_path, "files/log/below").status_code == 404
    assert answer(tmp_path, "files/log", method="PUT").status_code == 405


@pytest.mark.parametrize("name", ["a b", "a%b", "a[b", "a{b", "a|b", "a^b"])
def test_names_that_cavern_cannot_parse_are_internal_errors(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("x")
    assert answer(tmp_path, f"files/{name}").status_code == 500


def test_a_name_with_a_hash_addresses_another_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("another")
    (tmp_path / "a#b").write_text("this one")
    assert answer(tmp_path, "files/a#b").text == "another"


@pytest.mark.parametrize("path", ["files/../secret", "files/a/../../secret", "files/./a"])
def test_paths_do_not_leave_the_directory(tmp_path: Path, path: str) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "below").mkdir()
    assert answer(tmp_path / "below", path).status_code in (400, 404)


def test_a_listing_shows_children_with_their_properties(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "ünusual name").write_text("four")
    (tmp_path / "sub" / "folder").mkdir()
    text = answer(tmp_path, "nodes/sub").text
    assert 'xsi:type="vos:ContainerNode"' in text
    assert "core#length" in text
    assert "length" not in answer(tmp_path, "nodes/sub", "detail=min").text
    assert "folder" not in answer(tmp_path, "nodes/sub", "limit=0").text
    assert answer(tmp_path, "nodes/none").status_code == 404
    storage = client(Service(tmp_path))
    assert set(asyncio.run(storage.names("/arc/sub")) or ()) == {"folder", "ünusual name"}


def test_each_missing_end_costs_one_request(tmp_path: Path) -> None:
    records(tmp_path, 10, missing=frozenset({4}))
    service = Service(tmp_path)
    found = ends(client(service), *range(1, 11))
    assert service.requests == {"files": 10}
    assert found.ends[DIRECTORY, 1, 1] == RecordedEnd(1, 1795705200.0)
    assert found.absent == {(DIRECTORY, 4, 1)}
    assert found.error is None


def test_two_thousand_ends_cost_one_listing_and_one_request_for_each_end_that_exists(tmp_path: Path) -> None:
    records(tmp_path, 2000, missing=frozenset(range(1, 1500)))
    service = Service(tmp_path)
    found = ends(client(service), *range(1, 2001))
    assert service.requests == {"nodes": 1, "files": 501}
    assert service.most <= 4
    assert (len(found.ends), len(found.absent)) == (501, 1499)


def test_a_service_that_fails_a_third_of_all_requests_gives_every_end(tmp_path: Path) -> None:
    records(tmp_path, 300)
    random = Random(11)

    def fault(request: httpx.Request) -> httpx.Response | None:
        kind = random.randrange(12)
        if kind == 0:
            return httpx.Response(503, headers={"retry-after": "3"}, text="temporarily unavailable")
        if kind == 1:
            return httpx.Response(500, text="unexpected exception: x")
        if kind == 2:
            return httpx.Response(502, headers={"content-type": "text/html"}, text="<html>gateway</html>")
        if kind == 3:
            raise httpx.ReadError("connection reset", request=request)
        return None

    service = Service(tmp_path, fault)
    clock = FastClock()
    found = ends(client(service, clock), *range(1, 301))
    assert found.error is None
    assert len(found.ends) == 300
    assert service.most <= 4
    assert clock.slept > 0


def test_retry_after_is_honoured(tmp_path: Path) -> None:
    records(tmp_path, 1)
    answers = [httpx.Response(503, headers={"retry-after": "42"}, text="busy")]
    clock = FastClock()
    found = ends(client(Service(tmp_path, lambda request: answers.pop() if answers else None), clock), 1)
    assert len(found.ends) == 1
    assert clock.slept == 42


@pytest.mark.parametrize(("patience", "most"), [(60.0, 60), (math.inf, 600)])
def test_a_command_that_reads_does_not_wait_as_long_as_a_service_asks_for(
    tmp_path: Path, patience: float, most: float
) -> None:
    service = Service(tmp_path, lambda request: httpx.Response(503, headers={"retry-after": "25"}, text="busy"))
    clock = FastClock()
    storage = client(service, clock)
    storage.patience = patience
    found = ends(storage, 1)
    assert isinstance(found.error, UnreachableError)
    assert found.failed == {(DIRECTORY, 1, 1)}
    assert 50 <= clock.slept <= most
    assert (clock.slept > 200) == (patience == math.inf)


def test_a_listing_that_is_cut_is_read_again(tmp_path: Path) -> None:
    records(tmp_path, 100)
    cut = [httpx.Response(200, headers={"content-type": "text/xml"}, content=answer_bytes(tmp_path)[:2000])]
    service = Service(tmp_path, lambda request: cut.pop() if cut and "/nodes/" in request.url.path else None)
    found = ends(client(service), *range(1, 101))
    assert (len(found.ends), service.requests["nodes"]) == (100, 2)


def answer_bytes(tmp_path: Path) -> bytes:
    return answer(tmp_path, "nodes/logs/tiles-r1-abcde").content


@pytest.mark.parametrize("content", [b"", b"exit 0 2026-11-26T15:0", b"<html>page</html>"])
def test_an_end_that_is_cut_counts_as_none(tmp_path: Path, content: bytes) -> None:
    folder = records(tmp_path, 1)
    (folder / "1-1.end").write_bytes(content)
    found = ends(client(Service(tmp_path)), 1)
    assert (found.ends, found.absent) == ({}, {(DIRECTORY, 1, 1)})


def test_an_end_that_was_cut_once_is_read_again(tmp_path: Path) -> None:
    records(tmp_path, 1)
    cut = [httpx.Response(200, content=b"exit 1 2026-11-26T15:0")]
    found = ends(client(Service(tmp_path, lambda request: cut.pop() if cut else None)), 1)
    assert found.ends == {(DIRECTORY, 1, 1): RecordedEnd(1, 1795705200.0)}


class BrokenStream(httpx.AsyncByteStream):
    """A body that ends before it is complete."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"replic"
        raise httpx.RemoteProtocolError("peer closed connection")


@pytest.mark.parametrize("breaks", [1, 3])
def test_a_log_continues_where_the_connection_broke(tmp_path: Path, breaks: int) -> None:
    records(tmp_path, 7)
    broken = [httpx.Response(200, stream=BrokenStream()) for _ in range(breaks)]
    service = Service(tmp_path, lambda request: broken.pop() if broken else None)

    async def read() -> bytes:
        async with client(service).log(f"{DIRECTORY}/7-1.log") as pieces:
            assert pieces is not None
            return b"".join([piece async for piece in pieces])

    assert asyncio.run(read()) == b"replica 7\n"
    assert service.requests["files"] == breaks + 1


def test_a_refused_login_is_an_error_and_stops_the_requests(tmp_path: Path) -> None:
    records(tmp_path, 40)
    service = Service(tmp_path, lambda request: httpx.Response(403, text="PermissionDenied: vos://x"))
    found = ends(client(service), *range(1, 41))
    assert isinstance(found.error, AuthError)
    assert (found.ends, found.absent) == ({}, set())
    assert service.requests["files"] <= 8


def test_a_service_that_stays_away_is_an_error_and_nothing_counts_as_absent(tmp_path: Path) -> None:
    found = ends(client(Service(tmp_path, lambda request: httpx.Response(500, text="broken"))), 1, 2)
    assert isinstance(found.error, UnreachableError)
    assert not found.absent
    assert found.failed == {(DIRECTORY, 1, 1), (DIRECTORY, 2, 1)}


@pytest.mark.parametrize("body", ["[]", "<html/>", '<?xml version="1.0"?><node/>'])
def test_a_check_requires_a_listing(tmp_path: Path, body: str) -> None:
    service = Service(tmp_path, lambda request: httpx.Response(200, text=body))
    with pytest.raises(UnreachableError, match="no storage service"):
        asyncio.run(client(service).check())
    asyncio.run(client(Service(tmp_path)).check())


def test_files_that_are_here_need_no_request(tmp_path: Path) -> None:
    folder = records(tmp_path, 3)
    service = Service(tmp_path)
    key = (str(folder), 2, 1)
    found = asyncio.run(client(service).ends([key, (str(folder), 9, 1)]))
    assert found.ends == {key: RecordedEnd(2, 1795705200.0)}
    assert found.absent == {(str(folder), 9, 1)}
    assert not service.requests


def test_the_newest_run_of_the_same_content_is_found() -> None:
    digest = "ffffffff" + "0" * 56
    names = ("tiles-r2-77777", "tiles-r10-77777", "tiles-r11-aaaaa", "tiles-r12-77777x", "other-r99-77777")
    assert newest_run("tiles", digest, names) == 10
    assert newest_run("tiles", digest, ()) == 0
