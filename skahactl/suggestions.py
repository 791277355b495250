"""Errors for arguments that the command line cannot take, each with the command that was probably meant."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from skahactl.errors import SkahactlError, UsageError
from skahactl.invocation import current, similar, unknown_option
from skahactl.system import new_manifest
from skahactl.text import GB_AMOUNT, join_words, suggest

if TYPE_CHECKING:
    from cyclopts import CycloptsError
    from cyclopts.argument import Argument
    from cyclopts.exceptions import CoercionError, MissingArgumentError, UnknownCommandError, UnknownOptionError

#: What other tools call a command, and the command here. ``{target}`` is what the user named, or the word after the
#: bar; ``{first}`` is the first of several; ``{rest}`` is everything after the verb.
_ANSWERS = {
    "get jobs": ("list", "ls", "qstat", "condor_q", "job", "jobs"),
    "get {target|jobs} -w": ("watch", "monitor"),
    "get replicas {target|}": ("replicas", "replica", "pods", "po"),
    "get items {target|JOB}": ("items", "item"),
    "get sessions {target|}": ("sessions", "session"),
    "get stats": ("stats", "sinfo", "quota"),
    "get resources": ("resources", "context"),
    "describe {target|JOB}": ("info", "sstat", "show", "inspect", "seff", "details"),
    "logs {target|JOB}": ("cat", "log", "output"),
    "logs -f {target|JOB}": ("tail", "attach", "follow"),
    "delete {target|JOB}": (
        *("destroy", "rm", "remove", "down", "del", "cancel", "scancel", "kill", "qdel", "stop"),
        *("terminate", "condor_rm", "uninstall"),
    ),
    "diff {target|job.toml}": ("plan",),
    "validate {target|job.toml}": ("lint", "check"),
    "init {target|}": ("new", "template", "scaffold"),
    "apply {target|job.toml}": ("submit", "deploy", "install", "condor_submit"),
    "apply {target|job.toml} --wait": ("up",),
    "apply FILE --replace": ("replace",),
    "create {rest|headless IMAGE -- COMMAND}": ("launch",),
    "resume {target|JOB}": ("continue",),
    "retry {target|JOB}": ("requeue", "resubmit", "rerun-failed"),
    "profile check": ("whoami", "ping"),
    "profile list": ("profiles", "contexts"),
    "login": ("cert",),
    "create notebook IMAGE --wait": ("salloc", "sinteractive"),
}
_COMMANDS = {verb: command for command, verbs in _ANSWERS.items() for verb in verbs}

#: Verbs of other tools without a counterpart: why, and what to do.
_REASONS = {
    "a session cannot be paused; to stop creating replicas, lower [limits] alive and run: skahactl apply FILE": (
        *("hold", "pause", "suspend"),
    ),
    "sessions are never held; queued replicas start while a driver runs: skahactl resume {first|JOB}": ("release",),
    "change the manifest, and see what that means: skahactl diff FILE": ("edit", "patch"),
    "the server cannot run a command in a session; see its output with: skahactl logs {first|JOB}": ("exec", "ssh"),
    "a certificate is a file; to see where it is: skahactl profile show": ("logout",),
}
_WITHOUT = {verb: reason for reason, verbs in _REASONS.items() for verb in verbs}


def explain_argument_error(error: CycloptsError, words: Sequence[str]) -> UsageError:
    """Return a UsageError for an error of the parser about these words, with a hint."""
    from cyclopts import CoercionError, MissingArgumentError, RepeatArgumentError, UnknownCommandError
    from cyclopts.exceptions import UnknownOptionError, UnusedCliTokensError

    from skahactl.app import VERBS

    verb = next((word for word in words if not word.startswith("-")), "")
    if verb and verb not in VERBS:
        known = "--log-level" in words[: words.index(verb)]
        return unknown_option("skahactl", "--log-level", (), "see 'skahactl --help'") if known else unknown_verb(words)
    place = " ".join(error.command_chain or ()) or verb
    page = f"see 'skahactl {place} --help'" if place else "see 'skahactl --help'"
    who = place or "skahactl"
    if isinstance(error, UnknownOptionError):
        return _other_command(who, words) or _unknown_option(error, who, page)
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


def unknown_verb(words: Sequence[str]) -> UsageError:
    """Return the error for a first word that is not a verb, with the command that was probably meant."""
    from skahactl.app import VERBS

    at = next((place for place, word in enumerate(words) if not word.startswith("-")), 0)
    verb, rest = words[at], list(words[at + 1 :])
    return UsageError(f"'{verb}' is not a command", hint=_advice(verb, rest, list(VERBS)))


def _advice(verb: str, rest: list[str], verbs: list[str]) -> str:
    answer = _FUNCTIONS.get(verb)
    if answer is not None:
        return _hint(answer(rest))
    if verb in _WITHOUT:
        return _filled(_WITHOUT[verb], rest)
    if verb in _COMMANDS:
        return _hint(_filled(_COMMANDS[verb], rest))
    return similar(verb, verbs) or "'skahactl --help' lists the commands"


def _hint(command: str) -> str:
    first, _, note = command.partition("\n")
    return f"the command is: skahactl {first.strip()}" + (f" ({note})" if note else "")


def _filled(template: str, rest: Sequence[str]) -> str:
    """Fill a template such as ``logs {target|JOB}`` with what the user named, or else with JOB."""
    before, brace, after = template.partition("{")
    if not brace:
        return template
    field, _, after = after.partition("}")
    name, _, default = field.partition("|")
    given = rest if name == "rest" else _targets(rest)[: 1 if name == "first" else None]
    return f"{before}{' '.join(map(shlex.quote, given)) or default}{after}"


def _targets(rest: Sequence[str]) -> list[str]:
    """Return the words that are not options as targets: ``job/x`` becomes x, and Slurm's ``x_3`` becomes x/3."""
    before = rest[: rest.index("--")] if "--" in rest else rest
    return [_target(word) for word in before if not word.startswith("-")]


def _target(word: str) -> str:
    noun, slash, name = word.partition("/")
    if slash and noun in ("job", "jobs", "pod", "pods", "po", "deployment", "session"):
        return name
    job, underscore, number = word.rpartition("_")
    return f"{job}/{number.strip('[]')}" if underscore and number.strip("[]")[:1].isdecimal() else word


def _value(rest: Sequence[str], *names: str) -> str | None:
    """Return the value of one of these options: ``-j X``, ``-jX``, ``--job X`` or ``--job=X``."""
    for at, word in enumerate(rest):
        for name in names:
            if word == name:
                return next(iter(rest[at + 1 :]), None)
            if name.startswith("--") and word.startswith(f"{name}="):
                return word[len(name) + 1 :]
            if not name.startswith("--") and word.startswith(name) and len(word) > 2:
                return word[2:]
    return None


def _ps(rest: list[str]) -> str:
    """Return the command for ``canfar ps``, which lists sessions that have not ended; -q and -o were read before the
    verb."""
    asked = current()
    state = _value(rest, "-s", "--status")
    if asked.quiet:
        return "get sessions -o name"
    if asked.output != "table" or _value(rest, "-k", "--kind"):
        return "get sessions -o json"
    if state:
        return f"get sessions --state {state}"
    return "get sessions" if {"-a", "--all"} & {*rest} else "get sessions --state Pending,Running"


def _images(rest: list[str]) -> str:
    return "get images -o json" if {"-k", "--kind"} & {*rest} else "get images"


def _top(rest: list[str]) -> str:
    return "get stats" if _targets(rest)[:1] in (["node"], ["nodes"], ["no"]) else "get sessions -o wide"


#: The words of canfar and kubectl for servers and credentials, and the commands of ``profile`` with the same effect.
_PROFILE_COMMANDS = {
    "show": ("show", "get", "set", "view", "path", "current-context"),
    "use {target|NAME}": ("use", "use-context", "use-server"),
    "remove {target|NAME}": ("rm", "remove", "purge", "delete-context"),
}


def _profile(rest: list[str]) -> str:
    """Return the command for ``auth use X``, ``config get KEY`` or ``server ls``."""
    word = next(iter(rest), "")
    for command, words in _PROFILE_COMMANDS.items():
        if word in words:
            return f"profile {_filled(command, rest[1:])}"
    return "profile list"


def _auth(rest: list[str]) -> str:
    return _profile(rest) if rest and rest[0] not in ("login", "refresh") else "login"


def _restart(rest: list[str]) -> str:
    """Return the command that runs a whole job again from the manifest in its record, and the one that retries failed
    replicas."""
    name = next(iter(_targets(rest)), None)
    if name is not None and name.endswith(".toml"):
        return f"apply {shlex.quote(name)} --rerun"
    retry = f"\nonly what failed: skahactl retry {name or 'JOB'}"
    return f"apply {shlex.quote(_manifest_of(name) or 'FILE')} --rerun{retry}"


def _manifest_of(job: str | None) -> str | None:
    """Return the manifest of the last run of a job; as a relative path if it is below the working directory."""
    if job is None:
        return None
    from skahactl.ledger.database import read_ledger
    from skahactl.ledger.runs import job_keys, last_run
    from skahactl.system import state_dir

    try:
        with read_ledger(state_dir(current().environ)) as ledger:
            runs = [last_run(ledger, key) for key in job_keys(ledger) if key.name == job.partition("/")[0]]
    except SkahactlError:
        return None
    path = next((run.manifest for run in runs if run is not None and run.manifest), None)
    return None if path is None else path.removeprefix(f"{current().cwd}/")


def _of_job(command: str, rest: list[str]) -> str:
    """Return ``command`` for the job in ``squeue -j X`` or ``sacct --name X``; without a job, ``get jobs``."""
    job = _value(rest, "-j", "--jobs", "--job", "-n", "--name")
    return f"{command} {_target(job)}" if job else "get jobs"


def _scancel(rest: list[str]) -> str:
    name = _value(rest, "-n", "--name", "--jobname")
    if name:
        return f"delete {_target(name)}"
    if _value(rest, "-u", "--user"):
        return "get jobs --state Running,Pending,Queued -o name | xargs -r skahactl delete"
    return _filled("delete {target|JOB}", rest)


def _scontrol(rest: list[str]) -> str:
    targets = _targets(rest[1:])
    if rest[:1] == ["requeue"]:
        return f"retry {' '.join(targets) or 'JOB'}"
    return f"describe {' '.join(targets[1:] if targets[:1] == ['job'] else targets) or 'JOB'}"


def _status(rest: list[str]) -> str:
    targets = _targets(rest)
    return f"describe {' '.join(targets)}" if targets else "get jobs"


def _rollout(rest: list[str]) -> str:
    what, targets = next(iter(rest), ""), _targets(rest[1:])
    if what == "restart":
        return _restart(targets)
    return f"{'wait' if what == 'status' else 'describe'} {' '.join(targets) or 'JOB'}"


def _run(rest: list[str]) -> str:
    """Return the command for ``gh run ...``, ``kubectl run NAME --image=I -- CMD`` or ``docker run IMAGE CMD``."""
    from skahactl.commands.create import KINDS

    what, image = next(iter(rest), ""), _value(rest, "--image")
    targets = " ".join(_targets(rest[1:])) or "JOB"
    if what.endswith(".toml"):
        return f"apply {shlex.join(rest)}"
    if what in KINDS:
        return f"create {shlex.join(rest)}"
    if image:
        command = shlex.join(rest[rest.index("--") + 1 :]) if "--" in rest else ""
        return f"create headless {image} -n {what}" + (f" -- {command}" if command else "")
    failed = " --failed" if "--log-failed" in rest else ""
    found = {
        "view": f"logs {targets}{failed}" if failed or "--log" in rest else f"describe {targets}",
        "list": "get jobs",
        "ls": "get jobs",
        "watch": f"get {targets} -w",
        "rerun": f"retry {targets}",
        "cancel": f"delete {targets}",
    }
    words = shlex.join(word for word in rest if word != "--")
    return found.get(what) or f"create headless {words or 'IMAGE -- COMMAND'}"


def _sbatch(rest: list[str]) -> str:
    """Return the command that converts a batch script. ``--array=1-10%2 --wrap C`` is a job of 10 replicas, 2 at a
    time."""
    from skahactl.manifest.arrays import parse_array
    from skahactl.manifest.sbatch import script_words

    array, command = _value(rest, "-a", "--array") or "1", _value(rest, "--wrap")
    scripts = script_words(rest)
    if command is None and scripts and scripts[0].endswith(".toml"):
        return f"apply {shlex.quote(scripts[0])}"
    if command is None:
        script = scripts[0] if scripts else "script.sh"
        note = "" if scripts == rest else "\noptions are read from #SBATCH lines of the script alone: add yours there"
        return f"init --from-sbatch {shlex.quote(script)} > {shlex.quote(new_manifest(script, current().cwd))}{note}"
    try:
        indices = parse_array(array)
    except ValueError as error:
        return f"create headless IMAGE -r N -- sh -c {shlex.quote(command)}\n{error}"
    name, count = _value(rest, "-J", "--job-name"), len(indices)
    options = (f" -n {name}" if name else "") + (f" -r {count}" if count > 1 else "")
    notes = []
    if indices.parts != (range(1, count + 1),):
        numbers = array.partition("%")[0]
        notes.append(
            f'REPLICA_ID is 1 to {count}; for the numbers {numbers}: range = "{numbers}" below [items] in a manifest'
        )
    if indices.limit:
        notes.append(f"at most {indices.limit} at a time: alive = {indices.limit} below [limits] in a manifest")
    return f"create headless IMAGE{options} -- sh -c {shlex.quote(command)}" + "\n" * bool(notes) + "; ".join(notes)


def _srun(rest: list[str]) -> str:
    count = _value(rest, "-n", "--ntasks")
    words = [word for word in rest if not word.startswith("-") and word != count]
    return f"create headless IMAGE{f' -r {count}' if count else ''} --wait -- {shlex.join(words) or 'COMMAND'}"


def _scale(rest: list[str]) -> str:
    count = _value(rest, "--replicas") or "N"
    run = f"skahactl apply FILE --set replicas={count}"
    return f"diff FILE --set replicas={count}\nthen: {run}, with --rerun after the end of the run or with --replace"


def _copy(rest: list[str]) -> str:
    job = next((word.partition(":")[0] for word in rest if ":" in word), "JOB")
    return f"logs {shlex.quote(_target(job))} --save DIR\nfor logs; sessions share /arc, where you find their files"


def _start(rest: list[str]) -> str:
    targets = _targets(rest)
    if targets and targets[0].endswith(".toml"):
        return f"apply {' '.join(targets)}"
    return f"resume {' '.join(targets) or 'JOB'}"


_FUNCTIONS: dict[str, Callable[[list[str]], str]] = {
    "ps": _ps,
    "top": _top,
    "image": _images,
    "images": _images,
    "auth": _auth,
    "config": _profile,
    "server": _profile,
    "restart": _restart,
    "rerun": _restart,
    "squeue": partial(_of_job, "get replicas"),
    "sacct": partial(_of_job, "describe"),
    "scancel": _scancel,
    "scontrol": _scontrol,
    "qsub": _sbatch,
    "status": _status,
    "rollout": _rollout,
    "run": _run,
    "sbatch": _sbatch,
    "srun": _srun,
    "scale": _scale,
    "cp": _copy,
    "start": _start,
}


def _other_command(who: str, words: Sequence[str]) -> UsageError | None:
    """Return the error for an option of kubectl, with the command that has the same effect."""
    manifest = _value(words, "-f", "--file", "--filename") if who == "create" else None
    if manifest is not None:
        return UsageError("create has no option '-f'", hint=f"the command is: {suggest('apply', '-f', manifest)}")
    label = _value(words, "-l", "--selector") if who == "get" else None
    if label is not None:
        job = label.rpartition("=")[2] if "name=" in label else "JOB"
        hint = f"sessions have no labels here; the command is: {suggest('get', 'replicas', job)}"
        return UsageError("get has no option '-l'", hint=hint)
    selector = (_value(words, "--field-selector") if who == "get" else None) or ""
    field, _, selected = selector.rpartition("=")
    if field.endswith(("state", "status", "phase")):
        rest = [word for word in words if word != selector and not word.startswith("--field-selector")]
        hint = f"the command is: {suggest(*rest, '--state', selected)}"
        return UsageError("get has no option '--field-selector'", hint=hint)
    return _one_item(who, words)


def _one_item(who: str, words: Sequence[str]) -> UsageError | None:
    """Return the error for ``--item X``, an option of logs, with ``retry`` or ``mark``: with the command that has the
    same effect."""
    item = _value(words, "--item") if who in ("retry", "mark") else None
    if item is None:
        return None
    rest = [word for word in words if word not in ("--item", item, f"--item={item}")]
    hint = f"--items takes a list: echo {shlex.quote(item)} | {suggest(*rest, '--items', '-')}"
    return UsageError(f"{who} has no option '--item'", hint=hint)


def _unknown_option(error: UnknownOptionError, who: str, page: str) -> UsageError:
    name = (error.token.keyword or error.token.value).partition("=")[0]
    known = [option for argument in error.argument_collection for option in argument.names if option.startswith("--")]
    return unknown_option(who, name, known, page)


def _unknown_command(error: UnknownCommandError, who: str, page: str) -> UsageError:
    word = (error.unused_tokens or [""])[0]
    if word.startswith("-"):
        return unknown_option(who, word, ["--version"] if who == "skahactl" else [], page)
    known = [name for name in error.app or () if not name.startswith("-")]
    return UsageError(f"{who} has no command '{word}'", hint=similar(word, known) or page)


def _missing(error: MissingArgumentError, who: str, page: str) -> UsageError:
    """Return the error for a missing argument, with the first example of the help page."""
    from skahactl.app import examples

    argument = error.argument
    if argument is None or argument.index is None:
        return UsageError(f"{error.keyword or 'an option'} needs a value", hint=page)
    shown = examples((error.target.__doc__ if error.target else None) or "")
    name = argument.name.lstrip("-").upper()
    return UsageError(f"{who}: missing argument {name}", hint=f"example: {shown[0]}" if shown else page)


def _invalid_value(error: CoercionError, page: str) -> UsageError:
    name = _name(error.argument) if error.argument is not None else "the value"
    value = error.token.value if error.token is not None else ""
    choices = error.argument.get_choices(force=True) if error.argument is not None else None
    if choices:
        return UsageError(f"{name} is {join_words(choices, 'or')}, not '{value}'", hint=similar(value, choices) or page)
    kinds = {int: "a whole number", float: "a number", bool: "true or false"}
    kind = kinds.get(error.target_type or str, "something else")
    if name == "--dry-run":
        kind = "client, server or none"
    if error.argument is not None and error.argument.parameter.metavar == "GB":
        kind = "a number of GB"
        amount = GB_AMOUNT.fullmatch(value)
        page = f"write {name} {amount[1]}" if amount else page
    return UsageError(f"{name} is {kind}, not '{value}'", hint=page)


def _name(argument: Argument) -> str:
    """Return the long option, or the name of a positional argument."""
    options = [name for name in argument.names if name.startswith("--")]
    return options[0] if options else argument.name
