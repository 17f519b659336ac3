"""What the contracts of all kinds share: clauses, their results, and the state of global random generators."""

import inspect
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from cl_semisup import plugins
from cl_semisup.config import grid
from cl_semisup.errors import message, stops_process

S = TypeVar("S")


@dataclass(frozen=True)
class ClauseResult:
    """One clause for one plug-in: `ok`, `broken`, `exempt` (declared, with a reason) or `skipped` (not checked)."""

    clause: str
    outcome: str
    text: str


class Broken(AssertionError):
    """A clause does not hold; the message says what was observed."""


@dataclass(frozen=True)
class Contract(Generic[S]):
    """The clauses of one kind, in their order. While the first, if `basic`, is broken, the others are skipped."""

    basic: bool = True
    clauses: dict[str, Callable[[S], None]] = field(default_factory=dict)

    def clause(self, check: Callable[[S], None]) -> Callable[[S], None]:
        """Registers a clause under its function's name; the docstring's first line is printed where it holds."""
        self.clauses[check.__name__] = check
        return check

    def check(self, subject: S, exemptions: Mapping[str, str]) -> list[ClauseResult]:
        """Check every clause."""
        if unknown := set(exemptions) - set(self.clauses):
            text = f"declares exemptions from unknown clauses: {', '.join(sorted(unknown))}."
            return [ClauseResult("exemptions", "broken", text)]
        results: list[ClauseResult] = []
        for name in self.clauses:
            if self.basic and results and results[0].outcome == "broken":
                results.append(ClauseResult(name, "skipped", f"not checked while {results[0].clause!r} is broken"))
            else:
                results.append(self._check(name, subject, exemptions.get(name)))
        return results

    def _check(self, name: str, subject: S, exemption: str | None) -> ClauseResult:
        try:
            self.clauses[name](subject)
        except BaseException as error:  # a plug-in may raise anything
            if stops_process(error):
                raise
            if exemption is not None:
                return ClauseResult(name, "exempt", exemption)
            text = str(error) if isinstance(error, Broken) else f"{type(error).__name__}: {message(error)}"
            return ClauseResult(name, "broken", text)
        if exemption is not None:
            text = f"declared as not holding ({exemption}), but it holds. Remove the exemption."
            return ClauseResult(name, "broken", text)
        return ClauseResult(name, "ok", (self.clauses[name].__doc__ or "").splitlines()[0])


@dataclass(frozen=True)
class Part:
    """A plug-in under test: its folder, name and settings, with defaults filled in."""

    folder: str
    name: str
    settings: Mapping[str, Any]

    def make(self) -> Any:
        """A new instance of the plug-in's class."""
        return grid.build(self.folder, self.name, self.settings)


def require_documentation(folder: str, name: str, *words: str) -> None:
    """Broken unless the docstring has a summary, these words, and each setting in `Args:`."""
    plugin = plugins.load(folder, name)
    text = inspect.getdoc(plugin) or ""
    has_own = bool(vars(plugin).get("__doc__")) and not text.startswith(f"{plugin.__name__}(")  # dataclass's own
    absent = [] if has_own else ["a summary"]
    absent += [word for word in words if word not in text]
    absent += [f"Args: {name}" for name in grid.annotations(plugin) if name not in plugins.field_descriptions(plugin)]
    if absent:
        raise Broken(f"the docstring lacks {', '.join(absent)}.")


@contextmanager
def other_randomness(seed: int) -> Iterator[None]:
    """Global generators of Python, numpy and torch start from this seed within; Broken if one is used or seeded."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        at_start = _states()
        yield
        changed = [name for name, state in _states().items() if state != at_start[name]]
        if changed:
            remedy = "Draw from a generator of its own, seeded by cl_semisup.seeds.seed"
            raise Broken(f"it draws from or seeds the global generator of {', '.join(changed)}. {remedy}.")
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


def _states() -> dict[str, Any]:
    kind, keys, *rest = np.random.get_state()
    numpy_state = (kind, bytes(keys), *rest)  # type: ignore[arg-type]
    return {"random": random.getstate(), "numpy": numpy_state, "torch": bytes(torch.get_rng_state().numpy())}
