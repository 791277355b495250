"""The script for bash, 3.2 and later."""

from __future__ import annotations

from collections.abc import Sequence

from skahactl.shells.edits import MANIFEST_VERBS, rewritten, swapped

_HELPERS = r"""
# Adds those of the words that begin with what was typed; a comma needs no quoting.
_skahactl_offer() {
  local word quoted typed="${cur//\\/}"
  for word in "$@"; do
    [[ "$word" == "$typed"* ]] || continue
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

# Files and directories; only files that end with $1, if it is given. readline quotes the names.
_skahactl_files() {
  local name typed="$cur"
  case "$typed" in
    \'*) typed="${typed//\'/}" ;;
    \"*) typed="${typed//\"/}" ;;
    *) typed="${typed//\\/}" ;;
  esac
  [[ "$typed" == \~/* ]] && typed="$HOME/${typed:2}"
  while IFS= read -r name; do
    [[ -d "$name" || -z "${1-}" || "$name" == *"${1-}" ]] && COMPREPLY+=("$name")
  done < <(compgen -f -- "$typed")
  compopt -o filenames 2>/dev/null
}
"""

_AFTER_DASHES = """\
  # What follows -- is a command of its own
  COMPREPLY=()
  for ((i=1; i<COMP_CWORD; i++)); do
    if [[ "${COMP_WORDS[i]}" == -- ]]; then
      [[ "${cmd_path[0]-}" == create || "${cmd_path[0]-}" == split ]] && _skahactl_files
      return
    fi
  done

"""

_OFFER = r"""
local -a _c=\((.*)\)
local _q
COMPREPLY=\(\)
for _x in "\$\{_c\[@\]\}"; do
  .*
done
"""

_ASK = r"""
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


def improved(text: str, paths: Sequence[str]) -> str:
    """The generator's script, with helpers instead of the same lines a hundred times; ``paths`` are all verbs."""
    text = rewritten(text, _block(_ASK), r"\1_skahactl_ask")
    text = rewritten(text, _block(_OFFER), r"\1_skahactl_offer \2")
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
    text = swapped(text, level, _AFTER_DASHES + manifests + level)
    text = swapped(text, "\n_skahactl() {\n", f"{_HELPERS}\n_skahactl() {{\n")
    return text.rstrip("\n") + "\n"


def _block(lines: str) -> str:
    """A pattern for these lines at any one indentation, which is its first group."""
    first, *rest = lines.strip("\n").split("\n")
    return "^( *)" + first + "".join(r"\n\1" + line for line in rest) + "$"
