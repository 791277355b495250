"""``skahactl logs``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from skahactl.commands.named import Replicas, RunNumber, TargetWord
from skahactl.completers import FileName
from skahactl.context import current
from skahactl.errors import UsageError

if TYPE_CHECKING:
    from skahactl.logs.select import Choice


def logs(
    *targets: TargetWord,
    replicas: Replicas = None,
    item: Annotated[
        str | None, Parameter(help="Of this item alone: its text, or its place in get items, from 1.")
    ] = None,
    follow: Annotated[bool, Parameter(name=["--follow", "-f"], help="Go on until every replica has ended.")] = False,
    tail: Annotated[int | None, Parameter(help="The last N lines of each log.")] = None,
    failed: Annotated[bool, Parameter(help="Of failed replicas only.")] = False,
    save: Annotated[
        FileName | None, Parameter(metavar="DIR", help="Write each log to a file of its own in this directory.")
    ] = None,
    attempt: Annotated[str | None, Parameter(help="An earlier attempt by its number, or all.")] = None,
    run: RunNumber = None,
    prefix: Annotated[
        Literal["auto", "always", "never"],
        Parameter(help="Name the replica before each line; auto: if there are many."),
    ] = "auto",
    most: Annotated[int, Parameter(name="--max", help="At most so many logs at the same time.")] = 32,
) -> int:
    """Show, follow or save every replica's log.

    A log that was kept on this machine is read from there; any other from the platform, which forgets it one hour
    after the end. One line says where text may be missing: of a long log the platform has the newest part alone.
    With -o jsonl each line is an object {"log": "tiles/3", "line": "..."}. The exit code is 1 if a log is lost, or
    if there is nothing to show yet.

    Examples:

    skahactl logs tiles/3 --tail 20

    skahactl logs -f tiles -r 1-4

    skahactl logs tiles --failed --save failed-logs
    """
    from skahactl.commands.log_output import LogsOptions
    from skahactl.commands.showing import run_logs

    context = current()
    if not targets:
        raise UsageError("which log?", hint="skahactl logs JOB, or JOB/REPLICA")
    if context.output in ("json", "toml"):
        raise UsageError(f"logs are not written as {context.output}", hint="use -o jsonl: an object a line")
    _refuse_together(follow, {"--save": save, "--item": item})
    for option, value, least in (("--tail", tail, 0), ("--max", most, 1)):
        if value is not None and value < least:
            raise UsageError(f"{option} {value}: at least {least}")
    choice = _choice(failed, attempt, item)
    return run_logs(context, targets, choice, LogsOptions(replicas, run, follow, tail, save, prefix, most))


def _choice(failed: bool, attempt: str | None, item: str | None) -> Choice:
    from skahactl.logs.select import Choice

    if attempt is None or attempt == "all":
        return Choice(failed, None if attempt is None else 0, item)
    if not attempt.isdecimal() or int(attempt) < 1:
        raise UsageError(f"--attempt {attempt}: a number from 1, or all")
    return Choice(failed, int(attempt), item)


def _refuse_together(follow: bool, others: dict[str, str | None]) -> None:
    for option, value in others.items():
        if follow and value is not None:
            raise UsageError(f"-f and {option} do not go together", hint=f"leave out one; {option} shows what there is")
