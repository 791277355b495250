"""Where ``logs`` writes: the output, or a file for each log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from skahactl.context import Invocation
from skahactl.logs.select import AttemptLog, Choice, Part
from skahactl.logs.writers import FileWriter, WriterChain, WriterOptions, file_name
from skahactl.targets import Target
from skahactl.words import count_noun


@dataclass(frozen=True, slots=True)
class LogsOptions:
    """The options that say how, not what."""

    replicas: str | None
    run: int | None
    follow: bool
    tail: int | None
    save: str | None
    prefix: str
    most: int


class LogOutput:
    """Where the logs of this call go."""

    def __init__(
        self,
        context: Invocation,
        asked: LogsOptions,
        targets: Sequence[Target],
        part: Part | None,
        choice: Choice,
        *,
        several: bool,
    ):
        stream, environ = context.stdout, context.environ
        self._context = context
        self._write = stream.buffer.write
        self._targets = targets
        self._part = part
        self._folder = None if asked.save is None else Path(context.cwd, asked.save).absolute()
        self._several_attempts = choice.attempt == 0
        self._look = WriterOptions(
            tail=asked.tail,
            prefixed=asked.prefix == "always" or (asked.prefix == "auto" and several),
            colour=stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb",
            objects=context.output == "jsonl",
            mixed=several and asked.follow,
        )
        self._files: list[FileWriter] = []
        self._last: WriterChain | None = None

    def sink(self, log: AttemptLog) -> WriterChain:
        if self._folder is None:
            self._last = WriterChain(self._write, self._look, log.label, self._part)
            return self._last
        target = self._targets[log.key[0]]
        name, total = (target.word, 1) if target.run is None else (target.run.key.name, target.run.total)
        path = self._folder / file_name(log, name, total, self._several_attempts)
        file = FileWriter(path, self._look, log.label, self._part)
        self._files.append(file)
        self._last = file
        return file

    def followed(self, label: str) -> WriterChain:
        return WriterChain(self._write, self._look, label)

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
