"""``skahactl validate``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skahactl.commands.manifests import Files, Manifest, Sets, Variables, read_manifests
from skahactl.context import Invocation, current
from skahactl.errors import Exit, ProfileError

if TYPE_CHECKING:
    from skahactl.job import Job
    from skahactl.profile import Profile


def validate(*manifests: Manifest, file: Files = None, sets: Sets = None, variables: Variables = None) -> int:
    """Check manifests: every mistake of every file, and what each job comes to. Needs no network, ledger or secret.

    Examples:

    skahactl validate job.toml

    skahactl validate stages/ --set replicas=10
    """
    from skahactl.manifest.load import env_variables as parsed
    from skahactl.manifest.resolve import read
    from skahactl.skaha.encoding import problems

    context = current()
    paths = read_manifests("validate", manifests, file, ("--file", "--set", "--var", "--help"))
    words = parsed(variables or [])
    jobs = read(paths, _profile(context), sets=sets or [], variables=words, stdin=context.stdin, check=problems)
    for warning in dict.fromkeys(warning for job in jobs for warning in job.warnings):
        context.warn(f"note: {warning}")
    _show(jobs, context)
    return Exit.DONE


def _profile(context: Invocation) -> Profile:
    """The profile that would be used; a manifest can be checked before there is one."""
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
    """One line a job, or data: name, replicas, items (null without [items]), manifest."""
    import json

    rows = [
        {"name": job.name, "replicas": len(job.replicas), "items": _items(job), "manifest": job.manifest}
        for job in jobs
    ]
    if context.output == "json":
        context.out(json.dumps({"jobs": rows}, ensure_ascii=False, indent=2))
    elif context.output == "toml":
        import tomli_w

        known = [{key: value for key, value in row.items() if value is not None} for row in rows]
        context.out(tomli_w.dumps({"jobs": known}).rstrip("\n"))
    else:
        for job, row in zip(jobs, rows, strict=True):
            plain = {"name": job.name, "jsonl": json.dumps(row, ensure_ascii=False)}
            context.out(plain.get(context.output, _line(job)))


def _line(job: Job) -> str:
    from skahactl.words import count_noun

    parts = [job.name, job.kind, count_noun(len(job.replicas), "replica")]
    if _items(job) is not None:
        parts.append(count_noun(_items(job) or 0, "item"))
    parts.append(job.image)
    return "  ".join(parts)


def _items(job: Job) -> int | None:
    """How many items the job has; None without [items]."""
    return sum(len(replica.items) for replica in job.replicas) if "items" in job.content else None
