"""The script for zsh: a file ``_skahactl`` in fpath, or read by ``source``."""

from __future__ import annotations

import re

from skahactl.shells.edits import MANIFEST_VERBS, swapped

_AFTER_DASHES = """\
  # What follows -- is a command of its own
  if (( ${words[(Ie)--]} && ${words[(Ie)--]} < CURRENT )); then
    (( ${words[(Ie)create]} || ${words[(Ie)split]} )) && _files
    return
  fi

"""

_END = """
# As the file of an autoloaded function it is called to complete; read by source it registers itself.
if [[ "${funcstack[1]}" == _skahactl ]]; then
  _skahactl "$@"
else
  (( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
  compdef _skahactl skahactl
fi
"""


def improved(text: str) -> str:
    """The generator's script, under the name that its file has, and in the order that skahactl answers in."""
    text = swapped(text, "_cyclopts_skahactl", "_skahactl", 0)
    text = swapped(text, "compadd -d _cyc_disp -a", "compadd -V skahactl -d _cyc_disp -a")
    text = swapped(text, "  local line state\n", f"  local line state\n\n{_AFTER_DASHES}")
    # options after a verb are the verb's: else zsh takes them out of the words that the verb is looked for in
    text = swapped(text, "_arguments -C \\\n", '_arguments -C -A "-*" \\\n', 0)
    return _manifests_only(text).rstrip("\n") + "\n" + _END


def _manifests_only(text: str) -> str:
    """Of files only ``*.toml``, besides directories, for verbs that take manifests."""
    verb = ""
    lines = []
    for line in text.split("\n"):
        found = re.match(r" {8}(\S+)\)$", line)
        verb = found[1] if found else verb
        if verb in MANIFEST_VERBS:
            line = line.replace(":_files'", """:_files -g "*.toml(-.)"'""")
        lines.append(line)
    return swapped("\n".join(lines), """:_files -g "*.toml(-.)"'""", """:_files -g "*.toml(-.)"'""", 0)
