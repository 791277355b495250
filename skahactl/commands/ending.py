"""However a command ends, the screen is left clean; and who asked for data gets what is known."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from skahactl.errors import SkahactlError

if TYPE_CHECKING:
    from skahactl.commands.opening import WriteContext
    from skahactl.engine.outcome import Outcome


@contextlib.contextmanager
def run_with_report(here: WriteContext, known: Callable[[], Outcome | None]) -> Iterator[None]:
    """Ends the progress after the work in it. An error that ends the work is told on stderr alone; with ``-o json``
    and the like, the outcome that is ``known`` by then goes to stdout before, its ``exit`` that of the error."""
    try:
        yield
    except SkahactlError as error:
        here.desk.reporter.close()
        outcome = known()
        if outcome is not None and outcome.jobs and here.context.machine_readable:
            outcome.ended_by = error.exit
            _show(here, outcome)
        raise
    here.desk.reporter.close(told=here.context.output in ("table", "wide"))


def _show(here: WriteContext, outcome: Outcome) -> None:
    """A reader that went away does not hide the error."""
    from skahactl.render.outcomes import show_outcome

    with contextlib.suppress(OSError):
        show_outcome(here.context, outcome)
        here.context.stdout.flush()
