"""Before anything runs: every data set must be there; a missing one is downloaded once, here and not in workers."""

from collections.abc import Iterable
from pathlib import Path

from cl_semisup import plugins
from cl_semisup.errors import DataError
from cl_semisup.results import data_hashes, protocol
from cl_semisup.suite.run import Named, Run
from cl_semisup.suite.suite import Suite


def check(suite: Suite) -> None:
    """Read every data set of the suite whole, unless it has not changed since; a missing or damaged one is a DataError.

    One that the suite allows to download, or that a probe leaves out if need be, may be missing.
    """
    optional = missing(suite)
    for choice in choices(suite.runs):
        if repr(choice) in optional:
            continue
        if data_hashes.current(choice, suite.data_dir) is None and not suite.download:
            _prepare(choice, suite, download=False)


def datasets(suite: Suite, runs: list[Run]) -> None:
    """Make sure that the data sets of these runs and of their probes can be loaded; a missing one is a DataError."""
    optional = missing(suite)
    for choice in choices(runs):
        if repr(choice) not in optional:
            _prepare(choice, suite, suite.download)


def missing(suite: Suite) -> dict[str, str]:
    """`repr` of each data set that is not there and that its probes leave out -> the reason. Nothing is downloaded."""
    optional = {repr(choice): choice for run in suite.runs for choice in protocol.optional_datasets(run)}
    reasons = {}
    for key, choice in optional.items():
        (name, settings) = next(iter(choice.items()))
        with plugins.plugin_errors("datasets", name):
            is_there = plugins.load("datasets", name)(**settings).data_files(Path(suite.data_dir))
        try:
            if not is_there:  # what is there and damaged is not missing
                _prepare(choice, suite, download=False)
        except DataError as error:
            reasons[key] = str(error)
    return reasons


def choices(runs: Iterable[Run]) -> Iterable[Named]:
    """The data sets of these runs and of their probes, each once."""
    return {repr(choice): choice for run in runs for choice in (run.dataset, *protocol.probed_datasets(run))}.values()


def _prepare(choice: Named, suite: Suite, download: bool) -> None:
    (name, settings) = next(iter(choice.items()))
    with plugins.plugin_errors("datasets", name):
        plugins.load("datasets", name)(**settings).prepare(Path(suite.data_dir), download)
