"""Results from the shared record, over HTTP: nobody polls for longer than the server remembers."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shared_site import SharedSite, shared_site
from tests.skaha_server.process import ROOT
from tests.workplace import wait_for

pytestmark = pytest.mark.once


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SharedSite]:
    with shared_site(tmp_path) as site:
        yield site


def test_results_and_logs_are_complete_although_no_command_ran_meanwhile(site: SharedSite) -> None:
    site.write_job()
    site.gate.unlink()
    site.run("apply", "job.toml")
    site.gate.touch()
    site.wait_until_ended(4)

    rows = site.replicas("tiles")
    assert [(row["state"], row["exit_code"], row["source"]) for row in rows] == [
        ("Completed", 0, "shared record"),
        ("Completed", 0, "shared record"),
        ("Failed", 7, "shared record"),
        ("Completed", 0, "shared record"),
    ]
    assert all(row["finished"] is not None and row["finished_after"] is None for row in rows)
    shown = site.run("logs", "tiles", "--prefix", "never").stdout
    assert shown.count("begins\n") == 4
    assert shown.count("no newline at the end") == 4
    assert f"{site.shared}/tiles-r1-" in site.run("describe", "tiles").stdout
    assert "Failed" in site.run("apply", "job.toml", expect=1).stderr

    site.run("retry", "tiles", "--wait")
    rows = site.replicas("tiles")
    assert [(row["state"], row["attempt"]) for row in rows] == [
        ("Completed", 1),
        ("Completed", 1),
        ("Completed", 2),
        ("Completed", 1),
    ]


def test_another_machine_takes_the_results_over(site: SharedSite) -> None:
    site.write_job()
    site.gate.unlink()
    site.run("apply", "job.toml")
    site.gate.touch()
    site.wait_until_ended(4)
    site.write_job("desktop")
    told = site.run("apply", "job.toml", "--adopt", "unknown", "-v", machine="desktop", expect=1).stderr
    assert "adopted: 4 results in the shared record" in told
    assert not [line for line in told.splitlines() if "/session/" in line]
    assert [(row["state"], row["exit_code"]) for row in site.replicas("tiles", "desktop")] == [
        ("Completed", 0),
        ("Completed", 0),
        ("Failed", 7),
        ("Completed", 0),
    ]
    assert "replica 3 begins" in site.run("logs", "tiles/3", machine="desktop").stdout
    site.run("retry", "tiles", "--wait", machine="desktop")
    assert {row["state"] for row in site.replicas("tiles", "desktop")} == {"Completed"}


def test_another_machine_does_not_overwrite_the_results(site: SharedSite) -> None:
    site.write_job()
    site.run("apply", "job.toml", "--wait", expect=1)
    (first,) = site.shared.glob("tiles-r1-*")
    before = {path: path.stat() for path in first.iterdir()}
    for row in site.replicas("tiles"):
        site.request("DELETE", f"/session/{row['session']}")
    site.write_job("desktop")
    assert "(run 2)" in site.run("apply", "job.toml", "--dry-run", machine="desktop").stdout
    told = site.run("apply", "job.toml", "--wait", machine="desktop", expect=1).stderr
    assert f"tiles: run 1 of it is in {site.shared}" in told
    assert {path: path.stat() for path in first.iterdir()} == before
    assert len(list(site.shared.glob("tiles-r2-*/*.end"))) == 4
    told = site.run("apply", "job.toml", "--rerun", "--wait", expect=1).stderr
    assert f"tiles: run 2 of it is in {site.shared}" in told
    assert len(list(site.shared.glob("tiles-r3-*/*.end"))) == 4


def test_a_retry_runs_only_the_items_that_failed(site: SharedSite) -> None:
    site.at("laptop").write(
        "job.toml",
        'name = "items"\nimage = "images.canfar.net/a/b:1"\n'
        f"shell = '''until [ -e {site.gate} ]; do sleep 0.1; done\n"
        "echo item {item}; [ {item} != b ] || [ -n \"$SKAHACTL_ATTEMPT\" ]'''\nreplicas = 1\n"
        f'[items]\nvalues = ["a", "b", "c"]\neach = true\n[logs]\nshared = "{site.shared}"\n',
    )
    site.gate.unlink()
    site.run("apply", "job.toml")
    site.gate.touch()
    site.wait_until_ended(1)
    items = site.data("get", "items", "items")
    assert [(row["item"], row["state"]) for row in items] == [("a", "Completed"), ("b", "Failed"), ("c", "Completed")]
    site.run("retry", "items", "--wait")
    second = next(site.shared.rglob("1-2.log")).read_text()
    assert [line for line in second.splitlines() if line.startswith("item ")] == ["item b"]


def test_a_driver_on_the_platform_that_is_killed_continues_where_it_was(site: SharedSite) -> None:
    """The driver is itself a session; its local record is on the shared storage."""
    site.write_job()
    job = site.root / "laptop" / "job.toml"
    words = [*site.command, "apply", str(job), "--wait"]
    settings = [f"SKAHACTL_STATE_DIR={site.shared}/state", f"PYTHONPATH={ROOT}"]
    driver = ["create", "headless", "images.canfar.net/a/b:1", "-n", "driver", "--", "env", *settings, *words]
    site.run(*driver, machine="starter")
    wait_for(lambda: list(site.shared.glob("tiles-r1-*")))
    site.run("delete", "driver", "--no-logs", machine="starter")
    site.run(*driver, machine="again")
    site.wait_until_ended(4)
    ended = {path.name for path in site.shared.glob("tiles-r1-*/*.end")}
    assert ended == {"1-1.end", "2-1.end", "3-1.end", "4-1.end"}
    there = {"SKAHACTL_STATE_DIR": f"{site.shared}/state"}
    result = site.at("laptop").run("get", "jobs", "-o", "json", program=site.command, extra=there)
    (tiles,) = json.loads(result.stdout)
    assert (tiles["status"], tiles["counts"]["Completed"], tiles["counts"]["Failed"]) == ("Failed", 3, 1)


def test_the_result_of_an_earlier_run_in_the_same_directory_is_not_taken(site: SharedSite) -> None:
    """As where the directory could not be listed when the run began; here no replica of it ever starts."""
    site.write_job()
    site.gate.unlink()
    site.run("apply", "job.toml")
    site.gate.touch()
    site.wait_until_ended(4)
    forgotten = site.run("delete", "tiles", "--forget").stderr
    assert re.search(r"; the logs in /\S+/tiles-r1-\w{5} remain\n", forgotten), forgotten
    assert "the next apply of tiles starts run 2" in forgotten
    for path in site.shared.glob("tiles-r1-*/*.end"):
        path.write_text("exit 0 2026-01-01T00:00:00Z\n")
    site.run("create", "headless", "a/b:1", "-n", "busy", "-r", "8", "--", "sleep", "600")
    (earlier,) = site.shared.glob("tiles-r1-*")
    hidden = earlier.rename(site.root / "hidden")
    site.run("apply", "job.toml")
    hidden.rename(earlier)
    ids = [str(row["session"]) for row in site.replicas("tiles")]
    for id in ids:
        site.request("DELETE", f"/session/{id}")
    wait_for(lambda: {row["state"] for row in site.replicas("tiles")} == {"Unknown"}, every=0.5)
    site.run("delete", "busy", "--no-logs")


def test_describe_and_report_add_exit_codes_to_results_that_were_observed(site: SharedSite) -> None:
    site.write_job()
    site.run("apply", "job.toml", "--wait", expect=1)
    assert [row["source"] for row in site.replicas("tiles")] == ["observed"] * 4
    site.proxy.requests.clear()
    one = site.data("describe", "tiles/3")
    assert [(row["replica"], row["exit_code"], row["finished_after"]) for row in one["replicas"]] == [(3, 7, None)]
    assert sum(site.proxy.requests.values()) == 1
    site.run("report", "tiles", "-o", "page.html")
    described = site.data("describe", "tiles")
    assert [(row["exit_code"], row["source"]) for row in described["replicas"]] == [
        (0, "observed"),
        (0, "observed"),
        (7, "observed"),
        (0, "observed"),
    ]
    assert [row["tried"][0]["exit_code"] for row in described["replicas"]] == [0, 0, 7, 0]
    assert sum(site.proxy.requests.values()) == 4


def test_without_a_network_the_local_record_is_shown(site: SharedSite) -> None:
    site.write_job()
    site.run("apply", "job.toml", "--wait", expect=1)
    profile = site.root / "profile.toml"
    profile.write_text(profile.read_text().replace(f'url = "{site.storage}"', 'url = "http://127.0.0.1:9/arc"'))
    began = time.monotonic()
    shown = site.run("describe", "tiles")
    assert time.monotonic() - began < 10
    assert "could not all be read from the storage service http://127.0.0.1:9/arc: no connection" in shown.stderr
    assert "Failed: of 4 replicas, 3 Completed and 1 Failed" in shown.stdout
