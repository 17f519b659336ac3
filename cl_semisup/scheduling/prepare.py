"""Before anything runs: every data set must be there; a missing one is downloaded once, here and not in workers."""

from pathlib import Path

from cl_semisup import plugins
from cl_semisup.results import protocol
from cl_semisup.suite.run import Run
from cl_semisup.suite.suite import Suite


def datasets(suite: Suite, runs: list[Run]) -> None:
    """Make sure that the data sets of these runs and of their probes can be loaded; a missing one is a DataError."""
    choices = {repr(choice): choice for run in runs for choice in (run.dataset, *protocol.probed_datasets(run))}
    for choice in choices.values():
        (name, settings) = next(iter(choice.items()))
        plugins.load("datasets", name)(**settings).prepare(Path(suite.data_dir), suite.download)
