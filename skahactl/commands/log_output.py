"""The output of ``logs``: the chosen logs one after the other, or followed until they end; printed or saved."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from skahactl.commands.runtime import open_runtime, poll_or_error, run_online
from skahactl.errors import Exit, SkahactlError, UsageError
from skahactl.invocation import Invocation, current, has_colour, is_screen, shows_unicode
from skahactl.ledger.replicas import items_of
from skahactl.logs.select import (
    AttemptLog,
    Choice,
    Empty,
    Part,
    describe_log,
    is_awaited,
    is_lost,
    logs_of,
    part_of,
    why_empty,
)
from skahactl.logs.shared_source import FallbackLogs
from skahactl.logs.show import Shown, show_logs
from skahactl.logs.writers import FileWriter, WriterChain, WriterOptions, draw_marks, file_name
from skahactl.model import ENDED
from skahactl.targets import Target, find, unknown_target
from skahactl.text import count_noun, suggest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from skahactl.engine.runtime import Runtime
    from skahactl.ledger.database import Ledger
    from skahactl.ledger.records import Run
    from skahactl.skaha.models import Listing


@dataclass(frozen=True, slots=True)
class LogsOptions:
    """The options of ``logs`` that are not part of Choice."""

    replicas: str | None
    run: int | None
    follow: bool
    tail: int | None
    save: str | None
    prefix: str
    most: int
    raw: bool = False


class LogOutput:
    """Writes the logs of this call to stdout or to files."""

    def __init__(
        self,
        context: Invocation,
        asked: LogsOptions,
        targets: Sequence[Target],
        part: Part | None,
        choice: Choice,
        *,
        several: bool,
        ledger: Ledger,
    ):
        stream, environ = context.stdout, context.environ
        self._context = context
        self._write = stream.buffer.write
        self._targets = targets
        self._part = part
        self._folder = None if asked.save is None else Path(context.cwd, asked.save).absolute()
        self._several_attempts = choice.attempt == 0
        self._options = WriterOptions(
            tail=asked.tail,
            prefixed=asked.prefix == "always" or (asked.prefix == "auto" and several),
            colour=has_colour(stream, environ),
            objects=context.output == "jsonl",
            mixed=several and asked.follow,
            width=max(map(_label_width, targets)) if is_screen(stream, environ) else 0,
        )
        self._draws = is_screen(stream, environ) and not asked.raw and not self._options.objects
        self._ledger = ledger
        self._items: dict[int, dict[tuple[int, int], str]] = {}  # by target: replica and position
        self._files: list[FileWriter] = []
        self._last: WriterChain | None = None

    def sink(self, log: AttemptLog) -> WriterChain:
        if self._folder is None:
            self._last = WriterChain(self._write, self._options, log.label, self._part, self._draw(log.key))
            return self._last
        target = self._targets[log.key[0]]
        name, total = (target.word, 1) if target.run is None else (target.run.key.name, target.run.total)
        path = self._folder / file_name(log, name, total, self._several_attempts)
        file = FileWriter(path, self._options, log.label, self._part)
        self._files.append(file)
        self._last = file
        return file

    def followed(self, label: str, key: tuple[int, int, int]) -> WriterChain:
        return WriterChain(self._write, self._options, label, draw=self._draw(key))

    def _draw(self, key: tuple[int, int, int]) -> Callable[[bytes], bytes] | None:
        """Return a function that draws the marks of ended items in a log, or None if they are not drawn."""
        place, replica, _ = key
        run = self._targets[place].run
        if not self._draws or run is None:
            return None
        if place not in self._items:
            rows = items_of(self._ledger, run.id)
            self._items[place] = {(row.replica, row.position): row.item for row in rows}
        names = {at: item for (number, at), item in self._items[place].items() if number == replica}
        if not names:
            return None
        colour, unicode = self._options.colour, shows_unicode(self._context.stdout)
        return lambda text: draw_marks(text, names, colour, unicode) if b"::skahactl" in text else text

    @property
    def found_item(self) -> bool:
        return self._last is None or self._last.found_item

    def told_files(self, where: str) -> None:
        if self._folder is None:
            return
        written = [file.path for file in self._files if file.written]
        for path in written:
            self._context.out(str(path))
        self._context.say(f"{where}: {count_noun(len(written), 'log')} saved in {self._folder}")


_AT_ONCE = 8  # logs read ahead while one is shown


def run_logs(words: Sequence[str], choice: Choice, asked: LogsOptions) -> int:
    """Print, follow or save the logs, and return the exit code."""
    with open_runtime(reads_only=True) as runtime:
        return run_online(runtime, lambda: _LogsCommand(runtime, choice, asked).run(words))


class _LogsCommand:
    """One call of ``logs``."""

    def __init__(self, runtime: Runtime, choice: Choice, asked: LogsOptions):
        self.runtime = runtime
        self.context = current()
        self.ledger = runtime.ledger
        self.choice = choice
        self.asked = asked
        self._listing: Listing | None = None
        self.error: SkahactlError | None = None  # of a poll that failed, although the saved logs could be shown

    async def run(self, words: Sequence[str]) -> int:
        targets = await self._targets(words)
        if self.asked.follow:
            return await self._follow(targets)
        if self.choice.failed:
            await self._find_failed(targets)
        part = self._part(targets)
        logs = self._chosen(targets, part)
        if not logs:
            return self._nothing(targets[0])
        if any(log.whole is None and log.session is not None for log in logs):
            await self._poll(targets)
        out = LogOutput(
            self.context, self.asked, targets, part, self.choice, several=len(logs) > 1, ledger=self.runtime.ledger
        )
        tail = None if part is not None and part.marked else self.asked.tail
        self._source.add(logs)
        shown = await self._show(logs, targets, out, tail)
        self.context.stdout.flush()
        out.told_files(self._where(targets[0]))
        if self.choice.attempt is None and self.choice.item is None and any(log.key[2] > 1 for log in logs):
            self.context.say("earlier attempts have logs of their own; to see them, add: --attempt all")
        return self._result(shown, targets, part is not None and not out.found_item)

    async def _show(
        self, logs: Sequence[AttemptLog], targets: Sequence[Target], out: LogOutput, tail: int | None
    ) -> Shown:
        at_once = min(self.asked.most, _AT_ONCE)
        if self._listing is None:  # nothing is read from the platform
            return await show_logs(logs, self._read, out.sink, at_once=at_once, tail=tail)
        from skahactl.logs.save import SavingLogs

        saving = SavingLogs(self.runtime, _runs_of(targets), self._read)
        shown = await show_logs(logs, saving.read, out.sink, at_once=at_once, tail=tail)
        await saving.confirm()
        return shown

    async def _targets(self, words: Sequence[str]) -> tuple[Target, ...]:
        """Return the targets of the words. A word that the ledger does not know may be the name of a session on the
        server."""
        asked = self.asked
        try:
            return find(self.ledger, self.runtime.profile, words, replicas=asked.replicas, run=asked.run)
        except UsageError as error:
            if error.code != "unknown-target" or asked.replicas is not None or asked.run is not None:
                raise
            unknown = error
        found = find(self.ledger, self.runtime.profile, words, sessions=True)
        listing = await self._poll(found)
        ids = {} if listing is None else {session.name: session.id for session in listing.sessions}
        named = tuple(replace(t, session=ids.get(t.word)) if t.run is None else t for t in found)
        if any(target.run is None and target.session is None for target in named):
            raise self.error or unknown
        return named

    async def _find_failed(self, targets: Sequence[Target]) -> None:
        """Poll for replicas that failed since the ledger was written, unless every run has ended."""
        if all(target.run is not None and target.run.ended is not None for target in targets):
            return
        listing = await self._poll(targets)
        if listing is not None:
            failed = frozenset(session.id for session in listing.sessions if session.status == "Failed")
            self.choice = replace(self.choice, failed_sessions=failed)

    async def _poll(self, targets: Sequence[Target]) -> Listing | None:
        """Poll once, however often this is called, and return the listing; None if the poll failed."""
        if self._listing is None and self.error is None:
            self._listing, self.error = await poll_or_error(self.runtime, _runs_of(targets))
        return self._listing

    def _read(self, session: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open a log on the platform or in the shared record; after a failed poll, raise its error on entry."""
        return self._source.read(session) if self.error is None else _failed(self.error)

    @cached_property
    def _source(self) -> FallbackLogs:
        from skahactl.skaha.storage import READ_PATIENCE

        storage = self.runtime.client.storage
        storage.patience = math.inf if self.asked.follow else READ_PATIENCE
        return FallbackLogs(self.runtime.client, storage)

    def _part(self, targets: Sequence[Target]) -> Part | None:
        if self.choice.item is None:
            return None
        if len(targets) != 1 or targets[0].run is None:
            raise UsageError("--item needs one job")
        return part_of(self.ledger, targets[0].run, self.choice.item, targets[0].numbers)

    def _chosen(self, targets: Sequence[Target], part: Part | None) -> list[AttemptLog]:
        choice = self.choice
        if part is not None:
            targets = [replace(targets[0], numbers=frozenset({part.replica}))]
            if choice.attempt is None and part.marked:
                choice = replace(choice, attempt=part.attempt)
        return [log for place, target in enumerate(targets) for log in logs_of(self.ledger, target, place, choice)]

    def _nothing(self, target: Target) -> int:
        if self.choice.failed:
            self.context.say(f"{self._where(target)}: no replica has failed")
            if self.error is not None:
                raise self.error
            return Exit.DONE
        name = target.word if target.run is None else target.run.key.name
        raise UsageError(
            f"{name} has no attempt {self.choice.attempt}", hint=f"{suggest('describe', name)} lists the attempts"
        )

    def _where(self, target: Target) -> str:
        name = target.word if target.run is None else target.run.key.name
        return f"{name} on {self.runtime.where}"

    def _result(self, shown: Shown, targets: Sequence[Target], no_item: bool) -> int:
        """Print what is missing and why, and return the exit code. Raises the error of a failed poll or read."""
        context, listing = self.context, self._listing
        statuses = None if listing is None else {session.id: session.status for session in listing.sessions}
        for line in describe_log(
            [(log.label, "an unfinished copy; the platform has nothing more") for log in shown.partial]
        ):
            context.say(line)
        lost_labels = {log.label for log in shown.empty if is_lost(log, statuses)}
        unknown = [target.word for target in targets if target.run is None and target.word in lost_labels]
        silent = {log.key for log in shown.empty if log.shared is not None and log.shared in self._source.empty}
        reasons = [
            (log.label, Empty.NO_OUTPUT if log.key in silent else why_empty(log, statuses))
            for log in shown.empty
            if log.label not in unknown
        ]
        for line in describe_log(reasons):
            context.warn(line)
        if shown.failed:
            context.warn(f"{self._where(targets[0])}: {count_noun(len(shown.failed), 'log')} could not be read")
        error = self.error or shown.error
        if error is not None:
            error.where = error.where or self.runtime.where
            raise error
        if unknown:
            raise unknown_target(self.runtime.ledger, self.runtime.profile, unknown[0], is_listed=True)
        if no_item and shown.with_text:
            log, item = shown.with_text[0], self.choice.item
            if log.state in ENDED:
                context.warn(f"{log.label}: nothing of item '{item}' in its log")
            else:
                context.warn(f"{log.label}: item '{item}' has written nothing yet (the replica is {log.state})")
            return Exit.NO
        lost = any(is_lost(log, statuses) for log in shown.empty if log.key not in silent)
        waiting = not shown.with_text and any(is_awaited(log, statuses) for log in shown.empty)
        return Exit.NO if lost or waiting else Exit.DONE

    async def _follow(self, targets: Sequence[Target]) -> int:
        from skahactl.engine.runtime import FOREVER
        from skahactl.logs.follow import LOCAL, REMOTE, Follower, SessionWatch

        out = LogOutput(
            self.context,
            self.asked,
            targets,
            None,
            self.choice,
            several=len(targets) > 1 or _has_many(targets[0]),
            ledger=self.runtime.ledger,
        )
        runtime, runs = self.runtime, _runs_of(targets)
        watch = SessionWatch(
            self.ledger, targets, self.choice, lambda: runtime.poll(runs, patience=FOREVER), self.context.say
        )
        follower = Follower(
            watch.poll,
            lambda session: self._source.read(session),  # the platform is not contacted for logs that are saved
            lambda stream: out.followed(stream.label, stream.key),
            self.context.stdout.flush,
            self.context.say,
            outage=runtime.outage,
            clock=runtime.clock,
            pace=LOCAL if runtime.profile.is_local else REMOTE,
            most=self.asked.most,
        )
        await follower.run()
        return Exit.NO if follower.lost or (watch.left_out and not follower.moved) else Exit.DONE


def _runs_of(targets: Sequence[Target]) -> list[Run]:
    return [target.run for target in targets if target.run is not None]


@contextlib.asynccontextmanager
async def _failed(error: SkahactlError) -> AsyncIterator[AsyncIterator[bytes]]:
    raise error
    yield


def _label_width(target: Target) -> int:
    """Return the width of the longest prefix of the target's logs."""
    if target.run is None:
        return len(target.word)
    total = target.run.total
    return len(target.run.key.name) + (len(f"/{total}") if total > 1 else 0)


def _has_many(target: Target) -> bool:
    if target.run is None or target.session is not None:
        return False
    return target.run.total > 1 if target.numbers is None else len(target.numbers) > 1
