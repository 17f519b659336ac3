"""Runs that differ only in what training does not see are trained once, and each gets the record it would get alone."""

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
from cl_semisup.losses import Asks
from cl_semisup.results import records
from cl_semisup.scheduling import cleanup, scheduler
from cl_semisup.suite.run import Run
from cl_semisup.suite.suite import Suite
from cl_semisup.training import loop
from tests.execution.test_execution import MACHINE, InProcess
from tests.faults.conftest import MakeRun, engine, faulty_run, machine  # noqa: F401
from tests.training.test_training import Watching, make, train

Parse = Callable[[str], Suite]
FREE = {"nt_xent": {"temperature": 0.5}}
NOISE = {"fraction": 0.3, "kind": "symmetric"}
TAIL = {"factor": 10.0, "shape": "exponential", "order": "index"}


@pytest.fixture
def run(parse: Parse, text: str) -> Run:
    """A trained run of a loss without labels."""
    return next(run for run in parse(text).runs if run.cell[1] == "nt_xent")


@pytest.fixture
def shared(run: Run) -> list[Run]:
    """Runs that one training answers, with little and with much in common."""
    fewer = {name: run.evaluation[name] for name in ("knn",)}
    return [
        run,
        replace(run, label_fraction=0.5),
        replace(run, label_fraction=None, labels_per_class=3, label_noise=NOISE),
        replace(run, unseen_classes=2, evaluation=fewer),
    ]


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with every training."""
    calls, fit = [], loop.train

    def count(*words: Any, **settings: Any) -> None:
        calls.append(1)
        fit(*words, **settings)

    monkeypatch.setattr(loop, "train", count)
    return calls


def facts(answer: tuple[dict[str, Any], dict[str, Any]]) -> dict[str, Any]:
    """All of a record and its curves but what it took and when."""
    record, curves = answer
    return {key: value for key, value in record.items() if key not in ("cost", "started_at")} | {"curves": curves}


def test_labels_and_probes_share_a_training_of_a_loss_without_labels(shared: list[Run]) -> None:
    assert group(shared) == [TrainingGroup(group(shared)[0].id, tuple(shared))]
    floors = [run.floor() for run in shared]
    assert len(group(floors)) == 1
    assert len({training.id for training in group([*shared, *floors])}) == 2


@pytest.mark.parametrize(
    "changed",
    [
        {"learning_rate": 0.2},
        {"repetition": 1},
        {"epochs": 2},
        {"precision": "bfloat16"},
        {"imbalance": TAIL},
        {"loss": {"nt_xent": {"temperature": 0.1}}},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_what_training_sees_is_a_training_of_its_own(run: Run, changed: dict[str, Any]) -> None:
    assert len(group([run, replace(run, **changed)])) == 2


@pytest.mark.parametrize("name", ["supcon", "cross_entropy", "clop", "fixmatch", "paws"])
def test_losses_that_see_labels_share_nothing_over_labels(parse: Parse, text: str, name: str) -> None:
    run = parse(text.replace("[nt_xent, clop]", name)).runs[-1]
    assert len(group([run, replace(run, label_fraction=0.5)])) == 2
    assert len(group([run, replace(run, evaluation={})])) == 1


@pytest.mark.parametrize("axis", [{"unlabelled_ratio": 2.0}, {"unlabelled_imbalance": TAIL}])
def test_labels_that_decide_which_images_are_kept_are_seen(run: Run, axis: dict[str, Any]) -> None:
    one = replace(run, **axis)
    assert len(group([one, replace(one, label_fraction=0.5)])) == 2


@pytest.mark.parametrize("imbalance", [None, TAIL, {**TAIL, "shape": "step", "order": "drawn"}])
def test_runs_of_a_training_keep_the_same_images(shared: list[Run], imbalance: dict[str, Any] | None) -> None:
    true = plugins.load("datasets", "digits")().load(Path()).train_labels
    runs = [replace(run, imbalance=imbalance) for run in shared]
    assert len(group(runs)) == 1
    kept = [labels.of_run(true, run.as_dict()).kept.tolist() for run in runs]
    assert all(images == kept[0] for images in kept)
    assert len(kept[0]) < len(true) or imbalance is None


def test_a_shared_record_is_the_one_that_the_run_gets_alone(shared: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counted(monkeypatch)
    together = Executor(MACHINE).training(*group(shared))
    assert len(calls) == 1
    assert [facts(answer) for answer in together] == [facts(Executor(MACHINE)(run)) for run in shared]
    assert len(calls) == 1 + len(shared)
    costs = [record["cost"] for record, _ in together]
    assert [cost["trained_for"] for cost in costs] == [4] * 4
    assert len({cost["train_seconds"] for cost in costs}) == 1  # told in full, and not divided
    assert len({record["resolved"]["label_set"] for record, _ in together}) == 4


def test_a_training_that_fails_fails_for_each_of_its_runs_as_it_would_alone(
    parse: Parse, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hot = text.replace("learning_rate: 0.1", "learning_rate: 1e6").replace("[nt_xent, clop]", "vicreg")
    run = parse(hot.replace("epochs: 1", "epochs: 8")).runs[-1]
    calls = counted(monkeypatch)
    together = Executor(MACHINE).training(*group([run, replace(run, label_fraction=0.5)]))
    assert len(calls) == 1
    assert [record["status"] for record, _ in together] == ["diverged"] * 2
    assert facts(together[0]) == facts(Executor(MACHINE)(run))


def test_labels_reach_only_losses_that_declare_them() -> None:
    for declared, expected in ((True, 0), (False, -1)):
        watching = train(make(Watching(Asks(labels=declared))), epochs=1).loss
        seen: list[Tensor] = [step["labels"] for step in watching.seen]  # type: ignore[attr-defined]
        assert min(int(labels.min()) for labels in seen) == expected
        assert declared or all(bool((labels == -1).all()) for labels in seen)


@pytest.mark.parametrize("name", plugins.names("losses"))
def test_every_loss_says_whether_it_is_free_of_labels(parse: Parse, text: str, name: str) -> None:
    """A loss that cannot be built for the trial would train alone for ever, and nobody would notice."""
    run = parse(text.replace("[nt_xent, clop]", name)).runs[-1]
    (_, settings) = next(iter(run.loss.items()))
    built = losses.build(name, dim=128, classes=10, images=1000, **settings)
    assert training_groups._free_of_labels(run) == losses.asks(built).free_of_labels


def test_a_suite_trains_once_and_writes_every_record(
    tmp_path: Path, shared: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = counted(monkeypatch)
    assert scheduler.run_all(tmp_path, shared[:2], InProcess()).statuses == {"ok": 2}
    outcome = scheduler.run_all(tmp_path, scheduler.missing(tmp_path, shared), InProcess())
    assert outcome.statuses == {"ok": 2}
    assert len(calls) == 2
    assert [record["cost"]["trained_for"] for record in records.find(tmp_path, shared).values()] == [2] * 4
    assert scheduler.missing(tmp_path, shared) == []
    scheduler.run_all(tmp_path, shared[:2], InProcess(), share=False)
    assert len(calls) == 4


def test_a_shared_training_goes_on_to_the_bit_after_kill_9(
    tmp_path: Path,
    faulty_run: MakeRun,  # noqa: F811
    engine: Callable[..., Any],  # noqa: F811
) -> None:
    run = faulty_run("kill", at=30)
    runs, results = [run, replace(run, label_fraction=0.5)], tmp_path / "results"
    assert scheduler.run_all(results, runs, engine()).statuses == {"ok": 2}
    assert (tmp_path / "faults" / "calls").stat().st_size < 100  # 88 steps, and the killed one again
    found = records.find(results, runs)
    alone_ = [Executor(Machine("cpu", "data"))(one)[0] for one in runs]
    assert [found[one.id]["scores"] for one in runs] == [record["scores"] for record in alone_]
    assert not list((results / "checkpoints").iterdir())


def test_the_state_of_a_training_stays_until_its_last_run_has_its_record(tmp_path: Path, shared: list[Run]) -> None:
    (training,) = group(shared)
    state = Machine("cpu", "data", checkpoints=str(tmp_path / "checkpoints")).checkpoint_path(training)
    state.parent.mkdir()
    state.write_bytes(b"of a training")
    executor = Executor(MACHINE)
    for run in shared:
        cleanup.remove_leftovers(tmp_path, shared)
        assert state.exists()
        records.write(tmp_path, run, *executor(run.floor()))
    cleanup.remove_leftovers(tmp_path, shared)
    assert not state.exists()
