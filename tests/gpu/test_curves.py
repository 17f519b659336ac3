"""Curves stay on a GPU until a training ends; what they say is then what they say on a CPU."""

import pytest

from cl_semisup.results import verdict
from cl_semisup.training import curves
from tests.gpu import imitated, trials


def test_a_curve_is_computed_at_the_end_and_is_that_of_a_cpu() -> None:
    run = trials.run("byol", epochs=2)
    with imitated.gpu() as gpu:
        found = trials.execute(run, "cuda:0")[1]
    assert not gpu.waits_in_steps(2 * trials.STEPS)
    assert len(found["history"]["step"]) == 2 * trials.STEPS
    trials.require_same_training(found, trials.execute(run, "cpu", native=False)[1])


def test_many_large_projections_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "KEPT_BYTES", 2000)  # two points have 12 x 16 floats each
    run = trials.run(epochs=2)
    with imitated.gpu() as gpu:
        found = trials.execute(run, "cuda:0")[1]
    assert {wait.step for wait in gpu.waits if wait.place.startswith("training/curves")} == {3, 6}
    trials.require_same_training(found, trials.execute(run, "cpu", native=False)[1])


@pytest.mark.parametrize("learning_rate", [1e12, 1e30])  # a loss that is not finite, or a gradient
def test_a_training_that_diverges_on_a_gpu_has_the_history_and_the_reason_of_a_cpu(
    learning_rate: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cl_semisup.suite.run._MOST", 1e31)  # no suite has such a rate, and no record holds it
    run = trials.run("vicreg", epochs=4, learning_rate=learning_rate)
    with imitated.gpu() as gpu:
        record, found = trials.execute(run, "cuda:0")
    expected, on_cpu = trials.execute(run, "cpu", native=False)
    assert (record["status"], record["reason"]) == ("diverged", expected["reason"])
    assert found["history"]["loss"] == on_cpu["history"]["loss"]
    assert gpu.step <= len(on_cpu["history"]["loss"]) + 2, "it must end one point later"


def test_a_hopeless_training_stops_one_point_later_than_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdict, "hopeless", lambda losses, *rest: "in vain" if len(losses) >= 2 else "")
    run = trials.run(epochs=4)
    with imitated.gpu() as gpu:
        record, found = trials.execute(run, "cuda:0", early_stop=True)
    expected, on_cpu = trials.execute(run, "cpu", native=False, early_stop=True)
    assert (record["resolved"]["stopped_at_step"], expected["resolved"]["stopped_at_step"]) == (2, 1)
    assert found["history"]["loss"][:2] == on_cpu["history"]["loss"]
    assert len(found["history"]["effective_rank"]) == gpu.step == 3
    assert not gpu.waits_in_steps(3)
