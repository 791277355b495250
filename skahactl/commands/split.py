"""``skahactl split``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from skahactl.completers import FileName
from skahactl.errors import Exit, UsageError
from skahactl.invocation import Invocation, current, unknown_option
from skahactl.split import shares
from skahactl.split.shares import Share

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from skahactl.split.execute import FinishedItems

SHARE = Group("Share", sort_key=1)
ITEMS = Group("Items", sort_key=2)
DISPLAY = Group("Output", sort_key=3)


def split(
    *lists: Annotated[
        FileName,
        Parameter(
            name="LIST",
            allow_leading_hyphen=True,
            help="Item lists, one item per line (default: standard input, also written -).",
        ),
    ],
    strategy: Annotated[
        Literal["chunk", "stripe", "size"],
        Parameter(
            name=["--strategy", "-s"],
            metavar="chunk|stripe|size",
            group=SHARE,
            show_choices=False,
            help="Contiguous blocks, every N-th item, or balanced by file size (default: chunk).",
        ),
    ] = "chunk",
    share: Annotated[
        str | None,
        Parameter(
            name=["--share", "-n"],
            metavar="I/N",
            group=SHARE,
            allow_leading_hyphen=True,
            help="Replica I of N. With --all or --count, write only the number of replicas: -n 600.",
        ),
    ] = None,
    replica: Annotated[
        str | None,
        Parameter(
            metavar="I", group=SHARE, allow_leading_hyphen=True, help="Replica number, from 1 (default: REPLICA_ID)."
        ),
    ] = None,
    of: Annotated[
        str | None,
        Parameter(
            metavar="N", group=SHARE, allow_leading_hyphen=True, help="Number of replicas (default: REPLICA_COUNT)."
        ),
    ] = None,
    glob: Annotated[
        list[str] | None,
        Parameter(metavar="PATTERN", group=ITEMS, help="Use the matching file names as items; ** matches any depth."),
    ] = None,
    exclude: Annotated[
        list[FileName] | None,
        Parameter(metavar="FILE", group=ITEMS, help="Leave out the items in this file, after the list is divided."),
    ] = None,
    unless: Annotated[
        str | None,
        Parameter(
            metavar="'P{}'",
            group=ITEMS,
            help="Leave out items with a file P{} that exists and is not empty, after the list is divided.",
        ),
    ] = None,
    null: Annotated[
        bool, Parameter(name=["--null", "-0"], group=DISPLAY, help="End items with NUL instead of a newline.")
    ] = False,
    every: Annotated[
        bool, Parameter(name="--all", group=DISPLAY, help="Print replica<TAB>item for every replica.")
    ] = False,
    count: Annotated[
        bool,
        Parameter(
            group=DISPLAY,
            help="Print replica<TAB>items to do<TAB>excluded for every replica; with -s size also <TAB>bytes.",
        ),
    ] = False,
    script: Annotated[
        bool, Parameter(group=DISPLAY, help="Print a script for sh and awk that gives the same chunk or stripe share.")
    ] = False,
) -> int:
    """Print this replica's share of a list, or run a command once per item.

    Every item goes to exactly one replica. Without options, REPLICA_ID and REPLICA_COUNT, which the platform sets,
    name the share. {} in the command is the item; without {}, the item is the last argument. A failed item does
    not stop the others, and the exit code is 1. More: skahactl help split

    Examples:
      skahactl split tiles.txt | xargs -r -d '\\n' -n 1 process-tile
      skahactl split -s size -0 --glob 'survey/*.fits' | xargs -r -0 measure
      skahactl split tiles.txt --unless 'out/{}.OK' -- process-tile --tile {}
      skahactl split tiles.txt --count --of 600
    """
    context = current()
    options = {"--all": every, "--count": count, "--script": script, "-0": null, "-o": context.output != "table"}
    inputs = {"--glob": glob, "--exclude": exclude, "--unless": unless, "-s size": strategy == "size"}
    _refuse_contradictions({**options, **inputs, "a command": context.command is not None})
    _refuse_command(lists)
    _refuse_unknown_options(lists)
    if script:
        # The script reads its replica when it runs; only a share that the options give is written into it.
        said = not (share is None and replica is None and of is None)
        return _print_script(context, strategy, _share(share, replica, of, False) if said else None, lists)
    mine = _share(share, replica, of, every or count)
    from skahactl.split.execute import SplitRequest, execute
    from skahactl.split.sources import open_all

    stdin = context.stdin.fileno()
    done = _finished(exclude or (), unless, stdin)
    sources = tuple(open_all(lists, glob or (), stdin))
    if mine is None:
        context.say("skahactl split: REPLICA_ID and REPLICA_COUNT are not set; printing every item")
    for source in (*(done.sources if done else ()), *sources):
        if source.carriage_returns:
            context.say(f"skahactl split: {source.name}: lines end with a carriage return, which stays in the items")
    order = SplitRequest(
        sources, strategy, mine or Share(1, 1), done, null, every, count, context.output, context.command
    )
    return execute(order, context.stdout.fileno(), context.warn)


def _refuse_contradictions(given: Mapping[str, object]) -> None:
    """Raise UsageError for options that exclude each other."""
    if given["a command"] and not current().command:
        raise UsageError("the command after -- is missing", hint="as in: skahactl split tiles.txt -- process-tile {}")
    rivals = {
        "--script": ("--all", "--count", "-0", "-o", "--glob", "--exclude", "--unless", "-s size", "a command"),
        "a command": ("--all", "--count", "-0", "-o"),
        "--all": ("--count",),
        "-o": ("-0",),
    }
    for option, others in rivals.items():
        clash = next((other for other in others if given[other]), None)
        if given[option] and clash:
            raise UsageError(f"{option} and {clash} do not go together")


def _refuse_command(lists: Sequence[str]) -> None:
    """Raise UsageError for a list such as ``{}``: a word of a command without the ``--`` before it."""
    if any("{}" in word and not os.path.exists(word) for word in lists):
        known = next(at for at, word in enumerate(lists) if word != "-" and not os.path.exists(word))
        call = " ".join(["skahactl split", *lists[:known], "... --", *lists[known:]])
        raise UsageError("a command must come after --", hint=f"as in: {call}")


def _refuse_unknown_options(lists: Sequence[str]) -> None:
    """Raise UsageError for a list that looks like an option; the parser accepts words with a hyphen because of
    ``-``."""
    for word in lists:
        if word.startswith("-") and word != "-":
            from skahactl.app import options_of

            raise unknown_option("split", word, options_of("split"), f"a list of that name is written ./{word}")


def _share(text: str | None, replica: str | None, of: str | None, all_of_them: bool) -> Share | None:
    """Return the share; None for all items. With ``all_of_them``, only the number of replicas matters."""
    if text is not None and (replica is not None or of is not None):
        raise UsageError("-n says which replica of how many, and so do --replica and --of: give one of the two")
    try:
        if text is not None:
            number, total = _parsed(text, all_of_them)
        else:
            number = None if replica is None else shares.whole_number(replica, "--replica")
            total = None if of is None else shares.whole_number(of, "--of")
        if not all_of_them:
            return shares.share(number, total, current().environ)
        return Share(1, shares.known_total(total, current().environ))
    except ValueError as error:
        hint = "give --of N" if all_of_them else "give -n I/N, or --replica I --of N; replicas count from 1"
        raise UsageError(str(error), hint=hint) from error


def _parsed(text: str, all_of_them: bool) -> tuple[int | None, int | None]:
    first, slash, second = text.partition("/")
    if slash:
        return shares.checked(
            shares.whole_number(first, "the replica of -n"), shares.whole_number(second, "the number of replicas of -n")
        )
    if not all_of_them:
        raise ValueError(f"-n wants I/N, as in 3/10, not '{text}'")
    return 1, shares.whole_number(text, "the number of replicas of -n")


def _finished(excludes: Sequence[str], unless: str | None, stdin: int) -> FinishedItems | None:
    if not excludes and unless is None:
        return None
    from skahactl.split.execute import read_finished

    return read_finished(excludes, unless, stdin)


def _print_script(context: Invocation, strategy: str, mine: Share | None, lists: Sequence[str]) -> int:
    from skahactl import __version__
    from skahactl.split.script import script

    context.out(script(strategy, mine, lists, __version__).removesuffix("\n"))
    return Exit.DONE
