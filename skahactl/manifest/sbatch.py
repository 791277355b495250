"""Convert a Slurm batch script to a manifest. What has no counterpart becomes a remark that says what to do."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from skahactl.errors import ManifestError, Problem
from skahactl.manifest.arrays import IndexArray, parse_array
from skahactl.manifest.batch_script import BatchScript, Converted, for_container, parse_script, unquoted
from skahactl.manifest.placeholders import escape_placeholders
from skahactl.manifest.schema import PLATFORM_VARIABLES, VARIABLE, legal_job_name
from skahactl.manifest.starter import IMAGE, WIDTH, Setting, manifest_text
from skahactl.manifest.syntax import order_problems
from skahactl.spelling import nearest
from skahactl.toml import toml_text, toml_value

_SHORT = {
    "a": "array",
    "A": "account",
    "b": "begin",
    "B": "extra-node-info",
    "c": "cpus-per-task",
    "C": "constraint",
    "d": "dependency",
    "D": "chdir",
    "e": "error",
    "F": "nodefile",
    "G": "gpus",
    "H": "hold",
    "i": "input",
    "J": "job-name",
    "k": "no-kill",
    "L": "licenses",
    "m": "distribution",
    "M": "clusters",
    "n": "ntasks",
    "N": "nodes",
    "o": "output",
    "O": "overcommit",
    "p": "partition",
    "q": "qos",
    "Q": "quiet",
    "s": "oversubscribe",
    "S": "core-spec",
    "t": "time",
    "v": "verbose",
    "w": "nodelist",
    "W": "wait",
    "x": "exclude",
}

_PLACEMENT_OPTIONS = """
account partition qos constraint prefer nodelist exclude nodefile reservation licenses clusters exclusive oversubscribe
overcommit distribution core-spec thread-spec extra-node-info contiguous switches nice priority hint mem-bind cpu-freq
gpu-freq gpu-bind accel-bind acctg-freq profile network power wckey tmp no-kill ntasks-per-core ntasks-per-socket
ntasks-per-gpu cores-per-socket sockets-per-node threads-per-core cpus-per-gpu mem-per-gpu spread-job use-min-nodes
get-user-env propagate reboot delay-boot deadline mincpus cluster-constraint container export-file gid uid bb bbf
stepmgr tres-per-task tres-bind segment
"""
_FLAG_OPTIONS = """
hold no-kill overcommit oversubscribe exclusive contiguous requeue no-requeue parsable quiet verbose wait spread-job
use-min-nodes get-user-env nice propagate reboot ignore-pbs test-only stepmgr usage help
"""
_MAPPED_OPTIONS = """
job-name array cpus-per-task ntasks ntasks-per-node nodes mem mem-per-cpu gres gpus gpus-per-node gpus-per-task export
chdir time
"""
_PLACEMENT = "skahactl has no counterpart: the platform decides where and when a session runs."

#: Options without a counterpart: what to do instead. {name} is the job.
_REMARKS: Mapping[str, str] = {
    **dict.fromkeys(_PLACEMENT_OPTIONS.split(), _PLACEMENT),
    **dict.fromkeys(
        ("output", "error", "open-mode"),
        "skahactl saves standard output and standard error of each replica as one log: skahactl logs {name}.",
    ),
    **dict.fromkeys(
        ("mail-type", "mail-user"),
        "skahactl sends no mail itself: set command below [notify] in the profile, or run: "
        "skahactl apply job.toml --wait; skahactl describe {name} | mail -s {name} YOU",
    ),
    **dict.fromkeys(("begin", "hold"), "skahactl starts a job when you apply it. To start it later, use at or cron."),
    **dict.fromkeys(("requeue",), "To try a replica again after a failure, write attempts = 3 below [retry]."),
    "dependency": 'To start after other jobs of skahactl have completed, write after = ["JOB"] at the top.',
    "input": "A session has no standard input. Redirect it in the command: program < FILE.",
    "signal": "Sessions have no time limit, so they get no signal before the end.",
    "wait": "To wait until the job has ended: skahactl apply job.toml --wait.",
    "kill-on-invalid-dep": "If a job in after = [...] fails, the replicas of this job end as Skipped.",
}

#: Options that need no remark.
_SILENT = frozenset(
    {"comment", "no-requeue", "parsable", "quiet", "verbose", "test-only", "ignore-pbs", "mcs-label", "usage", "help"}
)
_FLAGS = frozenset(_FLAG_OPTIONS.split())
_MAPPED = frozenset(_MAPPED_OPTIONS.split())
_KNOWN = _MAPPED | _SILENT | _REMARKS.keys()

_UNITS = {"": 1 / 1024, "K": 1 / 1024**2, "M": 1 / 1024, "G": 1.0, "T": 1024.0}
_MEMORY = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_GPUS = re.compile(r"(?:gpu:?)?(?:[A-Za-z][\w.-]*:?)?([0-9]*)")
_TIME = re.compile(r"(?:([0-9]+)-)?([0-9]+)(?::([0-9]+))?(?::([0-9]+))?")
_USED = re.compile(r"\b(SLURM_[A-Z0-9_]+)\b(?!=)")
_ARGUMENT = re.compile(r"\$\{?[1-9@*]")
_CONDA = re.compile(r"^[^#\n]*\b(?:conda|mamba|micromamba|source|\.)[ \t]+activate\b.*$", re.MULTILINE)
_SOURCE = re.compile(
    r"(?:^|[;&|({]|\bthen\b|\bdo\b)[ \t]*((?:source|\.)[ \t]+(?!activate\b|/(?:arc|etc|usr|opt)/)[^\s;&|)]+)",
    re.MULTILINE,
)
_SCRATCH = re.compile(r"\$\{?((?:TMPDIR|[A-Z]*SCRATCH|WORK|PROJECT)\b)")
_CONDA_HOOK = re.compile(r"conda\.sh|shell\.bash|shell hook|mamba\.sh|bin/activate")
_NESTED = re.compile(r"\b(?:singularity|apptainer)\b.*?(?:docker://(\S+)|\S+\.sif)")
_PBS = re.compile(r"^#PBS\b.*$", re.MULTILINE)
_SLURM_PROGRAM = re.compile(r"^[^#\n]*?\b(sbatch|squeue|scontrol|sacct|scancel|sbcast)\b", re.MULTILINE)
_MPI = re.compile(r"^[^#\n]*?\b(mpirun|mpiexec)\b", re.MULTILINE)

_MANY = 100  # sessions at once: with more, a remark names the limit
_TOO_LARGE = {"cores": 16, "ram": 192}


class Remark(NamedTuple):
    """An option or text without a counterpart, as written, and what to do."""

    what: str
    advice: str


@dataclass(slots=True)
class _Work:
    """The state of one conversion."""

    file: str
    script: BatchScript
    settings: dict[str, Setting] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    given: dict[str, tuple[str, str, int]] = field(default_factory=dict)  # name: value, as written, line
    exports: list[str] = field(default_factory=list)  # lines for the beginning of the commands
    array: IndexArray | None = None

    def set(self, key: str, value: str, source: str = "") -> None:
        self.settings[key] = Setting(value, f"from {_one_line(source)}" if source else "")

    def remark(self, what: str, advice: str) -> None:
        self.remarks += [Remark(what, advice)] * (Remark(what, advice) not in self.remarks)

    def wrong(self, name: str, message: str, hint: str | None = None) -> None:
        _, written, line = self.given[name]
        problem = Problem(self.file, f"{written}: {message}", line, None, hint)
        self.problems += [problem] * (problem not in self.problems)

    def number(self, name: str, default: int) -> int:
        """Return the whole number that an option gives; the smaller one of a range such as 1-2."""
        if name not in self.given:
            return default
        text = self.given[name][0].partition("-")[0]
        if not re.fullmatch(r"[0-9]{1,6}", text) or int(text) < 1:
            self.wrong(name, "expected a whole number of at least 1")
            return default
        return int(text)


def convert(text: str, file: str) -> tuple[str, Sequence[Remark]]:
    """Return the manifest of a batch script, and what has no counterpart (also written at its top).

    Raises:
        ManifestError: ``text`` is not a batch script, or an option has an invalid value.
    """
    if "\0" in text or not (text.startswith("#!") or re.search(r"^#SBATCH\s", text, re.MULTILINE)):
        raise ManifestError((Problem(file, "not a batch script: it has no #! and no #SBATCH line"),))
    work = _Work(file, parse_script(text.replace("\r\n", "\n")))
    _read_options(work)
    for step in (_name, _array, _resources, _export, _commands, _environment, _other_options, _advice):
        step(work)
    if work.problems:
        raise ManifestError(order_problems(work.problems))
    return manifest_text(work.settings, _header(work)), work.remarks


def _read_options(work: _Work) -> None:
    """Store each option with its value in ``given``; the last one of a name counts, as with sbatch."""
    options = iter(work.script.options)
    for option in options:
        word = unquoted(option.word)
        if not word.startswith("-") or word == "-":
            work.problems.append(Problem(work.file, f"'{word}' is not an option of sbatch", option.line))
            continue
        (name, value), written = _option(word), option.word
        if value is None and name in _KNOWN and name not in _FLAGS:
            following = next(options, None)
            if following is None or following.line != option.line:
                work.problems.append(Problem(work.file, f"{word} needs a value", option.line))
                continue
            value, written = unquoted(following.word), f"{written} {following.word}"
        if name == "export":
            value = written.partition("=")[2] or written.partition(" ")[2]
        if name not in _KNOWN:
            guess = nearest(name, _KNOWN) if len(name) > 1 else None
            work.remark(written, f"Unknown option of sbatch{f'; did you mean --{guess}?' if guess else '.'}")
            continue
        work.given[name] = (value or "", written, option.line)


def script_words(words: Sequence[str]) -> Sequence[str]:
    """Return the words of an sbatch call after its options: the script and its arguments. A word after an option that
    is not a flag is its value, unless it is the last word."""
    at = 0
    while at < len(words) and words[at].startswith("-"):
        name, value = _option(words[at])
        at += 1 if value or name in _FLAGS or at + 2 >= len(words) else 2
    return words[at:]


def _option(word: str) -> tuple[str, str | None]:
    """Return the long name of ``-a1-10``, ``--array=1-10`` or ``--arr``, and the value in the same word, or None."""
    if word.startswith("--"):
        name, equals, value = word[2:].partition("=")
        return _long_name(name), value if equals else None
    return _SHORT.get(word[1:2], word[1:2]), word[2:].removeprefix("=") or None


def _long_name(name: str) -> str:
    """Return the full name of an option that may be abbreviated; ``name`` if that is unknown or ambiguous."""
    matches = [known for known in _KNOWN if known.startswith(name)]
    return matches[0] if name not in _KNOWN and len(matches) == 1 else name


def _name(work: _Work) -> None:
    given = work.given.get("job-name")
    stem = work.file.rpartition("/")[2].partition(".")[0]
    name = legal_job_name(given[0] if given else stem) or "my-job"
    work.set("name", toml_value(name), given[1] if given else "")
    work.set("image", toml_value(IMAGE), "")
    found = list(_NESTED.finditer(work.script.body))
    for nested in found:
        if nested[1]:
            work.set("image", toml_value(nested[1]), nested[0])
        work.remark(
            nested[0],
            "The container of a session cannot start another one. Set image to this image (in a registry of the "
            "platform), and keep only the command after it.",
        )
    if not found:
        work.remark("image", "Slurm has no images: set image to one that contains your programs (skahactl get images).")


def _array(work: _Work) -> None:
    if "array" not in work.given:
        return
    value, written, _ = work.given["array"]
    text = value.strip()
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    try:
        work.array = parse_array(text)
    except ValueError as error:
        work.wrong("array", str(error))
        return
    plain = re.sub(r"(?<![0-9])0+(?=[0-9])", "", text.partition("%")[0])  # Slurm reads 001 as 1
    work.set("items.range", toml_value(plain), written)
    work.settings["items.per-replica"] = Setting("1", "for several numbers per session, raise this and add each = true")
    if work.array.limit is not None:
        work.set("limits.alive", str(work.array.limit), f"%{work.array.limit}")
    elif len(work.array) > _MANY:
        advice = f"All {len(work.array):,} sessions are created at once. To limit them, set alive below [limits]."
        work.remark(written, advice)


def _resources(work: _Work) -> None:
    nodes, cpus = work.number("nodes", 1), work.number("cpus-per-task", 1)
    tasks = work.number("ntasks-per-node", math.ceil(work.number("ntasks", 1) / nodes))
    sources = [name for name in ("cpus-per-task", "ntasks", "ntasks-per-node") if name in work.given]
    cores = tasks * cpus
    if nodes > 1:
        _, written, _ = work.given["nodes"]
        work.remark(
            written, "A session runs on one node: MPI across nodes is not available. The resources are those of one."
        )
    if sources:
        work.set("resources.cores", str(cores), " ".join(work.given[name][1] for name in sources))
    _memory(work, cores)
    _gpus(work, tasks)
    for key, most in _TOO_LARGE.items():
        setting = work.settings.get(f"resources.{key}")
        if setting and int(setting.value) > most:
            work.remark(setting.comment.removeprefix("from "), f"This is more than most platforms offer: {_OFFER}")


_OFFER = "skahactl get resources shows the largest session."


def _memory(work: _Work, cores: int) -> None:
    name = "mem" if "mem" in work.given else "mem-per-cpu"
    if name not in work.given:
        return
    value, written, _ = work.given[name]
    match = _MEMORY.fullmatch(value)
    if match is None:
        work.wrong(name, "expected an amount of memory, such as 4G or 4000M")
        return
    amount = float(match[1]) * _UNITS[match[2].upper()] * (cores if name == "mem-per-cpu" else 1)
    if amount == 0:
        work.remark(written, f"Slurm gives all memory of a node. Set [resources] ram, in GB: {_OFFER}")
        return
    work.set("resources.ram", str(max(1, math.ceil(round(amount, 6)))), f"{written}, in GB")


def _gpus(work: _Work, tasks: int) -> None:
    for name, times in (("gres", 1), ("gpus", 1), ("gpus-per-node", 1), ("gpus-per-task", tasks)):
        if name not in work.given:
            continue
        value, written, _ = work.given[name]
        count = 0
        for part in value.split(","):
            match = _GPUS.fullmatch(part.strip())
            if name == "gres" and not part.strip().startswith("gpu"):
                work.remark(written, f"{part}: {_PLACEMENT}")
            elif match is None:
                work.wrong(name, "expected a number of GPUs, such as gpu:1")
            else:
                count += int(match[1] or 1)
        if count:
            work.set("resources.gpus", str(count * times), written)


def _export(work: _Work) -> None:
    if "export" not in work.given:
        return
    value, written, _ = work.given["export"]
    inner = unquoted(value) if value[:1] in "\"'" and value[:1] == value[-1:] else value
    for part in re.findall(r"""(?:[^,'"]|'[^']*'|"(?:[^"\\]|\\.)*")+""", inner):
        name, equals, text = part.strip().partition("=")
        if name in ("ALL", "NONE", "NIL") and not equals:
            continue
        if not VARIABLE.fullmatch(name):
            work.wrong("export", f"'{name}' is not the name of a variable")
        elif not equals:
            work.set(
                f"env.{name}", f"{{ from-env = {toml_value(name)} }}", f"--export {name}: your value when you apply"
            )
        elif name in PLATFORM_VARIABLES:
            work.exports.append(f"export {part.strip()}")
            work.remark(written, f"The platform sets {name}; the commands set it again at their beginning.")
        else:
            work.set(f"env.{name}", toml_value(escape_placeholders(unquoted(text))), "--export")


def _commands(work: _Work) -> None:
    script = work.script
    found = for_container(script)
    for line, command in found.modules:
        work.remark(
            f"line {line}: {command}",
            'A container has no modules: choose an image that has the programs. ":" switches the command off.',
        )
    for line, options in found.tasks:
        if re.search(r"(?:^|\s)(?:-n|--ntasks)[ =]?(?!1\b)[0-9]", options) or work.number("ntasks", 1) > 1:
            work.remark(
                f"line {line}: srun {options}".rstrip(),
                "srun was removed. It started several tasks; now the command runs once. Use mpirun -n N or xargs -P N.",
            )
    text = "".join(f"{line}\n" for line in [*_change_directory(work), *work.exports]) + found.text
    if not text.strip():
        work.problems.append(Problem(work.file, "the script has no commands"))
    elif script.runs_in_bash:
        work.set("shell", toml_text(text))
    elif (argv := script.argv(text)) is None:
        first = " ".join(script.interpreter)
        work.problems.append(Problem(work.file, f"{first}: cannot run a text with this interpreter", 1))
    else:
        words = ", ".join(toml_value(word) for word in argv[:-1])
        work.set("command", f"[{words}, {toml_text(text)}]")
    _remarks_about_commands(work, found)


def _change_directory(work: _Work) -> list[str]:
    if "chdir" not in work.given:
        return []
    value, written, _ = work.given["chdir"]
    work.remark(written, "The directory must exist in the container: /arc is there, other file systems are not.")
    return [f"cd '{value}' || exit"]


def _remarks_about_commands(work: _Work, found: Converted) -> None:
    body = work.script.body
    hook = _CONDA_HOOK.search(body) or work.script.flags
    missing = "" if hook else ' Before it, write: eval "$(conda shell.bash hook)".'
    for conda in _CONDA.finditer(body):
        work.remark(
            f"line {_line(work, conda.start())}: {conda[0].strip()}",
            f"conda and the environment must be in the image, or below /arc.{missing}",
        )
    for sourced in _SOURCE.finditer(body):
        work.remark(
            f"line {_line(work, sourced.start(1))}: {sourced[1]}",
            "This file, and what it refers to, must exist in the container: in the image, or below /arc.",
        )
    for pattern, advice in (
        (_SLURM_PROGRAM, "A container has no Slurm programs. To start a job after another one, use after."),
        (_MPI, "The number of processes is that of the cores of one session."),
    ):
        for match in pattern.finditer(body) if pattern is not _MPI or work.number("nodes", 1) > 1 else ():
            work.remark(f"line {_line(work, match.start(1))}: {match[1]}", advice)
    if work.script.is_shell and _ARGUMENT.search(re.sub(r"'[^']*'", "", body)) and "()" not in body:
        work.remark("$1", "The commands use arguments of sbatch. Write their values into the commands or [env].")
    if work.script.ignored:
        lines = ", ".join(map(str, work.script.ignored[:5]))
        work.remark(f"line {lines}: #SBATCH", "Slurm ignores options below the first command, and so does this.")
    if pbs := _PBS.search(body):
        work.remark(
            f"line {_line(work, pbs.start())}: {pbs[0]}",
            "#PBS lines are not read; write what they request as #SBATCH lines, or set it below.",
        )


def _line(work: _Work, offset: int) -> int:
    return work.script.line(work.script.body, offset)


def _environment(work: _Work) -> None:
    """Set in [env] the variables of Slurm that the commands read, and those of an array, with values for a session."""
    used = set(_USED.findall(work.script.body))
    cpus = work.number("cpus-per-task", 1)
    values: dict[str, str] = {}
    if work.array is not None:
        array = work.array
        values = {
            "SLURM_ARRAY_TASK_ID": "{item}",
            "SLURM_ARRAY_TASK_COUNT": str(len(array)),
            "SLURM_ARRAY_TASK_MIN": str(array.first),
            "SLURM_ARRAY_TASK_MAX": str(array.last),
            "SLURM_ARRAY_TASK_STEP": str(array.step),
        }
        used |= values.keys()
    values |= {
        "SLURM_JOB_ID": "{name}-{replica}",
        "SLURM_JOBID": "{name}-{replica}",
        "SLURM_ARRAY_JOB_ID": "{name}",
        "SLURM_JOB_NAME": "{name}",
        "SLURM_CPUS_PER_TASK": str(cpus),
        "SLURM_CPUS_ON_NODE": str(cpus * work.number("ntasks", 1)),
        "SLURM_NTASKS": str(work.number("ntasks", 1)),
        "SLURM_NPROCS": str(work.number("ntasks", 1)),
        "SLURM_NNODES": "1",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "SLURM_NODEID": "0",
        "SLURM_SUBMIT_DIR": ".",
        "SLURM_TMPDIR": "/tmp",
    }
    if "resources.ram" in work.settings:
        values["SLURM_MEM_PER_NODE"] = str(int(work.settings["resources.ram"].value) * 1024)
    for name, value in values.items():
        if name in used:
            work.set(f"env.{name}", toml_value(value))
    _remarks_about_variables(work, used, set(values))


_ABOUT_VARIABLES = {
    "SLURM_JOB_ID": 'Slurm\'s number of the job is now "{name}-{replica}", which is unique, but not a number.',
    "SLURM_JOBID": 'Slurm\'s number of the job is now "{name}-{replica}", which is unique, but not a number.',
    "SLURM_ARRAY_JOB_ID": "Slurm's number of the array is now the name of the job.",
    "SLURM_SUBMIT_DIR": "Set it in [env] to the directory as the container sees it, such as /arc/projects/NAME.",
    "SLURM_TMPDIR": "It is /tmp now. If the platform has a larger scratch directory, set it in [env].",
}


def _remarks_about_variables(work: _Work, used: set[str], known: set[str]) -> None:
    for name in sorted(used):
        if name in _ABOUT_VARIABLES:
            work.remark(f"${name}", _ABOUT_VARIABLES[name])
    unset = sorted(used - known - {key.removeprefix("env.") for key in work.settings})
    if unset:
        work.remark(", ".join(f"${name}" for name in unset), "Not set in a session. Set what you need in [env].")

    scratch = sorted({name for name in _SCRATCH.findall(work.script.body) if not _is_set(work, name)})
    if scratch:
        work.remark(
            ", ".join(f"${name}" for name in scratch),
            "The cluster sets it, and a session does not. Set it in [env]: /scratch of a session is empty at first and "
            "deleted at the end; what must remain belongs below /arc.",
        )


def _is_set(work: _Work, name: str) -> bool:
    """Return whether the commands or [env] set a variable."""
    return f"env.{name}" in work.settings or re.search(rf"\b{name}=", work.script.body) is not None


def _other_options(work: _Work) -> None:
    name = work.settings["name"].value.strip('"')
    for option, (value, written, _) in work.given.items():
        if option in _REMARKS:
            work.remark(written, _REMARKS[option].format(name=name))
        elif option == "time":
            seconds = _seconds(value)
            if seconds is None:
                work.wrong("time", "expected a time, such as 30, 04:00:00 or 1-12:00:00")
            elif seconds:
                work.remark(
                    written,
                    "Sessions have no such limit. To end a program after this time, "
                    f'put "timeout {_duration(seconds)}" before it.',
                )


def _seconds(text: str) -> int | None:
    """Return the seconds of a time limit of Slurm; 0 if it is unlimited, None if it is not valid.

    The forms are minutes, minutes:seconds, hours:minutes:seconds, and days-hours[:minutes[:seconds]].
    """
    if text.upper() in ("UNLIMITED", "INFINITE"):
        return 0
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    days, first, second, third = (int(part) if part else 0 for part in match.groups())
    if match[1] is not None:
        return days * 86400 + first * 3600 + second * 60 + third
    if match[4] is not None:
        return first * 3600 + second * 60 + third
    return first * 60 + second


def _duration(seconds: int) -> str:
    for size, unit in ((3600, "h"), (60, "m")):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _advice(work: _Work) -> None:
    work.remark(
        "environment",
        "sbatch starts in the current directory, with your variables. A container starts in its own, with those of "
        "[env]: use absolute paths that exist there, such as /arc/projects/NAME.",
    )


def _header(work: _Work) -> list[str]:
    lines = [f"Converted from {_one_line(work.file.rpartition('/')[2])} (Slurm). Read this, then delete it:", ""]
    for advice in dict.fromkeys(remark.advice for remark in work.remarks):
        lines += [f"* {_one_line(remark.what)}" for remark in work.remarks if remark.advice == advice]
        lines += [f"  {line}" for line in textwrap.wrap(advice, WIDTH)]
    return lines


def _one_line(text: str) -> str:
    """Return ``text`` for a comment: on one line of at most WIDTH characters, without control characters."""
    line = " ".join(text.replace("\\\n", " ").split())
    line = "".join(character if character.isprintable() else "?" for character in line)
    return line if len(line) <= WIDTH else line[: WIDTH - 3] + "..."
