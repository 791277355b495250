"""``skahactl completion``: print or install the scripts in ``completions/``, which the package contains."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from skahactl.errors import Exit, UsageError
from skahactl.invocation import Invocation, current

Shell = Literal["bash", "zsh", "fish"]

#: The name of the script's file, so that each shell finds it.
FILES: dict[Shell, str] = {"bash": "skahactl.bash", "zsh": "_skahactl", "fish": "skahactl.fish"}

if TYPE_CHECKING:
    Word = str
    Name = str
else:  # completion offers these; the command rejects others itself
    Word = Literal["bash", "zsh", "fish", "install"] | str
    Name = Literal["bash", "zsh", "fish"] | str


def completion(
    what: Annotated[
        Word | None,
        Parameter(name="SHELL", show_choices=False, help="bash, zsh, fish, or install (default: from $SHELL)."),
    ] = None,
    for_shell: Annotated[
        Name | None, Parameter(name="FOR", show_choices=False, help="Shell to install for (default: from $SHELL).")
    ] = None,
    /,
    *,
    shell: Annotated[
        Name | None,
        Parameter(metavar="SHELL", show_choices=False, help="Shell to install for: another way to write FOR."),
    ] = None,
) -> int:
    """Print the completion script of a shell, or install it where the shell looks for it.

    Tab then completes commands, options, jobs, replicas, items, images and profiles.

    Examples:
      source <(skahactl completion bash)
      skahactl completion fish | source
      skahactl completion install
    """
    context = current()
    if for_shell is not None and shell is not None:
        raise UsageError("install takes one shell", hint=f"skahactl completion install {shell}")
    shell = for_shell or shell
    if what == "install":
        return _install(_known(shell or _login_shell(context, "install bash")), context)
    if shell is not None:
        raise UsageError("a second shell needs install", hint=f"skahactl completion install {shell}")
    context.stdout.write(script(_known(what or _login_shell(context, "bash"))))
    return Exit.DONE


def script(shell: Shell) -> str:
    """Return the script of a shell: from the installed package, else from the source tree."""
    package = Path(__file__).resolve().parent.parent
    folder = package / "completions"
    return ((folder if folder.is_dir() else package.parent / "completions") / FILES[shell]).read_text("utf-8")


def _known(word: str) -> Shell:
    for shell in FILES:
        if word == shell:
            return shell
    raise UsageError(f"no completion for '{word}'", hint="the shells are bash, zsh and fish")


def _login_shell(context: Invocation, words: str) -> str:
    """Return the shell in $SHELL. ``words``: the words of this call with a shell, for the hint if it is unknown."""
    name = Path(context.environ.get("SHELL", "")).name
    if name not in FILES:
        raise UsageError("$SHELL is not bash, zsh or fish", hint=f"skahactl completion {words}")
    return name


def _install(shell: Shell, context: Invocation) -> int:
    """Write the script to the directory where the shell looks for it, and print what remains to do."""
    from skahactl.system import write_atomically

    folder, left = _place(shell, context)
    path = folder / FILES[shell]
    write_atomically(path, script(shell).encode(), 0o644)
    context.say(f"{path}: written")
    for line in left:
        context.say(line)
    context.say("open a new shell to use it")
    return Exit.DONE


def _place(shell: Shell, context: Invocation) -> tuple[Path, list[str]]:
    """Return the directory, and instructions for the user. Startup files are never changed."""
    from skahactl.system import home, xdg_dir

    own = home(context.environ)
    data = xdg_dir(context.environ, "XDG_DATA_HOME", ".local/share")
    if shell == "fish":
        config = xdg_dir(context.environ, "XDG_CONFIG_HOME", ".config")
        return config / "fish" / "completions", []
    if shell == "bash":
        # bash-completion looks here for a file of the command's name, with or without .bash
        folder = data / "bash-completion" / "completions"
        return folder, [f"without the bash-completion package, add to ~/.bashrc: source {folder / FILES[shell]}"]
    folder = own / ".zsh" / "completions"
    return folder, [f"if it is missing in ~/.zshrc, add: fpath=({folder} $fpath); autoload -Uz compinit; compinit"]
