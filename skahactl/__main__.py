"""``python -m skahactl``."""

from skahactl.console import run

run()
