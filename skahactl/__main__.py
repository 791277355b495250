"""The command ``skahactl``, and ``python -m skahactl``."""

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports below prints no traceback

from skahactl.cli import run

if __name__ == "__main__":
    run()
