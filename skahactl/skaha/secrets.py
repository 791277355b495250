"""Secrets of a job or a profile: read where they are needed, never stored, never part of a message."""

from __future__ import annotations

from collections.abc import Mapping

from skahactl.errors import UsageError
from skahactl.job import EnvValue, Secret
from skahactl.skaha.unsendable import value_problem


def reveal_secrets(key: str, content: EnvValue, environ: Mapping[str, str]) -> str:
    """The value of the environment variable ``key``; UsageError for a secret that cannot be read or sent."""
    if not isinstance(content, Secret):
        return content
    text = read_secret(content, environ, what=f"[env] {key}")
    problem = value_problem(text)
    if problem:
        if text in problem:
            problem = "is a single word that the platform reads as a boolean or a number, and then refuses"
        raise UsageError(f"[env] {key}: the secret {content.reference()} {problem}", code="secret")
    return text


def read_secret(secret: Secret, environ: Mapping[str, str], *, what: str) -> str:
    """The secret's value: the variable as it is, the file without the line end that editors put there."""
    if secret.source == "env":
        if secret.name not in environ:
            raise UsageError(
                f"{what}: the variable {secret.name} is not set here",
                hint=f"set it before the command: export {secret.name}=...",
                code="secret",
            )
        return environ[secret.name]
    try:
        with open(secret.name, encoding="utf-8", newline="") as stream:
            text = stream.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"{what}: cannot read the secret file {secret.name}: {reason}", code="secret") from None
    return text.removesuffix("\n").removesuffix("\r")
