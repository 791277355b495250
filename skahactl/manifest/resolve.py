"""Resolve drafts with a profile: read and divide items, apply defaults, build every request."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

from skahactl.errors import ManifestError, Problem
from skahactl.manifest.load import Draft, collect_files
from skahactl.manifest.replicas import (
    Check,
    JobTemplate,
    build_replicas,
    misuse_problems,
    unsendable_problems,
    unsendable_text_problems,
    unused_problems,
)
from skahactl.manifest.schema import SOURCES, JobTable
from skahactl.manifest.syntax import dotted_key, order_problems
from skahactl.manifest.templates import TemplateSource, read_templates, template_problems, template_warnings
from skahactl.model import Job, Limits, Replica, content_digest, tidy_number
from skahactl.profile import Profile
from skahactl.text import count_noun

if TYPE_CHECKING:
    from skahactl.manifest.items import Items


def job_content(pattern: JobTemplate, table: JobTable, resources: Mapping[str, float | str]) -> dict[str, object]:
    """Return the texts of a job as written, the values of [vars] that they use, and the count and hash of its items."""
    made: dict[str, object] = {"kind": pattern.kind, "image": pattern.image, "replicas": pattern.total}
    if table.command:
        made["command"] = list(table.command)
    if table.shell:
        made["shell"] = table.shell
    if table.env:
        made["env"] = dict(table.env)
    if resources:
        made["resources"] = {
            key: amount if isinstance(amount, str) else tidy_number(amount)
            for key, amount in resources.items()
            if key != "gpus" or amount != 0
        }
    if pattern.items is not None and table.items is not None:
        made["items"] = _items(pattern, table)
    if table.session_name not in (None, "{name}" if pattern.total == 1 else "{name}-{replica}"):
        made["session-name"] = table.session_name
    words = {word: pattern.variables[word] for word in sorted(pattern.texts.words) if word in pattern.variables}
    if words:
        made["vars"] = words
    return made


def content_sources(
    draft: Draft, profile: Profile, given: Set[str], made: Mapping[str, object], items: Items | None
) -> dict[str, str]:
    """Return the source of each part of the content that is not from the manifest; ``given`` are the words of --var."""
    found: dict[str, str] = {}
    if items is not None:
        if items.file is not None:
            found["items"] = "items file"
        if draft.table.replicas is None:
            found["replicas"] = found.get("items", "items")
    for key in draft.places.sets:
        found["items" if key.startswith("items.") else key] = "--set"
    words = made.get("vars")
    for word in words if isinstance(words, dict) else ():
        if word in given:
            found[dotted_key(("vars", word))] = "--var"
        elif word in profile.vars:
            found[dotted_key(("vars", word))] = "profile default"
    return found


def _items(pattern: JobTemplate, table: JobTable) -> dict[str, object]:
    assert pattern.items is not None
    assert table.items is not None
    made: dict[str, object] = {
        "count": len(pattern.items.texts),
        "hash": pattern.items.digest(),
        "strategy": table.items.strategy,
        "each": table.items.each,
    }
    if table.items.strategy == "size":
        shares = json.dumps([list(share) for share in pattern.shares], separators=(",", ":"))
        made["shares"] = hashlib.sha256(shares.encode("ascii")).hexdigest()
    return made


def read(
    paths: Sequence[str],
    profile: Profile,
    *,
    sets: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
    stdin: BinaryIO | None = None,
    check: Check | None = None,
    completed: Callable[[str], Set[str]] | None = None,
) -> tuple[Job, ...]:
    """Run ``load`` and ``resolve``, and report every problem of both at once.

    ``completed`` returns the items to leave out, by name of a job; a job without other items gets no replicas.

    Raises:
        ManifestError: with every problem of every file.
    """
    found: list[Problem] = []
    drafts = collect_files(paths, found, sets=sets, variables=variables, stdin=stdin)
    whole = not found or all(draft.flaws <= _WITHOUT_WORDS for draft in drafts)
    jobs = _resolve(drafts, profile, variables or {}, check, found, whole, completed)
    if found:
        raise ManifestError(order_problems(found))
    return jobs


def resolve(
    drafts: Sequence[Draft],
    profile: Profile,
    *,
    variables: Mapping[str, str] | None = None,
    check: Check | None = None,
) -> tuple[Job, ...]:
    """Return the jobs, with the exact request of every replica. Reads items, but no network and no secret.

    ``variables`` (``--var``) override the ``[vars]`` of the profile, and these override those of the manifest.
    ``check`` is called for each request that differs from the others in more than the replica number.

    Raises:
        ManifestError: with every problem of every draft.
    """
    found: list[Problem] = []
    jobs = _resolve(drafts, profile, variables or {}, check, found, True)
    if found:
        raise ManifestError(tuple(found))
    return jobs


#: Keys that cannot contain a placeholder of --var.
_WITHOUT_WORDS = frozenset({"name", "image", "kind", "replicas", "after", "limits", "retry", "logs"})


@dataclass(slots=True)
class _ResolveWork:
    """One job that is being resolved."""

    draft: Draft
    profile: Profile
    variables: dict[str, str]
    found: list[Problem]
    warnings: list[str] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)
    completed: Set[str] | None = None  # items that are left out


def _resolve(
    drafts: Sequence[Draft],
    profile: Profile,
    variables: Mapping[str, str],
    check: Check | None,
    found: list[Problem],
    whole: bool,
    completed: Callable[[str], Set[str]] | None = None,
) -> tuple[Job, ...]:
    """Resolve all drafts.

    ``whole``: no mistake can hide a placeholder, so a --var that no draft uses is reported.
    """
    jobs: list[Job] = []
    used: set[str] = set()
    known: set[str] = set()
    for draft in drafts:
        words = {**draft.table.vars, **profile.vars, **variables}
        mine: list[Problem] = []
        work = _ResolveWork(draft, profile, words, mine, list(draft.warnings))
        if completed is not None:
            work.completed = completed(draft.name)
        job, names = _job(work, check, set(variables))
        used |= names
        known |= set(words) - set(variables) | names
        found += mine
        jobs += [job] if job is not None else []
    if whole:
        found += unused_problems(variables, used, known)
    return tuple(jobs)


def _job(work: _ResolveWork, check: Check | None, given: set[str]) -> tuple[Job | None, frozenset[str]]:
    """Return the job (None if it has problems) and the placeholders that it uses; ``given`` are the words of --var."""
    draft, table = work.draft, work.draft.table
    pattern, resources, words = _pattern(work, check)
    if pattern is None:
        return None, words
    built = build_replicas(pattern, draft.places, work.found) if work.completed is None else _missing(work)
    if check is not None:
        work.found += unsendable_problems(draft, built, check)
    content = job_content(pattern, table, resources)
    shared = _shared_logs(work, pattern)
    sources = work.sources | content_sources(draft, work.profile, given, content, pattern.items)
    job = Job(
        name=draft.name,
        kind=table.kind,
        image=pattern.image,
        replicas=built,
        digest=content_digest(content),
        content=content,
        limits=_limits(work),
        attempts=table.retry.attempts or 1,
        retry_ram=tuple(map(float, table.retry.ram or ())),
        keep=table.logs.keep,
        shared=shared,
        after=tuple(table.after),
        manifest=draft.manifest,
        sources=sources,
        warnings=tuple(dict.fromkeys(work.warnings)),
        left_out=tuple(text for text in pattern.items.texts if text in work.completed)
        if pattern.items is not None and work.completed
        else (),
    )
    return (None if work.found else job), words


def _missing(work: _ResolveWork) -> tuple[Replica, ...]:
    """Return replicas for the items that are not completed. The content of the job still has the whole list."""
    draft = work.draft
    if draft.table.items is None:
        hint = "--rerun alone runs every replica; retry runs those that failed"
        work.found.append(Problem(draft.manifest or "command line", "--missing needs a job with [items]", hint=hint))
        return ()
    rest, _, _ = _pattern(work, None, work.completed or frozenset())
    return () if rest is None else build_replicas(rest, draft.places, work.found)


def _shared_logs(work: _ResolveWork, pattern: JobTemplate) -> str | None:
    """Return the directory of the shared record. The profile's default applies only to jobs with a command to wrap."""
    table = work.draft.table
    has_command = pattern.kind == "headless" and bool(table.command or table.shell)
    if table.logs.shared is not None and not has_command:
        message = "the shared record needs a command or shell to wrap"
        hint = "write command = [...], or leave out shared" if pattern.kind == "headless" else "leave out shared"
        work.found.append(work.draft.places.problem(("logs", "shared"), message, hint))
        return None
    shared = table.logs.shared or (work.profile.shared_logs if has_command else None)
    return None if shared is None else shared.replace("{name}", pattern.name)


def _pattern(
    work: _ResolveWork, check: Check | None, completed: Set[str] = frozenset()
) -> tuple[JobTemplate | None, Mapping[str, float | str], frozenset[str]]:
    """Return what the replicas share (None after a problem), the resources as written, and the words used."""
    draft, table, places = work.draft, work.draft.table, work.draft.places
    listed = None
    sources = _item_sources(draft)
    for source in sources:  # several are a mistake, but those in their contents are reported, too
        from skahactl.manifest.items import item_warnings, read_items

        assert table.items is not None
        alone = table.items.model_copy(update=dict.fromkeys({*sources} - {source}))
        found = read_items(alone, places, draft.directory, work.found)
        listed = found if len(sources) == 1 else None
    is_whole = not work.found
    if listed is not None and table.items is not None:
        work.warnings += item_warnings(listed, table.items)
        listed = listed.without(completed) if completed else listed
    total, resources = _total(work, listed), _resources(work)
    setting = TemplateSource(draft, work.variables, listed, _words_unknown(draft, listed))
    made = read_templates(setting, resources, table.session_name or ("{name}" if total == 1 else "{name}-{replica}"))
    work.found += template_problems(made, setting)
    work.warnings += [*template_warnings(made, setting), *_local_files(work)]
    shared = _shared(work, listed, total) if is_whole and not draft.flaws else []
    if listed is not None and shared:
        work.found += misuse_problems(draft, listed, shared, made)
    if work.found or draft.flaws:
        work.found += unsendable_text_problems(draft, made, check) if check is not None else ()
        return None, resources, made.words
    image = _image(work)
    pattern = JobTemplate(draft.name, table.kind, image, made, work.variables, total, setting.each, listed, shared)
    return pattern, resources, made.words


def _local_files(work: _ResolveWork) -> Iterator[str]:
    """Warn of the first word of the command that is a file on this machine, which sessions elsewhere do not see."""
    draft, root = work.draft, work.profile.storage.root
    if root is None or os.path.realpath(draft.directory).startswith(f"{root}/"):
        return
    for number, word in enumerate(draft.table.command or []):
        if (
            not word.startswith("/")
            and re.search(r"[./]", word)
            and os.path.isfile(os.path.join(draft.directory, word))
        ):
            where = draft.places.where(("command", number))
            yield f"{where}: {word} is a file on this machine, which sessions do not see; name its path below {root}"
            return


def _item_sources(draft: Draft) -> list[str]:
    """Return the keys below [items] that give the items; more than one are a mistake."""
    return [source for source in SOURCES if getattr(draft.table.items, source, None) is not None]


def _words_unknown(draft: Draft, listed: Items | None) -> bool:
    """Return whether a mistake elsewhere hides placeholders: in [vars], or in a source of items with columns."""
    sources = _item_sources(draft)
    has_columns = "csv" in sources or "matrix" in sources or ("items" in draft.flaws and not sources)
    return "vars" in draft.flaws or (listed is None and has_columns)


def _image(work: _ResolveWork) -> str:
    """Return the image with the registry of the profile if it has none, and ``:latest`` if it has no tag or digest."""
    given = work.draft.table.image
    image = work.profile.registry.full_name(given)
    if image != given:
        work.sources["image"] = "profile default"
    if "@" not in image and ":" not in image.rpartition("/")[2]:
        image += ":latest"
        where = work.draft.places.where(("image",))
        work.warnings.append(f"{where}: no tag, so {image} is used; it can change at any time")
    return image


def _total(work: _ResolveWork, listed: Items | None) -> int:
    """Return the number of replicas; at most the number of items."""
    table = work.draft.table
    if listed is None or table.items is None:
        return table.replicas or 1
    count = len(listed.texts)
    if table.items.per_replica is not None:
        return math.ceil(count / table.items.per_replica)
    if table.replicas is None:
        return count
    if table.replicas > count > 0 and work.completed is None:
        where = work.draft.places.where(("replicas",))
        work.warnings.append(
            f"{where}: {count_noun(table.replicas, 'replica')} for {count_noun(count, 'item')}: "
            f"only {count} will be created"
        )
    return min(table.replicas, count)


def _shared(work: _ResolveWork, listed: Items | None, total: int) -> list[Sequence[int]]:
    table = work.draft.table.items
    if listed is None or table is None:
        return []
    from skahactl.manifest.items import item_sizes, share_items

    weights: list[int] = []
    if table.strategy == "size":
        weights = item_sizes(listed, work.draft.places, work.draft.directory, work.found)
        if work.found:
            return []
    return share_items(len(listed.texts), total, table.strategy, weights)


def _resources(work: _ResolveWork) -> dict[str, float | str]:
    """Return the resources of the manifest, or else all those of the profile.

    The profile's do not apply to kinds of sessions for which the platform ignores resources.
    """
    table = work.draft.table
    if table.resources is not None:
        given = table.resources.model_dump(exclude_none=True)
        if table.kind in ("desktop", "firefly"):
            where = work.draft.places.where(("resources",))
            work.warnings.append(f"{where}: ignored: the platform gives every {table.kind} session the same resources")
        return given
    default = work.profile.resources
    if default is None or table.kind in ("desktop", "firefly"):
        return {}
    amounts = {"cores": default.cores, "ram": default.ram, "gpus": default.gpus}
    work.sources["resources"] = "profile default"
    return {key: amount for key, amount in amounts.items() if amount is not None}


def _limits(work: _ResolveWork) -> Limits:
    """Return each limit of the manifest, or else of the profile."""
    own, default = work.draft.table.limits, work.profile.limits
    return Limits(
        default.alive if own.alive is None else own.alive,
        default.pending if own.pending is None else own.pending,
        default.pending_timeout if own.pending_timeout is None else own.pending_timeout,
        default.failures if own.failures is None else own.failures,
    )
