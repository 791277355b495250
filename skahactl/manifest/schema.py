"""The tables of a manifest, as pydantic reads them and as ``explain`` and ``schema`` tell them.

Strict: no unknown key, no value of another type. Keys are written with ``-`` where names here have ``_``.
Rules between keys are rules.py's, so that one wrong value does not hide another.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from skahactl.manifest import values

_SCALAR = {"type": ["string", "integer", "boolean"]}
_NUMBER = {"anyOf": [{"type": "number", "minimum": 1}, {"type": "string", "pattern": "\\{.+\\}"}]}
_WHOLE = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "\\{.+\\}"}]}
_SECRET = {
    "type": "object",
    "properties": {
        "from-env": {"type": "string", "description": "A variable of your own environment, read when it is sent."},
        "from-file": {"type": "string", "description": "A file, read when it is sent; its last newline is dropped."},
    },
    "additionalProperties": False,
    "minProperties": 1,
    "maxProperties": 1,
}

Scalar = Annotated[str, BeforeValidator(values.check_scalar), WithJsonSchema(_SCALAR)]
EnvValue = Annotated[
    str | dict[str, str],
    BeforeValidator(values.check_env_value),
    WithJsonSchema({"anyOf": [_SCALAR, _SECRET]}),
]
EnvName = Annotated[str, AfterValidator(values.check_variable)]
VarName = Annotated[str, AfterValidator(values.check_word)]
Amount = Annotated[float | str, BeforeValidator(values.check_amount), WithJsonSchema(_NUMBER)]
Gpus = Annotated[int | str, BeforeValidator(values.check_gpus), WithJsonSchema(_WHOLE)]
JobName = Annotated[
    str, BeforeValidator(values.check_job_name), WithJsonSchema({"type": "string", "pattern": "^[a-z][a-z0-9-]*$"})
]
Duration = Annotated[float, BeforeValidator(values.check_duration), WithJsonSchema({"type": ["string", "number"]})]
Command = Annotated[
    list[str],
    BeforeValidator(values.check_command),
    AfterValidator(values.check_filled_command),
    WithJsonSchema({"type": "array", "items": {"type": "string"}, "minItems": 1}),
]


def _key(description: str, example: str, default: Any = None) -> Any:
    return Field(default=default, description=description, examples=[example])


def _table(made: Any, description: str, example: str) -> Any:
    return Field(default_factory=made, description=description, examples=[example])


class Table(BaseModel):
    """What all tables share."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        alias_generator=lambda name: name.replace("_", "-"),
    )


class ResourcesTable(Table):
    cores: Amount | None = _key(
        "Cores of each replica. Left out: flexible, the platform gives what it can spare.", "cores = 8"
    )
    ram: Amount | None = _key("Memory of each replica in GB. Left out: flexible.", "ram = 32")
    gpus: Gpus | None = _key("GPUs of each replica. 0 is the same as left out: none.", "gpus = 1")


class ItemsTable(Table):
    file: str | None = _key("A file with one item a line.", 'file = "tile_numbers.txt"')
    glob: str | list[str] | None = _key(
        "A pattern, or a list of them: the files found, sorted by bytes; ** goes into directories.",
        'glob = "images/*.fits"',
    )
    values: list[Scalar] | None = _key("The items themselves.", 'values = ["M31", "M33"]')
    csv: str | None = _key(
        "A table with a header. Each column is a placeholder and arrives as ITEM_<COLUMN>; the first one is the item.",
        'csv = "galaxies.csv"',
    )
    matrix: dict[str, list[Scalar]] | None = _key(
        "Lists whose cross product the items are, the last key changing first. Each key is a placeholder and arrives "
        "as ITEM_<KEY>; the item is the values with commas between.",
        'matrix = { target = ["M31", "M33"], chain = [1, 2, 3, 4] }',
    )
    strategy: Literal["chunk", "stripe", "size"] = _key(
        "chunk: contiguous blocks; stripe: every N-th; size: balanced by the size of the files that the items name.",
        'strategy = "chunk"',
        "chunk",
    )
    per_replica: Annotated[int, Field(ge=1)] | None = _key(
        "At most so many items a replica, instead of 'replicas'.", "per-replica = 8"
    )
    each: bool = _key(
        "Run the command once for each item, going on after a failure. The item is {item} and $ITEM.",
        "each = true",
        False,
    )
    duplicates: bool = _key("Allow equal items, which are an error otherwise.", "duplicates = true", False)


class LimitsTable(Table):
    alive: Annotated[int, Field(ge=1)] | None = _key(
        "At most so many sessions of this job at once: Pending, Running, being created, or in doubt.", "alive = 512"
    )
    pending: Annotated[int, Field(ge=1)] | None = _key(
        "At most so many sessions of this job Pending at once.", "pending = 50"
    )
    pending_timeout: Duration | None = _key(
        "A session that is Pending for so long without a break is given up. Off unless given.",
        'pending-timeout = "2h"',
    )


class RetryTable(Table):
    attempts: Annotated[int, Field(ge=1, le=1000)] | None = _key(
        "How often a replica may be tried, the first time included; 1 unless given.", "attempts = 2"
    )


class LogsTable(Table):
    keep: Literal["all", "failed", "none"] = _key(
        "Which logs are kept here when a replica ends.", 'keep = "all"', "all"
    )


class JobTable(Table):
    name: JobName = Field(
        description="The job's name: small letters, digits and '-', a letter first.",
        examples=['name = "fits-processing"'],
    )
    image: Annotated[str, BeforeValidator(values.check_image)] = Field(
        description="The container image. Without a registry, the profile's is put before it; without a tag, :latest.",
        examples=['image = "images.canfar.net/skaha/astroml:latest"'],
    )
    kind: Literal["headless", "notebook", "desktop", "carta", "firefly", "contributed"] = _key(
        "What kind of session. All but headless are for a browser: no command, [env], [items], [retry], one replica.",
        'kind = "headless"',
        "headless",
    )
    command: Command | None = _key(
        "The program and its arguments, one text each. Left out, with no shell: what the image starts by itself.",
        'command = ["python", "process.py", "--id", "{replica}"]',
    )
    shell: Annotated[str, AfterValidator(values.check_shell)] | None = _key(
        "Instead of command: a text that bash runs.", "shell = '''process.sh {item} > {item}.log 2>&1'''"
    )
    replicas: Annotated[int, Field(ge=1, le=1_000_000)] | None = _key(
        "How many replicas; each has REPLICA_ID (1..N) and REPLICA_COUNT (N) in its environment. 1 unless given.",
        "replicas = 100",
    )
    session_name: Annotated[str, Field(min_length=1)] | None = _key(
        "How sessions are called; {name}-{replica} unless given. It is made legal, cut, and a tag is added.",
        'session-name = "{name}-{item}"',
    )
    after: list[JobName] = _table(
        list, "Jobs whose last runs must be Completed before this one starts.", 'after = ["shards"]'
    )
    resources: ResourcesTable | None = _key(
        "What each replica gets. Left out: flexible.", "[resources]\ncores = 8\nram = 32"
    )
    env: dict[EnvName, EnvValue] = _table(
        dict,
        "The environment of each replica. { from-env = ... } and { from-file = ... } are secrets: read when sent, "
        "never stored or printed.",
        '[env]\nLOG_LEVEL = "debug"\nTOKEN = { from-env = "SURVEY_TOKEN" }',
    )
    items: ItemsTable | None = _key("A work list that the replicas share out.", '[items]\nfile = "tiles.txt"')
    limits: LimitsTable = _table(LimitsTable, "Limits of this job alone.", "[limits]\nalive = 512")
    retry: RetryTable = _table(RetryTable, "New attempts after a failure.", "[retry]\nattempts = 2")
    logs: LogsTable = _table(LogsTable, "Which logs are kept here.", '[logs]\nkeep = "failed"')
    vars: dict[VarName, Scalar] = _table(
        dict, "Words for placeholders; a profile's [vars] and --var override them.", '[vars]\nsurvey = "dr6"'
    )
