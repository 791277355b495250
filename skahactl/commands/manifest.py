"""``skahactl validate``, ``skahactl schema`` and ``skahactl explain``."""

from __future__ import annotations

import copy
import shlex
import textwrap
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from cyclopts import Parameter

from skahactl import completers
from skahactl.commands.params import Files, Manifest, Sets, Variables
from skahactl.commands.runtime import read_manifests
from skahactl.errors import Exit, ProfileError, UsageError
from skahactl.invocation import Invocation, current
from skahactl.schemas import SHAPES
from skahactl.spelling import nearest

if TYPE_CHECKING:
    from skahactl.model import Job
    from skahactl.profile import Profile


def validate(*manifests: Manifest, file: Files = None, sets: Sets = None, variables: Variables = None) -> int:
    """Check manifests and report mistakes, as many at once as possible. It needs no network, local record or secrets.

    Examples:
      skahactl validate job.toml
      skahactl validate stages/ --set replicas=10
    """
    from skahactl.manifest.load import env_variables as parsed
    from skahactl.manifest.resolve import read
    from skahactl.skaha.encoding import problems

    context = current()
    paths = read_manifests("validate", manifests, file)
    words = parsed(variables or [])
    jobs = read(paths, _profile(context), sets=sets or [], variables=words, stdin=context.stdin, check=problems)
    for warning in dict.fromkeys(warning for job in jobs for warning in job.warnings):
        context.warn(f"note: {warning}")
    _show(jobs, context)
    for job in jobs:
        if not job.replicas:
            context.warn(f"note: {job.name}: the list of items is empty, so apply has nothing to do")
        _show_wrapped(job, context)
    return Exit.DONE


def _show_wrapped(job: Job, context: Invocation) -> None:
    """Print where replicas write their shared record; with ``-v``, also the command with its wrapper."""
    from skahactl.manifest.shared_record import wrapped_request

    if job.shared is None or not job.replicas:
        return
    first = job.replicas[0]
    request = wrapped_request(job, first.request, first.number, "RUN")
    more = "replica 1 runs:" if context.verbose else "-v shows the command with its wrapper"
    context.say(f"{job.name}: replicas write logs and exit codes to {request.command[4]}; {more}")
    if context.verbose:
        context.say(shlex.join(request.command))


def _profile(context: Invocation) -> Profile:
    """Return the selected profile, or an empty one if none is selected: manifests can be checked without a profile."""
    from skahactl.profile import LOCAL_SERVER, Profile
    from skahactl.profiles import choose

    try:
        return choose(context.profile, context.environ)
    except ProfileError:
        if context.profile is not None or context.environ.get("SKAHACTL_PROFILE"):
            raise
        context.say("note: checked without a profile, since none is chosen; its defaults and [vars] may matter")
        return Profile("none", LOCAL_SERVER)


def _show(jobs: tuple[Job, ...], context: Invocation) -> None:
    """Print one line per job, or data: name, replicas, items (null without [items]), manifest."""
    if not context.machine_readable:
        for job in jobs:
            context.out(job.name if context.output == "name" else _line(job))
        return
    from skahactl.render.tables import data_text

    rows = [
        {"name": job.name, "replicas": len(job.replicas), "items": _items(job), "manifest": job.manifest}
        for job in jobs
    ]
    context.data(data_text(context.output, rows if context.output == "jsonl" else {"jobs": rows}))


def _line(job: Job) -> str:
    from skahactl.text import count_noun

    parts = [job.name, job.kind, count_noun(len(job.replicas), "replica")]
    if _items(job) is not None:
        parts.append(count_noun(_items(job) or 0, "item"))
    parts.append(job.image)
    return "  ".join(parts)


def _items(job: Job) -> int | None:
    """Return how many items the job has; None without [items]."""
    return sum(len(replica.items) for replica in job.replicas) if "items" in job.content else None


if TYPE_CHECKING:
    Shape = str
else:
    Shape = Literal[("manifest", *SHAPES)] | str


def schema(
    shape: Annotated[
        Shape | None,
        Parameter(
            name="SHAPE",
            show_choices=False,
            help="manifest (default), or what -o json prints: jobs, replicas, items, outcome, error, profile, ...",
        ),
    ] = None,
    /,
) -> int:
    """Print the JSON schema of manifests, with which an editor completes and checks them, or of the output of -o json.

    Name it in the first line of a manifest: #:schema ./skahactl.schema.json

    Examples:
      skahactl schema > skahactl.schema.json
      skahactl schema jobs
    """
    import json

    from skahactl.schemas import json_schema_of

    if shape is not None and shape not in ("manifest", *SHAPES):
        from skahactl.spelling import did_you_mean

        hint = did_you_mean(shape, SHAPES) or f"the shapes are manifest, {', '.join(SHAPES)}"
        raise UsageError(f"there is no schema '{shape}'", hint=hint)
    found = json_schema() if shape in (None, "manifest") else json_schema_of(shape)
    current().out(json.dumps(found, indent=2, ensure_ascii=False))
    return Exit.DONE


if TYPE_CHECKING:
    Key = str
else:
    Key = Literal[completers.key_words()] | str


def explain(
    key: Annotated[
        Key | None, Parameter(name="KEY", show_choices=False, help="A dotted key (default: list all keys).")
    ] = None,
    /,
) -> int:
    """Explain a key of the manifest: its meaning, its type and an example.

    Examples:
      skahactl explain resources.cores
      skahactl explain items
      skahactl explain
    """
    from skahactl.render.tables import data_text

    context = current()
    if key is not None:
        found = explain_key(key)
        context.data(data_text(context.output, asdict(found)) if context.machine_readable else f"{found.text()}\n")
        return Exit.DONE
    known = manifest_keys()
    if context.machine_readable:
        rows = [{"key": name, "description": meaning} for name, meaning in known.items()]
        context.data(data_text(context.output, rows if context.output == "jsonl" else {"keys": rows}))
        return Exit.DONE
    width = max(map(len, known)) + 2
    for name, meaning in known.items():
        context.out(f"{name:<{width}}{meaning}")
    return Exit.DONE


#: The dialect of the schema.
DIALECT = "https://json-schema.org/draft/2020-12/schema"
#: The identity of the schema. It is a name, not an address: editors read the file that a manifest names.
MANIFEST_SCHEMA_ID = "urn:skahactl:manifest"

_COMMON = "Settings that all jobs of this file share; keys of a job override them. All keys of a job except name."
_JOB = "One of several jobs in a file, with the keys that a manifest of one job has at its top level."
_TYPES = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a table",
}


def json_schema() -> dict[str, object]:
    """Return the JSON Schema of a manifest with one or more jobs."""
    job = cast(dict[str, Any], _without_examples(_schema()))
    definitions = job.pop("$defs")
    common = copy.deepcopy(job)
    common["required"] = []
    del common["properties"]["name"]
    definitions |= {
        "Job": {**job, "required": ["name"], "title": "A job", "description": _JOB},
        "Common": {**common, "title": "Common keys", "description": _COMMON},
    }
    properties = {
        **job["properties"],
        "common": {"$ref": "#/$defs/Common"},
        "job": {"type": "array", "items": {"$ref": "#/$defs/Job"}, "minItems": 1, "description": _JOB},
    }
    return {
        "$schema": DIALECT,
        "$id": MANIFEST_SCHEMA_ID,
        "title": "skahactl manifest",
        "type": "object",
        "properties": properties,
        "anyOf": [{"required": ["name", "image"]}, {"required": ["job"]}],
        "additionalProperties": False,
        "$defs": definitions,
    }


def manifest_keys() -> dict[str, str]:
    """Return every dotted key with the first sentence of its description."""
    found: dict[str, str] = {}
    root = _schema()
    for name, part in root["properties"].items():
        found[name] = _first(part["description"])
        for inner, below in _explain_table(root, part).items():
            found[f"{name}.{inner}"] = _first(below["description"])
    return found | {"common": _first(_COMMON), "job": _first(_JOB)}


@dataclass(frozen=True, slots=True)
class KeyExplanation:
    """The meaning of a key of the manifest. ``keys``: the keys of a table, each with its meaning."""

    key: str
    type: str
    required: bool
    description: str
    keys: tuple[dict[str, str], ...]
    example: str

    def text(self) -> str:
        lines = [f"{self.key}: {self.type}; {'required' if self.required else 'optional'}", ""]
        lines += textwrap.wrap(self.description, 78)
        if self.keys:
            width = max(len(row["key"]) for row in self.keys) + 2
            lines += ["", *(f"  {row['key']:<{width}}{row['description']}" for row in self.keys)]
        return "\n".join([*lines, "", *(f"  {line}".rstrip() for line in self.example.split("\n"))])


def explain_key(key: str) -> KeyExplanation:
    """Return the meaning of ``key`` (``resources.cores``), its possible values, and an example.

    Raises:
        UsageError: the key does not exist; the error names the nearest one.
    """
    known = manifest_keys()
    name = key.strip().strip("[]").replace("_", "-")
    if name in ("common", "job"):
        kind = "a table" if name == "common" else "a list of tables"
        return KeyExplanation(name, kind, False, _COMMON if name == "common" else _JOB, (), _SEVERAL)
    for several in ("common.", "job."):
        name = name.removeprefix(several)
    if name.startswith(("env.", "vars.")):
        name = name.partition(".")[0]
    if name not in known:
        raise _unknown(key, name, known)
    root = _schema()
    part = root["properties"][name.partition(".")[0]]
    inner = _explain_table(root, part)
    if "." in name:
        part, inner = inner[name.partition(".")[2]], {}
    rows = tuple({"key": one, "description": _first(below["description"])} for one, below in inner.items())
    return KeyExplanation(
        name, _kind(root, part), name in root["required"], part["description"], rows, part["examples"][0]
    )


_SEVERAL = """\
[common]
image = "images.canfar.net/skaha/astroml:latest"

[[job]]
name = "shards"
replicas = 40

[[job]]
name = "merge"
after = ["shards"]"""


def _unknown(key: str, name: str, known: dict[str, str]) -> UsageError:
    last = name.rpartition(".")[2]
    same = [one for one in known if one.rpartition(".")[2] == last]
    from skahactl.manifest.schema import MANIFEST

    if last in MANIFEST.advice:
        return UsageError(f"unknown key '{key}'", hint=MANIFEST.advice[last])
    guess = same[0] if same else MANIFEST.foreign.get(last)
    if guess is None and name not in ("pod", "pods", "node", "nodes"):  # 'kubectl explain' has these
        # the last word of a key counts like the whole key: 'cors' means resources.cores
        close = nearest(name, [*known, *(one.rpartition(".")[2] for one in known)])
        guess = next((one for one in known if close in (one, one.rpartition(".")[2])), None)
    hint = f"did you mean '{guess}'?" if guess else "'skahactl explain' lists all keys"
    return UsageError(f"unknown key '{key}'", hint=hint)


def _schema() -> dict[str, Any]:
    from skahactl.manifest.schema import JobTable

    return cast(dict[str, Any], _plain(JobTable.model_json_schema(by_alias=True)))


def _plain(part: object) -> object:
    """Remove the titles that pydantic derives from names, and null from the choices: TOML has no null."""
    if isinstance(part, list):
        return [_plain(one) for one in part if one != {"type": "null"}]
    if not isinstance(part, dict):
        return part
    made = {key: _plain(value) for key, value in part.items() if not _noise(key, value)}
    choices = made.get("anyOf")
    if isinstance(choices, list) and len(choices) == 1:
        made = {**choices[0], **{key: value for key, value in made.items() if key != "anyOf"}}
    return made


def _without_examples(part: object) -> object:
    """Remove the examples: they are lines of TOML, and an editor would take them for values."""
    if isinstance(part, list):
        return [_without_examples(one) for one in part]
    if not isinstance(part, dict):
        return part
    return {key: _without_examples(value) for key, value in part.items() if key != "examples"}


def _noise(key: str, value: object) -> bool:
    return (key == "title" and isinstance(value, str)) or (key == "default" and value in (None, {}, []))


def _explain_table(root: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of the table ``part``; none if it is not a table with fixed keys."""
    name = part.get("$ref", "").rpartition("/")[2]
    return cast(dict[str, Any], root["$defs"][name]["properties"]) if name else {}


def _kind(root: dict[str, Any], part: dict[str, Any]) -> str:
    """Return the type of a key in words."""
    if "$ref" in part:
        return "a table"
    if "enum" in part:
        return "one of " + ", ".join(part["enum"])
    if "anyOf" in part:
        return " or ".join(dict.fromkeys(_kind(root, one) for one in part["anyOf"]))
    if "pattern" in part and "{" in part["pattern"]:
        return "text with a placeholder"
    kinds = part.get("type", "object")
    return " or ".join(_TYPES[kind] for kind in ([kinds] if isinstance(kinds, str) else kinds))


def _first(text: str) -> str:
    return text.partition(". ")[0].rstrip(".")
