"""Names of variables that YAML reads as something else arrive as they are."""

from __future__ import annotations

import pytest

from skahactl.local.decode import decode_request
from skahactl.model import Request
from skahactl.skaha.encoding import fields, needs_encoding, problems
from tests.skaha_server import mangle

NAMES = [f(w) for w in ("no", "yes", "on", "off", "true", "false", "null") for f in (str, str.capitalize, str.upper)]


@pytest.mark.parametrize("name", NAMES)
def test_the_container_gets_the_name_that_was_written(name: str) -> None:
    request = Request("headless", "a/b:1", ("env",), (("A", "x"), (name, "1"), ("nO", "2")))
    assert problems(request) == ()
    assert needs_encoding(request)
    sent = [text for key, text in fields(request, "name") if key == "env"]
    assert sent == ["A=x", f'"{name}"=1', "nO=2"]
    wanted = (("A", "x"), (name, "1"), ("nO", "2"))
    assert decode_request("env", None, sent).env == wanted
    assert tuple(mangle.container("env", None, sent, {}).env) == wanted


@pytest.mark.parametrize("name", ["y", "Y", "n", "N"])
def test_names_that_kubectl_reads_as_booleans_are_refused(name: str) -> None:
    (problem,) = problems(Request("headless", "a/b:1", ("env",), ((name, "1"),)))
    assert f'reads the name "{name}" as a boolean' in problem.message
