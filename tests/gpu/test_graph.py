"""A step as a CUDA graph: replayed, it trains as the eager step does; what a replay would repeat wrongly is refused."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from cl_semisup import plugins
from cl_semisup.execution import data as run_data
from cl_semisup.execution.execute import Executor
from cl_semisup.training import checkpoint, graph
from tests.gpu import imitated, imitated_graph, trials
from tests.gpu.test_seeded_faults import LOSS

EPOCHS = 3
ALL_KINDS = {  # loss -> what is in the way of a recording that does not know it
    "nt_xent": "nothing",
    "byol": "a momentum copy, whose decay changes",
    "moco_v2": "a queue that is bound anew in every step",
    "mean_teacher": "a weight that depends on the progress",
    "lejepa": "directions that are drawn in every step",
    "paws": "support images",
    "blcl": "images of every batch",
    "flexmatch": "the indices of images",
    "dino": "a decay of its own, and local views",
    "normface": "unlabelled images, which have no place in its sums",
    "vrn": "pairs of images",
    "w_mse": "float64, to which its backward pass converts, and NaN as a number",
}
pytestmark = pytest.mark.usefixtures("forget_plugins", "short_trainings")


@pytest.fixture
def short_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "LEAST_STEPS", 5)
    monkeypatch.setattr(graph, "LEAST_REPLAYS", 1)


def on_gpu(run: Any, channels: int = 1, **settings: Any) -> tuple[str, dict[str, Any]]:
    """What the record says of the graph, and the curves."""
    with imitated.gpu():
        record, curves = trials.execute(run, "cuda:0", channels, **settings)
    trials.require_ok(record, curves)
    return record["resolved"]["graph"], curves


def require_a_cpus(run: Any, curves: dict[str, Any], channels: int = 1) -> None:
    trials.require_same_training(curves, trials.execute(run, "cpu", channels, native=False)[1])


@pytest.mark.parametrize("loss", ALL_KINDS)
def test_replayed_steps_train_as_a_cpu_does(loss: str) -> None:
    run = trials.run(loss, epochs=EPOCHS)
    told, curves = on_gpu(run)
    assert told == "yes"
    require_a_cpus(run, curves)


@pytest.mark.parametrize("optimizer", trials.names("optimizers"))
def test_every_optimizer_takes_a_rate_on_the_device(optimizer: str) -> None:
    run = trials.run(optimizer={optimizer: {}}, epochs=EPOCHS)
    told, curves = on_gpu(run)
    assert told == "yes"
    expected = trials.execute(run, "cpu", native=False)[1]["history"]["loss"]
    assert curves["history"]["loss"] == pytest.approx(expected, rel=1e-5)  # the rate is float32 on a device


COLOURS = {"crop_area": 0.2, "flip": 0.5, "jitter": 0.8, "hue": 0.1, "saturation": 0.4, "brightness": 0.4}


def test_views_whose_colours_change_in_any_order_are_recorded_by_order() -> None:
    run = trials.run(epochs=EPOCHS, views=dataclasses.asdict(trials.basic_views(**COLOURS)))
    told, curves = on_gpu(run, channels=3)
    assert told == "yes"
    require_a_cpus(run, curves, channels=3)


def test_other_views_are_made_before_a_replay() -> None:
    run = trials.run("swav", epochs=EPOCHS, views=[{"crop_and_color": {"crop_area": 1.0}}, {"multi_crop": {}}])
    told, curves = on_gpu(run)
    assert told == "yes"
    require_a_cpus(run, curves)


def test_images_on_the_host_are_sent_before_a_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_data, "_fits", lambda size, device: False)
    run = trials.run("paws", epochs=EPOCHS)
    told, curves = on_gpu(run)
    assert told == "yes"
    require_a_cpus(run, curves)


def test_no_replay_waits_for_the_device() -> None:
    with imitated.gpu() as gpu:
        trials.execute(trials.run("byol", epochs=EPOCHS), "cuda:0")
    last = max(i for i, wait in enumerate(gpu.waits) if wait.place.startswith("training/graph"))
    assert {wait.place.split(":")[0] for wait in gpu.waits[last + 1 :]} & {
        "training/step.py",
        "training/feed.py",
    } == set()


def test_a_training_that_is_left_between_replays_and_resumed_is_the_whole_one(tmp_path: Path) -> None:
    run = trials.run("moco_v2", epochs=2 * EPOCHS, optimizer={"adamw": {}})
    settings = {"checkpoints": str(tmp_path), "checkpoint_seconds": 0.0, "state_key": "00" * 32}
    asked = iter([False] * 9 + [True])
    with imitated.gpu():
        whole = trials.execute(run, "cuda:0")[1]
        machine = trials.machine("cuda:0", **settings)
        leaving = Executor(machine, lambda: next(asked), read_images=lambda _: trials.images())
        with pytest.raises(checkpoint.Preempted):
            leaving(run, trials.data("cuda:0"))
        record, resumed = trials.execute(run, "cuda:0", **settings)
    assert record["resolved"]["graph"] == "yes"
    assert resumed["history"]["loss"] == pytest.approx(whole["history"]["loss"], rel=1e-5)


# What cannot be recorded ----------------------------------------------------------------------------------------------

FAULTS = {  # line of a loss -> what the record says of it
    "self.calls = getattr(self, 'calls', 0) + 1; extra = u.sum() * self.calls": "changes 'calls' of the loss",
    "Seeded.calls = getattr(Seeded, 'calls', 0) + 1; extra = u.sum() * Seeded.calls": "gives aten.mul.Tensor",
    "Seeded.calls = getattr(Seeded, 'calls', 0) + 1; extra = u[: Seeded.calls].sum()": "gives aten.slice.Tensor",
    "Seeded.calls = getattr(Seeded, 'calls', 0) + 1; extra = u.abs().sum() if Seeded.calls % 2 else u.sum()": "calls ",
    "self.attribute = u.detach() * 0.5; extra = (u * self.attribute).sum()": "changes 'attribute' of the loss",
    "self.kept = [*getattr(self, 'kept', []), u.detach()]; extra = self.kept[-1].sum()": "changes 'kept' of the loss",
    "Seeded.kept = u.detach() + getattr(Seeded, 'kept', u.detach()); extra = (u * Seeded.kept).sum()": "the step ",
    "extra = u.sum() * torch.allclose(u, v)": "reads a number of the device",
    "extra = u.sum() * torch.rand((), device=where)": "draws random numbers in the step",
    "extra = u.sum().item()": "reads a number of the device",
    "extra = u[labels >= 0].sum()": "takes rows by a mask",
    "extra = u.sum() * len(torch.nonzero(labels >= 0))": "looks for entries",
    "u.register_hook(lambda gradient: gradient * gradient.sum().item()); extra = u.sum()": "reads a number of the device",
    "extra = (u @ torch.ones(u.shape[1]).to(where)).sum()": "copies between the host and the device",
    "extra = u.sum() * torch.linalg.svdvals(u.detach())[0]": "computes singular values",
    "self.targets = torch.cat([self.targets, self.targets])": "changes the size of the buffer 'targets'",
    "extra = u.sum() * float(progress)": "uses a number that changes in almost every step",
}


def seeded(folder: Path, line: str) -> Any:
    text = LOSS.replace("FAULT", line).replace(
        "requirements = Requirements(labels=True)", 'requirements = Requirements(labels=True, needs=("progress",))'
    )
    text = text.replace("labels=None):", "labels=None, progress=0.0):").replace("+ 0 * extra", "+ 1e-3 * extra")
    (folder / "seeded.py").write_text(text)
    plugins.register(folder / "seeded.py")
    return trials.run("seeded", epochs=EPOCHS)


@pytest.mark.parametrize("line", FAULTS)
def test_a_step_that_a_replay_would_repeat_wrongly_stays_eager_and_the_record_says_why(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "LEAST_REPLAYS", 20)
    told, curves = on_gpu(seeded(tmp_path, line))
    assert told.startswith(("no, because", "for 1 step"))
    assert FAULTS[line] in told
    assert len(curves["history"]["loss"]) == EPOCHS * trials.STEPS


def test_without_the_watch_a_frozen_number_is_seen_by_its_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "first_difference", lambda one, two: "")
    line = "Seeded.calls = getattr(Seeded, 'calls', 0) + 1; extra = u.abs().sum() * Seeded.calls"
    told, _ = on_gpu(seeded(tmp_path, line))
    assert told.startswith("no, because the step is not equal to itself") or "when it is replayed" in told


def test_a_buffer_that_is_bound_anew_is_copied_to_its_place(tmp_path: Path) -> None:
    line = "self.targets = 0.9 * self.targets + 0.1; extra = (u @ self.targets.T).sum()"
    run = seeded(tmp_path, line)
    told, curves = on_gpu(run)
    assert told == "yes"
    require_a_cpus(run, curves)


def test_an_error_in_a_backward_pass_is_raised_at_its_end() -> None:
    with imitated.gpu():
        weights = torch.ones(3).to("cuda:0").requires_grad_()
        chosen = weights[weights.detach() > 0].sum()
        recording = torch.cuda.CUDAGraph()
        recording.capture_begin()
        with pytest.raises(RuntimeError, match="not permitted when stream is capturing"):
            chosen.backward()
        recording.capture_end()
        weights.grad = None
        weights.sum().backward()
        assert weights.grad.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ([1.0, float("nan")], [1.0, float("nan")], True),
        ([complex(0, float("nan"))], [complex(0, float("nan"))], True),
        ([float("inf"), 1.0], [-float("inf"), 1.0], False),
        ([1, 2], [1, 3], False),
        ([float("nan")], [0.0], False),
    ],
)
def test_results_of_a_replay_are_equal_if_nan_stands_where_nan_stood(one: Any, other: Any, equal: bool) -> None:
    assert graph._equal(torch.tensor(one), torch.tensor(other)) is equal


def test_nan_is_the_same_number_in_every_step(tmp_path: Path) -> None:
    run = seeded(tmp_path, "extra = u.masked_fill(u.detach().abs() > 9, float('nan')).sum()")
    told, curves = on_gpu(run)
    assert told == "yes"
    require_a_cpus(run, curves)


def test_a_condition_on_the_progress_has_the_step_recorded_anew(tmp_path: Path) -> None:
    run = seeded(tmp_path, "extra = (u.sum() if progress < 0.6 else v.square().sum()) * progress")
    run = dataclasses.replace(run, epochs=2 * EPOCHS)
    told, curves = on_gpu(run)
    assert told == "yes"
    require_a_cpus(run, curves)


def test_a_replay_that_computes_something_else_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    real = imitated_graph.Graph.replay

    def late(self: imitated_graph.Graph) -> None:
        real(self)
        for *_, kept in self.calls:
            for made in kept:
                if made is not None and made.ndim == 0 and made.is_floating_point():
                    made.held.mul_(1.001)

    monkeypatch.setattr(imitated_graph.Graph, "replay", late)
    run = trials.run(epochs=EPOCHS)
    told, curves = on_gpu(run)
    assert told.startswith("no, because the step differs in")
    assert told.endswith("when it is replayed")
    require_a_cpus(run, curves)


def test_without_memory_for_a_recording_steps_are_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Any, **_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(imitated_graph.Graph, "capture_begin", full)
    run = trials.run("byol", epochs=EPOCHS, optimizer={"adamw": {}})
    told, curves = on_gpu(run)
    assert told == "no, because of lack of memory"
    require_a_cpus(run, curves)


def test_without_memory_for_another_view_steps_are_eager_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    begin, begun = imitated_graph.Graph.capture_begin, []

    def full_later(self: Any, **settings: Any) -> None:
        begun.append(self)
        if len(begun) > 9:  # three steps' views of either kind, the step, and a view or two of the steps after them
            raise torch.OutOfMemoryError("CUDA out of memory.")
        begin(self, **settings)

    monkeypatch.setattr(imitated_graph.Graph, "capture_begin", full_later)
    run = trials.run(epochs=2 * EPOCHS, views=dataclasses.asdict(trials.basic_views(**COLOURS)))
    told, curves = on_gpu(run, channels=3)
    assert told.endswith(", because of lack of memory")
    assert told.startswith("for ")
    require_a_cpus(run, curves, channels=3)


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"plain": True}, "the machine is not to"), ({"graphs": False}, "the machine is not to")],
)
def test_a_machine_that_is_not_to_record_says_so(settings: dict[str, Any], words: str) -> None:
    assert on_gpu(trials.run(), **settings)[0] == f"no, because {words}"


def test_a_short_training_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "LEAST_STEPS", 50)
    assert on_gpu(trials.run())[0] == "no, because 3 steps are too few"
