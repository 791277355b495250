"""The script for fish, 3.2 and later."""

from __future__ import annotations

from collections.abc import Sequence

from skahactl.shells.edits import MANIFEST_VERBS, rewritten, swapped

_HELPERS = r"""
# Helper: is a command of its own being typed, after -- of one of these verbs?
function __fish_skahactl_after_dashes
    set -l cmd (commandline -opc)
    contains -- -- $cmd; or return 1
    for verb in $argv
        contains -- $verb $cmd; and return 0
    end
    return 1
end

# Helper: manifests and directories
function __fish_skahactl_manifests
    complete -C "'' "(commandline -ct) | string match --regex '^[^\t]*(?:\.toml|/)(?:\t.*)?$'
end

# No files but where they are meant
complete -c skahactl -f
complete -c skahactl -n '__fish_skahactl_after_dashes create split' -F
complete -c skahactl -n '__fish_skahactl_using_command split' -F
"""

_WORD = """\
            # Only add to subcommands if word is a registered command name
            if string match -q -- "* $word *" " $all_commands "
                set -a subcommands $word
            end
"""

_WORD_IN_ITS_PLACE = """\
            # Only add to subcommands if it is one there
            string match -q -- "*|"(string join ' ' $subcommands $word)"|*" $all_commands; or break
            set -a subcommands $word
"""


def improved(text: str, paths: Sequence[str]) -> str:
    """The generator's script, with verbs only where verbs may be; ``paths`` are all of them."""
    text = rewritten(text, r"^    set -l all_commands '.*'$", f"    set -l all_commands '|{'|'.join(paths)}|'")
    text = swapped(text, _WORD, _WORD_IN_ITS_PLACE)
    words = "    set -l cmd (commandline -opc)\n"
    rest = "    set -l subcommands\n"
    text = swapped(text, words + rest, f"{words}    contains -- -- $cmd; and return 1\n{rest}")
    text = swapped(text, "-n __fish_use_subcommand", "-n __fish_skahactl_using_command", 0)
    text = swapped(text, "-a '(__fish_skahactl_complete)'", "-k -a '(__fish_skahactl_complete)'", 0)
    manifests = "-a '(__fish_skahactl_manifests)'"
    files = rf"(using_command (?:{'|'.join(MANIFEST_VERBS)})' (?:-l file|-s f)) -r -F"
    text = rewritten(text, files, rf"\1 -x {manifests}")
    lines = [f"complete -c skahactl -n '__fish_skahactl_using_command {verb}' {manifests}" for verb in MANIFEST_VERBS]
    text = swapped(text, "\n# Root-level commands\n", f"{_HELPERS}" + "\n".join(lines) + "\n\n# Root-level commands\n")
    return text.rstrip("\n") + "\n"
