"""The end of a long wait: the command of the profile runs, and a short wait is left alone."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from skahactl.commands.runtime import notify_after_wait
from skahactl.engine.outcome import JobOutcome, Outcome
from skahactl.model import State, zero_filled
from skahactl.profiles import choose
from tests.rendering import CANFAR, context, written


def ended(*command: str) -> Outcome:
    job = JobOutcome("tiles", "create", "", status=State.FAILED, counts=zero_filled({State.FAILED: 3}), has_driver=True)
    return Outcome(replace(CANFAR, notify=command), False, [job])


@pytest.mark.parametrize(("seconds", "runs"), [(59, False), (61, True)])
def test_the_command_knows_how_the_job_ended(tmp_path: Path, seconds: float, runs: bool) -> None:
    script = f'echo "$SKAHACTL_JOB $SKAHACTL_STATUS $SKAHACTL_FAILED" > {tmp_path}/told'
    place = context(environ=dict(os.environ))
    notify_after_wait(place, ended("sh", "-c", script), seconds)
    assert (tmp_path / "told").exists() is runs
    if runs:
        assert (tmp_path / "told").read_text() == "tiles Failed 3\n"
    assert written(place) == ("", "")


def test_a_command_that_fails_is_a_warning() -> None:
    place = context(environ=dict(os.environ))
    notify_after_wait(place, ended("false"), 100)
    notify_after_wait(place, ended("/no/such/program"), 100)
    assert [line.split(": ")[:2] for line in written(place)[1].splitlines()] == [["warning", "[notify] command"]] * 2


def test_a_profile_names_the_command(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('server = "https://example.org/skaha/v1"\n[notify]\ncommand = ["notify-send", "skahactl"]\n')
    assert choose(str(path), {"HOME": str(tmp_path)}).notify == ("notify-send", "skahactl")
