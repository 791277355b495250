"""Check the tables of a TOML file (a manifest or a profile) with a pydantic model, with one set of messages.

Models are strict: unknown keys and values of another type are errors. Keys have ``-`` where names have ``_``.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, NamedTuple, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError

from skahactl.errors import Guess
from skahactl.manifest.syntax import Path, dotted_key
from skahactl.spelling import did_you_mean, distance
from skahactl.text import parse_duration


class Table(BaseModel):
    """Settings of all tables."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        alias_generator=lambda name: name.replace("_", "-"),
    )


class Finding(NamedTuple):
    """A mistake at a key: of its value, or of the key itself."""

    path: Path
    message: str
    hint: str | None = None
    at_key: bool = False


def invalid(message: str, hint: str | None = None) -> PydanticCustomError:
    """Return an error with our message."""
    # a tuple: pydantic encodes strings, and those of the command line can contain lone surrogates
    return PydanticCustomError("skahactl", "invalid", {"finding": (message, hint)})


#: Characters of a command that only a shell understands.
_SHELL_ONLY = re.compile(r"[$|<>;&*`\n]")


def string_for_words(key: str, text: str, shell: str) -> PydanticCustomError:
    """Return the error for a string where ``key`` takes the list of its words, with the line to paste.

    ``shell`` is the line for a text that only a shell understands.
    """
    if _SHELL_ONLY.search(text):
        return invalid("expected a list of words, found a string that needs a shell", f"write {shell}")
    try:
        words = shlex.split(text)
    except ValueError:
        return invalid("expected a list of words, found a string", f"write {shell}")
    return invalid("expected a list of words, found a string", f"write {key} = {list_text(words)}")


def list_text(words: Sequence[str]) -> str:
    """Return a list of strings as TOML."""
    return f"[{', '.join(json.dumps(word, ensure_ascii=False) for word in words)}]"


def show_value(value: object) -> str:
    """Return a value as the user wrote it, shortened."""
    if isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
        return text if len(text) <= 60 else text[:56] + '..."'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "a table"
    return "a list" if isinstance(value, list) else str(value)


def check_scalar(value: object) -> object:
    """Convert a string, an integer or a boolean to text.

    A float or a date must be a string, because it has many forms.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return value
    if isinstance(value, dict | list):
        raise invalid(f"expected a string, a whole number, true or false, found {show_value(value)}")
    forms = f"as {value} or {value}0" if re.fullmatch(r"-?\d+\.\d+", str(value)) else "in several forms"
    raise invalid(f"{value} could be sent {forms}", f'write it as a string: "{value}"')


def check_duration(value: object) -> float:
    """Return the seconds of a duration such as ``2h``."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise invalid(f'expected a duration such as "2h", found {show_value(value)}')
    try:
        seconds = parse_duration(value)
    except OverflowError:
        raise invalid("expected a duration, found a number that is too large") from None
    except ValueError as error:
        raise invalid(f"expected a duration: {error}") from None
    if not seconds >= 0:  # also rejects NaN
        raise invalid(f"expected a duration of at least 0, found {show_value(value)}")
    return seconds


SCALAR_SCHEMA = {"type": ["string", "integer", "boolean"]}
Scalar = Annotated[str, BeforeValidator(check_scalar), WithJsonSchema(SCALAR_SCHEMA)]
Duration = Annotated[float, BeforeValidator(check_duration), WithJsonSchema({"type": ["string", "number"]})]

Model = TypeVar("Model", bound=Table)


@dataclass(frozen=True, slots=True)
class FileFormat(Generic[Model]):
    """The keys of one kind of file.

    Attributes:
        model: The top level of the file.
        foreign: Names that other tools use, with the dotted key here.
        advice: Names of keys that do not exist on purpose, with what to do instead.
    """

    model: type[Model]
    foreign: Mapping[str, str] = field(default_factory=dict)
    advice: Mapping[str, str] = field(default_factory=dict)

    def validate(self, table: Mapping[str, Any], context: object = None) -> Model | list[Finding]:
        """Return the values of a table, or every mistake in it, at its key in the file.

        ``context`` is for validators of the model.
        """
        try:
            return self.model.model_validate(table, context=context)
        except ValidationError as error:
            found: dict[Path, Finding] = {}
            for one in error.errors(include_url=False):
                path = _path(table, one["loc"])
                message, hint = self._message(one["type"], one.get("ctx", {}), one.get("input"), path)
                at_key = one["type"] == "extra_forbidden" or one["loc"][-1] == "[key]"
                found.setdefault(path, Finding(path, message, hint, at_key))
            return list(found.values())

    def keys_at(self, path: Path = ()) -> dict[str, type[BaseModel] | None]:
        """Return the keys of the table at ``path``, each with the model of its own table, if any."""
        model: type[BaseModel] | None = self.model
        for part in path:
            model = keys_of(model).get(str(part))
        return keys_of(model)

    def _message(self, kind: str, context: Mapping[str, Any], found: object, path: Path) -> tuple[str, str | None]:
        if kind == "skahactl":
            message, hint = context["finding"]
            return message, hint
        if kind == "value_error":
            return str(context["error"]), None
        if kind == "extra_forbidden":
            return self._unknown_key(path)
        if kind == "missing":
            return "missing", f"{f'[{dotted_key(path[:-1])}]' if path[1:] else 'every job'} needs {path[-1]}"
        for bound, words in (("ge", "at least"), ("le", "at most"), ("gt", "more than"), ("lt", "less than")):
            if bound in context:
                return f"expected {words} {f'{context[bound]:,}'.removesuffix('.0')}, found {show_value(found)}", None
        if kind == "literal_error":
            choices = str(context["expected"]).replace(" or ", ", ").replace("'", "").split(", ")
            alike = [one for one in choices if 2 * distance(str(found).lower(), one) < len(one)]
            guess = did_you_mean(found, alike) if isinstance(found, str) else None
            return f"expected one of {', '.join(choices)}, found {show_value(found)}", guess
        if kind == "string_too_short":
            return "the string is empty", None
        if kind == "too_short":
            return "the list is empty", f"for example {self._example(path)}, or delete the key"
        if kind == "list_type" and isinstance(found, str):
            return f"expected a list, found {show_value(found)}", f"write {path[-1]} = [{show_value(found)}]"
        expected = _EXPECTED.get(kind, "something else")
        hint = "write it without quotes" if expected == "a whole number" and str(found).isdigit() else None
        return f"expected {expected}, found {show_value(found)}", hint

    def _example(self, path: Path) -> str:
        """Return the line that ``explain`` shows for a key."""
        model: type[BaseModel] = self.model
        for part in path[:-1]:
            model = keys_of(model).get(str(part)) or model
        return next(
            str(field.examples[0])
            for name, field in model.model_fields.items()
            if field.examples and (field.alias or name) == path[-1]
        )

    def _unknown_key(self, path: Path) -> tuple[str, str]:
        """Return message and hint for an unknown key."""
        *parts, key = (str(part) for part in path)
        table = ".".join(parts)
        siblings = self.keys_at(tuple(parts))
        wanted = key.lower().replace("_", "-")
        if (hint := self.advice.get(wanted)) is None and wanted not in siblings:
            if (home := self._home(wanted)) is not None:
                is_table = bool(self.keys_at(tuple(home.split("."))))
                hint = Guess(f"did you mean [{home}]?") if is_table else _move(home, table)
            elif key.isupper() and "env" in self.keys_at():
                hint = "a variable of the command belongs below a line [env]; if that line begins with #, delete the #"
        hint = hint or did_you_mean(wanted, siblings) or "known keys: " + ", ".join(siblings)
        return "unknown key" + f" in [{table}]" * bool(table), hint

    def _home(self, key: str) -> str | None:
        """Return the dotted key of that name in any table, or the key for which other tools use the name, or None."""
        return next((dotted for dotted in _dotted(self.model) if dotted.split(".")[-1] == key), self.foreign.get(key))


_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a number",
    "string_type": "a string in quotes",
    "string_unicode": "Unicode text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}


def _move(full: str, table: str) -> str:
    home, _, key = full.rpartition(".")
    if home == table:
        return Guess(f"did you mean '{key}'?")
    if not home:
        return f"'{key}' belongs at the top level: move it above the first [table]"
    return Guess(f"did you mean '{key}' in [{home}]?")


def keys_of(model: type[BaseModel] | None) -> dict[str, type[BaseModel] | None]:
    """Return the keys of a table, each with the model of its own table, if any."""
    found: dict[str, type[BaseModel] | None] = {}
    for name, each in (model.model_fields if model else {}).items():
        kinds = [each.annotation, *get_args(each.annotation)]
        found[each.alias or name] = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)
    return found


def _dotted(model: type[BaseModel]) -> list[str]:
    """Return all keys below a table, those of the table itself first."""
    own = keys_of(model)
    return [*own, *(f"{name}.{key}" for name, below in own.items() if below for key in _dotted(below))]


def _path(table: Mapping[str, Any], loc: tuple[str | int, ...]) -> Path:
    """Convert a location of pydantic to a key of the file, without the variants of a union."""
    path: Path = ()
    here: Any = table
    for place, part in enumerate(loc):
        if isinstance(here, Mapping) and (part in here or (place == len(loc) - 1 and part != "[key]")):
            here = here.get(part)
        elif isinstance(here, list) and isinstance(part, int) and part < len(here):
            here = here[part]
        else:
            continue
        path = (*path, part)
    return path
