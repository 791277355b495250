"""Write manifests to begin with: templates with every key, and converted batch scripts."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from skahactl.manifest.file_format import keys_of
from skahactl.manifest.schema import JobTable
from skahactl.toml import toml_value

#: A comment for editors: the file with the schema of manifests, in the same directory.
SCHEMA_LINE = "#:schema ./skahactl.schema.json"
_ABOUT_SCHEMA = "The line above is for editors. To write its file: skahactl schema > skahactl.schema.json"

IMAGE = "images.canfar.net/skaha/astroml:latest"
WIDTH = 92


@dataclass(frozen=True, slots=True)
class Setting:
    """The value of one key, as TOML text, and a comment for the end of its line."""

    value: str
    comment: str = ""


Settings = Mapping[str, Setting]  # by dotted key, such as resources.cores


_FOLDER = '"/arc/projects/my-project"'
_ARRAY = {
    "name": '"my-array"',
    "image": toml_value(IMAGE),
    "command": '["python3", "{folder}/process.py", "--tile", "{item}"]',
    "vars.folder": _FOLDER,
    "resources.cores": "2",
    "resources.ram": "8",
    "items.range": '"1-100"',
    "items.per-replica": "1",
    "limits.alive": "16",
    "retry.attempts": "2",
}
_LIST = {
    "name": '"my-list"',
    "image": toml_value(IMAGE),
    "command": '["python3", "{folder}/process.py", "--tile", "{item}"]',
    "vars.folder": _FOLDER,
    "replicas": "2",
    "resources.cores": "2",
    "resources.ram": "8",
    "items.values": '["271.281", "271.285", "272.101"]',
    "items.each": "true",
    "retry.attempts": "2",
}
_SHELL = {
    "name": '"my-job"',
    "image": toml_value(IMAGE),
    "shell": "'''\nset -euo pipefail\ncd \"{folder}\"\n"
    'python3 process.py --part "$REPLICA_ID" --of "$REPLICA_COUNT" > "part-$REPLICA_ID.log" 2>&1\n\'\'\'',
    "vars.folder": _FOLDER,
    "replicas": "4",
    "resources.cores": "2",
    "resources.ram": "8",
}
_NOTEBOOK = {
    "name": '"my-notebook"',
    "image": toml_value(IMAGE),
    "kind": '"notebook"',
    "resources.cores": "2",
    "resources.ram": "8",
}

#: Template: the keys that it sets.
TEMPLATES: Mapping[str, Mapping[str, str]] = {"array": _ARRAY, "list": _LIST, "shell": _SHELL, "notebook": _NOTEBOOK}

_ABOUT = {
    "array": "Runs a command for each number of a range, one session per number.",
    "list": "Divides a list of items among sessions, and runs a command once per item.",
    "shell": "Runs a few lines of bash in each of several sessions.",
    "notebook": "Starts a notebook, and prints its address.",
}
_REHEARSE = {
    "array": "--var folder=. --set items.range=1-2",
    "list": "--var folder=. --set 'items.values=[\"271.281\"]'",
    "shell": "--var folder=. --set replicas=1",
}
_NEXT = """\
Check it:    skahactl validate job.toml
Preview it:  skahactl apply job.toml -p canfar --dry-run
Run it:      skahactl apply job.toml -p canfar --wait
A key that begins with # is off. To learn more about a key: skahactl explain KEY"""

_HEADLESS_ONLY = frozenset({"command", "shell", "replicas", "env", "items", "retry"})


def template(name: str, answers: Mapping[str, str] | None = None) -> str:
    """Return the manifest of a template with every key of its kind.

    ``answers`` replace values; they are TOML text, and an empty one switches its key off.
    """
    values = {**TEMPLATES[name], **(answers or {})}
    settings = {key: Setting(value) for key, value in values.items() if value}
    hidden = _HEADLESS_ONLY if name == "notebook" else frozenset[str]()
    options = _REHEARSE.get(name)
    rehearse = (
        [f"Rehearse it: skahactl apply job.toml -p local {options} --set name=try --rerun --wait"] if options else []
    )
    return "\n".join(
        [*_header([_ABOUT[name], *rehearse, *_NEXT.split("\n")]), "", *_every_key(JobTable, settings, hidden)]
    )


def manifest_text(settings: Settings, header: Sequence[str]) -> str:
    """Return a manifest with exactly these keys, below ``header`` as comments."""
    lines = _header(header)
    for table in dict.fromkeys(_table(key) for key in _ordered(settings)):
        lines += ["", *([f"[{table}]"] if table else [])]
        lines += [_line(key, settings[key]) for key in _ordered(settings) if _table(key) == table]
    return "\n".join([*lines, ""])


def _header(lines: Sequence[str]) -> list[str]:
    return [SCHEMA_LINE, *(f"# {line}".rstrip() for line in [_ABOUT_SCHEMA, "", *lines])]


def _ordered(settings: Settings) -> list[str]:
    """Return the keys in the order of the schema, the top of the file first."""
    names = list(keys_of(JobTable))
    return sorted(settings, key=lambda key: ("." in key, names.index(key.partition(".")[0])))


def _table(key: str) -> str:
    return key.partition(".")[0] if "." in key else ""


def _line(key: str, setting: Setting) -> str:
    text = f"{key.partition('.')[2] or key} = {setting.value}"
    return f"{text}  # {setting.comment}" if setting.comment else text


def _every_key(
    model: type[BaseModel], settings: Settings, hidden: frozenset[str] = frozenset(), table: str = ""
) -> Iterator[str]:
    """Yield the lines of a table: every key with its description; those without a setting are comments."""
    models = keys_of(model)
    fields = {
        name: field for name, field in zip(models, model.model_fields.values(), strict=True) if name not in hidden
    }
    for name, field in sorted(fields.items(), key=lambda item: _example(item[1]).startswith("[")):  # tables come last
        dotted = f"{table}.{name}".lstrip(".")
        below = [key for key in settings if _table(key) == dotted]
        yield from (f"# {line}" for line in textwrap.wrap(str(field.description), WIDTH))
        if (inner := models[name]) is not None:
            yield f"[{name}]" if below else f"#[{name}]"
            yield from _every_key(inner, settings, table=name)
            continue
        if dotted in settings:
            yield _line(dotted, settings[dotted])
        elif below:
            yield from [f"[{name}]", *(_line(key, settings[key]) for key in below)]
        else:
            yield from (f"#{line}" for line in _example(field).split("\n"))
        yield ""


def _example(field: FieldInfo) -> str:
    return str((field.examples or [""])[0])
