"""A job named on the command line, found in the ledger before anything else is opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from skahactl.context import current
from skahactl.errors import UsageError
from skahactl.ledger.records import Run
from skahactl.profile import Profile


@dataclass(frozen=True, slots=True)
class Found:
    """A run, which of its replicas were named (None: none in particular), and the profile in force."""

    profile: Profile
    run: Run
    numbers: tuple[int, ...] | None


def one_job(word: str, replicas: str | None = None) -> Found:
    """The last run of a job, named as ``JOB`` or ``JOB/REPLICAS``. UsageError if it is not known."""
    from skahactl.ledger.store import read_ledger
    from skahactl.paths import state_dir
    from skahactl.profiles import choose
    from skahactl.targets import find

    context = current()
    profile = choose(context.profile, context.environ)
    with read_ledger(state_dir(context.environ)) as ledger:
        target = find(ledger, profile, [word], replicas=replicas)[0]
    if target.run is None:
        raise UsageError(f"'{word}' is no job with a record here", hint="'skahactl get jobs' lists them")
    return Found(profile, target.run, target.numbers)


def without_noun(words: Sequence[str]) -> list[str]:
    """The words without ``jobs`` or the like before them, as kubectl has it, unless a job is called so."""
    from skahactl.ledger.store import read_ledger
    from skahactl.paths import state_dir
    from skahactl.profiles import choose
    from skahactl.targets import NOUNS, job_names

    if len(words) < 2 or words[0] not in NOUNS:
        return list(words)
    context = current()
    profile = choose(context.profile, context.environ)
    with read_ledger(state_dir(context.environ)) as ledger:
        known = words[0] in job_names(ledger, profile)
    return list(words if known else words[1:])


def lines_of(path: str) -> tuple[str, ...]:
    """The items in a file, one a line; ``-`` is standard input. Blank lines are passed over."""
    context = current()
    if path.startswith("-") and path != "-":
        raise UsageError(f"--items needs a file, not '{path}'", hint="a file of that name is ./" + path)
    if path == "-":
        text = context.stdin.read()
    else:
        try:
            with open(path, "rb") as stream:
                text = stream.read()
        except OSError as error:
            raise UsageError(f"the items cannot be read: {error.strerror}", where=path) from None
    lines = (line.rstrip("\r") for line in text.decode("utf-8", "surrogateescape").split("\n"))
    found = tuple(line for line in lines if line.strip())
    if not found:
        raise UsageError("there is no item in it", where=path)
    return found
