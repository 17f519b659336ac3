"""Before anything runs: every data set must be there; a missing one is downloaded once, here and not in workers."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cl_semisup import plugins
from cl_semisup.results import data_hashes, protocol
from cl_semisup.suite.run import Named, Run
from cl_semisup.suite.suite import Suite


def check(suite: Suite) -> None:
    """Read every data set of the suite whole, unless it has not changed since; a missing or damaged one is a DataError.

    One that the suite allows to download may be missing.
    """
    for choice in choices(suite.runs):
        if data_hashes.current(choice, suite.data_dir) is None and not suite.download:
            _plugin(choice).prepare(Path(suite.data_dir), download=False)


def datasets(suite: Suite, runs: list[Run]) -> None:
    """Make sure that the data sets of these runs and of their probes can be loaded; a missing one is a DataError."""
    for choice in choices(runs):
        _plugin(choice).prepare(Path(suite.data_dir), suite.download)


def choices(runs: Iterable[Run]) -> Iterable[Named]:
    """The data sets of these runs and of their probes, each once."""
    return {repr(choice): choice for run in runs for choice in (run.dataset, *protocol.probed_datasets(run))}.values()


def _plugin(choice: Named) -> Any:
    (name, settings) = next(iter(choice.items()))
    return plugins.load("datasets", name)(**settings)
