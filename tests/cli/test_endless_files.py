"""Files that never end, wherever a person can name one: refused in words, before memory runs out."""

from __future__ import annotations

import resource

import pytest

from tests.workplace import Workplace

pytestmark = pytest.mark.once

JOB = 'name = "a"\nimage = "x/y:1"\n'
PROFILE = 'server = "https://127.0.0.1:9/skaha/v1"\n'


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("validate /dev/zero", 2, "more than 16 MiB"),
        ("validate items.toml", 2, "more than 1 GiB"),
        ("retry done --items /dev/zero --dry-run", 2, "more than 1 GiB"),
        ("split list --exclude /dev/zero -n 1/2", 2, "longer than 1 GiB"),
        ("get sessions -p /dev/zero", 2, "more than 1 MiB"),
        ("get sessions -p token.toml", 3, "the token file is not a regular file"),
        ("get sessions -p authorities.toml", 2, "cannot be read: not a regular file"),
        ("serve --token-file /dev/zero", 2, "the token file is not a regular file"),
    ],
)
def test_a_file_that_never_ends(here: Workplace, words: str, code: int, says: str) -> None:
    here.write("items.toml", JOB + 'command = ["run", "{item}"]\nreplicas = 2\n[items]\nfile = "/dev/zero"\n')
    here.write("list", "a\nb\n")
    here.write("token.toml", PROFILE + '[auth]\nmethod = "token"\ntoken-file = "/dev/zero"\n')
    here.write("authorities.toml", PROFILE + '[auth]\nmethod = "none"\n[client]\nca-file = "/dev/zero"\n')
    if words.startswith("retry"):
        here.run("apply", here.job("done", "true"), "--wait")
    told = here.run(*words.split(), expect=code, timeout=100, preexec_fn=limited)
    assert says in told.stderr
    assert told.stdout == ""


@pytest.mark.parametrize("setting", ["SSL_CERT_FILE", "profile"])
def test_authorities_that_are_missing_or_no_certificates(here: Workplace, setting: str) -> None:
    """The setting is named, and no errno of a library is taken for one of the system."""
    here.write("list.pem", "no certificate\n")
    listed = str(here.root / "list.pem")
    reasons = {"/none.pem": "No such file or directory", listed: "X509", "/dev/zero": "not a regular file"}
    for file, reason in reasons.items():
        ca_file = f'[client]\nca-file = "{file}"\n' if setting == "profile" else ""
        here.write("here.toml", PROFILE + f'[auth]\nmethod = "none"\n{ca_file}')
        if setting != "profile":
            here.extra[setting] = file
        told = here.run("get", "sessions", "-p", "here.toml", expect=2).stderr
        assert told.startswith(f"error: {file}: the certificate authorities")
        assert reason in told
        assert setting == "profile" or setting in told
