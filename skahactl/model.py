"""A job with the exact request of each of its replicas, as values. No I/O here."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from skahactl.text import count_noun


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret: a value that is read when it is sent, and never stored or printed."""

    source: str  # "env" or "file"
    name: str  # the variable, or the absolute path
    written: str | None = field(default=None, compare=False)  # the path in the manifest, equal on every machine

    def reference(self) -> str:
        """Return its reference in names, digests, the ledger and output: ``env:TOKEN`` or ``file:~/path``."""
        return f"{self.source}:{self.written or self.name}"


EnvValue = str | Secret


#: The smallest and the largest amount of each resource that a manifest or a retry can request.
AMOUNTS = {"cores": (1, 999_999), "ram": (1, 999_999), "gpus": (0, 999)}


@dataclass(frozen=True, slots=True)
class Resources:
    """Cores, RAM in GB, and GPUs. None means flexible allocation by the platform (for gpus: no GPU)."""

    cores: float | None = None
    ram: float | None = None
    gpus: int | None = None

    def of_attempt(self, number: int, retry_ram: Sequence[float], override: Resources | None) -> Resources:
        """Return what attempt ``number`` requests. ``retry_ram`` gives the RAM in GB of attempts 1, 2, ... (the last
        value repeats); cores and RAM of ``override`` take precedence."""
        ram = retry_ram[min(number, len(retry_ram)) - 1] if retry_ram else self.ram
        if override is None:
            return Resources(self.cores, ram, self.gpus)
        return Resources(
            self.cores if override.cores is None else override.cores,
            ram if override.ram is None else override.ram,
            self.gpus,
        )


@dataclass(frozen=True, slots=True)
class Request:
    """The request for one replica, before encoding, without the name of the session."""

    kind: str
    image: str
    command: tuple[str, ...] = ()  # argv; without a first element, or with an empty one: the entry point of the image
    env: tuple[tuple[str, EnvValue], ...] = ()  # in order, including REPLICA_ID, REPLICA_COUNT and ITEM_*
    resources: Resources = Resources()


@dataclass(frozen=True, slots=True)
class RequestProblem:
    """Why a request cannot be sent.

    ``part``: where: ("image",), ("command", index), ("env", name), or () for the request as a whole. ``too_large``: it
    exceeds a limit on the size of a request.
    """

    part: tuple[str | int, ...]
    message: str
    too_large: bool = False


@dataclass(frozen=True, slots=True)
class Each:
    """``each = true``: a few lines of sh that run the command once per row.

    The command is ``("sh", "-c", script, "skahactl", position1, *row1, position2, *row2, ...)``. Positions count
    from 1 in the items of the replica, so that an attempt can run any subset.
    """

    script: str
    rows: tuple[tuple[str, ...], ...]  # one per item of the replica, in their order


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica of a job: its number from 1, its session name (with tag, without attempt suffix), request and
    items."""

    number: int
    name: str
    request: Request
    items: tuple[str, ...] = ()
    each: Each | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits for the sessions of this job only; None means no limit. ``pending_timeout`` is in seconds."""

    alive: int | None = None
    pending: int | None = None
    pending_timeout: float | None = None
    failures: int | None = None  # nothing more is created after this many Failed replicas

    def stop_reason(self, failed: int) -> str | None:
        """Return why nothing more is created, or None. ``failed``: the number of replicas that failed with all their
        attempts used."""
        if self.failures is None or failed < self.failures:
            return None
        return f"stopped after {count_noun(failed, 'failure')}"


@dataclass(frozen=True, slots=True)
class Job:
    """A job, resolved with a profile: what will be sent, and the settings for sending it.

    ``content`` is the basis of the digest, as plain JSON data (secrets as references): a difference in it means a
    changed job. ``sources`` maps a dotted path of the content to its source if that is not the manifest: "profile
    default", "items file", "--set", "--var". Limits, attempts, keep and paths are not content.
    """

    name: str
    kind: str
    image: str
    replicas: tuple[Replica, ...]
    digest: str  # SHA-256 of the canonical JSON of content, hex
    content: dict[str, object]
    limits: Limits = Limits()
    attempts: int = 1
    retry_ram: tuple[float, ...] = ()  # GB for attempts 1, 2, ... (the last repeats), instead of the request's
    keep: str = "all"  # all | failed | none
    shared: str | None = None  # [logs] shared; {user} is replaced when the run is recorded
    after: tuple[str, ...] = ()
    manifest: str | None = None  # path as the user named it, "-" for stdin, None without a file
    sources: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()  # with --missing: the items that earlier runs completed


class State(StrEnum):
    """The state of a replica; the status of a job is one of these too."""

    QUEUED = "Queued"  # not created yet; the reason says why: a limit, after JOB, a pause before a retry
    CREATING = "Creating"  # a create request is in flight
    UNCONFIRMED = "Unconfirmed"  # the reply to a create was lost; its session is being looked for
    PENDING = "Pending"
    RUNNING = "Running"
    COMPLETED = "Completed"
    FAILED = "Failed"
    REJECTED = "Rejected"  # the server rejected the request; its message is kept
    UNKNOWN = "Unknown"  # finished unobserved; the server has discarded the result
    DELETED = "Deleted"
    SKIPPED = "Skipped"  # a job that it depends on failed


STATES: Final = tuple(State)
ALIVE: Final = frozenset({State.CREATING, State.UNCONFIRMED, State.PENDING, State.RUNNING})
OBSERVED: Final = frozenset({State.COMPLETED, State.FAILED})  # ends that the platform reports
ENDED: Final = frozenset({State.COMPLETED, State.FAILED, State.REJECTED, State.UNKNOWN, State.DELETED, State.SKIPPED})


def job_status(counts: Mapping[str, int], retriable: int) -> State:
    """Return a job's status from the counts of its replicas by state. ``retriable``: how many of the Failed ones have
    attempts left."""
    total = sum(counts.values())
    if counts.get(State.RUNNING):
        return State.RUNNING
    if counts.get(State.PENDING) or counts.get(State.CREATING) or counts.get(State.UNCONFIRMED):
        return State.PENDING
    if counts.get(State.QUEUED) or retriable:
        return State.QUEUED
    if counts.get(State.COMPLETED) == total:
        return State.COMPLETED
    if counts.get(State.DELETED, 0) + counts.get(State.COMPLETED, 0) == total:
        return State.DELETED
    if counts.get(State.FAILED) or counts.get(State.REJECTED) or counts.get(State.SKIPPED):
        return State.FAILED
    return State.UNKNOWN


def ended_state(exit_code: int) -> State:
    """Return Completed for exit code 0, and Failed for any other."""
    return State.FAILED if exit_code else State.COMPLETED


def zero_filled(counts: Mapping[str, int]) -> dict[str, int]:
    """Return ``counts`` with an entry for every state, in the order of STATES."""
    return {state: counts.get(state, 0) for state in STATES}


LONGEST_TEXT = 50
_DIGITS = "abcdefghijklmnopqrstuvwxyz234567"
_LATER = re.compile(r"-(?:[2-9]|[1-9][0-9]+)$")
_ILLEGAL = re.compile(r"[^a-z0-9-]+")


def session_name(text: str, job: str, number: int, request: Request) -> str:
    """Return the name of the first attempt of replica ``number``: ``tiles-17-k3x2a``."""
    return f"{legal_name(text)}-{name_tag(job, number, request)}"


def attempt_name(name: str, attempt: int) -> str:
    """Return the session name of an attempt: ``name`` for the first one, later ``tiles-17-k3x2a-2``."""
    return name if attempt < 2 else f"{name}-{attempt}"


def base_session_name(name: str) -> str:
    """Return a session name without the attempt number: ``tiles-17-k3x2a`` for ``tiles-17-k3x2a-2``."""
    return _LATER.sub("", name)


def legal_name(text: str) -> str:
    """Convert ``text`` to a legal name: lower case, other characters as ``-``, a letter first, at most LONGEST_TEXT
    characters."""
    made = _ILLEGAL.sub("-", text.lower()).strip("-")
    if not made[:1].isalpha():
        made = f"s-{made}"
    return made[:LONGEST_TEXT].rstrip("-")


def name_tag(job: str, number: int, request: Request) -> str:
    """Return the tag in the session name of a replica: five base-32 characters from a hash of job, number and
    request."""
    text = json.dumps([job, number, request_data(request)], separators=(",", ":"), ensure_ascii=True)
    return base32_tag(hashlib.sha256(text.encode("ascii")).digest())


def base32_tag(digest: bytes) -> str:
    """Return the first 25 bits of a digest as five base-32 characters in lower case."""
    bits = int.from_bytes(digest[:4], "big") >> 7
    return "".join(_DIGITS[bits >> shift & 31] for shift in (20, 15, 10, 5, 0))


def request_data(request: Request) -> list[object]:
    """Return the request as plain JSON data, with references for secrets."""
    resources = request.resources
    return [
        request.kind,
        request.image,
        request.command,
        sorted((key, _plain(value)) for key, value in request.env),
        [tidy_number(resources.cores), tidy_number(resources.ram), resources.gpus],
    ]


def _plain(value: str | Secret) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else (value.source, value.reference())


def tidy_number(amount: float | None) -> float | None:
    """Convert whole numbers to integers, so that 8 and 8.0 are equal."""
    return int(amount) if amount is not None and float(amount).is_integer() else amount


#: The source of a value without a recorded source.
MANIFEST = "manifest"


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference: dotted ``path``, both values (None: missing), and the source of the new one."""

    path: str
    old: object
    new: object
    source: str

    def data(self) -> dict[str, object]:
        return {"path": self.path, "old": self.old, "new": self.new, "source": self.source}


def content_digest(content: Mapping[str, object]) -> str:
    """Return the SHA-256 of the canonical JSON of ``content``, in hex."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def differences(
    old: Mapping[str, object], new: Mapping[str, object], sources: Mapping[str, str] | None = None
) -> tuple[Difference, ...]:
    """Return the differences between two contents, in the order of the new one. Lists are compared as a whole.

    ``sources`` are those of the new job: they map a dotted path, or a prefix of one, to the source of the value.
    """
    before, after = dict(_leaves(old, "")), dict(_leaves(new, ""))
    paths = [*after, *(path for path in before if path not in after)]
    return tuple(
        Difference(path, before.get(path), after.get(path), source_of(path, sources or {}))
        for path in paths
        if before.get(path) != after.get(path)
    )


def source_of(path: str, sources: Mapping[str, str]) -> str:
    """Return the source of the value at ``path``: that of its longest prefix in ``sources``, else MANIFEST."""
    while path:
        if path in sources:
            return sources[path]
        path = path.rpartition(".")[0]
    return MANIFEST


def _leaves(table: Mapping[str, object], prefix: str) -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for key, value in table.items():
        if isinstance(value, Mapping):
            found += _leaves(value, f"{prefix}{key}.")
        else:
            found.append((prefix + key, list(value) if isinstance(value, tuple) else value))
    return found
