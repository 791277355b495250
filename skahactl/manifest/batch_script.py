"""Read a Slurm batch script: its ``#SBATCH`` options, and its commands as a container can run them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from skahactl.manifest.placeholders import escape_placeholders
from skahactl.manifest.schema import SHELLS

#: One word of a shell: quoted parts and escapes belong to it.
WORD = r"""(?:[^\s'"\\;&|()#]|\\.|'[^']*'|"(?:[^"\\]|\\.)*")(?:[^\s'"\\;&|()]|\\.|'[^']*'|"(?:[^"\\]|\\.)*")*"""
_GAP = r"(?:[ \t]|\\\n)+"  # between two words, also across a continued line
# Where a command begins.
_BEGIN = r"(?P<before>(?:^|[;&|(!{]|\b(?:if|elif|then|else|while|until|do|time|exec)\b)[ \t]*)"

_DIRECTIVE = re.compile(r"#SBATCH\s+(.*)")
_SHEBANG = re.compile(r"#!\s*(\S+)(?:\s+(.*))?")
_WORDS = re.compile(r"""\s+|#.*|((?:[^\s'"\\]|\\.|'[^']*'|"(?:[^"\\]|\\.)*"?|'|\\)+)""")
_MODULE = re.compile(rf"{_BEGIN}(?P<command>(?:module|ml)[ \t]+[^;&|\n#]*)", re.MULTILINE)
_SRUN = re.compile(rf"{_BEGIN}srun(?={_GAP})", re.MULTILINE)
_SRUN_OPTION = re.compile(rf"{_GAP}(-{WORD})")
_SRUN_VALUE = re.compile(rf"{_GAP}({WORD})")
_HEREDOC = re.compile(r"<<-?\s*(['\"]?)(\w+)\1")

#: Options of srun that take no value.
_SRUN_FLAG_OPTIONS = """
--exclusive --exact --overlap --label --unbuffered --pty --no-kill --quiet --verbose --overcommit --multi-prog
--contiguous --wait-all-nodes -l -u -X -K -k -Q -v -O -s -E -H
"""
_SRUN_FLAGS = frozenset(_SRUN_FLAG_OPTIONS.split())

_SH = frozenset({"sh", "bash"})
_DASH_E = frozenset({"perl", "ruby", "Rscript", "julia", "node"})


@dataclass(frozen=True, slots=True)
class Option:
    """One word of an ``#SBATCH`` line, as written, with its line in the file."""

    word: str
    line: int


@dataclass(slots=True)
class BatchScript:
    """A batch script.

    Attributes:
        options: The words of all ``#SBATCH`` lines that Slurm reads, quotes kept.
        interpreter: The program of the first line, and its arguments.
        body: The commands, without the first line and the ``#SBATCH`` lines.
        lines: For each line of ``body``, its number in the file.
        ignored: Lines with an ``#SBATCH`` that Slurm does not read, because commands come before it.
    """

    options: list[Option] = field(default_factory=list)
    interpreter: list[str] = field(default_factory=list)
    body: str = ""
    lines: list[int] = field(default_factory=list)
    ignored: list[int] = field(default_factory=list)

    @property
    def program(self) -> str:
        """The name of the interpreter, such as bash."""
        words = [word for word in self.interpreter if not word.startswith("-")]
        if words and words[0].rpartition("/")[2] == "env":
            words = words[1:]
        return words[0].rpartition("/")[2] if words else "bash"

    @property
    def flags(self) -> list[str]:
        return [word for word in self.interpreter[1:] if word.startswith("-") and word != "-S"]

    @property
    def is_shell(self) -> bool:
        return self.program in _SH

    @property
    def runs_in_bash(self) -> bool:
        """Return whether ``shell`` of a manifest can run the script: it is for bash or sh, without flags."""
        return self.is_shell and not self.flags

    def line(self, text: str, offset: int) -> int:
        """Return the line in the file of an offset in ``text``, which has as many lines as the body."""
        return self.lines[min(text.count("\n", 0, offset), len(self.lines) - 1)]

    def argv(self, text: str) -> list[str] | None:
        """Return the command that runs ``text`` with the interpreter, or None for an unknown one."""
        has_c = self.program in SHELLS or self.program.startswith("python")
        option = "-c" if has_c else "-e" if self.program in _DASH_E else None
        return None if option is None else [self.program, *self.flags, option, text]


def parse_script(text: str) -> BatchScript:
    """Return the parts of a batch script. As Slurm does, it reads ``#SBATCH`` lines only above the first command."""
    script = BatchScript()
    kept: list[tuple[int, str]] = []
    commands = False
    for number, line in enumerate(text.split("\n"), start=1):
        stripped = line.strip()
        directive = _DIRECTIVE.match(line)
        if number == 1 and (shebang := _SHEBANG.match(line)):
            script.interpreter = [shebang[1], *(shebang[2] or "").split()]
        elif directive and not commands:
            script.options += [Option(word, number) for word in _split(directive[1])]
        else:
            script.ignored += [number] * (directive is not None)
            commands = commands or bool(stripped and not stripped.startswith("#"))
            kept.append((number, line))
    while kept and not kept[0][1].strip():
        kept.pop(0)
    script.lines = [number for number, _ in kept]
    script.body = "\n".join(line for _, line in kept).rstrip() + "\n" if kept else ""
    return script


def _split(text: str) -> Iterator[str]:
    """Yield the words of an option line, quotes kept, up to a comment."""
    for match in _WORDS.finditer(text):
        if match[0].startswith("#"):
            return
        if match[1]:
            yield match[1]


def unquoted(word: str) -> str:
    """Return ``word`` without the quotes and backslashes of a shell."""
    return re.sub(
        r"""'([^']*)'|"((?:[^"\\]|\\.)*)"|\\(.)""",
        lambda m: m[1] if m[1] is not None else re.sub(r'\\(["\\])', r"\1", m[2]) if m[2] is not None else m[3],
        word,
    )


@dataclass(slots=True)
class Converted:
    """Commands for a container.

    Attributes:
        text: The commands. Placeholders of a manifest that the script happens to contain are escaped.
        modules: (line, command) of each ``module`` or ``ml``, which is now an argument of ``:``.
        tasks: (line, options) of each ``srun`` that was removed.
    """

    text: str
    modules: list[tuple[int, str]] = field(default_factory=list)
    tasks: list[tuple[int, str]] = field(default_factory=list)


def for_container(script: BatchScript) -> Converted:
    """Return the commands of ``script`` without ``srun``, and with ``module`` commands switched off."""
    found = Converted(script.body)
    if script.is_shell or script.program in SHELLS:
        found.text = _without_modules(found.text, found.modules, script)
        found.text = _without_srun(found.text, found.tasks, script)
    found.text = escape_placeholders(found.text)
    return found


def _without_modules(text: str, found: list[tuple[int, str]], script: BatchScript) -> str:
    quiet = _heredocs(text)

    def switch_off(match: re.Match[str]) -> str:
        if any(begin <= match.start("command") < end for begin, end in quiet):
            return match[0]
        found.append((script.line(text, match.start("command")), match["command"].strip()))
        return f"{match['before']}: {match['command']}"

    return _MODULE.sub(switch_off, text)


def _without_srun(text: str, found: list[tuple[int, str]], script: BatchScript) -> str:
    quiet = _heredocs(text)
    pieces: list[str] = []
    at = 0
    for match in _SRUN.finditer(text):
        if match.start() < at or any(begin <= match.end() < end for begin, end in quiet):
            continue
        end, options = _srun_options(text, match.end())
        found.append((script.line(text, match.end()), " ".join(options)))
        pieces.append(text[at : match.start()] + match["before"])
        gap = re.compile(_GAP).match(text, end)
        at = gap.end() if gap else end
    return "".join(pieces) + text[at:]


def _srun_options(text: str, at: int) -> tuple[int, list[str]]:
    """Return the end of the options that begin at ``at``, and the options."""
    options: list[str] = []
    while match := _SRUN_OPTION.match(text, at):
        word, at = match[1], match.end()
        options.append(word)
        alone = "=" in word or word in _SRUN_FLAGS or (len(word) > 2 and word[1] != "-")
        if not alone and (value := _SRUN_VALUE.match(text, at)):
            options[-1] += f" {value[1]}"
            at = value.end()
    return at, options


def _heredocs(text: str) -> list[tuple[int, int]]:
    """Return (begin, end) of the text of each here-document."""
    found: list[tuple[int, int]] = []
    for match in _HEREDOC.finditer(text):
        begin = text.find("\n", match.end()) + 1
        end = re.compile(rf"^\s*{match[2]}$", re.MULTILINE).search(text, begin) if begin else None
        if end:
            found.append((begin, end.end()))
    return found
