"""``AsyncSession`` and ``Session``: the Skaha documentation's examples on the local platform, with real processes; and
the guarantees of creating on a server that loses replies."""

from __future__ import annotations

import asyncio
import inspect
import json
import pydoc
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

import skahactl.session
from skahactl.errors import AuthError, CreateError, UsageError
from skahactl.session import AsyncSession, Session
from tests.ledgers import changes
from tests.skaha_server.process import ROOT, Server, running
from tests.workplace import IMPATIENT, Workplace, end, wait_for

IMAGE = "images.canfar.net/skaha/astronomy:latest"
ANALYSIS = "images.canfar.net/your/analysis-container:latest"

#: The documentation's batch_processing.py, both ways of sharing at once; what it would process it writes down.
BATCH_PROCESSING = """
import os, sys
sys.path.insert(0, {root!r})
from skahactl.helpers import distributed

files = ["/arc/fits/image_%04d.fits" % number for number in range({files})]
with open("share_" + os.environ["REPLICA_ID"], "w") as out:
    print(*distributed.chunk(files), file=out)
    print(*distributed.stripe(files), file=out)
"""


@pytest.fixture
def here(tmp_path: Path) -> Workplace:
    """The machine of someone who has configured nothing."""
    return Workplace(tmp_path, extra={"SKAHACTL_PROFILE": ""})


def session_at(here: Workplace) -> Session:
    return Session(environ=here.environ, directory=str(here.root))


def async_session_at(here: Workplace) -> AsyncSession:
    return AsyncSession(environ=here.environ, directory=str(here.root))


def numbers(line: str) -> list[int]:
    return [int(word[-9:-5]) for word in line.split()]


def shares(root: Path, replicas: int) -> list[list[list[int]]]:
    """For chunk and for stripe: the numbers of the files that each replica got, once all have written them down."""
    files = [root / f"share_{replica}" for replica in range(1, replicas + 1)]
    wait_for(lambda: all(file.exists() and file.read_text().count("\n") == 2 for file in files))
    lines = [file.read_text().splitlines() for file in files]
    return [[numbers(line[which]) for line in lines] for which in (0, 1)]


@pytest.mark.once
def test_the_documentation_s_example_of_a_hundred_replicas(here: Workplace) -> None:
    script = here.root / "batch_processing.py"
    script.write_text(BATCH_PROCESSING.format(root=str(ROOT), files=1000))

    async def main() -> list[str]:
        async with async_session_at(here) as session:
            return await session.create(
                name="fits-processing",
                image=ANALYSIS,
                kind="headless",
                cores=8,
                ram=32,
                cmd="python",
                args=[str(script)],
                replicas=100,
            )

    ids = asyncio.run(main())
    chunks, stripes = shares(here.root, 100)
    assert chunks == [list(range(start, start + 10)) for start in range(0, 1000, 10)]
    assert stripes == [list(range(start, 1000, 100)) for start in range(100)]
    rows = here.data("get", "replicas", "fits-processing")
    assert [row["session"] for row in rows] == ids, "ids come in the order of the replicas"
    assert {(row["resources"]["cores"], row["resources"]["ram"]) for row in rows} == {(8, 32)}


def test_more_replicas_than_items(here: Workplace) -> None:
    script = here.root / "batch_processing.py"
    script.write_text(BATCH_PROCESSING.format(root=str(ROOT), files=3))
    with session_at(here) as session:
        assert len(set(session.create("few", IMAGE, cmd="python", args=str(script), replicas=5))) == 5
    assert shares(here.root, 5) == [[[0], [1], [2], [], []]] * 2


@pytest.mark.once
def test_the_documentation_s_example_on_the_command_line(here: Workplace) -> None:
    script = here.root / "batch_processing.py"
    script.write_text("import os\nopen('done_' + os.environ['REPLICA_ID'], 'w').write(os.environ['REPLICA_COUNT'])\n")
    words = f"create -c 8 -m 32 -r 100 -n fits-processing headless {ANALYSIS}".split()
    here.run(*words, "--wait", "--", "python", str(script))
    done = {path.name: path.read_text() for path in here.root.glob("done_*")}
    assert done == {f"done_{number}": "100" for number in range(1, 101)}


def test_a_job_without_a_name_gets_one_that_is_shown(here: Workplace) -> None:
    script = here.root / "process_data.py"
    script.write_text("print('processed')")
    made = here.run("create", "headless", IMAGE, "-r", "5", "--wait", "--", "python3", str(script))
    (job,) = here.data("get", "jobs")
    assert (job["replicas"], job["status"]) == (5, "Completed")
    assert f"the job is named {job['name']}" in made.stderr
    assert job["name"].startswith("astronomy-")


@pytest.mark.once
def test_the_package_s_own_example_and_one_that_never_closes(here: Workplace) -> None:
    """As scripts, as people write them; what is left open at the end of one says nothing."""
    example = inspect.cleandoc(skahactl.session.__doc__ or "").replace("python", "true")
    body = example[example.index("    async with") :].split("\n\n")[0].replace('"/path/to/batch_processing.py"', "")
    wrapped = "import asyncio\nfrom skahactl.session import AsyncSession\nasync def main():\n" + body
    here.write("example.py", f"{wrapped}\n        print(len(ids))\nasyncio.run(main())\n")
    assert here.run("-W", "error", "example.py", program=[sys.executable]).stdout == "100\n"
    here.write(
        "left_open.py",
        f"from skahactl.session import Session\nprint(Session().create('left-open', {IMAGE!r}, cmd='true'))\n",
    )
    assert here.run("left_open.py", program=[sys.executable]).stderr == ""


def test_arguments_and_environment_arrive_as_they_stand(here: Workplace) -> None:
    words = ["two  blanks", "$HOME", "a=b", '"', "", "é\n", Path("/arc/x y"), 7]
    code = "import sys, json, os; json.dump([sys.argv[1:], os.environ['SPECS'], os.environ['COUNT']], open('got', 'w'))"
    with session_at(here) as session:
        session.create(
            "as-it-stands", IMAGE, cmd="python", args=["-c", code, *words], env={"SPECS": "a|b=c\n", "COUNT": 3}
        )
    wait_for(lambda: (here.root / "got").exists() and (here.root / "got").read_text().endswith("]"))
    assert json.loads((here.root / "got").read_text()) == [[str(word) for word in words], "a|b=c\n", "3"]


def test_looking_and_destroying(here: Workplace) -> None:
    async def main() -> None:
        async with async_session_at(here) as session:
            (quick,) = await session.create("quick", IMAGE, cmd="echo", args="one two")
            slow = await session.create("slow", IMAGE, cmd="sleep", args=["60"], replicas=2)
            while [row["status"] for row in await session.info(quick)] != ["Completed"]:
                await asyncio.sleep(0.05)
            assert await session.logs(quick) == {quick: "one two\n"}
            assert await session.logs([quick, "nosuchid"]) == {quick: "one two\n", "nosuchid": ""}
            assert [row["id"] for row in await session.info([slow[1], "nosuchid", quick])] == [slow[1], quick]
            assert {row["id"] for row in await session.fetch()} == {quick, *slow}
            assert [row["id"] for row in await session.fetch(kind="headless", status="completed")] == [quick]
            assert await session.fetch(kind="notebook") == []
            events = await session.events(slow)
            assert events is not None
            assert [list(one) for one in events] == [[id] for id in slow]
            assert all(text.startswith("TYPE") for one in events for text in one.values())
            assert isinstance(await session.stats(), dict)
            assert await session.destroy_with("slo", status="Completed") == {}
            assert await session.destroy_with("slo", status="Running") == dict.fromkeys(slow, True)
            assert await session.destroy_with("^qui.*-[a-z0-9]{5}$") == {quick: True}
            assert await session.destroy([]) == {}
            assert await session.fetch() == []

    asyncio.run(main())
    states = {row["replica"]: row["state"] for row in here.data("get", "replicas/slow")}
    assert states == {1: "Deleted", 2: "Deleted"}


def test_each_call_is_a_run_of_its_own(here: Workplace) -> None:
    with session_at(here) as session:
        first = session.create("again", IMAGE, cmd="true", replicas=2)
        second = session.create("again", IMAGE, cmd="true", replicas=2)
        assert not set(first) & set(second)
        assert len({row["name"] for row in session.info([*first, *second])}) == 4
    (job,) = here.data("get", "jobs")
    assert job["run"] == 2


def test_several_at_once_on_one_session_on_two_and_on_threads(here: Workplace) -> None:
    async def main() -> list[list[str]]:
        async with async_session_at(here) as one, async_session_at(here) as other:
            return await asyncio.gather(
                one.create("alike", IMAGE, cmd="true", replicas=3),
                one.create("alike", IMAGE, cmd="true", replicas=3),
                other.create("alike", IMAGE, cmd="true", replicas=3),
                other.create("unlike", IMAGE, cmd="true", replicas=3),
            )

    made = [session for ids in asyncio.run(main()) for session in ids]
    with session_at(here) as shared:
        threads = [
            threading.Thread(target=lambda n=n: made.extend(shared.create(f"thread-{n}", IMAGE, cmd="true")))
            for n in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(set(made)) == 15
        assert {row["id"] for row in shared.fetch()} == set(made)


def test_a_session_in_a_notebook_opens_closes_and_opens_again(here: Workplace) -> None:
    """Where a loop runs already, as in a notebook."""

    async def cell() -> None:
        session = session_at(here)
        assert len(session.create("notebook", IMAGE, cmd="true")) == 1
        session.close()
        session.close()
        assert len(session.fetch()) == 1
        session.close()

    asyncio.run(cell())
    assert not [thread for thread in threading.enumerate() if thread.name == "skahactl"]


def test_a_session_that_no_command_opened(here: Workplace) -> None:
    """As examples use it; in one loop after the other, and several calls at once."""
    session = async_session_at(here)

    async def both() -> list[list[str]]:
        return await asyncio.gather(*(session.create(f"by-itself-{n}", IMAGE, cmd="true") for n in (1, 2)))

    made = [session for ids in asyncio.run(both()) for session in ids]
    assert {row["id"] for row in asyncio.run(session.fetch())} == set(made)

    async def leave() -> None:
        async with session:
            pass

    asyncio.run(leave())


def test_a_session_after_a_fork(here: Workplace) -> None:
    here.write(
        "fork.py",
        "import os, sys\nfrom skahactl.session import Session\n"
        f"session = Session()\nsession.create('parent', {IMAGE!r}, cmd='true')\n"
        "child = os.fork()\n"
        "print(len(session.fetch()), flush=True)\n"
        "session.close()\n"
        "sys.exit(0 if child == 0 else os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n",
    )
    assert here.run("fork.py", program=[sys.executable]).stdout == "1\n1\n"


def test_the_order_of_older_clients_and_their_words(here: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    with session_at(here) as session:
        (made,) = session.create("test", IMAGE, 2, 8, "headless", None, "echo", "one two", {"X": "1"}, 1)
        wait_for(lambda: session.fetch(kind="headless", status="Succeeded"))
        (row,) = session.fetch("headless", "Succeeded", "all")
        assert (row["id"], row["status"]) == (made, "Completed")
        assert session.logs(made, verbose=True) is None
        assert session.events([made], verbose=True) is None
        assert capsys.readouterr().out.startswith(f"Session ID: {made}\n\none two\n")
        assert session.fetch(status="Error") == []
        assert session.destroy_with("[a-z0-9]{5}$", kind="headless", status="Succeeded") == {made: True}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda s: s.fetch(kind="headles"), "invalid kind of sessions: 'headles'"),
        (lambda s: s.fetch(status="Done"), "invalid status of sessions: 'Done'"),
        (lambda s: s.destroy_with("x", status="Complete"), "invalid status of sessions: 'Complete'"),
        (lambda s: s.destroy_with("(x"), "is not a valid regular expression"),
        (lambda s: s.destroy_with(None), "the prefix must be a string"),
        (lambda s: s.info(None), "the id of a session, or a list"),
        (lambda s: s.destroy([None]), "the id of a session, or a list"),
        (lambda s: s.logs(3), "the id of a session, or a list"),
    ],
)
def test_wrong_choices(here: Workplace, call: Callable[[Session], object], words: str) -> None:
    with session_at(here) as session, pytest.raises(UsageError, match=words):
        call(session)


def test_not_configured(here: Workplace) -> None:
    nowhere = Session("nowhere", environ=here.environ)
    with pytest.raises(UsageError, match="nowhere"):
        nowhere.fetch()
    nowhere.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "skahactl"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"name": "Bad_Name"}, 'for example "bad-name"'),
        ({"replicas": 0}, "at least 1"),
        ({"replicas": "3"}, "a whole number"),
        ({"args": [True]}, "command, word 2: "),
        ({"cmd": "python /a.py", "args": "x"}, "cmd='python /a.py', args='x'"),
        ({"args": 3}, "args must be a list of words"),
        ({"args": {"a": 1}}, "args must be a list of words"),
        ({"cmd": "sleep 60"}, "cmd is the program alone"),
        ({"kind": 8}, "the kind of a session must be a string, not 8"),
        ({"env": {"X": None}}, "env: X has no value"),
        ({"args": ["a\0b"]}, "NUL"),
        ({"kind": "notebok"}, "did you mean 'notebook'"),
        ({"kind": "notebook"}, "ignores it for a notebook"),
        ({"image": "x y"}, "image"),
        ({"cores": -1}, "resources.cores"),
        ({"gpus": 1, "gpu": 1}, "two names for the same argument"),
        ({"env": ["A=B"]}, "a mapping"),
        ({"env": {"A B": "1"}}, "is not a variable name"),
        ({"env": {"HOME": "/x"}}, "the platform sets this variable"),
        ({"env": {"A": {"from-env": "NOPE"}}}, "the variable NOPE is not set"),
        ({"name": "\ud800"}, "is not a job name"),
    ],
    ids=repr,
)
def test_wrong_arguments_are_reported_before_anything_is_sent(
    here: Workplace, wrong: dict[str, Any], words: str
) -> None:
    with session_at(here) as session:
        with pytest.raises(UsageError, match=words):
            session.create(**{"name": "wrong", "image": IMAGE, "cmd": "true", **wrong})
        with pytest.raises(UsageError, match="empty session id"):
            session.destroy("")
        with pytest.raises(UsageError, match="ids must be"):
            session.info("\ud800")
        assert session.fetch() == []
    assert here.recorded("wrong") == []


def test_help_reads_well() -> None:
    text = pydoc.plain(pydoc.render_doc(AsyncSession)) + pydoc.plain(pydoc.render_doc(Session))
    for word in ("in the order of the replicas", "CreateError", "replicas: 'int' = 1", "args: '", "REPLICA_ID"):
        assert text.count(word) >= 2, word
    for name in ("create", "fetch", "info", "logs", "events", "renew", "connect", "destroy", "destroy_with", "stats"):
        assert (getattr(Session, name).__doc__ or "").strip(), name
        assert getattr(Session, name).__doc__ == getattr(AsyncSession, name).__doc__


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path / "server", {"seed": 11}) as started:
        yield started


def session_of(tmp_path: Path, server: Server, client: Mapping[str, float] = MappingProxyType({})) -> Session:
    """A session on this server, of a machine that has nothing else."""
    return session_at(Workplace(tmp_path / "here", server, client))


@pytest.mark.once
def test_lost_replies_make_no_copies_and_the_ids_are_right(tmp_path: Path, server: Server) -> None:
    faults = ("drop_before", "drop_after", "error_after", "gateway_after", "late_visible", "unavailable", "slow_reply")
    server.tell("plan", faults=dict.fromkeys(faults, 0.08), late=[0.3, 1.5])
    other = server.tell("session", name="lost-1-abcde")["id"]
    with session_of(tmp_path, server, IMPATIENT) as session:
        ids = session.create("lost", IMAGE.replace("astronomy", "astroml"), cmd="true", args=["a  b"], replicas=60)
    state = server.state()
    mine = [row for row in state["sessions"] if row["alive"] and row["id"] != other]
    assert [row["id"] for row in sorted(mine, key=lambda row: int(row["replica"]))] == ids
    assert Counter(int(row["replica"]) for row in mine) == Counter(range(1, 61))
    assert {tuple(row["argv"]) for row in mine} == {("true", "a  b")}
    assert sum(state["faults"].values()) >= 25


def test_what_could_not_be_created_is_reported_with_what_was(tmp_path: Path, server: Server) -> None:
    server.tell("plan", faults={"refuse": 0.3}, fault_sends=99)
    with session_of(tmp_path, server) as session, pytest.raises(CreateError) as caught:
        session.create("partial", IMAGE, cmd="true", replicas=20)
    error = caught.value
    alive = {int(row["replica"]): row["id"] for row in server.state()["sessions"] if row["alive"]}
    assert 0 < len(error.failures) < 20
    assert error.ids == [alive.get(replica) for replica in range(1, 21)]
    assert set(error.failures) == set(range(1, 21)) - set(alive)
    assert f"{len(error.failures)} of 20 replicas of partial" in str(error)


@pytest.mark.once
def test_credentials_that_end_on_the_way_lose_no_id(tmp_path: Path, server: Server) -> None:
    server.tell("plan", post_latency=0.2)
    caught: list[CreateError] = []
    with session_of(tmp_path, server, {"concurrency": 4}) as session:

        def create() -> None:
            with pytest.raises(CreateError) as error:
                session.create("expires", IMAGE, cmd="true", replicas=200)
            caught.append(error.value)

        thread = threading.Thread(target=create)
        thread.start()
        wait_for(lambda: sum(row["visible"] <= time.time() for row in server.state()["sessions"]) >= 10)
        server.tell("plan", deny="expired")
        thread.join(120)
        with pytest.raises(AuthError):
            session.fetch()
    alive = {int(row["replica"]): row["id"] for row in server.state()["sessions"] if row["alive"]}
    (error,) = caught
    assert {n: found for n, found in enumerate(error.ids, 1) if found} == alive
    assert "authentication failed (Token has expired)" in str(error)


def test_another_user_s_answer_destroys_nothing(tmp_path: Path, server: Server) -> None:
    with session_of(tmp_path, server) as session:
        ids = session.create("mine", IMAGE, cmd="true", replicas=2)
        server.tell("plan", user="bob")
        with pytest.raises(AuthError, match="bob"):
            session.destroy(ids)
        server.tell("plan", user="alice")
        server.tell("plan", delete_ignored=1)
        assert session.destroy([*ids, "nosuchid"]) == {ids[0]: True, ids[1]: True, "nosuchid": True}


@pytest.mark.once
def test_an_interruption_ends_a_create_and_leaves_a_record(tmp_path: Path, server: Server) -> None:
    """Ctrl-C in a script, the stop button of a notebook."""
    there = Workplace(tmp_path / "there", server)
    server.tell("plan", post_latency=0.3)
    there.write(
        "script.py",
        f"from skahactl.session import Session\nwith Session() as s:\n"
        f"    s.create('stopped', {IMAGE!r}, cmd='true', replicas=200)\n",
    )
    process = there.start("script.py", program=[sys.executable])
    wait_for(lambda: server.counts().get("create", 0) >= 10)
    _, _, said = end(process, signal.SIGINT)
    assert "KeyboardInterrupt" in said
    made = server.counts()["create"]
    assert made < 200
    rows = there.data("get", "replicas", "stopped")
    assert {row["session"] for row in rows if row["session"]} == {
        row["id"] for row in server.state()["sessions"] if row["alive"]
    }


@pytest.mark.once
def test_a_full_disk_is_reported_and_nothing_is_sent(tmp_path: Path, server: Server) -> None:
    there = Workplace(tmp_path / "there", server)
    there.write(
        "script.py",
        f"""
import os, resource
from skahactl.errors import LedgerError
from skahactl.session import Session
with Session() as session:
    session.create("first", {IMAGE!r}, cmd="true")
    size = os.path.getsize(os.environ["SKAHACTL_STATE_DIR"] + "/ledger.sqlite3")
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 8192, resource.RLIM_INFINITY))
    try:
        session.create("second", {IMAGE!r}, cmd="true", replicas=500)
    except LedgerError as error:
        print(error.message)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(len(session.create("third", {IMAGE!r}, cmd="true")))
""",
    )
    said, third = there.run("script.py", program=[sys.executable]).stdout.splitlines()
    assert said.startswith("the local record cannot be used")
    assert third == "1"
    assert server.counts()["create"] == 2
    assert {row["name"] for row in there.data("get", "jobs")} == {"first", "third"}


@pytest.mark.once
def test_many_are_destroyed_with_few_writes(tmp_path: Path, server: Server) -> None:
    there = Workplace(tmp_path / "here", server)
    with session_of(tmp_path, server) as session:
        ids = session.create("many", IMAGE, cmd="true", replicas=40)
        before = changes(there.state)
        assert session.destroy(ids) == dict.fromkeys(ids, True)
        assert changes(there.state) - before <= 15, "a few, however many sessions there are"
    assert {row["state"] for row in there.data("get", "replicas", "many")} == {"Deleted"}
