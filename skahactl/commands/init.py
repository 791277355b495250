"""``skahactl init``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from skahactl.completers import FileName
from skahactl.errors import Exit, ManifestError, Problem, UsageError
from skahactl.invocation import Invocation, ask, current
from skahactl.spelling import did_you_mean
from skahactl.text import count_noun

TEMPLATES = ("array", "list", "shell", "notebook")
MAX_SCRIPT = 4 << 20  # bytes; Slurm's own limit for a batch script

if TYPE_CHECKING:
    Template = str
else:
    Template = Literal[TEMPLATES] | str  # completion offers these; init rejects others itself


def init(
    template: Annotated[
        Template | None, Parameter(name="TEMPLATE", show_choices=False, help="array, list, shell or notebook.")
    ] = None,
    /,
    *,
    from_sbatch: Annotated[
        FileName | None,
        Parameter(
            metavar="FILE", allow_leading_hyphen=True, help="Convert this Slurm batch script (- is standard input)."
        ),
    ] = None,
) -> int:
    """Print a manifest to begin with. Without a template, ask for what it should contain.

    Examples:

    skahactl init > job.toml

    skahactl init list > job.toml

    skahactl init --from-sbatch run.sh > job.toml
    """
    context = current()
    if from_sbatch is not None:
        if template is not None:
            raise UsageError("give a template or --from-sbatch FILE, not both")
        return _convert(from_sbatch, context)
    if template is not None and template not in TEMPLATES:
        hint = did_you_mean(template, TEMPLATES) or f"the templates are {', '.join(TEMPLATES)}"
        if os.path.isfile(template):
            hint = f"to convert a batch script: skahactl init --from-sbatch {template}"
        raise UsageError(f"'{template}' is not a template", hint=hint)
    return _print_template(template, context)


def _print_template(name: str | None, context: Invocation) -> int:
    from skahactl.manifest import starter

    answers: dict[str, str] = {}
    if name is None and context.stdin.isatty() and context.stderr.isatty():
        name, answers = _ask_all(context)
    elif name is None:
        context.say("note: no template given, and no terminal to ask: this is 'array' (others: list, shell, notebook)")
    context.out(starter.template(name or "array", answers).rstrip("\n"))
    _advise(context)
    return Exit.DONE


def _advise(context: Invocation) -> None:
    if context.stdout.isatty():
        context.say("help: to save it, repeat the command with > job.toml at its end")


def _convert(file: str, context: Invocation) -> int:
    from skahactl.manifest.sbatch import convert
    from skahactl.manifest.syntax import read_text

    path = os.path.join(context.cwd, os.path.expanduser(file))
    script = read_text(file, path, "a batch script", MAX_SCRIPT, context.stdin if file == "-" else None)
    if isinstance(script, Problem):
        raise ManifestError((script,))
    text, remarks = convert(script, "standard input" if file == "-" else file)
    context.out(text.rstrip("\n"))
    things = count_noun(len(remarks), "thing")
    context.say(f"note: {things} to check or change by hand, listed in the comments at the top")
    _advise(context)
    return Exit.DONE


def _ask_all(context: Invocation) -> tuple[str, dict[str, str]]:
    """Ask for the name, the image and the work; return the template and the answers as TOML."""
    from skahactl.manifest import schema, starter
    from skahactl.toml import toml_value

    name = ask(context, "Name of the job", "my-job", schema.check_job_name)
    image = ask(context, "Container image", starter.IMAGE, schema.check_image)
    work = ask(context, "A number of replicas, or a file with one item per line", "10", _work)
    answers = {"name": toml_value(name), "image": toml_value(image)}
    if work.isdigit():
        return "shell", answers | {"replicas": work}
    return "list", answers | {"items.values": "", "items.file": toml_value(work)}


def _work(answer: str) -> None:
    if answer.isdigit():
        if not 1 <= int(answer[:8]) <= 1_000_000:
            raise ValueError("expected a number from 1 to 1,000,000")
    elif not os.path.isfile(os.path.expanduser(answer)):
        raise ValueError(f"'{answer}' is neither a number nor an existing file")
