"""``skahactl completion``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from skahactl.errors import Exit, UsageError
from skahactl.invocation import Invocation, current
from skahactl.shells import FILES, SHELLS, Shell, script

if TYPE_CHECKING:
    Word = str
    Name = str
else:  # what Tab offers; others are refused in our words
    Word = Literal["bash", "zsh", "fish", "install"] | str
    Name = Literal["bash", "zsh", "fish"] | str


def completion(
    what: Annotated[Word, Parameter(name="SHELL", show_choices=False, help="bash, zsh, fish, or install.")],
    for_shell: Annotated[
        Name | None, Parameter(name="FOR", show_choices=False, help="What to install for; your login shell.")
    ] = None,
    /,
    *,
    shell: Annotated[
        Name | None, Parameter(metavar="SHELL", show_choices=False, help="The same, as an option.")
    ] = None,
) -> int:
    """Print the completion script of a shell, or put it where the shell looks.

    Then Tab knows verbs, options, and your jobs, replicas and profiles.

    Examples:

    source <(skahactl completion bash)

    skahactl completion zsh > ~/.zsh/completions/_skahactl

    skahactl completion install
    """
    context = current()
    if for_shell is not None and shell is not None:
        raise UsageError("install takes one shell", hint=f"skahactl completion install {shell}")
    shell = for_shell or shell
    if what == "install":
        return _install(_known(shell or _login_shell(context)), context)
    if shell is not None:
        raise UsageError("a second shell belongs to install", hint=f"skahactl completion {what}, or install {shell}")
    context.stdout.write(script(_known(what)))
    return Exit.DONE


def _known(word: str) -> Shell:
    from skahactl.text import did_you_mean

    for shell in SHELLS:
        if word == shell:
            return shell
    hint = did_you_mean(word, (*SHELLS, "install")) or "there are bash, zsh and fish"
    raise UsageError(f"there is no completion for '{word}'", hint=hint)


def _login_shell(context: Invocation) -> str:
    name = Path(context.environ.get("SHELL", "")).name
    if name not in SHELLS:
        raise UsageError("which shell? $SHELL does not name bash, zsh or fish", hint="skahactl completion install bash")
    return name


def _install(shell: Shell, context: Invocation) -> int:
    """Writes the script where the shell looks, and says what is left to do."""
    from skahactl.system import write_atomically

    folder, left = _place(shell, context)
    path = folder / FILES[shell]
    write_atomically(path, script(shell).encode(), 0o644)
    context.say(f"{path}: written")
    for line in left:
        context.say(line)
    context.say("a new shell has it")
    return Exit.DONE


def _place(shell: Shell, context: Invocation) -> tuple[Path, list[str]]:
    """The directory, and what a person has to do besides. Their startup files are theirs: none is changed."""
    from skahactl.system import home

    own = home(context.environ)
    data = Path(context.environ.get("XDG_DATA_HOME") or own / ".local" / "share")
    if shell == "fish":
        config = Path(context.environ.get("XDG_CONFIG_HOME") or own / ".config")
        return config / "fish" / "completions", []
    if shell == "bash":
        # bash-completion looks here for a file of the command's name, with or without .bash
        folder = data / "bash-completion" / "completions"
        return folder, [f"without the bash-completion package, add to ~/.bashrc: source {folder / FILES[shell]}"]
    folder = own / ".zsh" / "completions"
    return folder, [
        f"if it is not there yet, add to ~/.zshrc: fpath=({folder} $fpath); autoload -Uz compinit; compinit"
    ]
