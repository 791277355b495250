"""``skahactl logs``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from skahactl import completers
from skahactl.commands.params import DISPLAY, SELECTION, Replicas, RunNumber, TargetWord
from skahactl.completers import FileName
from skahactl.errors import UsageError

if TYPE_CHECKING:
    from skahactl.logs.select import Choice


def logs(
    *targets: TargetWord,
    replicas: Replicas = None,
    item: Annotated[
        str | None,
        Parameter(
            metavar="ITEM",
            group=SELECTION,
            completer=completers.items,
            help="Only this item: its text, or its number in 'skahactl get items'.",
        ),
    ] = None,
    failed: Annotated[bool, Parameter(group=SELECTION, help="Only failed replicas.")] = False,
    attempt: Annotated[
        str | None,
        Parameter(
            metavar="N|all",
            group=SELECTION,
            completer=completers.attempts,
            help="An earlier attempt, or all attempts (default: the last).",
        ),
    ] = None,
    run: RunNumber = None,
    follow: Annotated[
        bool, Parameter(name=["--follow", "-f"], group=DISPLAY, help="Follow the logs until every replica has ended.")
    ] = False,
    tail: Annotated[
        int | None,
        Parameter(name=["--tail", "-n"], metavar="N", group=DISPLAY, help="Only the last N lines of each log."),
    ] = None,
    save: Annotated[
        FileName | None,
        Parameter(metavar="DIR", group=DISPLAY, help="Write each log to its own file in this directory."),
    ] = None,
    prefix: Annotated[
        Literal["auto", "always", "never"],
        Parameter(
            metavar="auto|always|never",
            group=DISPLAY,
            show_choices=False,
            help="Print the replica before each line (default: auto, with more than one log).",
        ),
    ] = "auto",
    most: Annotated[
        int,
        Parameter(
            name="--max",
            metavar="N",
            group=DISPLAY,
            help="Number of logs to read in parallel (default: 32); all of them are shown.",
        ),
    ] = 32,
    raw: Annotated[
        bool,
        Parameter(
            group=DISPLAY,
            negative=(),
            help="Print marks of ended items as they are in the log (default if the output is not a terminal).",
        ),
    ] = False,
) -> int:
    """Show, follow or save the log of every replica.

    Saved logs are read from this machine, all others from the server, which keeps them for one hour. With -o jsonl,
    each line is an object {"log": "tiles/3", "line": "..."}. Exit with 1 if a log is lost,
    or a running replica has written nothing yet.

    Examples:
      skahactl logs tiles/3 --tail 20
      skahactl logs -f tiles -r 1-4
      skahactl logs tiles --failed --save failed-logs
    """
    from skahactl.commands.log_output import LogsOptions, run_logs

    _refuse_together(follow, {"--save": save, "--item": item})
    tail = None if tail == -1 else tail  # as kubectl writes "all lines"
    for option, value, least in (("--tail", tail, 0), ("--max", most, 1)):
        if value is not None and value < least:
            raise UsageError(f"{option} {value}: at least {least}")
    choice = _choice(failed, attempt, item)
    return run_logs(targets, choice, LogsOptions(replicas, run, follow, tail, save, prefix, most, raw))


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
