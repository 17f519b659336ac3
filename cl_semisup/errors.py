"""Errors that the command line prints without a traceback; their messages say how to mend the cause."""

import re
import signal
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from cl_semisup.text import visible

MAX_MESSAGE_LENGTH = 1000  # characters of an error message in a record
MAX_NAME_LENGTH = 80  # characters of an unknown name that are shown
MAX_SHOWN_PROBLEMS = 50
MAX_PROBLEM_LENGTH = 2000  # characters of one that are shown
MAX_LINE_LENGTH = 10_000  # characters of any other line that names text of strangers


class _UserError(Exception):
    """Its message may repeat text of strangers: control characters are shown as escapes; each argument is a line."""

    def __str__(self) -> str:
        return "\n".join(cut(visible(line), MAX_LINE_LENGTH) for line in self.args)


class InputError(_UserError, ValueError):
    """The user's input breaks a rule: the message says where, which rule, what was got and what to do. Exit code 2."""


class SuiteError(InputError):
    """Problems of one suite file, a line each: `file:line:column: place: what. Got ... What to do.`

    `problems` has all of them, the message the first `MAX_SHOWN_PROBLEMS` and how many there are.
    """

    def __init__(self, problems: Iterable[str]):
        self.problems = [visible(problem) for problem in problems]
        lines = [cut(problem, MAX_PROBLEM_LENGTH) for problem in self.problems[:MAX_SHOWN_PROBLEMS]]
        if more := len(self.problems) - len(lines):
            lines.append(f"... and {more} more.")
        super().__init__("\n".join([*lines, f"{len(self.problems)} problem(s); nothing was run."]))

    def __str__(self) -> str:
        return str(self.args[0])


class DataError(InputError):
    """A data set is missing or damaged; one line for each of its files that are named."""

    def __init__(self, *lines: str):
        super().__init__(*lines)  # so that other processes get all of them


class ResultsError(_UserError):
    """The results folder cannot be used: read-only, full, or not a folder. Finished records are untouched."""


class EngineError(_UserError):
    """No run can be executed: every worker ends before it gets a run. Finished records are untouched."""


class OutOfMemory(RuntimeError):
    """A device has too little memory for a run; the batch size is never lowered to make it fit."""


def message(error: BaseException) -> str:
    """An error's message, cut to MAX_MESSAGE_LENGTH; its class if the message is empty or `str` fails."""
    try:
        text = str(error).strip()
    except BaseException as raised:  # by a plug-in's error, which may raise anything
        if stops_process(raised):
            raise
        text = ""
    return (text or _class_name(type(error)))[:MAX_MESSAGE_LENGTH].encode("utf-8", "replace").decode()


def described(error: BaseException) -> str:
    """The class and the message of an error; of one of the package's own, whose messages say all, the message alone."""
    text, name = message(error), _class_name(type(error))
    return text if _is_ours(type(error)) else f"{name}: {text if text != name else 'no reason given'}"


def _class_name(kind: type) -> str:
    return str(vars(type)["__name__"].__get__(kind))  # a metaclass may have a `__name__` of its own, which runs code


def _is_ours(kind: type) -> bool:
    """Is this a class of the package? Plug-ins in the package's folders are."""
    return str(vars(type)["__module__"].__get__(kind)).split(".")[0] == __name__.split(".")[0]


class ProcessMustStop(BaseException):
    """This process shall not or cannot go on; no run is at fault."""


def stops_process(error: BaseException) -> bool:
    """Whether an error is of the process and not of a run. A plug-in may raise anything, KeyboardInterrupt too.

    For a signal the command's handlers raise a subclass of KeyboardInterrupt that is the package's; Python's handler,
    where it is set, raises the class itself.
    """
    if not isinstance(error, KeyboardInterrupt):
        return isinstance(error, ProcessMustStop)
    if type(error) is KeyboardInterrupt:
        return signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return _is_ours(type(error))


def unknown(what: str, got: str, known: Iterable[str], titles: Mapping[str, str] | None = None) -> str:
    """`unknown loss 'dhell'. Did you mean 'dhel'? Known: dhel, ...`; `titles` are other words for some of the known."""
    known = sorted(known)
    plain = {_plain(title): name for title, name in (titles or {}).items()} | {_plain(name): name for name in known}
    word = _plain(str(got)[: 2 * MAX_NAME_LENGTH])
    near = [word] if word in plain else get_close_matches(word, list(map(_plain, known)), n=1)
    hint = f" Did you mean {plain[near[0]]!r}?" if near else ""
    return f"unknown {what} {cut(repr(got), MAX_NAME_LENGTH)}.{hint} Known: {', '.join(known) or 'none'}"


def _plain(name: str) -> str:
    """A name without what people write in several ways: case, hyphens, underscores and spaces."""
    return re.sub(r"[-_ ]+", "", name.casefold())


def cut(text: str, length: int) -> str:
    """The text, or its beginning and `...`, so that it has at most `length` characters."""
    return text if len(text) <= length else text[: length - 3] + "..."


def first_ten(names: Iterable[object]) -> str:
    """`'a', 'b'`, or the first ten and how many there are; of a long one its beginning."""
    listed = list(names)
    quoted = ", ".join(cut(repr(name), MAX_NAME_LENGTH) for name in listed[:10])
    return quoted if len(listed) <= 10 else f"{quoted}, ... ({len(listed)} in all)"
