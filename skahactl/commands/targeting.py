"""A job named on the command line, found in the ledger before anything else is opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from skahactl.context import current
from skahactl.errors import UsageError
from skahactl.ledger.records import Run
from skahactl.profile import Profile


@dataclass(frozen=True, slots=True)
class FoundJob:
    """A run, which of its replicas were named (None: none in particular), and the profile in force."""

    profile: Profile
    run: Run
    numbers: frozenset[int] | None


def one_job(word: str, replicas: str | None = None) -> FoundJob:
    """The last run of a job, named as ``JOB`` or ``JOB/REPLICAS``. UsageError if it is not known."""
    return jobs_named([word], replicas)[0]


def jobs_named(words: Sequence[str], replicas: str | None = None) -> list[FoundJob]:
    """The last runs that the words name, each once with all its replicas that they name.

    UsageError for what is not known, and for a session of an earlier run or of an earlier attempt: what is done to
    them would be done beside what runs now.
    """
    from skahactl.ledger.database import read_ledger
    from skahactl.ledger.runs import last_run
    from skahactl.paths import state_dir
    from skahactl.profiles import choose
    from skahactl.targets import by_run, find, refuse_past

    context = current()
    profile = choose(context.profile, context.environ)
    with read_ledger(state_dir(context.environ)) as ledger:
        targets = find(ledger, profile, words, replicas=replicas)
        refuse_past(targets)
        for target in targets:
            if target.run is None:
                raise UsageError(f"'{target.word}' is no job with a record here", hint="'skahactl get jobs' lists them")
            last = last_run(ledger, target.run.key)
            if last is not None and last.id != target.run.id:
                raise UsageError(
                    f"'{target.word}' is a session of run {target.run.number} of {target.run.key.name}, whose last "
                    f"run is {last.number}",
                    hint="only the last run of a job goes on",
                )
    return [FoundJob(profile, target.run, target.numbers) for target in by_run(targets) if target.run is not None]


def read_lines(path: str) -> tuple[str, ...]:
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
