"""The man page, built from the lines of the help pages and the pages of the manual.

``python -m skahactl.manpage > skahactl/manual/skahactl.1`` writes it; a test checks that it is current. The wheel
installs it as ``share/man/man1/skahactl.1``.
"""

from __future__ import annotations

from collections.abc import Iterator

from skahactl import __version__
from skahactl.app import VERBS
from skahactl.render import pages
from skahactl.render.pages import escape_roff

#: Pages in the order of the man page; benchmarks are only in the manual.
_PAGES = (
    *("manifest", "apply", "inspecting", "retry", "split", "shared-logs", "unattended", "canfar", "profiles"),
    *("output", "exit-codes", "states", "migrating", "troubleshooting", "python"),
)
_DESCRIPTION = """\
.B skahactl
runs batch jobs on the CANFAR Science Platform, or on any other Skaha server.
A manifest describes a job: an image, a command, and a list of things to process.
.B skahactl apply
starts the sessions of the job, follows them until they finish, saves their logs, and gives each replica its share of
the list.
Without an account, it runs the same manifest as processes on this machine.
.PP
.B skahactl COMMAND \\-\\-help
shows the options of a command, and
.B skahactl help TOPIC
shows a page of the manual."""


def man_page() -> str:
    """Return the whole page in the language of troff."""
    return "\n".join(_parts()) + "\n"


def _parts() -> Iterator[str]:
    yield f'.TH SKAHACTL 1 "" "skahactl {__version__}" "User Commands"'
    yield ".SH NAME\nskahactl \\- batch jobs on the CANFAR Science Platform"
    yield ".SH SYNOPSIS\n.B skahactl\n.I COMMAND\n.RI [ OPTIONS ]"
    yield f".SH DESCRIPTION\n{_DESCRIPTION}"
    yield ".SH COMMANDS"
    for group in dict.fromkeys(place for _, _, place in VERBS.values()):
        yield f".SS {escape_roff(group or 'Help')}"
        for name, (_, line, place) in VERBS.items():
            if place == group:
                yield f".TP\n.B {name}\n{escape_roff(line)}."
    for topic in _PAGES:
        title, _, body = pages.roff(pages.read(topic)).partition("\n")
        yield f".SH {title.removeprefix('.SS ').upper()}\n{body.rstrip()}"
    yield ".SH MANUAL\n.PP\n.B skahactl help TOPIC\nshows these pages:"
    for topic in pages.topics():
        yield f".TP\n.B {escape_roff(topic)}\n{escape_roff(pages.title(topic))}"


if __name__ == "__main__":
    print(man_page(), end="")
