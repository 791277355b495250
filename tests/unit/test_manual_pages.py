"""Pages of the manual as plain text and in the language of man pages."""

from __future__ import annotations

import re

import pytest

from skahactl.render import pages
from skahactl.render.pages import BlockKind

PAGE = """\
# Title

<!-- run -->
```sh
skahactl apply -q job.toml   # a comment

.begins with a dot
```

A paragraph with `code`, **strong words**,
and [a page](states.md) - on two lines.

| state | meaning |
|---|---|
| `Queued` | not created yet \\| or a limit |
| `Failed` | the command failed |

* one `item`
  on two lines
* another

## Heading

1. first
2. second
"""


def test_the_parts_of_a_page_in_order() -> None:
    kinds = [block.kind for block in pages.blocks(PAGE)]
    item, text, table, code = BlockKind.ITEM, BlockKind.TEXT, BlockKind.TABLE, BlockKind.CODE
    assert kinds == [BlockKind.TITLE, code, text, table, item, item, BlockKind.HEADING, item, item]


def test_plain_text() -> None:
    assert (
        pages.plain(PAGE)
        == """\
Title
=====

    skahactl apply -q job.toml   # a comment

    .begins with a dot

A paragraph with `code`, strong words,
and a page - on two lines.

  state   meaning
  Queued  not created yet | or a limit
  Failed  the command failed

* one `item`
  on two lines
* another

Heading
-------

1. first
2. second
"""
    )


def test_roff_escapes_what_troff_would_read() -> None:
    text = pages.roff(PAGE)
    assert "skahactl apply \\-q job.toml" in text
    assert "\n\\&.begins with a dot\n" in text
    assert "\\fBcode\\fR, \\fBstrong words\\fR,\nand a page \\- on two lines." in text
    assert ".TP\n\\fBQueued\\fR\nnot created yet | or a limit" in text
    assert '.IP "\\(bu" 4\none \\fBitem\\fR\non two lines' in text
    assert '.IP "1." 4\nfirst' in text


@pytest.mark.parametrize("topic", pages.topics())
def test_every_page_keeps_all_its_words_as_plain_text(topic: str) -> None:
    text = pages.plain(pages.read(topic))
    assert text.startswith(f"{pages.title(topic)}\n=====")
    source = re.sub(r"(?m)^(<!-- .* -->|```\w*)$", "", pages.read(topic)).replace("\\|", "|")
    words = {word.strip("`*|.,;:()") for word in source.split()}
    assert [word for word in words if word.isalnum() and word not in text] == []


def test_links_to_pages_become_their_names() -> None:
    assert "](" not in "".join(pages.read(topic) for topic in pages.topics())


def test_a_page_that_does_not_exist() -> None:
    with pytest.raises(FileNotFoundError):
        pages.read("nothing")


def test_code_of_a_page_is_neither_wrapped_nor_cut() -> None:
    code = "run --first " + "x" * 100 + "  # and a comment"
    shown = pages.rendered(f"# Title\n\n```sh\n{code}\n\nrun\n```\n\ntext\n", 40, {"NO_COLOR": "1"})
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown).split("\n")
    begin = plain.index(f"  {code}")
    assert plain[begin + 1 : begin + 3] == ["", "  run"]
