"""Whose jobs these are: a wrong login must not start a second copy of what goes on under the right one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from skahactl.errors import AuthError
from skahactl.job import Job
from skahactl.ledger import runs
from skahactl.ledger.database import Ledger
from skahactl.ledger.records import JobKey, Run
from skahactl.profile import Profile


def check_owner(
    profile: Profile, driven: Iterable[Run], user: str | None, nothing: str = "nothing was changed"
) -> None:
    """AuthError if one of these runs is another's than ``user``'s, whom the server says we are: its list of sessions
    says nothing of them. ``nothing``: how the hint says that there was no harm."""
    for run in driven:
        if user and run.key.user and user != run.key.user:
            raise AuthError(
                f"the server says you are {user}, but {run.key.name} is {run.key.user}'s",
                where=f"{profile.name} ({profile.host})",
                hint=f"{nothing}. Log in as that user, or choose another profile with -p",
            )


def check_user(ledger: Ledger, profile: Profile, jobs: Sequence[Job], user: str | None) -> None:
    """AuthError if one of ``jobs`` is new for ``user``, whom the server says we are, while it goes on for another user
    that we were here before."""
    if not user:
        return
    for other in runs.users_seen(ledger, profile.server):
        for job in jobs if other not in ("", user) else ():
            theirs = runs.last_run(ledger, JobKey(profile.server, other, job.name))
            ours = runs.last_run(ledger, JobKey(profile.server, user, job.name))
            if theirs is not None and theirs.ended is None and ours is None:
                raise AuthError(
                    f"the server says you are {user}, but {job.name} is {other}'s, and goes on",
                    where=f"{profile.name} ({profile.host})",
                    hint="nothing was changed. Log in as that user, choose another profile with -p, or rename the job",
                )
