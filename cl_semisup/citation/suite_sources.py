"""The sources of everything that a suite uses."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from cl_semisup.citation import bibtex
from cl_semisup.citation.sources import Source, of_plugin
from cl_semisup.results import protocol
from cl_semisup.suite.run import BASIC_VIEW, Run

ORDER = ("losses", "datasets", "encoders", "evaluation", "views", "optimizers")


@dataclass(frozen=True)
class Citations:
    """Each source with the plug-ins that name it (`losses.clop`), and the plug-ins that name none."""

    sources: dict[Source, list[str]]
    without: list[str]

    @property
    def unknown(self) -> list[Source]:
        """Sources that the table lacks: those of a user's own plug-in."""
        return [source for source in self.sources if not source.title]

    @property
    def unchecked(self) -> list[Source]:
        """Sources whose title we could not check."""
        return [source for source in self.sources if source.title and not source.checked]

    def bibtex(self) -> str:
        """This package's entry, then one of each source."""
        return "\n".join([bibtex.PACKAGE, *(bibtex.entry(source, used) for source, used in self.sources.items())])


def of_runs(runs: Iterable[Run]) -> Citations:
    """The sources of the losses (bases of others included), data sets, encoders, probes, views and optimizers."""
    named: set[tuple[str, str]] = set()
    for run in runs:
        named |= protocol.plugin_names(run) | ({("views", BASIC_VIEW)} if BASIC_VIEW in run.view_names else set())
    return of_plugins(named)


def of_plugins(
    named: Iterable[tuple[str, str]], others: Mapping[str, list[Source]] = MappingProxyType({})
) -> Citations:
    """The sources of these plug-ins, (folder, name) each, after those of what is no plug-in, by its word."""
    sources: dict[Source, list[str]] = {}
    without: list[str] = []
    for word, found in others.items():
        for source in found:
            sources.setdefault(source, []).append(word)
    for folder, name in sorted(named, key=lambda plugin: (ORDER.index(plugin[0]), plugin[1])):
        word = f"{'probes' if folder == 'evaluation' else folder}.{name}"
        found = of_plugin(folder, name)
        for source in found:
            sources.setdefault(source, []).append(word)
        without += [] if found else [word]
    return Citations(sources, without)
