"""The tables of a manifest, as pydantic models; ``explain`` and ``schema`` show their descriptions.

Rules between keys are in ``load.rule_findings``, so that one wrong value does not hide another.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, WithJsonSchema

from skahactl.manifest.file_format import (
    SCALAR_SCHEMA,
    Duration,
    FileFormat,
    Scalar,
    Table,
    check_scalar,
    invalid,
    show_value,
    string_for_words,
)
from skahactl.manifest.placeholders import BUILT_IN
from skahactl.model import AMOUNTS
from skahactl.text import GB_AMOUNT

Kind = Literal["headless", "notebook", "desktop", "carta", "firefly", "contributed"]
KINDS: tuple[str, ...] = get_args(Kind)
#: The keys of [items] that are a source of items.
SOURCES = ("file", "glob", "values", "range", "csv", "matrix")
#: Shells, which take the text of a script after -c.
SHELLS = frozenset({"sh", "bash", "dash", "ash", "zsh", "ksh", "fish", "csh", "tcsh"})
#: Variables that the platform sets itself, so that [env] cannot.
PLATFORM_VARIABLES = frozenset({"OMP_NUM_THREADS", "HOME", "PWD"})
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
LONGEST_NAME = 63
NAME_RULE = "letters, digits and '-'; it begins with a letter or digit; capital letters become lower case"

_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_IMAGE = re.compile(
    r"(?:[A-Za-z0-9_-]*[.:][A-Za-z0-9._:-]*/)?"  # a registry, which has a dot or a port
    r"[a-z0-9._-]+(?:/[a-z0-9._-]+)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?"
    r"(?:@(?:sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}))?"
)
_OMIT = "to run the image's own command, delete the key"
_OURS = frozenset({"REPLICA_ID", "REPLICA_COUNT"})


def check_job_name(value: object) -> object:
    """Return a job's name, in lower case."""
    if not isinstance(value, str):
        return value
    name = value.lower()
    if not _NAME.fullmatch(name):
        better = legal_job_name(value)
        raise invalid(
            f"{show_value(value)} is not a job name: {NAME_RULE}",
            f'for example "{better}"' if better else None,
        )
    if len(name) > LONGEST_NAME:
        raise invalid(f"{len(name)} characters, and the longest name has {LONGEST_NAME}")
    return name


def legal_job_name(text: str) -> str:
    """Return the valid job name that is most similar to ``text``; empty if there is none."""
    return re.sub(r"[^a-z0-9-]+", "-", text.lower()).strip("-")[:LONGEST_NAME].rstrip("-")


def check_image(value: object) -> object:
    if not isinstance(value, str) or _IMAGE.fullmatch(value):
        return value
    if not value.strip():
        raise invalid("the image is empty")
    if _IMAGE.fullmatch(value.lower()):
        raise invalid(f"image names are in lower case, only a tag can have capitals: {show_value(value)}")
    raise invalid(
        f"{show_value(value)} is not an image reference",
        "like host/project/image:tag, with letters, digits and . _ -; a digest is @sha256: and 64 digits 0-9 a-f",
    )


def check_command(value: object) -> object:
    """Reject a string in place of a list of strings, with the line to paste."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        raise invalid("the command is empty", _OMIT)
    shell = "shell = '''" + value.strip("\n") + "'''" if "'''" not in value else "shell = ..."
    raise string_for_words("command", value, shell)


#: Context of validation in which an empty first word of a command is the image's own entry point.
ENTRY_POINT = "entry point"


def check_filled_command(value: list[str], info: ValidationInfo) -> list[str]:
    if not value or not (value[0] or info.context == ENTRY_POINT):
        raise invalid("the command is empty", _OMIT)
    return value


def check_shell(value: str) -> str:
    if not value.strip():
        raise invalid("the value is empty", _OMIT)
    return value


def check_variable(name: str) -> str:
    """Check a name in [env]."""
    if not isinstance(name, str):
        return name
    if not VARIABLE.fullmatch(name):
        raise invalid(f"{show_value(name)} is not a variable name", "letters, digits and '_', not a digit first")
    if name in PLATFORM_VARIABLES or name.startswith("skaha_"):
        raise invalid(
            "the platform sets this variable itself and ignores [env]",
            f'set it in the command: command = ["env", "{name}={"4" if name == "OMP_NUM_THREADS" else "..."}", ...]',
        )
    if name in _OURS or name.startswith("SKAHACTL_"):
        raise invalid(
            "skahactl sets this variable",
            f'use another name, or command = ["env", "{name}=...", ...]',
        )
    return name


def check_env_value(value: object) -> object:
    """Check a scalar, or a table with from-env or from-file."""
    if not isinstance(value, dict):
        return check_scalar(value)
    keys = set(value)
    if len(keys) != 1 or not keys <= {"from-env", "from-file"}:
        raise invalid(
            "expected a string, or a table with one of from-env and from-file",
            'for example { from-env = "TOKEN" }',
        )
    (key, source) = next(iter(value.items()))
    if not isinstance(source, str) or not source:
        raise invalid(f"expected a string for {key}, found {show_value(source)}")
    if key == "from-env" and not VARIABLE.fullmatch(source):
        raise invalid(
            f"{show_value(source)} is not a variable name", "from-env names a variable of your own environment"
        )
    return value


def check_word(name: str) -> str:
    """Check a name in [vars]."""
    if not _WORD.fullmatch(name):
        raise invalid(
            f"{show_value(name)} is not a valid placeholder", "letters, digits, '_' and '-', not a digit first"
        )
    if name in BUILT_IN:
        raise invalid(f"{{{name}}} is a built-in placeholder", "use another name")
    return name


def check_amount(value: object, whole: bool = False) -> object:
    """Check cores or GB (a number) or GPUs (``whole``: a whole number). Text with a placeholder is valid, too."""
    kind, (least, most) = ("a whole number", AMOUNTS["gpus"]) if whole else ("a number", AMOUNTS["ram"])
    if isinstance(value, str) and "{" in value:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or (whole and isinstance(value, float)):
        plain = GB_AMOUNT.fullmatch(value) if isinstance(value, str) else None
        unit = ", in GB" if plain and plain[2] else ""
        raise invalid(
            f'expected {kind}, or a string with a placeholder such as "{{ram}}", found {show_value(value)}',
            None if plain is None else f"write it without quotes{unit}: {plain[1]}",
        )
    if not least <= value <= most:
        hint = None if whole or value > most else "for flexible allocation, delete the key"
        raise invalid(f"expected {kind} from {least} to {most:,}, found {value}", hint)
    return value


def check_array(value: str) -> str:
    """Check whole numbers in Slurm's array syntax, without a limit and without leading zeros."""
    from skahactl.manifest.arrays import parse_array

    limit = parse_array(value).limit
    if limit is not None:
        raise invalid(f"%{limit} is not part of the items", f"write alive = {limit} below [limits]")
    if found := re.search(r"(?<![0-9])0+[0-9]+", value):
        raise invalid(
            f"{found[0]}: items of a range have no zeros in front",
            'write them without, and add the zeros where they are used: printf %03d "$ITEM"',
        )
    return value


def check_above_zero(seconds: float) -> float:
    if seconds == 0:
        raise invalid("expected a duration above zero", "to switch it off, delete the key")
    return seconds


def check_shared(value: str) -> str:
    """Check the directory of the shared record."""
    from skahactl.manifest.shared_record import shared_problem

    problem = shared_problem(value)
    if problem is not None:
        raise invalid(problem, 'for example shared = "/arc/projects/survey/logs"')
    return value


_NUMBER = {"anyOf": [{"type": "number", "minimum": 1}, {"type": "string", "pattern": "\\{.+\\}"}]}
_WHOLE = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "\\{.+\\}"}]}
_SECRET = {
    "type": "object",
    "properties": {
        "from-env": {"type": "string", "description": "A variable of your environment, read when it is sent."},
        "from-file": {"type": "string", "description": "A file, read when it is sent; its last newline is removed."},
    },
    "additionalProperties": False,
    "minProperties": 1,
    "maxProperties": 1,
}

EnvValue = Annotated[
    str | dict[str, str],
    BeforeValidator(check_env_value),
    WithJsonSchema({"anyOf": [SCALAR_SCHEMA, _SECRET]}),
]
EnvName = Annotated[str, AfterValidator(check_variable)]
VarName = Annotated[str, AfterValidator(check_word)]
Amount = Annotated[float | str, BeforeValidator(check_amount), WithJsonSchema(_NUMBER)]
Ram = Annotated[
    float, Field(ge=AMOUNTS["ram"][0], le=AMOUNTS["ram"][1]), WithJsonSchema({"type": "number", "minimum": 1})
]
Gpus = Annotated[int | str, BeforeValidator(lambda value: check_amount(value, whole=True)), WithJsonSchema(_WHOLE)]
JobName = Annotated[
    str, BeforeValidator(check_job_name), WithJsonSchema({"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9-]*$"})
]
ArrayText = Annotated[str, AfterValidator(check_array)]
Command = Annotated[
    list[str],
    BeforeValidator(check_command),
    AfterValidator(check_filled_command),
    WithJsonSchema({"type": "array", "items": {"type": "string"}, "minItems": 1}),
]


def _key(description: str, example: str, default: Any = None) -> Any:
    return Field(default=default, description=description, examples=[example])


def _table(made: Any, description: str, example: str) -> Any:
    return Field(default_factory=made, description=description, examples=[example])


class ResourcesTable(Table):
    cores: Amount | None = _key(
        "Number of cores per replica (default: flexible, depending on what is free).", "cores = 8"
    )
    ram: Amount | None = _key("Memory per replica in GB (default: flexible).", "ram = 32")
    gpus: Gpus | None = _key("Number of GPUs per replica (default: 0).", "gpus = 1")


class ItemsTable(Table):
    file: str | None = _key("A file with one item per line.", 'file = "tile_numbers.txt"')
    glob: str | list[str] | None = _key(
        "A pattern or a list of patterns: the matching files, sorted by bytes; ** matches directories of any depth.",
        'glob = "images/*.fits"',
    )
    values: list[Scalar] | None = _key("A list of items.", 'values = ["M31", "M33"]')
    range: ArrayText | None = _key(
        "Whole numbers, in Slurm's array syntax: each number is an item.", 'range = "1601-3385"'
    )
    csv: str | None = _key(
        "A CSV file with a header row. Columns are placeholders and variables ITEM_<COLUMN>; the first is the item.",
        'csv = "galaxies.csv"',
    )
    matrix: dict[str, list[Scalar]] | None = _key(
        "Lists; the items are all combinations, the last key varies fastest. Keys are placeholders and variables "
        "ITEM_<KEY>; the item is the values, separated by commas.",
        'matrix = { target = ["M31", "M33"], chain = [1, 2, 3, 4] }',
    )
    strategy: Literal["chunk", "stripe", "size"] = _key(
        "How items are divided: chunk (contiguous blocks), stripe (every N-th item) or size (balanced by file size).",
        'strategy = "chunk"',
        "chunk",
    )
    per_replica: Annotated[int, Field(ge=1)] | None = _key(
        "Maximum number of items per replica, instead of 'replicas'.", "per-replica = 8"
    )
    each: bool = _key(
        "Run the command once per item, and continue after a failure. The item is {item} and $ITEM.",
        "each = true",
        False,
    )
    duplicates: bool = _key("Allow equal items (default: they are an error).", "duplicates = true", False)


class LimitsTable(Table):
    alive: Annotated[int, Field(ge=1)] | None = _key(
        "Maximum number of sessions of this job at a time: Pending, Running, Creating and Unconfirmed.", "alive = 512"
    )
    pending: Annotated[int, Field(ge=1)] | None = _key(
        "Maximum number of Pending sessions of this job at a time.", "pending = 50"
    )
    pending_timeout: Annotated[Duration, AfterValidator(check_above_zero)] | None = _key(
        "Give up a session after this long in Pending without interruption; a number without a unit means seconds "
        "(default: off).",
        'pending-timeout = "2h"',
    )
    failures: Annotated[int, Field(ge=1)] | None = _key(
        "Create nothing more after this many Failed replicas; what runs continues. At first only this number of "
        "replicas is started; the others follow when one has completed or has run for a minute. Off unless given.",
        "failures = 5",
    )


class RetryTable(Table):
    attempts: Annotated[int, Field(ge=1, le=1000)] | None = _key(
        "Maximum number of attempts per replica, including the first (default: 1).", "attempts = 2"
    )
    ram: Annotated[list[Ram], Field(min_length=1, max_length=1000)] | None = _key(
        "Memory in GB of attempts 1, 2, 3, ...; the last value repeats. Instead of resources.ram.", "ram = [4, 8, 16]"
    )


class LogsTable(Table):
    keep: Literal["all", "failed", "none"] = _key(
        "Which logs to save on this machine when a replica ends (default: all).", 'keep = "all"', "all"
    )
    shared: Annotated[str, AfterValidator(check_shared)] | None = _key(
        "A directory on shared storage, as the container sees it, to which each replica also writes its log and exit "
        "code; {name} and {user} are replaced. Off by default.",
        'shared = "/arc/projects/survey/logs"',
    )


class JobTable(Table):
    name: JobName = Field(
        description=f"The name of the job: {NAME_RULE}.",
        examples=['name = "fits-processing"'],
    )
    image: Annotated[str, BeforeValidator(check_image)] = Field(
        description="The container image. The registry defaults to that of the profile, the tag to :latest.",
        examples=['image = "images.canfar.net/skaha/astroml:latest"'],
    )
    kind: Kind = _key(
        "The kind of session. All except headless run in a browser, without command, [env], [items] or [retry].",
        'kind = "headless"',
        "headless",
    )
    command: Command | None = _key(
        "The program and its arguments, as a list (default: the command of the image).",
        'command = ["python", "process.py", "--id", "{replica}"]',
    )
    shell: Annotated[str, AfterValidator(check_shell)] | None = _key(
        "A text that bash runs, instead of command.",
        """shell = \'\'\'process.sh "$REPLICA_ID" > "part-$REPLICA_ID.txt"\'\'\'""",
    )
    replicas: Annotated[int, Field(ge=1, le=1_000_000)] | None = _key(
        "The number of replicas (default: 1). Each has the variables REPLICA_ID (1 to N) and REPLICA_COUNT (N).",
        "replicas = 100",
    )
    session_name: Annotated[str, Field(min_length=1)] | None = _key(
        "The name of the sessions (default: {name}-{replica}). Illegal characters are replaced, and a tag is appended.",
        'session-name = "{name}-{replica}"',
    )
    after: list[JobName] = _table(list, "Jobs that must be Completed before this job starts.", 'after = ["shards"]')
    resources: ResourcesTable | None = _key(
        "Resources of each replica (default: flexible).", "[resources]\ncores = 8\nram = 32"
    )
    env: dict[EnvName, EnvValue] = _table(
        dict,
        "Environment variables. { from-env = ... } and { from-file = ... } are secrets: read when sent, "
        "never stored or printed.",
        '[env]\nLOG_LEVEL = "debug"\nTOKEN = { from-env = "SURVEY_TOKEN" }',
    )
    items: ItemsTable | None = _key("A work list that is divided among the replicas.", '[items]\nfile = "tiles.txt"')
    limits: LimitsTable = _table(LimitsTable, "Limits of this job only.", "[limits]\nalive = 512")
    retry: RetryTable = _table(RetryTable, "Automatic new attempts after a failure.", "[retry]\nattempts = 2")
    logs: LogsTable = _table(LogsTable, "Which logs are saved.", '[logs]\nkeep = "failed"')
    vars: dict[VarName, Scalar] = _table(
        dict, "Values of placeholders. [vars] of a profile and --var override them.", '[vars]\nsurvey = "dr6"'
    )


#: Names that other tools use.
FOREIGN = {
    "args": "command",
    "cmd": "command",
    "script": "shell",
    "run": "shell",
    "environment": "env",
    "count": "replicas",
    "parallelism": "limits.alive",
    "completions": "replicas",
    "instances": "replicas",
    "type": "kind",
    "container": "image",
    "cpu": "resources.cores",
    "cpus": "resources.cores",
    "core": "resources.cores",
    "mem": "resources.ram",
    "memory": "resources.ram",
    "gpu": "resources.gpus",
    "retries": "retry.attempts",
    "backoff-limit": "retry.attempts",
    "max-alive": "limits.alive",
    "depends-on": "after",
    "depends": "after",
    "dependencies": "after",
    "variables": "vars",
    "list": "items.values",
    "array": "items.range",
}
_RUN_TIME = (
    'to end a program after 2 hours, write "timeout", "2h" before it in command: no key limits the run time. '
    "pending-timeout in [limits] limits the time in Pending"
)

MANIFEST = FileFormat(
    JobTable,
    FOREIGN,
    dict.fromkeys(("time", "timeout", "time-limit", "walltime", "activedeadlineseconds"), _RUN_TIME),
)
