"""From runs to records: no run twice, no run lost, every failure a record."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cl_semisup.errors import ResultsError
from cl_semisup.execution import training_groups
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine
from cl_semisup.execution.training_groups import Finished, TrainingGroup, single_run
from cl_semisup.results import records, verdict
from cl_semisup.scheduling import scheduler
from cl_semisup.scheduling.claims import Claims
from cl_semisup.suite.run import Run
from cl_semisup.suite.suite import Suite

ROOT = Path(__file__).parents[2]
MACHINE = Machine("cpu", "data")


@pytest.fixture
def runs(parse: Callable[[str], Suite], text: str) -> list[Run]:
    return list(parse(text).runs)


class InProcess:
    """An engine that executes in this process."""

    slots = 1

    def __init__(self, before: Callable[[Run], None] = lambda run: None):
        self.executor, self.queue, self.before = Executor(MACHINE), list[TrainingGroup](), before
        self.cancelled = False

    def submit(self, group: TrainingGroup) -> None:
        self.queue.append(group)

    def results(self, seconds: float) -> list[Finished]:
        group = self.queue.pop(0)
        for run in group.runs:
            self.before(run)
        return [(group, self.executor.run_group(group))]

    def cancel(self, seconds: float = 0.0) -> list[Finished]:
        self.cancelled = True
        return []


def test_a_finished_run_is_never_repeated(tmp_path: Path, runs: list[Run]) -> None:
    counts = scheduler.run_all(tmp_path, runs, InProcess())
    assert counts.statuses == {"ok": 3}
    assert scheduler.missing(tmp_path, runs) == []
    assert scheduler.missing(tmp_path, runs, "all") == runs


def test_a_repeated_run_gives_an_identical_record_except_for_its_cost(runs: list[Run]) -> None:
    first, curves = Executor(MACHINE)(runs[-1])
    again, same_curves = Executor(MACHINE)(runs[-1])
    for record in (first, again):
        for name in records.OF_ONE_ATTEMPT:
            record.pop(name)
    assert first == again
    assert curves == same_curves


def test_an_interrupted_suite_goes_on_where_it_was(tmp_path: Path, runs: list[Run]) -> None:
    def stop(run: Run) -> None:
        if run == runs[2]:
            raise KeyboardInterrupt

    engine = InProcess(stop)
    with pytest.raises(KeyboardInterrupt):
        scheduler.run_all(tmp_path, runs, engine)
    assert engine.cancelled
    assert scheduler.missing(tmp_path, runs) == [runs[2]]
    assert not list((tmp_path / "claims").iterdir())
    assert scheduler.run_all(tmp_path, [runs[2]], InProcess()).statuses == {"ok": 1}


def test_a_failure_is_a_record_and_the_others_go_on(
    tmp_path: Path, runs: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cl_semisup import losses

    build = losses.build

    def broken(name: str, **settings: Any) -> Any:
        if name == "clop":
            raise RuntimeError("a bug in the loss")
        return build(name, **settings)

    monkeypatch.setattr(losses, "build", broken)
    counts = scheduler.run_all(tmp_path, runs, InProcess())
    assert counts.failed == 1
    assert counts.statuses["ok"] == 2
    record = records.read(records.path_of(tmp_path, runs[-1]))
    assert (record["status"], record["reason"]) == ("failed", "RuntimeError: a bug in the loss")
    assert "a bug in the loss" in records.read_curves(records.path_of(tmp_path, runs[-1]))["traceback"]
    assert scheduler.missing(tmp_path, runs, "failed") == [runs[-1]]


def test_a_diverged_run_is_a_result_with_its_step_and_its_curves(parse: Callable[[str], Suite], text: str) -> None:
    hot = text.replace("learning_rate: 0.1", "learning_rate: 1e6").replace("nt_xent, clop", "vicreg")
    record, curves = Executor(MACHINE)(parse(hot.replace("epochs: 1", "epochs: 8")).runs[-1])
    assert record["status"] == "diverged"
    assert "is not finite at step" in record["reason"]
    assert record["scores"] == {}
    json.dumps([record, curves], allow_nan=False)


def test_a_run_claimed_elsewhere_is_left_alone_until_it_is_free(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from cl_semisup.scheduling.claims import Claims\n"
    code += "c = Claims(Path(sys.argv[1])); assert c.take('x'); print('held', flush=True); sys.stdin.read()"
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    claims = Claims(tmp_path)
    assert not claims.take("x")
    assert claims.take("y")
    other.kill()  # SIGKILL
    other.communicate()
    assert claims.take("x")
    claims.release_all()
    assert not list((tmp_path / "claims").iterdir())


def test_two_commands_on_one_folder_share_the_work(tmp_path: Path, runs: list[Run]) -> None:
    """Another command has claimed a run and finishes it later: this command waits for it and does not repeat it."""
    foreign, other, claim = Claims(tmp_path), Executor(MACHINE), training_groups.group(runs)[0].id
    assert foreign.take(claim)

    def finish_elsewhere(run: Run) -> None:
        if run == runs[-1]:
            records.write(tmp_path, runs[0], *other(runs[0]))
            foreign.release(claim)

    outcome = scheduler.run_all(tmp_path, runs, InProcess(finish_elsewhere))
    assert outcome.done_elsewhere == 1
    assert outcome.statuses["ok"] == len(runs) - 1
    assert scheduler.missing(tmp_path, runs) == []


def test_a_command_without_patience_leaves_to_others_what_they_work_on(tmp_path: Path, runs: list[Run]) -> None:
    foreign = Claims(tmp_path)
    assert foreign.take(training_groups.group(runs)[0].id)
    outcome = scheduler.run_all(tmp_path, runs, InProcess(), wait_timeout=0.2)
    assert outcome.done == len(runs) - 1
    assert scheduler.missing(tmp_path, runs) == runs[:1]


def test_chance_is_the_share_of_the_largest_class_of_the_test_images(
    parse: Callable[[str], Suite], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that tells the same class for every image has this accuracy, and not one of C classes."""
    judged: list[float] = []
    monkeypatch.setattr(verdict, "collapse", lambda *_, chance, **__: judged.append(chance) or "")
    executor, run = Executor(MACHINE), parse(text).runs[-1]
    executor(run)
    truth = executor.data(run).test_labels
    assert judged == [float(torch.bincount(truth).max()) / len(truth)]
    assert judged[0] > 0.1  # of ten classes


def test_an_unwritable_results_folder_is_reported_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="Name a folder, not a file, with --results"):
        records.check_writable(tmp_path / "file")


def test_features_are_those_of_the_network_in_evaluation_mode(parse: Callable[[str], Suite], text: str) -> None:
    """In training mode batch norm would take the statistics of each batch, and features depend on their neighbours."""
    run = parse(text).runs[-1]
    executor = Executor(Machine("cpu", "data"))
    data, trainer = executor.data(run), executor._trainer(single_run(run))
    labels = torch.full((len(data.train_images),), -1)
    trainer.train(data, labels)
    trainer.model.train()
    features = trainer.features(data, labels)
    encoder = trainer.model.encoder.eval()
    with torch.no_grad():
        alone = encoder((data.test_images[:1].float() / 255 - data.mean[:, None, None]) / data.std[:, None, None])
    assert torch.allclose(features.test[:1], alone, atol=1e-5)
