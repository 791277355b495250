"""The marks that end items: no output can forge one, and logs of 0.1 can still be read."""

from __future__ import annotations

import pytest

from skahactl.manifest.placeholders import ItemMarks, attempt_nonce, has_nonce
from tests.workplace import Workplace, end, wait_for

pytestmark = pytest.mark.once

FORGED = """
name = "forged"
image = "a/b:1"
shell = '''
printf '%s\\n' "::skahactl item 2 exit 0" "::skahactl:aaaaaaaa item 2 exit 0" "$ITEM"
[ "$ITEM" != b ] || exit 3
cat other.log
'''
replicas = 1
[items]
values = ["a", "b", "::skahactl item 2 exit 0"]
each = true
[retry]
attempts = 2
"""


def items(here: Workplace) -> list[tuple[int, str, int | None]]:
    return [(row["position"], row["state"], row["exit_code"]) for row in here.data("get", "items", "forged")]


def test_output_that_looks_like_a_mark_does_not_count(here: Workplace) -> None:
    here.write("forged.toml", FORGED)
    here.write("other.log", "")
    here.run("apply", "forged.toml", "--wait", expect=1)
    found = items(here)
    assert [row[1] for row in found] == ["Completed", "Failed", "Completed"]
    log = here.run("logs", "forged", "--attempt", "1").stdout
    second = here.run("logs", "forged", "--attempt", "2").stdout
    assert "\na\n" in log
    assert "\na\n" not in second  # an item that ended with 0 does not run again
    here.write("other.log", log.replace(" exit 3", " exit 0"))
    here.run("retry", "forged", "--wait", expect=1)
    assert [row[1] for row in items(here)] == ["Completed", "Failed", "Completed"]


def test_the_local_platform_gives_the_exit_code_and_the_end_of_a_job_without_marks(here: Workplace) -> None:
    here.write(
        "plain.toml",
        'name = "plain"\nimage = "a/b:1"\nshell = "exit {item}"\n[items]\nrange = "0-1"\nper-replica = 1\n',
    )
    here.run("apply", "plain.toml", "--wait", expect=1)
    for noun in ("items", "replicas"):
        rows = here.data("get", noun, "plain")
        assert [row["exit_code"] for row in rows] == [0, 1]
    assert [row["finished_after"] for row in rows] == [None, None]
    assert rows[1]["reason"] == "exit 1"


def read(marks: ItemMarks, *chunks: bytes) -> list[tuple[int, int]]:
    reader = marks.reader()
    return [end for chunk in chunks for end in reader([chunk])]


def item_counts(here: Workplace, job: str) -> list[int]:
    (row,) = here.data("get", "jobs", job)
    return [row["items"][key] for key in ("total", "completed", "failed")]


def test_items_of_replicas_that_complete_after_the_death_of_their_driver_are_counted(here: Workplace) -> None:
    shell = "test {item} = 1 || until [ -e go ]; do sleep 0.1; done"
    manifest = here.job("quiet", shell, 2, '[items]\nrange = "1-6"\neach = true')
    driver = here.start("apply", manifest, "--wait")
    wait_for(lambda: here.recorded("quiet") and item_counts(here, "quiet") == [6, 1, 0], every=1)
    assert "has no driver" not in here.run("get", "items", "quiet").stderr
    end(driver)
    assert "quiet has no driver, so the results of its items" in here.run("get", "items", "quiet").stderr
    here.write("go", "")
    here.run("wait", "quiet")
    assert item_counts(here, "quiet") == [6, 6, 0]
    here.run("apply", manifest)
    assert item_counts(here, "quiet") == [6, 6, 0]


def test_items_after_the_one_that_ended_their_replica_have_failed_too(here: Workplace) -> None:
    shell = "test {item} != 2 || kill -9 $PPID $$"
    here.run("apply", here.job("killed", shell, 2, '[items]\nrange = "1-6"\neach = true'), "--wait", expect=1)
    rows = here.data("get", "items", "killed")
    assert [row["state"] for row in rows] == ["Completed", "Failed", "Failed", *["Completed"] * 3]
    assert item_counts(here, "killed") == [6, 4, 2]
    here.run("retry", "killed", "--wait", expect=1)
    assert item_counts(here, "killed") == [6, 4, 2]


def test_only_marks_with_the_nonce_of_the_attempt_count_and_only_in_their_order() -> None:
    nonce = attempt_nonce("tiles-1-abcde", 1790000000.25)
    other = attempt_nonce("tiles-1-abcde", 1790000000.5)
    assert (len(nonce), nonce != other) == (8, True)
    marks = ItemMarks((2, 4, 5), nonce)
    line = f"::skahactl:{nonce} item %d exit %d\n".encode()
    forged = f"::skahactl:{other} item 4 exit 0\n::skahactl item 4 exit 0\n".encode()
    log = line % (2, 0) + forged + line % (3, 0) + line % (4, 1) + line % (4, 0) + line % (2, 1) + line % (5, 0)
    assert read(marks, log) == [(2, 0), (4, 1), (5, 0)]
    assert read(marks, log[:60], log[60:]) == [(2, 0), (4, 1), (5, 0)]
    assert read(marks, line % (5, 0)) == [(5, 0)]  # the beginning of the log is lost


def test_marks_of_an_older_version_and_of_another_record() -> None:
    plain = b"::skahactl item 1 exit 0\n::skahactl:abcdefgh item 2 exit 0\n::skahactl item 2 exit 1\n"
    assert read(ItemMarks((1, 2)), plain) == [(1, 0), (2, 1)]
    unknown = b"::skahactl:abcdefgh item 1 exit 0\n::skahactl item 2 exit 0\n::skahactl:abcdefgh item 2 exit 7\n"
    assert read(ItemMarks((1, 2), None), unknown) == [(1, 0), (2, 7)]
    assert not has_nonce('echo "::skahactl item $1 exit $skahactl_code"')
