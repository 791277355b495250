"""Numbers with their nouns, as messages show them."""

from __future__ import annotations

import pytest

from skahactl.engine.decide import adopted_rest
from skahactl.engine.outcome import StepOutcome, StepResult, deletion_text
from skahactl.engine.plan import StepAction
from skahactl.errors import CreateError
from skahactl.text import count_noun, format_resources, name_replicas


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (count_noun(1, "replica"), "1 replica"),
        (count_noun(0, "replica"), "0 replicas"),
        (count_noun(1234567, "item"), "1234567 items"),
        (count_noun(1.0, "core"), "1 core"),
        (count_noun(0.5, "core"), "0.5 cores"),
        (name_replicas([2]), "replica 2"),
        (name_replicas([3, 4, 7]), "replicas 3-4,7"),
        (name_replicas([3, 4], "item"), "items 3-4"),
        (format_resources({}), "flexible"),
        (format_resources({"cores": None, "ram": None, "gpus": 1}), "flexible, 1 GPU"),
        (format_resources({"cores": 1, "ram": 5, "gpus": 2}), "1 core, 5 GB, 2 GPUs"),
        (format_resources({"cores": "{c}", "ram": 4}), "{c} cores, 4 GB"),
        (adopted_rest(0, True), ""),
        (adopted_rest(1, True), "; 1 other replica: to be created"),
        (adopted_rest(2, False), "; 2 other replicas: recorded as Unknown"),
        (CreateError("x", [None], {1: "no"}).message, "1 of 1 replica of x could not be created; replica 1: no"),
    ],
)
def test_a_number_and_its_noun_agree(text: str, expected: str) -> None:
    assert text == expected


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ((), ""),
        (("Running",), "replica 1 deleted; the record and the logs remain"),
        (("Completed",), "1 ended session deleted; the record and the logs remain"),
        (
            ("Running", "Pending", "Queued", "Failed", "Completed"),
            "2 live replicas, 1 queued replica and 2 ended sessions deleted; the record and the logs remain",
        ),
    ],
)
def test_a_delete_counts_what_was_alive_apart(before: tuple[str, ...], expected: str) -> None:
    steps = [
        StepResult(number, "x", StepAction.DELETE, state, StepOutcome.DONE) for number, state in enumerate(before, 1)
    ]
    kept = StepResult(9, "x", StepAction.KEEP, "Failed", StepOutcome.DONE)
    assert deletion_text([*steps, kept], "the record and the logs remain") == expected
