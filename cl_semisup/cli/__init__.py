"""The command line: parse and dispatch. A user's errors become a message and an exit code, never a traceback."""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

from cl_semisup.cli import (
    check,
    check_plugin,
    cite,
    compare,
    ending,
    evaluate,
    export,
    gate,
    init,
    list_plugins,
    report,
    run,
    schema,
    site,
    submit,
    verify,
)
from cl_semisup.cli.exit_codes import BAD_INPUT, NO_RESULTS, OK, SOME_FAILED
from cl_semisup.engines import torchrun
from cl_semisup.errors import EngineError, InputError, ResultsError
from cl_semisup.execution import stop
from cl_semisup.system import installation
from cl_semisup.system.cgroups import machine_bytes
from cl_semisup.text import degrade_streams, show, visible
from cl_semisup.version import __version__

__all__ = ["BAD_INPUT", "COMMANDS", "NO_RESULTS", "OK", "SOME_FAILED", "command", "main"]

# name -> module with HELP (one line), `add_arguments(parser)` and `run(options) -> exit code`
COMMANDS = {
    "run": run,
    "check": check,
    "evaluate": evaluate,
    "report": report,
    "compare": compare,
    "export": export,
    "site": site,
    "submit": submit,
    "verify": verify,
    "cite": cite,
    "init": init,
    "list": list_plugins,
    "check-plugin": check_plugin,
    "check-loss": check_plugin,  # its first name, when only losses could be a user's own
    "gate": gate,
    "schema": schema,
}
EPILOG = """exit codes: 0 all runs are done; 1 a run failed; 2 bad input; 3 results cannot
be read or written, or no worker starts; 130 Ctrl-C; 143 SIGTERM (put the job
back in the queue). Start a stopped command again: finished runs are never
repeated, others go on from saved states. A second Ctrl-C leaves at once."""
OLD_NAMES = ("check-loss",)  # still work, and are not listed


def command() -> NoReturn:
    """The command as a process: it ends with the command's exit code."""
    ending.end(main())


def _complain(text: object) -> None:
    """Say why the command ends; where nothing takes it, the exit code still tells."""
    with suppress(OSError):
        show(text, error=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; `benchmark.py SUITE` means `benchmark.py run SUITE`."""
    degrade_streams()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments and arguments[0] not in COMMANDS and not arguments[0].startswith("-"):
        arguments.insert(0, "run")
    parser = build_parser(help_all="--help-all" in arguments)
    _complete(parser)
    options = parser.parse_args(arguments)
    options.arguments = arguments
    try:
        with stop.at_once(), torchrun.stopping_worker_ranks():
            if torchrun.is_worker_rank():
                return torchrun.run_worker_rank(options.device, options.plugin) if options.command == "run" else OK
            return COMMANDS[options.command].run(options)
    except InputError as error:
        _complain(error)
        return BAD_INPUT
    except (ResultsError, EngineError) as error:
        _complain(visible(error))
        return NO_RESULTS
    except stop.Stopped as error:
        advice = " Finished runs are kept; start the same command again to go on." if options.command == "run" else ""
        _complain(f"\nStopped by {error}.{advice}")
        return error.exit_code
    except MemoryError:  # sizes that headers claim are refused before; this is what is left
        _complain(f"out of memory: this machine has {machine_bytes() / 1e9:.1f} GB. Finished runs are kept.")
        return NO_RESULTS
    except BrokenPipeError:  # the reader of our output has closed the pipe, as in `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except OSError as error:  # the machine's fault, not a run's: a full disk, a folder that has disappeared
        place, cause = visible(error.filename or "output"), visible(error.strerror or error)
        _complain(f"{place}: {cause}. Finished runs are kept.")
        return NO_RESULTS


def _complete(parser: argparse.ArgumentParser) -> None:
    """Where a shell asks for completions (docs/install.md), print them and end; needs the extra `completion`."""
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Gives the longest command a line with its help: argparse forgets that commands are indented."""

    def add_argument(self, action: argparse.Action) -> None:
        super().add_argument(action)
        self._action_max_length = max(self._action_max_length, 4 + max(map(len, COMMANDS)))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """The message repeats arguments."""
        super().error(visible(message))


def build_parser(help_all: bool = False) -> argparse.ArgumentParser:
    """The parser of all commands; with `help_all` the help of `run` shows all of its options."""
    parser = _Parser(
        prog=installation.COMMAND[-1],
        description="Benchmark contrastive losses with few labels.",
        epilog=EPILOG,
        formatter_class=_HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"cl_semisup {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command", dest="command")
    for name, command in COMMANDS.items():
        listed = {} if name in OLD_NAMES else {"help": command.HELP}
        child = commands.add_parser(name, description=command.HELP, epilog=EPILOG, **listed)
        child.formatter_class = argparse.RawDescriptionHelpFormatter
        if name == "run":
            run.add_arguments(child, help_all)
        else:
            command.add_arguments(child)
    return parser
