"""What is asked for, as values: a Job with the exact request of each of its replicas. No I/O here."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Secret:
    """A value that is read when it is sent, never stored or printed."""

    source: str  # "env" or "file"
    name: str  # the variable, or the absolute path
    written: str | None = field(default=None, compare=False)  # the path as the manifest has it: alike on every machine

    def reference(self) -> str:
        """What stands for it in names, digests, the ledger and output: ``env:TOKEN`` or ``file:~/path``."""
        return f"{self.source}:{self.written or self.name}"


EnvValue = str | Secret


@dataclass(frozen=True, slots=True)
class Resources:
    """Cores, RAM in GB, GPUs; None: flexible allocation by the platform (gpus None: no GPU)."""

    cores: float | None = None
    ram: float | None = None
    gpus: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What the platform is asked to run for one replica, before encoding; without the session's name."""

    kind: str
    image: str
    command: tuple[str, ...] = ()  # argv; empty: the image's own entry point
    env: tuple[tuple[str, EnvValue], ...] = ()  # in order, REPLICA_ID, REPLICA_COUNT and ITEM_* included
    resources: Resources = Resources()


@dataclass(frozen=True, slots=True)
class Each:
    """``each = true``: a few lines of sh that run the command once a row.

    The command is ``("sh", "-c", script, "skahactl", position1, *row1, position2, *row2, ...)``, positions
    counting from 1 in the replica's own items, so that an attempt may run any subset (see manifest.each).
    """

    script: str
    rows: tuple[tuple[str, ...], ...]  # as many as the replica has items, in their order


@dataclass(frozen=True, slots=True)
class Replica:
    """One of N: its number from 1, its whole session name (tag included, no attempt suffix), request and items."""

    number: int
    name: str
    request: Request
    items: tuple[str, ...] = ()
    each: Each | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """None: no limit. ``pending_timeout`` in seconds. Each counts this job's own sessions alone."""

    alive: int | None = None
    pending: int | None = None
    pending_timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A job, resolved against a profile: what will be sent, and what steers the sending.

    ``content`` is what the digest is of, as plain JSON data (secrets as references): a difference between two
    of them is a changed job. ``sources`` tells for a dotted content path whence it came when that is not the
    manifest: "profile default", "items file", "--set", "--var". Limits, attempts, keep and paths are not content.
    """

    name: str
    kind: str
    image: str
    replicas: tuple[Replica, ...]
    digest: str  # SHA-256 of the canonical JSON of content, hex
    content: dict[str, object]
    limits: Limits = Limits()
    attempts: int = 1
    keep: str = "all"  # all | failed | none
    after: tuple[str, ...] = ()
    manifest: str | None = None  # path as given, "-" for stdin, None without a file
    sources: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
