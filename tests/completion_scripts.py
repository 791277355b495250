"""Writes the completion scripts in ``completions/``: ``python -m tests.completion_scripts``.

They are what cyclopts generates, changed in a few places: it takes every word that equals some verb for one, and knows
nothing about manifests, directories, commands after ``--`` and the order of answers. A change of its text that these
rules do not fit is an error here, and never reaches a user.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from cyclopts import App

from skahactl.app import app
from skahactl.commands.completion import FILES, Shell

FOLDER = Path(__file__).resolve().parent.parent / "completions"
#: Verbs whose files are manifests: ``*.toml`` and directories.
MANIFEST_VERBS = ("apply", "diff", "validate")


def script(shell: Shell) -> str:
    """The script for one shell; imports every verb."""
    root = app(completing=True)
    text = root.generate_completion(shell=shell)
    scripts: dict[Shell, Callable[[str, Sequence[str]], str]] = {
        "bash": bash_script,
        "zsh": zsh_script,
        "fish": fish_script,
    }
    return scripts[shell](text, sorted(_paths(root)))


def _paths(app: App, before: str = "") -> Iterator[str]:
    """Every verb, and every verb with a word below it, as ``profile list``."""
    for name in app:
        if not name.startswith("-"):
            yield before + name
            yield from _paths(app[name], f"{before}{name} ")


def swapped(text: str, old: str, new: str, count: int = 1) -> str:
    """``old`` replaced by ``new``, which must be there ``count`` times; 0 is any number but none."""
    found = text.count(old)
    if not found or (count and found != count):
        raise RuntimeError(f"the generator of completion scripts has changed: {found} times {old!r}")
    return text.replace(old, new)


def rewritten(text: str, pattern: str, new: str) -> str:
    """Every match of ``pattern``, at least one, replaced; ^ and $ are ends of lines."""
    text, count = re.subn(pattern, new, text, flags=re.MULTILINE)
    if not count:
        raise RuntimeError(f"the generator of completion scripts has changed: no {pattern!r}")
    return text


BASH_HELPERS = r"""
# Adds those of the words that begin with what was typed; a comma needs no quoting.
_skahactl_offer() {
  local word quoted typed="${cur//\\/}"
  for word in "$@"; do
    [[ "$word" == "$typed"* ]] || continue
    [[ "$word" != *= ]] || compopt -o nospace 2>/dev/null
    printf -v quoted '%q' "$word"
    COMPREPLY+=("${quoted//\\,/,}")
  done
}

# Asks skahactl itself for jobs, replicas, profiles; the newest first.
_skahactl_ask() {
  local line command="${COMP_WORDS[0]}"
  local -a found=()
  type -P "$command" >/dev/null 2>&1 || [[ -x "$command" ]] || command=skahactl
  while IFS= read -r line; do
    [[ "$line" == $'\x1f'begin ]] && { found=(); continue; }
    [[ "$line" == $'\x1f'* || -z "$line" ]] && continue
    found+=("${line%%$'\t'*}")
  done < <("$command" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
  compopt -o nosort 2>/dev/null
  [[ ${#found[@]} -eq 0 ]] || _skahactl_offer "${found[@]}"
}

# Files and directories, directories alone after --save; only files that end with $1, if it is given. readline quotes
# the names.
_skahactl_files() {
  local name typed="$cur"
  case "$typed" in
    \'*) typed="${typed//\'/}" ;;
    \"*) typed="${typed//\"/}" ;;
    *) typed="${typed//\\/}" ;;
  esac
  [[ "$typed" == \~/* ]] && typed="$HOME/${typed:2}"
  while IFS= read -r name; do
    [[ -d "$name" || ( "$prev" != --save && ( -z "${1-}" || "$name" == *"${1-}" ) ) ]] && COMPREPLY+=("$name")
  done < <(compgen -f -- "$typed")
  compopt -o filenames 2>/dev/null
}
"""

BASH_WORDS = r"""
# Completes words with colons, such as images: readline takes a colon for a word, and inserts only what follows it.
_skahactl_words() {
  local -a words=()
  local i word n=-1
  for ((i=0; i<=COMP_CWORD; i++)); do
    word="${COMP_WORDS[i]}"
    if (( i > 1 )) && [[ "$COMP_WORDBREAKS" == *:* && ( "$word" == :* || "${words[n]}" == *: ) ]]; then
      words[n]+="$word"
    else
      words[++n]="$word"
    fi
  done
  local -a COMP_WORDS=("${words[@]}")
  local COMP_CWORD=$n
  _skahactl
  word="${words[n]}"
  [[ "$COMP_WORDBREAKS" != *:* || "$word" != *:* ]] || COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*:}"}"}")
}

complete -F _skahactl_words skahactl
"""

BASH_AFTER_DASHES = """\
  # What follows -- is a command of its own
  COMPREPLY=()
  for ((i=1; i<COMP_CWORD; i++)); do
    if [[ "${COMP_WORDS[i]}" == -- ]]; then
      [[ "${cmd_path[0]-}" == create || "${cmd_path[0]-}" == split ]] || return
      _skahactl_files
      (( i + 1 == COMP_CWORD )) && COMPREPLY+=($(compgen -c -- "$cur"))
      return
    fi
  done

"""

BASH_OFFER = r"""
local -a _c=\((.*)\)
local _q
COMPREPLY=\(\)
for _x in "\$\{_c\[@\]\}"; do
  .*
done
"""

BASH_ASK = r"""
local -a _c=\(\)
local _line
local _q
local _cmd=.*
type -P .*
while .*
  .*
  .*
  .*
  .*
done < <\("\$_cmd" __complete .*
COMPREPLY=\(\)
for _x in "\$\{_c\[@\]\}"; do
  .*
done
"""


def bash_script(text: str, paths: Sequence[str]) -> str:
    """The generator's script, with helpers instead of the same lines a hundred times; ``paths`` are all verbs."""
    text = rewritten(text, _block(BASH_ASK), r"\1_skahactl_ask")
    text = rewritten(text, _block(BASH_OFFER), r"\1_skahactl_offer \2")
    files = r'^( *)COMPREPLY=\( \$\(compgen -f -- "\$\{cur\}"\) \)$'
    text = rewritten(text, files, r'\1_skahactl_files "$manifests"')
    text = rewritten(text, r"^  local all_commands='.*'$", f"  local all_commands='|{'|'.join(paths)}|'")
    text = swapped(
        text,
        '      if [[ " $all_commands " =~ " $word " ]]; then\n        cmd_path+=("$word")\n      fi\n',
        '      [[ "$all_commands" == *"|${cmd_path[*]-}${cmd_path[0]:+ }$word|"* ]] || break\n'
        '      cmd_path+=("$word")\n',
    )
    text = swapped(text, 'case "${cmd_path[@]}" in', 'case "${cmd_path[*]-}" in', 0)  # for a shell with set -u
    text = swapped(text, "  local cur prev\n", "  local cur prev i manifests=\n")
    text = swapped(text, "  local i skip_next=0\n", "  local skip_next=0\n")
    verbs = " | ".join(MANIFEST_VERBS)
    manifests = f'  case "${{cmd_path[0]-}}" in\n    {verbs}) manifests=.toml ;;\n  esac\n\n'
    level = "  # Determine command level"
    text = swapped(text, level, BASH_AFTER_DASHES + manifests + level)
    text = swapped(text, "\n_skahactl() {\n", f"{BASH_HELPERS}\n_skahactl() {{\n")
    text = swapped(text, "\ncomplete -F _skahactl skahactl\n", BASH_WORDS)
    return text.rstrip("\n") + "\n"


def _block(lines: str) -> str:
    """A pattern for these lines at any one indentation, which is its first group."""
    first, *rest = lines.strip("\n").split("\n")
    return "^( *)" + first + "".join(r"\n\1" + line for line in rest) + "$"


FISH_HELPERS = r"""
# Helper: is a command of its own being typed, after -- of one of these verbs?
function __fish_skahactl_after_dashes
    set -l cmd (commandline -opc)
    contains -- -- $cmd; or return 1
    for verb in $argv
        contains -- $verb $cmd; and return 0
    end
    return 1
end

# Helper: the command after --, completed as the shell completes any command
function __fish_skahactl_command
    set -l cmd (commandline -opc)
    set -l at (contains -i -- -- $cmd)
    set -l words $cmd[(math $at + 1)..-1] (commandline -ct)
    complete -C (string join ' ' -- (string escape -- $words[1..-2]) $words[-1])
end

# Helper: manifests and directories
function __fish_skahactl_manifests
    complete -C "'' "(commandline -ct) | string match --regex '^[^\t]*(?:\.toml|/)(?:\t.*)?$'
end

# No files but where they are meant
complete -c skahactl -f
complete -c skahactl -n '__fish_skahactl_after_dashes create split' -x -a '(__fish_skahactl_command)'
complete -c skahactl -n '__fish_skahactl_using_command split' -F
"""

FISH_WORD = """\
            # Only add to subcommands if word is a registered command name
            if string match -q -- "* $word *" " $all_commands "
                set -a subcommands $word
            end
"""

FISH_WORD_IN_ITS_PLACE = """\
            # Only add to subcommands if it is one there
            string match -q -- "*|"(string join ' ' $subcommands $word)"|*" $all_commands; or break
            set -a subcommands $word
"""


def fish_script(text: str, paths: Sequence[str]) -> str:
    """The generator's script, with verbs only where verbs may be; ``paths`` are all of them."""
    text = rewritten(text, r"^    set -l all_commands '.*'$", f"    set -l all_commands '|{'|'.join(paths)}|'")
    text = swapped(text, FISH_WORD, FISH_WORD_IN_ITS_PLACE)
    words = "    set -l cmd (commandline -opc)\n"
    rest = "    set -l subcommands\n"
    text = swapped(text, words + rest, f"{words}    contains -- -- $cmd; and return 1\n{rest}")
    text = swapped(text, "-n __fish_use_subcommand", "-n __fish_skahactl_using_command", 0)
    text = rewritten(text, r" -r -d '", " -x -d '")  # no files where a value is something else
    text = rewritten(text, r" -l save -r -F ", " -l save -x -a '(__fish_complete_directories (commandline -ct))' ")
    # the description of an option is not that of each of its values
    option = r"^(complete -c skahactl -n .* (?:-l|-s) \S+) -x -a ('.*?') (-d '.*')$"
    text = rewritten(text, option, r"\1 -x \3\n\1 -x -a \2")
    text = swapped(text, "-a '(__fish_skahactl_complete)'", "-k -a '(__fish_skahactl_complete)'", 0)
    manifests = "-a '(__fish_skahactl_manifests)'"
    files = rf"(using_command (?:{'|'.join(MANIFEST_VERBS)})' (?:-l file|-s f)) -r -F"
    text = rewritten(text, files, rf"\1 -x {manifests}")
    lines = [f"complete -c skahactl -n '__fish_skahactl_using_command {verb}' {manifests}" for verb in MANIFEST_VERBS]
    text = swapped(
        text, "\n# Root-level commands\n", f"{FISH_HELPERS}" + "\n".join(lines) + "\n\n# Root-level commands\n"
    )
    return text.rstrip("\n") + "\n"


ZSH_AFTER_DASHES = """\
  # What follows -- is a command of its own
  if (( ${words[(Ie)--]} && ${words[(Ie)--]} < CURRENT )); then
    (( ${words[(Ie)create]} || ${words[(Ie)split]} )) || return
    CURRENT=$(( CURRENT - ${words[(Ie)--]} ))
    words=("${(@)words[${words[(Ie)--]} + 1,-1]}")
    _normal
    return
  fi

"""

ZSH_END = """
# As the file of an autoloaded function it is called to complete; read by source it registers itself.
if [[ "${funcstack[1]}" == _skahactl ]]; then
  _skahactl "$@"
else
  (( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
  compdef _skahactl skahactl
fi
"""


def zsh_script(text: str, paths: Sequence[str]) -> str:
    """The generator's script, under the name that its file has, and in the order that skahactl answers in."""
    text = swapped(text, "_cyclopts_skahactl", "_skahactl", 0)
    text = swapped(text, "compadd -d _cyc_disp -a", "compadd -V skahactl -d _cyc_disp -a")
    text = swapped(text, "  local line state\n", f"  local line state\n\n{ZSH_AFTER_DASHES}")
    # options after a verb are the verb's: else zsh takes them out of the words that the verb is looked for in
    text = swapped(text, "_arguments -C \\\n", '_arguments -C -A "-*" \\\n', 0)
    return _manifests_only(text).rstrip("\n") + "\n" + ZSH_END


def _manifests_only(text: str) -> str:
    """Of files only ``*.toml``, besides directories, for verbs that take manifests."""
    verb = ""
    lines = []
    for line in text.split("\n"):
        found = re.match(r" {8}(\S+)\)$", line)
        verb = found[1] if found else verb
        if verb in MANIFEST_VERBS:
            line = line.replace(":_files'", """:_files -g "*.toml(-.)"'""")
        if "'*--save[" in line:
            line = line.replace(":_files'", ":_path_files -/'")  # _files offers all files if no directory fits
        lines.append(line)
    return swapped("\n".join(lines), """:_files -g "*.toml(-.)"'""", """:_files -g "*.toml(-.)"'""", 0)


def main() -> None:
    for shell, name in FILES.items():
        (FOLDER / name).write_text(script(shell), encoding="utf-8")


if __name__ == "__main__":
    main()
