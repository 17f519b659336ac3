"""A user's own file that is edited, replaced or deleted while a suite runs: all runs execute what was checked."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cl_semisup import plugins
from cl_semisup.engines import fork_server
from cl_semisup.engines.local import LocalEngine
from cl_semisup.execution import training_groups
from cl_semisup.execution.machine import Machine
from cl_semisup.suite import suite

pytestmark = pytest.mark.skipif(not fork_server.uses_fork_server("cpu"), reason="workers are forked on Linux only")
LOSS = '''
from dataclasses import dataclass

@dataclass(frozen=True)
class Own:
    """A user's own loss."""

    def __call__(self, z1, z2, labels=None):
        return (z1 - z2).square().mean() * 0 + 1
'''
SUITE = """\
question: Is what was checked executed?
datasets: digits
encoder: {mlp: {width: 8, layers: 1}}
losses: own
label_fraction: 0.1
learning_rate: 0.1
batch_size: 512
repetitions: 1
epochs: 1
score: knn_top1
probes: {linear: false, geometry: false}
validation: all
"""
OTHER = LOSS.replace("+ 1", "+ 2")


def replaced_by_a_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


CHANGES: dict[str, Callable[[Path], object]] = {
    "edited": lambda file: file.write_text(OTHER),
    "replaced by rename": lambda file: (file.with_suffix(".new").write_text(OTHER), file.with_suffix(".new").rename(file)),
    "deleted": lambda file: file.unlink(),
    "no Python any more": lambda file: file.write_bytes(b"def (\xff"),
    "another kind": lambda file: file.write_text(OTHER.replace("__call__(self, z1, z2, labels=None)", "view(self, a, b)")),
    "a pipe": replaced_by_a_pipe,
}  # fmt: skip


@pytest.fixture
def own_file(tmp_path: Path) -> Iterator[Path]:
    before = dict(plugins._user_files)
    file = tmp_path / "own.py"
    file.write_text(LOSS)
    plugins.load.cache_clear()
    plugins.add(file)
    yield file
    plugins._user_files.clear()
    plugins._user_files.update(before)
    plugins._executed_texts.pop(file.resolve(), None)
    plugins.load.cache_clear()
    plugins.version.cache_clear()


@pytest.mark.parametrize("change", CHANGES)
def test_runs_execute_the_text_that_was_checked_and_name_its_version(own_file: Path, change: str) -> None:
    (trained,) = (run for run in suite.parse(SUITE, "s.yaml").runs if run.epochs)
    version = plugins.version("losses", "own")
    engine = LocalEngine(Machine("cpu", "data"), 1, [own_file])
    CHANGES[change](own_file)
    plugins.version.cache_clear()
    assert plugins.version("losses", "own") == version
    try:
        engine.submit(training_groups.single_run(trained))
        ((_, ((record, curves),)),) = engine.results(100)
    finally:
        engine.cancel()
    assert record["status"] in ("ok", "collapsed"), record["reason"]
    assert set(curves["history"]["loss"]) == {1.0}
    assert record["versions"]["plugins"]["losses.own"] == version


def test_a_file_that_is_gone_and_was_never_executed_has_no_version(own_file: Path) -> None:
    plugins._executed_texts.pop(own_file.resolve())
    own_file.unlink()
    plugins.version.cache_clear()
    assert plugins.version("losses", "own") == plugins.MISSING
