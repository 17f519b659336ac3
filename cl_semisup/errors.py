"""Errors that the command line prints without a traceback; their messages say how to mend the cause."""

from collections.abc import Iterable
from difflib import get_close_matches

from cl_semisup.text import visible

MAX_SHOWN_PROBLEMS = 50


class InputError(ValueError):
    """The user's input breaks a rule: the message says where, which rule, what was got and what to do. Exit code 2."""


class SuiteError(InputError):
    """Problems of one suite file, a line each: `file:line:column: place: what. Got ... What to do.`

    `problems` has all of them, the message the first `MAX_SHOWN_PROBLEMS` and how many there are.
    """

    def __init__(self, problems: Iterable[str]):
        self.problems = [visible(problem) for problem in problems]
        lines = self.problems[:MAX_SHOWN_PROBLEMS]
        if more := len(self.problems) - len(lines):
            lines.append(f"... and {more} more.")
        super().__init__("\n".join([*lines, f"{len(self.problems)} problem(s); nothing was run."]))


class DataError(InputError):
    """A data set is missing or damaged."""


class ResultsError(Exception):
    """The results folder cannot be used: read-only, full, or not a folder. Finished records are untouched."""


class EngineError(Exception):
    """No run can be executed: every worker ends before it gets a run. Finished records are untouched."""


class OutOfMemory(RuntimeError):
    """A device has too little memory for a run; the batch size is never lowered to make it fit."""


def unknown(what: str, got: str, known: Iterable[str]) -> str:
    """`unknown loss 'dhell'. Did you mean 'dhel'? Known: dhel, ...`"""
    known = sorted(known)
    near = get_close_matches(str(got), known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {what} {got!r}.{hint} Known: {', '.join(known) or 'none'}"
