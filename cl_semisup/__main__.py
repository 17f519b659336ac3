"""`python -m cl_semisup`: the same as the command `cl-semisup`."""

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C before and after `main` ends the process without a traceback

from cl_semisup.cli import command

if __name__ == "__main__":
    command()
