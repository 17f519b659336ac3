"""Before anything runs: every data set is there, or is fetched once, here and not in each worker."""

from pathlib import Path

from cl_semisup import plugins
from cl_semisup.results import protocol
from cl_semisup.suite.run import Run
from cl_semisup.suite.suite import Suite


def datasets(suite: Suite, runs: list[Run]) -> None:
    """Make sure that the data sets of these runs and of their probes can be loaded; a missing one is a DataError."""
    asked = {repr(named): named for run in runs for named in (run.dataset, *protocol.probed_datasets(run))}
    for named in asked.values():
        (name, settings) = next(iter(named.items()))
        plugins.load("datasets", name)(**settings).prepare(Path(suite.data_dir), suite.download)
