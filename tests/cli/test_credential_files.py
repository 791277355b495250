"""Tokens that a command prints, files that are written, and the account that makes a choice necessary."""

from __future__ import annotations

import asyncio
import json
import os
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from skahactl.errors import AuthError, LedgerError, ProfileError
from skahactl.profile import Auth, Profile
from skahactl.profiles import choose
from skahactl.skaha.credentials import TokenCommand, token
from skahactl.system import make_private, write_atomically


def _token(expires: float) -> str:
    return f"h.{urlsafe_b64encode(json.dumps({'exp': expires}).encode()).decode().rstrip('=')}.s"


def _counting(tmp_path: Path, printed: str) -> tuple[Profile, Path]:
    """A profile whose token-command adds a line to a file at each run."""
    runs = tmp_path / "runs"
    command = ("sh", "-c", f"echo run >> {runs}; printf '%s\\nnoise\\n' '{printed}'")
    return Profile("p", "https://h/skaha/v1", auth=Auth("token", token_command=command)), runs


def test_a_token_command_runs_again_only_when_its_token_is_of_no_more_use(tmp_path: Path) -> None:
    profile, runs = _counting(tmp_path, _token(5000))

    async def main() -> list[int]:
        now, counts = [1000.0], []
        source = TokenCommand(profile, os.environ, lambda: now[0])
        for _ in range(3):
            assert await source.token() == _token(5000)
        counts.append(len(runs.read_text().split()))
        source.refuse()
        await source.token()
        counts.append(len(runs.read_text().split()))
        now[0] = 4970.0  # less than a minute is left
        await source.token()
        counts.append(len(runs.read_text().split()))
        return counts

    assert asyncio.run(main()) == [1, 2, 3]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("sh", "-c", "echo the-secret; exit 3"), "failed with exit code 3"),
        (("/does/not/exist",), "cannot be run"),
        (("true",), "the token command printed nothing"),
    ],
)
def test_a_token_command_that_fails_shows_nothing_of_its_output(command: tuple[str, ...], message: str) -> None:
    with pytest.raises(AuthError, match=message) as caught:
        token(Auth("token", token_command=command), os.environ, "p")
    assert "the-secret" not in caught.value.message


def test_the_target_of_a_link_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("old")
    (tmp_path / "link").symlink_to(target)
    write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert target.read_bytes() == b"new"


def test_a_device_is_never_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="not a regular file"):
        write_atomically(tmp_path / "fifo", b"new")
    with pytest.raises(AuthError, match="not a regular file"):
        token(Auth("token", token_file=str(tmp_path / "fifo")), {}, "p")


def test_the_mode_of_an_existing_state_directory_stays(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir(mode=0o755)
    make_private(tmp_path / "shared")
    assert (tmp_path / "shared").stat().st_mode & 0o777 == 0o755
    assert make_private(tmp_path / "own").stat().st_mode & 0o777 == 0o700
    (tmp_path / "file").touch()
    with pytest.raises(LedgerError):
        make_private(tmp_path / "file")


@pytest.mark.parametrize("sign", ["config", "CANFAR_TOKEN", "certificate"])
def test_an_account_makes_a_choice_necessary(tmp_path: Path, sign: str) -> None:
    environ = {"HOME": str(tmp_path)}
    assert choose(None, environ).is_local
    if sign == "CANFAR_TOKEN":
        environ[sign] = "x"
    else:
        path = tmp_path / {"config": ".canfar/config.yaml", "certificate": ".ssl/cadcproxy.pem"}[sign]
        path.parent.mkdir()
        path.touch()
    with pytest.raises(ProfileError):
        choose(None, environ)
