"""What a user's own probe gives: a record that nobody could read, or another probe's score, fails the run in words."""

from pathlib import Path
from typing import Any

import pytest

from cl_semisup import plugins
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine
from cl_semisup.results import records
from cl_semisup.suite import suite
from cl_semisup.suite.run import Run

PROBE = '''
from dataclasses import dataclass
from cl_semisup.evaluation import ProbeResult

@dataclass(frozen=True)
class Own:
    """A user's own."""

    scores = ("own", "projection_own")

    def measure(self, features):
        return ProbeResult(RESULT)
'''
SUITE = """\
question: What does a probe give?
datasets: digits
encoder: {mlp: {width: 4, layers: 1}}
losses: [nt_xent]
learning_rate: 0.1
batch_size: 128
repetitions: 1
epochs: 1
score: knn_top1
probes: {linear: false, geometry: false, own: {}}
validation: all
"""


@pytest.fixture(scope="module")
def executor() -> Executor:
    return Executor(Machine("cpu", "data"))


@pytest.fixture
def record_of(tmp_path: Path, forget_plugins: None, executor: Executor) -> Any:
    """`record_of("{'own': 1.0}")`: (run, record, curves) of a probe with this result; nothing is trained."""

    def execute(result: str) -> tuple[Run, dict[str, Any], dict[str, Any]]:
        (tmp_path / "own.py").write_text(PROBE.replace("RESULT", result), "utf-8")
        plugins.load.cache_clear()
        plugins.add(tmp_path / "own.py")
        run = next(run for run in suite.parse(SUITE, "s.yaml").runs if not run.epochs)
        return run, *executor(run)

    return execute


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        ("{'own': 1e9}", "needs a fraction in [0, 1] as scores.own. Got 1000000000.0."),
        ("{'own': -0.5}", "needs a fraction in [0, 1] as scores.own. Got -0.5."),
        ("diagnostics={'loss': 1.0}", "needs a name of its own for each measure. Got 'loss'"),
        ("{'own': 1.0}, diagnostics={'own': 1.0}", "needs a name of its own for each measure. Got 'own'"),
        ("diagnostics={'text': 'a text'}", "needs a number as diagnostics.text. Got 'a text'."),
        ("diagnostics={f'd{n}': 1.0 for n in range(2500)}", "must have at most 2000 measures. Got 25"),
        ("diagnostics={'d' * 600_000: 1.0}", "must be at most 500000 bytes. Got 60"),
        (r"diagnostics={'\ud800': 1.0}", "must be JSON. Got 'utf-8' codec can't encode"),
        ("{'knn_top1': 1.0}", "probes.own: scores need names of their own. Got 'knn_top1' again. Rename it."),
        (
            "{'linear_top1': 1.0}",
            "must name every score that it gives in `scores`. Got 'linear_top1', which it does not",
        ),
        ("{'owm': 1.0}", "must name every score that it gives in `scores`. Got 'owm', which it does not name."),
    ],
)
def test_what_no_record_can_hold_fails_its_run_and_is_told(record_of: Any, result: str, reason: str) -> None:
    run, record, _ = record_of(result)
    assert record["status"] == "failed"
    assert reason in record["reason"]
    assert not record["scores"]
    assert not records.cannot_hold(record)
    assert record["id"] == run.id


def test_a_cost_of_trainings_is_no_cost_of_a_probe(record_of: Any, executor: Executor) -> None:
    run, record, _ = record_of("{'own': 0.5}, cost={'train_seconds': 0.0}")
    assert record["status"] == "ok"
    trained = next(run for run in suite.parse(SUITE, "s.yaml").runs if run.epochs)
    assert run.id != trained.id
    record, _ = executor(trained)
    assert "cost needs names of its own. Got 'train_seconds', which trainings have. Rename it." in record["reason"]


@pytest.mark.parametrize("number", ["10**400", "10**5000", "-10**101", "1e101", "float('nan')"])
def test_numbers_that_no_record_can_hold_are_left_out(record_of: Any, number: str, tmp_path: Path) -> None:
    run, record, curves = record_of(f"{{'own': True}}, diagnostics={{'d': {number}}}, curves={{'c': [{number}, 2]}}")
    assert record["status"] == "ok", record["reason"]
    assert record["diagnostics"]["d"] is None
    assert curves["c"] == [None, 2]
    path = records.write(tmp_path, run, record, curves)
    assert records.read(path)["scores"]["own"] == 1.0
    assert records.read_curves(path)["c"] == [None, 2]
