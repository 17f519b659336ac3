"""One training on several processes is the training on one: the same losses, gradients and weights, for every loss.

All in one start of four processes: trainings on one process are shared out, trainings on two run in two pairs, and those
on four follow. In float64, where 20 steps of training amplify rounding to 1e-10 and a lost factor stays a lost factor.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn

from cl_semisup import losses, plugins
from cl_semisup.data.settings import Views
from cl_semisup.data.views import ViewMaker, weak
from cl_semisup.errors import InputError
from cl_semisup.gate.float64 import float64
from cl_semisup.losses import asks
from cl_semisup.suite.settings import Projector, Schedule
from cl_semisup.training import batch_norm, exchange, loop, parallel
from cl_semisup.training.loop import History, TrainingSetup
from cl_semisup.training.model import Model
from cl_semisup.training.needs import heads

pytestmark = pytest.mark.timeout(1200)  # a minute alone; on a busy machine processes wait long for each other

IMAGES, BATCH, EPOCHS, STEPS = 85, 17, 4, 20
SIDE, DIM, CLASSES = 8, 6, 3
NAMES = ("random", 0)
SMALL: dict[str, Any] = {"hidden": 8, "prototypes": 12, "queue": 40, "memory": 40, "steps": 2}  # where a loss has these
LOSSES = plugins.names("losses")
PROCESSES = 4
TOLERANCE = 1e-8  # relative to the largest gradient, loss or weight
Found = dict[str, Tensor]
Case = tuple[str, str]  # a loss and an encoder
LAYERS = {"mlp": 1, "convnet": 2}  # of the projector: one batch norm in the first network, three in the second
CASES: list[Case] = [(name, "mlp") for name in LOSSES] + [("nt_xent", "convnet")]
SETTINGS = {"mlp": {"width": 8, "layers": 1}, "convnet": {"width": 4, "blocks": 2}}


def _parts(name: str, encoder_name: str) -> TrainingSetup:
    """A small run on random images, half of them labelled, in batches that no 2 or 4 divides; with batch norm."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (IMAGES, 1, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    visible_labels = torch.arange(IMAGES) % CLASSES
    visible_labels[::2] = -1
    fields = plugins.load("losses", name).__dataclass_fields__
    settings = {key: small for key, small in SMALL.items() if key in fields and type(fields[key].default) is int}
    loss = losses.build(name, dim=DIM, classes=CLASSES, images=IMAGES, **settings)
    encoder = plugins.load("encoders", encoder_name)(**SETTINGS[encoder_name])
    model = Model(
        lambda: encoder.build(1, SIDE),
        Projector(dim=DIM, layers=LAYERS[encoder_name]),
        CLASSES,
        heads(asks(loss).needs),
        NAMES,
    )
    looks = Views(rotation=10.0, shift=0.1)
    mean, std = torch.tensor([0.5]), torch.tensor([0.3])
    views = {"full": ViewMaker(looks, mean, std), "weak": ViewMaker(weak(looks), mean, std)}
    optimizer = plugins.load("optimizers", "sgd")().build(*loop.split_parameters(model, loss))
    return TrainingSetup(model, loss, views, optimizer, images, visible_labels, NAMES, History())


def _train(case: Case) -> Found:
    """Gradients of every step, the curve of the loss, and all that training has changed at its end."""
    parts = _parts(*case)
    learned = [p for group in parts.optimizer.param_groups for p in group["params"]]
    gradients: list[Tensor] = []

    def keep(*_: Any) -> None:
        gradients.append(torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in learned]))

    parts.optimizer.register_step_pre_hook(keep)
    loop.train(parts, epochs=EPOCHS, batch_size=BATCH, base_learning_rate=0.05, schedule=Schedule(warmup_epochs=0))
    state = parts.model.state_dict()
    if isinstance(parts.loss, nn.Module):
        state |= {f"loss.{key}": value for key, value in parts.loss.state_dict().items()}
    end = torch.cat([value.double().flatten() for value in state.values() if isinstance(value, Tensor)])
    return {"gradients": torch.stack(gradients), "loss": torch.tensor(parts.history.loss), "end": end}


def _mean_of_shards(tensors: list[Tensor]) -> None:
    """What DistributedDataParallel does to gradients."""
    for t in tensors:
        distributed.all_reduce(t)
        t.div_(exchange.world_size())


def _own_statistics(model: nn.Module) -> None:
    """Batch norm of each shard by itself."""


FAULTS: dict[str, tuple[Any, str, Callable[..., None]]] = {
    "gradients averaged": (parallel, "_sum", _mean_of_shards),
    "gradients of one shard": (parallel, "_sum", lambda tensors: None),
    "statistics of one shard": (batch_norm, "convert_sync_batch_norm", _own_statistics),
}


def _work(rank: int, folder: Path) -> None:
    """One of the four processes: its share of the trainings on one, on two and on four processes."""
    torch.set_num_threads(1)
    with float64():
        alone = {case: _train(case) for case in CASES[rank::PROCESSES]}
        pair, place = divmod(rank, 2)
        with _together(place, 2, folder / f"pair{pair}"):
            of_two = {case: _train(case) for case in CASES[pair::2]}
        with _together(rank, PROCESSES, folder / "four"):
            of_four = {case: _train(case) for case in CASES}
            faulty = {fault: _faulty(fault) for fault in FAULTS}
    torch.save({"1": alone, "2": of_two, "4": of_four, "faulty": faulty}, folder / f"{rank}.pt")


def _faulty(fault: str) -> Found:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(*FAULTS[fault])
        return _train(("nt_xent", "mlp"))


@contextmanager
def _together(rank: int, ranks: int, meet: Path) -> Iterator[None]:
    distributed.init_process_group("gloo", init_method=f"file://{meet}", rank=rank, world_size=ranks)
    try:
        yield
    finally:
        distributed.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of the four processes has found."""
    folder = tmp_path_factory.mktemp("processes")
    multiprocessing.start_processes(_work, (folder,), nprocs=PROCESSES, start_method="spawn")
    return [torch.load(folder / f"{rank}.pt") for rank in range(PROCESSES)]


def _difference(one: Found, other: Found) -> float:
    """The largest, relative to the largest value of its kind."""
    return max(float((one[key] - other[key]).abs().max() / one[key].abs().max()) for key in one)


def test_every_loss_trains_the_same_on_1_2_and_4_processes(found: list[dict[str, Any]]) -> None:
    alone = {case: one for process in found for case, one in process["1"].items()}
    assert sorted(alone) == sorted(CASES)
    different = {}
    for ranks in ("2", "4"):
        for process in found:
            for case, there in process[ranks].items():
                assert there["gradients"].shape[0] == there["loss"].shape[0] == STEPS
                if not (worst := _difference(alone[case], there)) < TOLERANCE:
                    different[ranks, *case] = worst
    assert not different
    assert {case for process in found for case in process["2"]} == set(CASES)


def test_all_processes_end_with_the_same_bits(found: list[dict[str, Any]]) -> None:
    assert not [
        case for case in CASES for p in found[1:] if not torch.equal(p["4"][case]["end"], found[0]["4"][case]["end"])
    ]


@pytest.mark.parametrize("fault", FAULTS)
def test_the_comparison_finds_what_is_often_wrong(found: list[dict[str, Any]], fault: str) -> None:
    right = found[0]["4"]["nt_xent", "mlp"]
    assert _difference(right, found[0]["faulty"][fault]) > 1e-2


def test_the_mean_over_processes_loses_their_number(found: list[dict[str, Any]]) -> None:
    right, wrong = (
        f["gradients"][0] for f in (found[0]["4"]["nt_xent", "mlp"], found[0]["faulty"]["gradients averaged"])
    )
    torch.testing.assert_close(wrong * PROCESSES, right)


@pytest.mark.parametrize(("count", "ranks"), [(8, 4), (17, 4), (5, 5), (131_072, 8)])
def test_shards_are_disjoint_whole_and_of_even_size(count: int, ranks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "world_size", lambda: ranks)
    shards = [exchange.shard_rows(count, of) for of in range(ranks)]
    assert [i for own in shards for i in range(own.start, own.stop)] == list(range(count))
    lengths = {own.stop - own.start for own in shards}
    assert max(lengths) - min(lengths) <= 1


def test_the_network_is_not_called_on_a_whole_batch_by_every_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A need that did so would count the network's gradient once for each process."""
    parts = _parts("nt_xent", "mlp")
    monkeypatch.setattr(parallel, "world_size", lambda: 2)
    monkeypatch.setattr(parallel, "_broadcast", lambda tensors: None)
    parallel.prepare_model(parts.model, parts.loss)
    with pytest.raises(RuntimeError, match="must be called through parallel.run_sharded"):
        parts.model.encoder(torch.zeros(4, 1, SIDE, SIDE))
    parts.model.eval().encoder(torch.zeros(4, 1, SIDE, SIDE))  # evaluation is one process's


def test_a_batch_norm_of_another_kind_is_refused() -> None:
    class Own(nn.BatchNorm1d): ...

    with pytest.raises(
        InputError, match=r"0: batch norm must be one of BatchNorm1d, BatchNorm2d, BatchNorm3d .* Got Own"
    ):
        batch_norm.convert_sync_batch_norm(nn.Sequential(Own(3)))
