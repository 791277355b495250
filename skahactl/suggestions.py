"""Errors for arguments that the command line cannot take, each with the command that was probably meant."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from cyclopts import CoercionError, CycloptsError, MissingArgumentError, RepeatArgumentError, UnknownCommandError
from cyclopts.exceptions import UnknownOptionError, UnusedCliTokensError

from skahactl.errors import UsageError
from skahactl.text import did_you_mean

if TYPE_CHECKING:
    from cyclopts.argument import Argument


#: What other tools call it, and what it is called here; a noun in the singular is found by its plural.
FOREIGN = {
    "ps": "get sessions",
    "list": "get jobs",
    "ls": "get jobs",
    "info": "describe SESSION",
    "run": "create headless IMAGE -- COMMAND",
    "submit": "apply job.toml",
    "launch": "create headless IMAGE -- COMMAND",
    "sbatch": "apply job.toml",
    "srun": "create headless IMAGE --wait -- COMMAND",
    "cancel": "delete JOB",
    "scancel": "delete JOB",
    "kill": "delete JOB",
    "stop": "delete JOB",
    "rm": "delete JOB",
    "remove": "delete JOB",
    "squeue": "get replicas --state Running,Pending",
    "sacct": "get replicas JOB",
    "sinfo": "get stats",
    "status": "get jobs",
    "top": "get sessions -o wide",
    "stats": "get stats",
    "images": "get images",
    "jobs": "get jobs",
    "replicas": "get replicas",
    "items": "get items JOB",
    "sessions": "get sessions",
    "resources": "get resources",
    "start": "resume JOB",
    "log": "logs JOB",
    "cat": "logs JOB",
    "tail": "logs -f JOB",
    "watch": "get jobs -w",
    "rerun": "apply --rerun job.toml",
    "restart": "apply --rerun job.toml",
    "replace": "apply --replace job.toml",
    "requeue": "retry JOB",
    "resubmit": "retry JOB",
    "release": "retry JOB",
    "scontrol": "describe JOB (scontrol requeue: retry JOB)",
    "pods": "get replicas",
    "rollout": "wait JOB",
    "config": "profile list",
    "auth": "login",
    "server": "profile list",
    "version": "--version",
    "context": "get resources",
    "open": "describe SESSION (it shows the URL)",
}

#: Verbs of other tools that nothing here answers to.
_NOTHING = {
    "pause": "sessions cannot be paused; skahactl delete JOB ends them",
    "suspend": "sessions cannot be paused; skahactl delete JOB ends them",
    "logout": "there is nothing to log out of; a certificate is a file ('skahactl profile show' names it)",
}

#: Options of other tools whose sense is had in another way.
_NOT_HERE = {
    ("logs", "--since"): "lines of a log have no time of their own; --tail N shows the last ones",
    ("events", "--since"): "the platform keeps events for about an hour; all of them are shown",
    ("apply", "--force"): "--replace ends the run that goes on, and starts the next",
}

_EVERYWHERE = ("--profile", "--output", "--quiet", "--verbose", "--log-file", "--help")


def explain_argument_error(error: CycloptsError, words: Sequence[str]) -> UsageError:
    """The parser's complaint about these words in ours."""
    from skahactl.app import VERBS

    verb = next((word for word in words if not word.startswith("-")), "")
    if verb and verb not in VERBS:
        return UsageError(f"there is no command '{verb}'", hint=_advice(verb, words, list(VERBS)))
    place = " ".join(error.command_chain or ()) or verb
    page = f"see 'skahactl {place} --help'" if place else "see 'skahactl --help'"
    who = place or "skahactl"
    if isinstance(error, UnknownOptionError):
        return _unknown_option(error, who, page)
    if isinstance(error, UnknownCommandError):
        return _unknown_command(error, who, page)
    if isinstance(error, CoercionError):
        return _invalid_value(error, page)
    if isinstance(error, MissingArgumentError):
        return _missing(error, who, page)
    if isinstance(error, RepeatArgumentError):
        return UsageError(f"{error.token.keyword} was given more than once", hint=page)
    if isinstance(error, UnusedCliTokensError):
        return UsageError(f"{who} does not take '{' '.join(error.unused_tokens or ())}'", hint=page)
    error.verbose = False
    return UsageError(" ".join(str(error).split()), hint=page)


def _advice(verb: str, words: Sequence[str], verbs: list[str]) -> str:
    if verb == "help":
        asked = next((f"{word} " for word in words if word in verbs), "")
        return f"here that is: skahactl {asked}--help"
    if verb in _NOTHING:
        return _NOTHING[verb]
    if here := FOREIGN.get(verb) or FOREIGN.get(verb + "s"):
        return f"here that is: skahactl {here}"
    return did_you_mean(verb, verbs) or "'skahactl --help' lists the commands"


def _unknown_option(error: UnknownOptionError, who: str, page: str) -> UsageError:
    name = (error.token.keyword or error.token.value).partition("=")[0]
    if (who, name) in _NOT_HERE:
        return UsageError(f"{who} has no option '{name}'", hint=_NOT_HERE[who, name])
    known = [option for argument in error.argument_collection for option in argument.names if option.startswith("--")]
    return _no_option(name, known, who, page)


def _unknown_command(error: UnknownCommandError, who: str, page: str) -> UsageError:
    word = (error.unused_tokens or [""])[0]
    if word.startswith("-"):
        return _no_option(word, [], who, page)
    known = [name for name in error.app or () if not name.startswith("-")]
    return UsageError(f"{who} has no command '{word}'", hint=did_you_mean(word, known) or page)


def _no_option(name: str, known: Sequence[str], who: str, page: str) -> UsageError:
    of_all = ("--version",) if who == "skahactl" else ()
    return UsageError(f"{who} has no option '{name}'", hint=did_you_mean(name, [*known, *_EVERYWHERE, *of_all]) or page)


def _missing(error: MissingArgumentError, who: str, page: str) -> UsageError:
    """An example says more than a rule: the first of the help page."""
    from skahactl.app import examples

    argument = error.argument
    if argument is None or argument.index is None:
        return UsageError(f"{error.keyword or 'an option'} needs a value", hint=page)
    shown = examples((error.target.__doc__ if error.target else None) or "")
    return UsageError(f"{who} needs {_name(argument)}", hint=f"as in: {shown[0]}" if shown else page)


def _invalid_value(error: CoercionError, page: str) -> UsageError:
    name = _name(error.argument) if error.argument is not None else "the value"
    value = error.token.value if error.token is not None else ""
    choices = error.argument.get_choices(force=True) if error.argument is not None else None
    if choices:
        hint = did_you_mean(value, choices) or page
        return UsageError(f"{name} takes {_or(choices)}, not '{value}'", hint=hint)
    kind = {int: "a whole number", float: "a number"}.get(error.target_type or str, "something else")
    return UsageError(f"{name} takes {kind}, not '{value}'", hint=page)


def _name(argument: Argument) -> str:
    """As it is written: the long option, or the argument's word."""
    options = [name for name in argument.names if name.startswith("--")]
    return options[0] if options else argument.name


def _or(words: Iterable[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last
