#!/usr/bin/env python3
"""The door of the command line: `python benchmark.py suites/quickstart.yaml`, from a plain checkout."""

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C before and after `main` ends the process without a traceback

from cl_semisup.cli import command

if __name__ == "__main__":
    command()
