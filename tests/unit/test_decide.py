"""What apply does with a whole job."""

from __future__ import annotations

from dataclasses import replace

import pytest

from skahactl.engine.decide import ApplyMode, Decision, decide
from skahactl.ledger.records import RunSummary
from skahactl.model import Job, job_status, zero_filled
from tests.observed import RUN, session

NOW = 10_000.0
JOB = Job("fits", "headless", "i", (), "d" * 64, {"image": "i"}, sources={"image": "--set"})
CHANGED = replace(JOB, digest="e" * 64, content={"image": "j"})


def last(retriable: int = 0, **counts: int) -> RunSummary:
    full = zero_filled(counts)
    run = replace(RUN, digest=JOB.digest, content=dict(JOB.content), started=100.0, ended=None)
    return RunSummary(run, full, job_status(full, retriable), retriable)


def decision(job: Job, found: RunSummary | None, mode: ApplyMode = ApplyMode(), **others: object) -> Decision:  # noqa: B008
    return decide(job, found, others.get("foreign", {}), mode, others.get("stale"), NOW)  # type: ignore[arg-type]


def test_unknown_is_created() -> None:
    assert decision(JOB, None).action == "create"


def test_sessions_of_exactly_its_names_need_a_choice() -> None:
    found = {1: [session("a")]}
    foreign = decision(replace(JOB, replicas=()), None, foreign=found)
    assert foreign.action == "foreign"
    assert "--adopt create" in str(foreign.hint)
    assert decision(JOB, None, ApplyMode(adopt="unknown"), foreign=found).action == "adopt"


def test_unchanged_and_alive_continues() -> None:
    for counts in ({"Running": 1}, {"Queued": 2}, {"Unconfirmed": 1}, {"Pending": 1}):
        assert decision(JOB, last(**counts)).action == "keep"
    assert decision(JOB, last(retriable=1, Failed=1)).action == "keep"


@pytest.mark.parametrize("state", ["Completed", "Failed", "Unknown", "Rejected", "Skipped"])
def test_unchanged_and_ended_starts_nothing(state: str) -> None:
    assert decision(JOB, last(**{state: 2})).action == "ended"
    assert decision(JOB, last(**{state: 2}), ApplyMode(rerun=True)).action == "create"
    assert decision(JOB, last(**{state: 2}), stale="shards has a newer run").action == "create"


def test_changed_is_refused_with_every_difference_and_its_source() -> None:
    for found in (last(Running=1), last(Completed=1)):
        answer = decision(CHANGED, found)
        assert answer.action == "refuse"
        (difference,) = answer.differences
        assert (difference.path, difference.old, difference.new, difference.source) == ("image", "i", "j", "--set")
    assert decision(CHANGED, last(Running=1), ApplyMode(rerun=True)).action == "refuse"
    assert decision(CHANGED, last(Completed=1), ApplyMode(rerun=True)).action == "create"
    assert decision(CHANGED, last(Running=1), ApplyMode(replace=True)).action == "replace"


def test_changed_before_anything_was_sent_replaces_in_silence() -> None:
    found = last(Queued=2)
    assert decision(CHANGED, replace(found, run=replace(found.run, started=None))).action == "replace"


def test_a_changed_list_of_an_unfinished_run_is_noted() -> None:
    old = {"image": "i", "items": {"sha256": "1"}}
    found = last(Running=1)
    found = replace(found, run=replace(found.run, content=old))
    answer = decision(replace(CHANGED, content={"image": "i", "items": {"sha256": "2"}}), found)
    assert answer.action == "keep"
    assert answer.differences


def test_a_deleted_run_is_followed_by_the_next() -> None:
    gone = last(Deleted=2)
    assert decision(JOB, replace(gone, run=replace(gone.run, deleting=True, ended=1.0))).action == "create"
    going = last(Running=2)
    assert decision(JOB, replace(going, run=replace(going.run, deleting=True))).action == "replace"


def test_the_advice_for_an_ended_run_is_a_whole_command_or_names_this_one() -> None:
    plain = replace(JOB, manifest="a b.toml", sources={})
    assert "skahactl apply 'a b.toml' --rerun" in str(decision(plain, last(Completed=1)).hint)
    mode = ApplyMode(words=("a.toml", "b.toml", "--set", "image=j"))
    assert "skahactl apply a.toml b.toml --set image=j --rerun" in str(decision(JOB, last(Completed=1), mode).hint)
    left = str(decision(CHANGED, last(Running=1), mode).hint)
    apply = "skahactl apply a.toml b.toml --set image=j"
    assert left.split("\n")[1:] == [
        "to finish it: skahactl resume fits",
        f"then to run the changed manifest: {apply} --rerun",
        f"to delete run 1 now and start the changed manifest as run 2: {apply} --replace --yes",
        "to only stop it: skahactl delete fits",
    ]
    assert "skahactl retry fits" in str(decision(plain, last(Failed=1)).hint)


@pytest.mark.parametrize(
    ("counts", "retriable", "status"),
    [
        ({"Running": 1, "Failed": 3}, 0, "Running"),
        ({"Unconfirmed": 1, "Queued": 1}, 0, "Pending"),
        ({"Failed": 1, "Completed": 1}, 1, "Queued"),
        ({"Completed": 2}, 0, "Completed"),
        ({"Completed": 16, "Deleted": 24}, 0, "Deleted"),
        ({"Completed": 1, "Skipped": 1, "Unknown": 1}, 0, "Failed"),
        ({"Completed": 1, "Unknown": 1}, 0, "Unknown"),
        ({"Deleted": 1, "Unknown": 1}, 0, "Unknown"),
    ],
)
def test_the_status_of_a_job(counts: dict[str, int], retriable: int, status: str) -> None:
    assert job_status(zero_filled(counts), retriable) == status
