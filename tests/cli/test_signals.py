"""How a call ends: by the signal itself, by a closed pipe, or with an internal error."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from tests.workplace import COMMAND, SHELL, Workplace, wait_for

pytestmark = pytest.mark.once


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_driver_ends_by_the_signal_after_its_message(here: Workplace, long: str, number: signal.Signals) -> None:
    process = here.start("apply", long, "--wait")
    wait_for(lambda: here.recorded("long").count("Running") == 2)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == -number
    assert "skahactl resume long" in err


def test_a_command_list_of_a_shell_stops_at_ctrl_c(here: Workplace, long: str) -> None:
    line = f"{' '.join(COMMAND)} apply {long} --wait; echo went on"
    process = here.start(f"set -m; {line}", program=SHELL)
    wait_for(lambda: here.recorded("long").count("Running") == 2)
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True).stdout
    subprocess.run(["kill", "-INT", *children.split()], check=True)
    out, _ = process.communicate(timeout=60)
    assert "went on" not in out


@pytest.mark.parametrize("words", ["--help", "apply --help", "split -n 1/1 big", "schema", "profile list"])
def test_a_reader_that_left_gives_141_without_a_message(here: Workplace, words: str) -> None:
    here.write("big", "line\n" * 200_000)
    reader, writer = os.pipe()
    os.close(reader)
    done = here.run(*words.split(), expect=141, stdout=writer)
    os.close(writer)
    assert done.stderr == ""


def test_an_internal_error_has_a_code_of_its_own(here: Workplace) -> None:
    here.write("cyclopts.py", "raise RuntimeError('planted')\n")
    here.extra["PYTHONPATH"] = f"{here.root}:{here.environ['PYTHONPATH']}"
    here.extra["SKAHACTL_DEBUG"] = ""
    done = here.run("apply", "job.toml", expect=70)
    assert done.stderr.startswith("error: cyclopts.py:1: internal error: RuntimeError: planted\nhelp: ")
