"""``skahactl help [COMMAND|TOPIC]``: pages of the manual and of commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from skahactl.app import VERBS
from skahactl.errors import Exit, UsageError
from skahactl.invocation import Invocation, current, is_screen

#: The pages of the manual, for completion; a test compares them with the files.
TOPICS = (
    "apply",
    "benchmarks",
    "canfar",
    "exit-codes",
    "inspecting",
    "manifest",
    "migrating",
    "output",
    "profiles",
    "python",
    "retry",
    "shared-logs",
    "split",
    "states",
    "troubleshooting",
    "unattended",
)

if TYPE_CHECKING:
    Topic = str
else:
    Topic = Literal[(*TOPICS, *(verb for verb in VERBS if verb not in TOPICS))] | str

#: Other words for a page.
_SYNONYMS = {
    **dict.fromkeys(("slurm", "sbatch", "kubectl", "kubernetes", "skaha"), "migrating"),
    **dict.fromkeys(("quickstart", "tutorial", "getting-started"), "canfar"),
}

_WIDTH = 100  # columns; longer lines are harder to read


def show_help(
    topic: Annotated[
        Topic | None,
        Parameter(name="TOPIC", show_choices=False, help="A topic or a command (default: list both)."),
    ] = None,
    /,
    *subcommands: Annotated[str, Parameter(show=False)],
) -> int:
    """Show a page of the manual, or the help page of a command.

    A page of the manual explains a subject; the help page of a command lists its options. For a name that is both, such
    as split, this shows the page of the manual, and 'skahactl split --help' the options.

    On a terminal, long pages are shown with a pager: SKAHACTL_PAGER, PAGER, or less.

    Examples:
      skahactl help manifest
      skahactl help troubleshooting
      skahactl help states | grep Unknown
    """
    invocation = current()
    if topic is None:
        _list(invocation)
    elif (page := _SYNONYMS.get(topic.lower(), topic)) in TOPICS:
        _show(page, invocation)
    else:
        _show_command(topic, subcommands, invocation)
    return Exit.DONE


def _list(invocation: Invocation) -> None:
    """Print the front page, and every topic with its title."""
    from skahactl.app import front_page
    from skahactl.render import pager, pages

    width = max(map(len, TOPICS)) + 2
    rows = [f"  {topic:<{width}}{pages.title(topic)}" for topic in TOPICS]
    pager.show("\n".join([front_page(), "", "Topics", *rows, ""]), invocation.stdout, invocation.environ)


def _show(topic: str, invocation: Invocation) -> None:
    """Print a page: rendered, and with a pager if it is long, on a terminal; otherwise as plain text."""
    from skahactl.render import pages

    text = pages.read(topic)
    if topic in VERBS:
        title, _, rest = text.partition("\n")
        text = f"{title}\n\nThe options of the command: `skahactl {topic} --help`\n{rest}"
    if not is_screen(invocation.stdout, invocation.environ):
        invocation.stdout.write(pages.plain(text))
        return
    import shutil

    from skahactl.render import pager

    width = min(shutil.get_terminal_size().columns, _WIDTH)
    pager.show(pages.rendered(text, width, invocation.environ), invocation.stdout, invocation.environ)


def _show_command(command: str, subcommands: tuple[str, ...], invocation: Invocation) -> None:
    """Print the help page of a command, like ``--help``. Raises UsageError for a name that is neither a command nor a
    topic."""
    from skahactl.app import help_page
    from skahactl.invocation import similar
    from skahactl.render import pager

    if command not in VERBS:
        hint = similar(command, (*VERBS, *TOPICS)) or (
            f"the topics are {', '.join(TOPICS)}; 'skahactl --help' lists the commands"
        )
        raise UsageError(f"no command or topic '{command}'", hint=hint)
    text = help_page(command, [command, *subcommands], invocation.stdout.isatty())
    pager.show(text, invocation.stdout, invocation.environ)
