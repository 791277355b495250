"""``python -m skahactl``."""

from skahactl.cli import run

run()
