"""Runs that differ only in settings that training ignores are trained once; each gets the record of a single run."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from cl_semisup import losses, plugins
from cl_semisup.data import labels
from cl_semisup.execution import training_groups
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine
from cl_semisup.execution.training_groups import TrainingGroup, group
from cl_semisup.losses import Requirements
from cl_semisup.results import records
from cl_semisup.scheduling import cleanup, scheduler
from cl_semisup.suite.run import Run
from cl_semisup.suite.suite import Suite
from cl_semisup.training import loop
from tests.execution.test_execution import MACHINE, InProcess
from tests.faults.conftest import MakeRun, engine, faulty_run, machine  # noqa: F401
from tests.training.test_training import RecordingLoss, make, train

Parse = Callable[[str], Suite]
NOISE = {"fraction": 0.3, "kind": "symmetric"}
LONG_TAIL = {"factor": 10.0, "shape": "exponential", "order": "index"}


@pytest.fixture
def run(parse: Parse, text: str) -> Run:
    """A run with training, of a loss that needs no labels."""
    return next(run for run in parse(text).runs if run.loss_name == "nt_xent")


@pytest.fixture
def shared(run: Run) -> list[Run]:
    """Runs of one group."""
    knn_only = {"knn": run.probes["knn"]}
    return [
        run,
        replace(run, label_fraction=0.5),
        replace(run, label_fraction=None, labels_per_class=3, label_noise=NOISE),
        replace(run, unlabelled_classes=2, probes=knn_only),
    ]


def count_trainings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows by one with every training."""
    calls, train_ = [], loop.train

    def count(*arguments: Any, **settings: Any) -> Any:
        calls.append(1)
        return train_(*arguments, **settings)

    monkeypatch.setattr(loop, "train", count)
    return calls


def without_cost(result: tuple[dict[str, Any], dict[str, Any]]) -> dict[str, Any]:
    """A record and its curves without cost and start time."""
    record, curves = result
    return {key: value for key, value in record.items() if key not in records.OF_ONE_ATTEMPT} | {"curves": curves}


def test_labels_and_probes_share_a_training_of_a_loss_without_labels(shared: list[Run]) -> None:
    assert group(shared) == [TrainingGroup(group(shared)[0].id, tuple(shared))]
    untrained = [run.untrained() for run in shared]
    assert len(group(untrained)) == 1
    assert len({each.id for each in group([*shared, *untrained])}) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 0.2},
        {"repetition": 1},
        {"epochs": 2},
        {"precision": "bfloat16"},
        {"imbalance": LONG_TAIL},
        {"loss": {"nt_xent": {"temperature": 0.1}}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_runs_that_differ_in_a_setting_of_training_share_nothing(run: Run, change: dict[str, Any]) -> None:
    assert len(group([run, replace(run, **change)])) == 2


@pytest.mark.parametrize("name", ["supcon", "cross_entropy", "clop", "fixmatch", "paws"])
def test_runs_of_losses_that_see_labels_share_a_training_only_with_equal_labels(
    parse: Parse, text: str, name: str
) -> None:
    run = parse(text.replace("[nt_xent, clop]", name)).runs[-1]
    assert len(group([run, replace(run, label_fraction=0.5)])) == 2
    assert len(group([run, replace(run, probes={})])) == 1


@pytest.mark.parametrize("axis", [{"unlabelled_ratio": 2.0}, {"unlabelled_imbalance": LONG_TAIL}])
def test_labels_that_decide_which_images_are_dropped_are_a_setting_of_training(run: Run, axis: dict[str, Any]) -> None:
    one = replace(run, **axis)
    assert len(group([one, replace(one, label_fraction=0.5)])) == 2


@pytest.mark.parametrize("imbalance", [None, LONG_TAIL, {**LONG_TAIL, "shape": "step", "order": "drawn"}])
def test_runs_of_a_group_have_the_same_images(shared: list[Run], imbalance: dict[str, Any] | None) -> None:
    true = plugins.load("datasets", "digits")().load(Path()).train_labels
    runs = [replace(run, imbalance=imbalance) for run in shared]
    assert len(group(runs)) == 1
    indices = [labels.of_run(true, run.as_dict()).indices.tolist() for run in runs]
    assert all(each == indices[0] for each in indices)
    assert len(indices[0]) < len(true) or imbalance is None


def test_a_record_of_a_shared_training_equals_that_of_a_single_run(
    shared: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = count_trainings(monkeypatch)
    shared_results = Executor(MACHINE).run_group(*group(shared))
    assert len(calls) == 1
    assert [without_cost(result) for result in shared_results] == [
        without_cost(Executor(MACHINE)(run)) for run in shared
    ]
    assert len(calls) == 1 + len(shared)
    costs = [record["cost"] for record, _ in shared_results]
    assert [cost["trained_for"] for cost in costs] == [4] * 4
    assert len({cost["train_seconds"] for cost in costs}) == 1  # in full, not divided
    assert len({record["resolved"]["label_set"] for record, _ in shared_results}) == 4


def test_a_training_that_fails_gives_every_run_the_record_of_a_single_run(
    parse: Parse, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    diverging = text.replace("learning_rate: 0.1", "learning_rate: 1e6").replace("[nt_xent, clop]", "vicreg")
    run = parse(diverging.replace("epochs: 1", "epochs: 8")).runs[-1]
    calls = count_trainings(monkeypatch)
    shared_results = Executor(MACHINE).run_group(*group([run, replace(run, label_fraction=0.5)]))
    assert len(calls) == 1
    assert [record["status"] for record, _ in shared_results] == ["diverged"] * 2
    assert without_cost(shared_results[0]) == without_cost(Executor(MACHINE)(run))


def test_labels_reach_only_losses_that_declare_them() -> None:
    for declared, expected in ((True, 0), (False, -1)):
        recording_loss = train(make(RecordingLoss(Requirements(labels=declared))), epochs=1).loss
        seen: list[Tensor] = [step["labels"] for step in recording_loss.calls]  # type: ignore[attr-defined]
        assert min(int(labels.min()) for labels in seen) == expected
        assert declared or all(bool((labels == -1).all()) for labels in seen)


@pytest.mark.parametrize("name", plugins.names("losses"))
def test_every_loss_declares_whether_it_depends_on_labels(parse: Parse, text: str, name: str) -> None:
    """Runs of a loss that `requirements` cannot build would never share a training, without any error."""
    run = parse(text.replace("[nt_xent, clop]", name)).runs[-1]
    (_, settings) = next(iter(run.loss.items()))
    built = losses.build(name, dim=128, classes=10, images=1000, **settings)
    assert training_groups._is_label_free(run) == losses.requirements_of(built).free_of_labels


def test_a_suite_trains_once_and_writes_every_record(
    tmp_path: Path, shared: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = count_trainings(monkeypatch)
    assert scheduler.run_all(tmp_path, shared[:2], InProcess()).statuses == {"ok": 2}
    counts = scheduler.run_all(tmp_path, scheduler.missing(tmp_path, shared), InProcess())
    assert counts.statuses == {"ok": 2}
    assert len(calls) == 2
    assert [record["cost"]["trained_for"] for record in records.read_all(tmp_path, shared).values()] == [2] * 4
    assert scheduler.missing(tmp_path, shared) == []
    scheduler.run_all(tmp_path, shared[:2], InProcess(), share=False)
    assert len(calls) == 4


def test_a_shared_training_resumes_with_the_same_bits_after_kill_9(
    tmp_path: Path,
    faulty_run: MakeRun,  # noqa: F811
    engine: Callable[..., Any],  # noqa: F811
) -> None:
    run = faulty_run("kill", at=30)
    runs, results = [run, replace(run, label_fraction=0.5)], tmp_path / "results"
    assert scheduler.run_all(results, runs, engine()).statuses == {"ok": 2}
    assert (tmp_path / "faults" / "calls").stat().st_size < 100  # 88 steps, and the killed step again
    stored = records.read_all(results, runs)
    single = [Executor(Machine("cpu", "data"))(one)[0] for one in runs]
    assert [stored[one.id]["scores"] for one in runs] == [record["scores"] for record in single]
    assert not list((results / "checkpoints").iterdir())


def test_the_state_of_a_training_stays_until_its_last_run_has_its_record(tmp_path: Path, shared: list[Run]) -> None:
    (shared_group,) = group(shared)
    state = Machine("cpu", "data", checkpoints=str(tmp_path / "checkpoints")).checkpoint_path(shared_group)
    state.parent.mkdir()
    state.write_bytes(b"a state")
    executor = Executor(MACHINE)
    for run in shared:
        cleanup.remove_leftovers(tmp_path, shared)
        assert state.exists()
        records.write(tmp_path, run, *executor(run.untrained()))
    cleanup.remove_leftovers(tmp_path, shared)
    assert not state.exists()
