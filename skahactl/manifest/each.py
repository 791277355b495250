"""``each = true``: a few lines of sh that run a command once an item, and the marks they leave in the log.

The script goes on after a failure and exits with 1 if any item failed. After each item it prints a mark at the end
of a line (what the program wrote last may lack its newline), so that a later attempt runs only what did not end
with 0. TERM, INT and HUP end the item that runs, without a mark, and the script. Plain POSIX sh: dash and busybox do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from skahactl.job import Each
from skahactl.manifest.template import Template, quoted

#: The longest mark: positions have at most nine digits, exit codes three.
_LONGEST = len(b"::skahactl item 123456789 exit 123\r")
_MARK = re.compile(rb"::skahactl item (\d{1,9}) exit (\d{1,3})\r?\n")

_SCRIPT = """\
bad=0
trap 'trap "" TERM INT HUP; kill -TERM "$!" 2>/dev/null; wait; exit 143' TERM INT HUP
while [ "$#" -gt 0 ]; do
(
{exports}exec {command}
) &
wait "$!"
code=$?
[ "$code" -eq 0 ] || bad=1
echo "::skahactl item $1 exit $code"
shift {width}
done
exit "$bad"
"""


def command(each: Each, positions: Sequence[int]) -> tuple[str, ...]:
    """The argv that runs the items at these positions, from 1, of the replica's own items."""
    words: list[str] = ["sh", "-c", each.script, "skahactl"]
    for position in positions:
        words.append(str(position))
        words += each.rows[position - 1]
    return tuple(words)


def script(
    argv: Sequence[Template],
    env: Sequence[tuple[str, Template]],
    columns: Sequence[str],
    values: Mapping[str, str],
) -> str:
    """The script of one replica.

    ``env`` are the variables that differ by item; ITEM and ITEM_* are exported besides. ``columns`` name the
    parameters of an item after its position, none for a plain list; ``values`` are the words that all items share.
    """
    parameters = {word: _parameters(word, columns) for word in _words(columns)}
    exports = [("ITEM", parameters["item"]), *((variable(name), parameters[f"item.{name}"]) for name in columns)]
    exports += [(key, template.shell(values, parameters.__getitem__)) for key, template in env]
    return _SCRIPT.format(
        exports="".join(f"{key}={text}\nexport {key}\n" for key, text in exports),
        command=" ".join(template.shell(values, parameters.__getitem__) for template in argv),
        width=1 + max(1, len(columns)),
    )


def variable(column: str) -> str:
    """The environment variable of a column: ``ITEM_RA_DEG`` for ``ra deg``."""
    return "ITEM_" + re.sub(r"[^A-Z0-9_]", "_", column.upper())


def ends(chunks: Iterable[bytes]) -> Iterator[tuple[int, int]]:
    """(position, exit code) of each mark in a log, in order, whatever the chunks; a few bytes are held at a time.

    A mark counts when its line is complete: a cut one may have lost a digit.
    """
    rest = b""
    for chunk in chunks:
        text = rest + chunk
        last = 0
        for mark in _MARK.finditer(text):
            last = mark.end()
            yield int(mark[1]), int(mark[2])
        rest = text[max(last, len(text) - _LONGEST) :]


def _words(columns: Sequence[str]) -> list[str]:
    return ["item", *columns, *(f"item.{name}" for name in columns)]


def _parameters(word: str, columns: Sequence[str]) -> str:
    """What stands for a placeholder in the script: a positional parameter, quoted."""
    name = word.removeprefix("item.") if word != "item" else None
    return f'"${{{2 + list(columns).index(name)}}}"' if name is not None and columns else '"${2}"'


__all__ = ["command", "ends", "quoted", "script", "variable"]
