"""A call that a message suggests means the same jobs as the call that prints it."""

from __future__ import annotations

from skahactl.invocation import Invocation, enter
from skahactl.text import suggest


def test_a_suggested_call_has_the_profile_option_of_this_call() -> None:
    enter(Invocation(profile="my profile"))
    try:
        assert suggest("retry", "tiles", "--wait") == "skahactl -p 'my profile' retry tiles --wait"
    finally:
        enter(Invocation())
    assert suggest("logs", "a b") == "skahactl logs 'a b'"
