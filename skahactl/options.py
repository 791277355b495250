"""The options that go everywhere, taken from argv before or after the verb; and what a wrong word is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from skahactl.context import OUTPUTS
from skahactl.errors import UsageError
from skahactl.words import nearest

_VALUED = {"-p": "profile", "--profile": "profile", "-o": "output", "--output": "output", "--log-file": "log_file"}
_FLAGS = {"-q": ("quiet", 1), "--quiet": ("quiet", 1), "-v": ("verbose", 1), "-vv": ("verbose", 2)}
_FLAGS["--verbose"] = ("verbose", 1)

#: What other tools call it, and what it is called here.
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
    "squeue": "get replicas --state Running,Pending",
    "sacct": "get replicas JOB",
    "sinfo": "get stats",
    "status": "get jobs",
    "top": "get sessions -o wide",
    "stats": "get stats",
    "images": "get images",
    "start": "resume JOB",
    "log": "logs JOB",
    "tail": "logs -f JOB",
    "rerun": "apply --rerun job.toml",
    "rollout": "wait JOB",
    "config": "profile list",
    "auth": "login",
    "context": "get resources",
    "open": "describe SESSION (it shows the URL)",
}


def take_globals(argv: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The fields of Context that argv sets, and the words that remain. Nothing after ``--`` is looked at."""
    taken: dict[str, Any] = {}
    words: list[str] = []
    at = 0
    if argv[:1] == ["__complete"]:
        return taken, list(argv)
    while at < len(argv):
        word = argv[at]
        at += 1
        if word == "--":
            if words[:1] == ["split"]:  # which has lists before it, of any number
                taken["command"] = tuple(argv[at:])
                break
            words += [word, *argv[at:]]
            break
        name, equals, value = word.partition("=")
        if word in _FLAGS:
            field, amount = _FLAGS[word]
            taken[field] = True if field == "quiet" else taken.get(field, 0) + amount
        elif name in _VALUED and (equals or word == name):
            if not equals:
                if at == len(argv):
                    raise UsageError(f"{word} needs a value")
                value = argv[at]
                at += 1
            taken[_VALUED[name]] = value
        else:
            words.append(word)
    if taken.get("output", "table") not in OUTPUTS:
        guess = nearest(taken["output"], OUTPUTS)
        raise UsageError(
            f"there is no output format '{taken['output']}'",
            hint=(f"did you mean '{guess}'? " if guess else "") + "the formats are " + ", ".join(OUTPUTS),
        )
    return taken, words


def explained(error: Exception, words: Sequence[str]) -> UsageError:
    """A parser's complaint as one clear message, with the nearest word or another tool's word in ours."""
    from skahactl.verbs import VERBS

    verb = next((word for word in words if not word.startswith("-")), "")
    if verb and verb not in VERBS:
        return UsageError(f"there is no command '{verb}'", hint=_advice(verb, words, list(VERBS)))
    text = " ".join(str(error).split())
    return UsageError(text, hint=f"see 'skahactl {verb} --help'" if verb else "see 'skahactl --help'")


def _advice(verb: str, words: Sequence[str], verbs: list[str]) -> str:
    if verb == "prune" and len(words) > 1:
        return "here that is: skahactl delete JOB"
    if verb in FOREIGN:
        return f"here that is: skahactl {FOREIGN[verb]}"
    guess = nearest(verb, verbs)
    return f"did you mean '{guess}'?" if guess else "see 'skahactl --help'"
