"""What the contracts of all kinds share: the plug-in under test, clauses, and their results."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from cl_semisup import plugins
from cl_semisup.config import grid
from cl_semisup.contract.checks import Broken, require_documentation
from cl_semisup.contract.other_process import Questions, require_same
from cl_semisup.errors import described, stops_process


@dataclass(frozen=True)
class PluginUnderTest(ABC):
    """A plug-in with its settings, others than these at their defaults; `data_dir` is what a data set reads from."""

    folder: ClassVar[str]

    name: str
    settings: Mapping[str, Any]
    data_dir: Path = Path()

    def make(self) -> Any:
        """A new instance of the plug-in's class."""
        return grid.build(self.folder, self.name, self.settings)

    def exempt(self) -> Mapping[str, str]:
        """Clause -> reason why it does not hold, as the plug-in declares it."""
        declared: Mapping[str, str] = getattr(plugins.load(self.folder, self.name), "exempt", {})
        return declared

    @abstractmethod
    def questions(self) -> Questions:
        """What another process must answer alike."""


S = TypeVar("S", bound=PluginUnderTest)


@dataclass(frozen=True)
class ClauseResult:
    """One clause for one plug-in: `ok`, `broken`, `exempt` (declared, with a reason) or `skipped` (not checked)."""

    clause: str
    outcome: str
    text: str


def documented(subject: PluginUnderTest) -> None:
    """The docstring has a summary and each setting in `Args:`."""
    require_documentation(subject.folder, subject.name)


def other_process(subject: PluginUnderTest) -> None:
    """Another process, with other hashes of texts and other calls before, gives the same."""
    require_same(subject.folder, subject.name, subject.settings, subject.questions(), subject.data_dir)


@dataclass(frozen=True)
class Contract(Generic[S]):
    """The clauses of one kind. While the first of its own, if `basic`, is broken, the others are skipped."""

    basic: bool = True
    own: dict[str, Callable[[S], None]] = field(default_factory=dict)

    @property
    def clauses(self) -> dict[str, Callable[[S], None]]:
        """The kind's own clauses and those of every kind, in the order in which they are checked."""
        first = next(iter(self.own))
        return {first: self.own[first], "documented": documented, **self.own, "other_process": other_process}

    def clause(self, check: Callable[[S], None]) -> Callable[[S], None]:
        """Registers a clause under its function's name; the docstring's first line is printed where it holds."""
        self.own[check.__name__] = check
        return check

    def check(self, subject: S, exempt: Mapping[str, str]) -> list[ClauseResult]:
        """Check every clause. `exempt` are exemptions beside those that the plug-in itself declares."""
        exemptions = {**subject.exempt(), **exempt}
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
            text = str(error) if isinstance(error, Broken) else described(error)
            return ClauseResult(name, "broken", text)
        if exemption is not None:
            text = f"declared as not holding ({exemption}), but it holds. Remove the exemption."
            return ClauseResult(name, "broken", text)
        return ClauseResult(name, "ok", (self.clauses[name].__doc__ or "").splitlines()[0])
