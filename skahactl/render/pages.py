"""The pages of the manual: their names, and their text as plain text, for a terminal, or as a man page.

The pages are the Markdown files in ``skahactl/manual``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from markdown_it.token import Token
    from rich.console import ConsoleOptions, RenderResult
    from rich.markdown import MarkdownElement

_DIRECTORY = Path(__file__).parents[1] / "manual"
_BULLET = "*"


class BlockKind(Enum):
    TITLE = "title"
    HEADING = "heading"
    TEXT = "text"
    ITEM = "item"
    TABLE = "table"
    CODE = "code"


class Emphasis(Enum):
    NONE = "none"
    CODE = "code"
    STRONG = "strong"


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of text with one emphasis; it keeps the line breaks of the file."""

    text: str
    emphasis: Emphasis = Emphasis.NONE


Spans = list[Span]


@dataclass(frozen=True, slots=True)
class PageBlock:
    """One block of a page: its text; for an item also the mark before it; for a table its rows, the header first."""

    kind: BlockKind
    spans: Spans = field(default_factory=list)
    mark: str = ""
    rows: list[list[Spans]] = field(default_factory=list)


def topics() -> list[str]:
    """Return the names of all pages, sorted."""
    return sorted(path.stem for path in _DIRECTORY.glob("*.md"))


def read(topic: str) -> str:
    """Return the Markdown of a page, with the names of other pages instead of links to them.

    Raises FileNotFoundError for an unknown page.
    """
    text = (_DIRECTORY / f"{topic}.md").read_text(encoding="utf-8")
    return re.sub(r"\[([^]]*)\]\([\w-]+\.md\)", r"\1", text)


def title(topic: str) -> str:
    """Return the title of a page."""
    return read(topic).partition("\n")[0].removeprefix("# ")


def plain(text: str) -> str:
    """Return a page as plain text: line breaks as in the file, tables in columns two spaces apart, code indented.

    Code within a sentence keeps its backticks, so that a reader sees where it ends.
    """
    parts: list[str] = []
    previous = None
    for block in blocks(text):
        separator = "\n" if block.kind is previous is BlockKind.ITEM else "\n\n"
        parts += [separator if parts else "", _plain(block)]
        previous = block.kind
    return "".join(parts) + "\n"


def rendered(text: str, width: int, environ: Mapping[str, str]) -> str:
    """Return a page for a terminal of this width in columns, with escape sequences for styles."""
    from io import StringIO

    from rich.console import Console
    from rich.markdown import CodeBlock, Markdown
    from rich.text import Text
    from rich.theme import Theme

    class UnwrappedCode(CodeBlock):
        """Code with the lines of the file: a line that is too long continues at the edge of the terminal."""

        def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
            for line in str(self.text).rstrip().split("\n"):
                yield Text(f"  {line}", no_wrap=True, overflow="ignore")

    class Page(Markdown):
        elements: ClassVar[dict[str, type[MarkdownElement]]] = {
            **Markdown.elements,
            "fence": UnwrappedCode,
            "code_block": UnwrappedCode,
        }

    # bold can be read on every background; the colours of rich cannot
    bold = ("code", "h1", "h2", "h3", "table.header")
    plain_text = ("list", "item.number", "item.bullet", "table.border", "link", "link_url", "block_quote")
    styles = {f"markdown.{name}": "bold" for name in bold} | {f"markdown.{name}": "none" for name in plain_text}
    console = Console(
        file=StringIO(),
        width=width,
        force_terminal=True,
        no_color="NO_COLOR" in environ,
        theme=Theme(styles),
        _environ=dict(environ),
    )
    with console.capture() as captured:
        console.print(Page(text, hyperlinks=False), crop=False)
    page = "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())
    return re.sub(r"\n{3,}", "\n\n", page)  # a table or code comes with a blank line of its own


def roff(text: str) -> str:
    """Return a page in the language of man pages; its title and headings are subsections."""
    return "\n".join(line for block in blocks(text) for line in _roff(block)) + "\n"


def escape_roff(text: str) -> str:
    """Escape text for troff, so that it is printed unchanged."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)


# --- Markdown to blocks ---


def blocks(text: str) -> Iterator[PageBlock]:
    """Yield the blocks of a page in order. Comments are left out."""
    from markdown_it import MarkdownIt

    tokens = iter(MarkdownIt("commonmark").enable("table").parse(text))
    mark = ""
    for token in tokens:
        match token.type:
            case "heading_open":
                kind = BlockKind.TITLE if token.tag == "h1" else BlockKind.HEADING
                yield PageBlock(kind, _spans(next(tokens)))
            case "list_item_open":
                mark = f"{token.info}." if token.info else _BULLET
            case "paragraph_open":
                yield PageBlock(BlockKind.ITEM if mark else BlockKind.TEXT, _spans(next(tokens)), mark)
                mark = ""
            case "fence":
                yield PageBlock(BlockKind.CODE, [Span(token.content.rstrip("\n"))])
            case "table_open":
                yield PageBlock(BlockKind.TABLE, rows=_rows(tokens))


def _rows(tokens: Iterator[Token]) -> list[list[Spans]]:
    """Return the rows of a table, and consume its tokens."""
    rows: list[list[Spans]] = []
    for token in tokens:
        match token.type:
            case "tr_open":
                rows.append([])
            case "inline":
                rows[-1].append(_spans(token))
            case "table_close":
                break
    return rows


def _spans(inline: Token) -> Spans:
    spans: Spans = []
    emphasis = Emphasis.NONE
    for token in inline.children or []:
        match token.type:
            case "strong_open":
                emphasis = Emphasis.STRONG
            case "strong_close":
                emphasis = Emphasis.NONE
            case "code_inline":
                spans.append(Span(token.content, Emphasis.CODE))
            case "softbreak":
                spans.append(Span("\n"))
            case "text":
                spans.append(Span(token.content, emphasis))
    return spans


# --- blocks to plain text ---


def _plain(block: PageBlock) -> str:
    text = "".join(f"`{span.text}`" if span.emphasis is Emphasis.CODE else span.text for span in block.spans)
    match block.kind:
        case BlockKind.TITLE:
            return f"{text}\n{'=' * len(text)}"
        case BlockKind.HEADING:
            return f"{text}\n{'-' * len(text)}"
        case BlockKind.ITEM:
            return f"{block.mark} " + text.replace("\n", "\n" + " " * (len(block.mark) + 1))
        case BlockKind.CODE:
            return re.sub(r"^(?=.)", "    ", text, flags=re.MULTILINE)
        case BlockKind.TABLE:
            return "\n".join(_columns([["".join(span.text for span in cell) for cell in row] for row in block.rows]))
        case BlockKind.TEXT:
            return text


def _columns(rows: list[list[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield ("  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))).rstrip()


# --- blocks to man pages ---


def _roff(block: PageBlock) -> Iterator[str]:
    text = _roff_text(block.spans)
    match block.kind:
        case BlockKind.TITLE | BlockKind.HEADING:
            yield f".SS {text}"
        case BlockKind.TEXT:
            yield from (".PP", text)
        case BlockKind.ITEM:
            mark = "\\(bu" if block.mark == _BULLET else block.mark
            yield from (f'.IP "{mark}" 4', text)
        case BlockKind.CODE:
            yield from (".PP", ".RS 4", ".nf", text, ".fi", ".RE")
        case BlockKind.TABLE:
            for term, *cells in block.rows[1:]:
                yield from (".TP", _roff_text(term), "; ".join(_roff_text(cell) for cell in cells if cell))


def _roff_text(spans: Spans) -> str:
    fonts: dict[Emphasis, Callable[[str], str]] = {
        Emphasis.NONE: str,
        Emphasis.CODE: "\\fB{}\\fR".format,
        Emphasis.STRONG: "\\fB{}\\fR".format,
    }
    text = "".join(fonts[span.emphasis](escape_roff(span.text)) for span in spans)
    return re.sub(r"\n +", "\n", text)
