"""The shared record of a job that ended while no command ran, behind a storage service that fails requests."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

import pytest

from skahactl.ledger.database import FILE, open_ledger
from tests.faulty_proxy import FAULTS
from tests.shared_site import SharedSite, shared_site
from tests.workplace import wait_for

pytestmark = pytest.mark.once

REPLICAS = 10  # more than the server runs at once
RESULTS = [("Completed", 0), ("Completed", 0), ("Failed", 7), *[("Completed", 0)] * (REPLICAS - 3)]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedSite]:
    """The server has discarded every session; the laptop has not polled since it started them."""
    with shared_site(tmp_path_factory.mktemp("site")) as site:
        site.write_job(replicas=REPLICAS)
        site.gate.unlink()
        site.run("apply", "job.toml")
        site.gate.touch()
        site.wait_until_ended(REPLICAS)
        yield site


@pytest.fixture
def site(ended: SharedSite, request: pytest.FixtureRequest) -> Iterator[SharedSite]:
    """The same with a healthy storage service, and a copy of the laptop for each test."""
    ended.proxy.requests.clear()
    ended.proxy.failed.clear()
    ended.proxy.share, ended.proxy.faults = 0.0, FAULTS
    shutil.copytree(ended.root / "laptop", ended.root / "copy")
    yield ended
    shutil.rmtree(ended.root / "copy")
    shutil.rmtree(ended.root / "desktop", ignore_errors=True)


def results(site: SharedSite, machine: str = "copy") -> list[tuple[object, object]]:
    return [(row["state"], row["exit_code"]) for row in site.replicas("tiles", machine)]


def requests(site: SharedSite, service: str) -> int:
    return sum(count for key, count in site.proxy.requests.items() if f"/arc/{service}/" in key)


def test_each_result_costs_one_request(site: SharedSite) -> None:
    site.run("apply", "job.toml", machine="copy", expect=1)
    assert (requests(site, "files"), requests(site, "nodes")) == (REPLICAS, 0)
    assert results(site) == RESULTS
    site.run("logs", "tiles", machine="copy")
    assert requests(site, "files") == 2 * REPLICAS


@pytest.mark.parametrize(
    "faults", [*(pytest.param((fault,), marks=pytest.mark.slow) for fault in FAULTS), FAULTS], ids=[*FAULTS, "all"]
)
def test_nothing_is_lost_or_invented_if_a_third_of_all_requests_fail(site: SharedSite, faults: tuple[str, ...]) -> None:
    site.proxy.share, site.proxy.faults = 1 / 3, faults
    site.run("apply", "job.toml", machine="copy", expect=1)
    assert results(site) == RESULTS
    assert all(row["source"] == "shared record" for row in site.replicas("tiles", "copy"))
    shown = site.run("logs", "tiles", "--prefix", "always", machine="copy").stdout
    expected = [
        (str(n), text) for n in range(1, REPLICAS + 1) for text in (f"replica {n} begins", "no newline at the end")
    ]
    assert sorted(re.findall(r"tiles/(\d+) +\| (.*)", shown)) == sorted(expected)
    assert site.proxy.failed  # of all faults together, chance may leave one out
    assert set(site.proxy.failed) <= set(faults)


def test_after_an_outage_the_same_command_reads_the_rest(site: SharedSite) -> None:
    site.proxy.share, site.proxy.faults = 1.0, ("500",)
    told = site.run("apply", "job.toml", machine="copy", expect=4).stderr
    assert f"storage service {site.storage}: the server replied 500" in told
    assert f"the shared record of {REPLICAS} replicas could not be read; run the same command again" in told
    assert "retry" not in told
    site.proxy.share = 1 / 3
    site.run("apply", "job.toml", machine="copy", expect=1)
    assert results(site) == RESULTS


def test_a_driver_waits_until_the_outage_ends(site: SharedSite) -> None:
    site.proxy.share, site.proxy.faults = 1.0, ("503",)
    driver = site.start("apply", "job.toml", "--wait", machine="copy")
    wait_for(lambda: site.proxy.failed["503"] >= 20, process=driver)
    site.proxy.share = 0.0
    _, told = driver.communicate(timeout=60)
    assert driver.returncode == 1
    assert "the shared records were read" in told
    assert results(site) == RESULTS


@pytest.mark.slow
def test_nothing_is_adopted_in_an_outage(site: SharedSite) -> None:
    site.write_job("desktop", replicas=REPLICAS)
    site.proxy.share, site.proxy.faults = 1.0, ("500",)
    told = site.run("apply", "job.toml", "--adopt", "create", machine="desktop", expect=4).stderr
    assert f"error: storage service {site.storage}: the server replied 500" in told
    assert not [key for key in site.proxy.requests if key.startswith("POST")]


def test_wait_does_not_take_an_unread_result_for_the_last_word(site: SharedSite) -> None:
    site.proxy.share, site.proxy.faults = 1.0, ("503",)
    waiting = site.start("wait", "tiles/1", machine="copy")
    wait_for(lambda: site.proxy.failed["503"] >= 20, process=waiting)
    site.run("wait", "tiles", "--timeout", "2s", machine="copy", expect=5)
    site.proxy.share = 0.0
    _, told = waiting.communicate(timeout=60)
    assert waiting.returncode == 0, told
    assert told.endswith(": Completed\n")  # perhaps before the records of the other replicas are read


def test_results_are_adopted_as_a_whole(site: SharedSite) -> None:
    site.write_job("desktop", replicas=REPLICAS + 1)  # another content: nothing to adopt
    told = site.run("apply", "job.toml", "--adopt", "create", "--dry-run", machine="desktop").stdout
    assert f"create  1-{REPLICAS + 1}" in told
    site.write_job("desktop", replicas=REPLICAS)
    site.proxy.share, site.proxy.faults = 1 / 3, FAULTS
    told = site.run("apply", "job.toml", "--adopt", "create", "--dry-run", machine="desktop").stdout
    assert f"adopted: {REPLICAS} results in the shared record" in told
    assert f"adopt  1-2,4-{REPLICAS}  its result is in the shared record: exit 0" in told
    assert "adopt  3         its result is in the shared record: exit 7" in told
    posts = [key for key in site.proxy.requests if key.startswith("POST")]
    site.run("apply", "job.toml", "--adopt", "create", machine="desktop", expect=1)
    assert results(site, "desktop") == RESULTS
    assert [key for key in site.proxy.requests if key.startswith("POST")] == posts == []


def test_the_timeline_does_not_call_an_unobserved_run_waiting(site: SharedSite) -> None:
    with open_ledger(next((site.root / "copy").rglob(FILE)).parent) as ledger:  # a slow apply may have seen some run
        ledger.connection.execute("UPDATE attempts SET state = 'Pending', started = NULL")
        ledger.connection.execute("UPDATE replicas SET state = 'Pending'")
    site.run("apply", "job.toml", machine="copy", expect=1)
    shown = site.run("describe", f"tiles/3,{REPLICAS}", machine="copy").stdout
    assert "Failed" in shown
    assert "after its create, start unknown" in shown.split("Timeline")[1]
