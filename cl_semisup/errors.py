"""What can be wrong with the input, told so that the reader can mend it; the command line prints it and exits 2."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """Something the user gave breaks a rule: the message says where, which rule, what was got and what to do."""


class SuiteError(InputError):
    """All faults of one suite file, a line each: `file:line:column: place: what. Got ... What to do.`"""

    def __init__(self, faults: Iterable[str]):
        self.faults = list(faults)
        super().__init__("\n".join([*self.faults, f"{len(self.faults)} problem(s); nothing was run."]))


class DataError(InputError):
    """A data set is missing or is not what it should be."""


class ResultsError(Exception):
    """The results folder cannot be used: read-only, full, or not a folder. Finished records are untouched."""


class EngineError(Exception):
    """Nothing can be executed here: no worker lives long enough to be given a run. Finished records are untouched."""


class OutOfMemory(RuntimeError):
    """A device has no memory left for what was asked; the batch size is never lowered to make it fit."""


def unknown(what: str, got: str, known: Iterable[str]) -> str:
    """`unknown loss 'dhell'. Did you mean 'dhel'? Known: dhel, ...`"""
    known = sorted(known)
    near = get_close_matches(str(got), known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {what} {got!r}.{hint} Known: {', '.join(known) or 'none'}"
