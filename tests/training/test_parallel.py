"""One training on several processes is the training on one: the same losses, gradients and weights, for every loss.

Four processes are started once. They divide the trainings on one process among them, then train in two pairs, then all
four together. In float64 6 steps of training amplify rounding to 1e-10 at most, so that a wrong factor is found.
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
from cl_semisup.losses import requirements_of
from cl_semisup.suite.settings import Projector, Schedule
from cl_semisup.training import batch_norm, exchange, loop, parallel
from cl_semisup.training.loop import History, TrainingSetup
from cl_semisup.training.model import Model
from cl_semisup.training.needs import heads

pytestmark = pytest.mark.timeout(1200)  # a minute on an idle machine

IMAGES, BATCH, EPOCHS, STEPS = 34, 17, 2, 4  # every loss is trained seven times: no more steps than show a fault
SIDE, DIM, CLASSES = 8, 6, 3
SEED_KEY = ("random", 0)
SMALL: dict[str, Any] = {
    "hidden": 8,
    "prototypes": 12,
    "queue": 40,
    "memory": 40,
    "steps": 2,
}  # parameters that a loss may have
LOSSES = plugins.names("losses")
PROCESSES = 4
TOLERANCE = 1e-8  # relative to the largest gradient, loss or weight
Trajectory = dict[str, Tensor]
Case = tuple[str, str]  # a loss and an encoder
PROJECTOR_LAYERS = {"mlp": 1, "convnet": 2}  # one batch norm in the first network, three in the second
CASES: list[Case] = [(name, "mlp") for name in LOSSES] + [("nt_xent", "convnet")]
ENCODER_SETTINGS = {"mlp": {"width": 8, "layers": 1}, "convnet": {"width": 4, "blocks": 2}}


def _setup(name: str, encoder_name: str) -> TrainingSetup:
    """A small run on random images, half of them labelled, with batch norm. The batch size is not divisible by 2 or 4."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (IMAGES, 1, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    visible_labels = torch.arange(IMAGES) % CLASSES
    visible_labels[::2] = -1
    fields = plugins.load("losses", name).__dataclass_fields__
    settings: dict[str, Any] = {
        key: small for key, small in SMALL.items() if key in fields and type(fields[key].default) is int
    }
    settings |= {"share": 1.0} if name == "directclr" else {}  # of one dimension of eight only the sign would count
    loss = losses.build(name, dim=DIM, classes=CLASSES, images=IMAGES, **settings)
    encoder = plugins.load("encoders", encoder_name)(**ENCODER_SETTINGS[encoder_name])
    model = Model(
        lambda: encoder.build(1, SIDE),
        Projector(dim=DIM, layers=PROJECTOR_LAYERS[encoder_name]),
        CLASSES,
        heads(requirements_of(loss).needs),
        SEED_KEY,
    )
    recipe = Views(rotation=10.0, shift=0.1)
    mean, std = torch.tensor([0.5]), torch.tensor([0.3])
    views = {"full": ViewMaker(recipe, mean, std), "weak": ViewMaker(weak(recipe), mean, std)}
    optimizer = plugins.load("optimizers", "sgd")().build(*loop.split_parameters(model, loss))
    return TrainingSetup(model, loss, views, optimizer, images, visible_labels, SEED_KEY, History())


def _train(case: Case) -> Trajectory:
    """Gradients of every step, the loss of every step, and the final state of network and loss."""
    setup = _setup(*case)
    trainable = [p for group in setup.optimizer.param_groups for p in group["params"]]
    gradients: list[Tensor] = []

    def record(*_: Any) -> None:
        gradients.append(torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in trainable]))

    setup.optimizer.register_step_pre_hook(record)
    loop.train(setup, epochs=EPOCHS, batch_size=BATCH, base_learning_rate=0.05, schedule=Schedule(warmup_epochs=0))
    state = setup.model.state_dict()
    if isinstance(setup.loss, nn.Module):
        state |= {f"loss.{key}": value for key, value in setup.loss.state_dict().items()}
    end = torch.cat([value.double().flatten() for value in state.values() if isinstance(value, Tensor)])
    return {"gradients": torch.stack(gradients), "loss": torch.tensor(setup.history.loss), "end": end}


def _average_gradients(tensors: list[Tensor]) -> None:
    """As DistributedDataParallel does."""
    for t in tensors:
        distributed.all_reduce(t)
        t.div_(exchange.world_size())


def _keep_batch_norm(model: nn.Module) -> None:
    """Leave batch norm with the statistics of each shard."""


FAULTS: dict[str, tuple[Any, str, Callable[..., None]]] = {
    "gradients averaged": (parallel, "_sum", _average_gradients),
    "gradients of one shard": (parallel, "_sum", lambda tensors: None),
    "statistics of one shard": (batch_norm, "convert_sync_batch_norm", _keep_batch_norm),
}


def _work(rank: int, folder: Path) -> None:
    """The work of one of the four processes: its trainings on one, on two and on four processes."""
    torch.set_num_threads(1)
    with float64():
        of_one = {case: _train(case) for case in CASES[rank::PROCESSES]}
        pair, pair_rank = divmod(rank, 2)
        with _process_group(pair_rank, 2, folder / f"pair{pair}"):
            of_two = {case: _train(case) for case in CASES[pair::2]}
        with _process_group(rank, PROCESSES, folder / "four"):
            of_four = {case: _train(case) for case in CASES}
            faulty = {fault: _faulty(fault) for fault in FAULTS}
    torch.save({"1": of_one, "2": of_two, "4": of_four, "faulty": faulty}, folder / f"{rank}.pt")


def _faulty(fault: str) -> Trajectory:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(*FAULTS[fault])
        return _train(("nt_xent", "mlp"))


@contextmanager
def _process_group(rank: int, ranks: int, rendezvous: Path) -> Iterator[None]:
    distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=ranks)
    try:
        yield
    finally:
        distributed.destroy_process_group()


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The results of each of the four processes."""
    folder = tmp_path_factory.mktemp("processes")
    multiprocessing.start_processes(_work, (folder,), nprocs=PROCESSES, start_method="spawn")
    return [torch.load(folder / f"{rank}.pt") for rank in range(PROCESSES)]


def _difference(one: Trajectory, other: Trajectory) -> float:
    """The largest difference of gradients, losses or final state, relative to the largest value of each."""
    return max(float((one[key] - other[key]).abs().max() / one[key].abs().max()) for key in one)


def test_every_loss_trains_the_same_on_1_2_and_4_processes(processes: list[dict[str, Any]]) -> None:
    single = {case: one for process in processes for case, one in process["1"].items()}
    assert sorted(single) == sorted(CASES)
    different = {}
    for ranks in ("2", "4"):
        for process in processes:
            for case, sharded in process[ranks].items():
                assert sharded["gradients"].shape[0] == sharded["loss"].shape[0] == STEPS
                if not (difference := _difference(single[case], sharded)) < TOLERANCE:
                    different[ranks, *case] = difference
    assert not different
    assert {case for process in processes for case in process["2"]} == set(CASES)


def test_all_processes_end_with_the_same_bits(processes: list[dict[str, Any]]) -> None:
    assert not [
        case
        for case in CASES
        for p in processes[1:]
        if not torch.equal(p["4"][case]["end"], processes[0]["4"][case]["end"])
    ]


@pytest.mark.parametrize("fault", FAULTS)
def test_the_comparison_finds_common_mistakes(processes: list[dict[str, Any]], fault: str) -> None:
    right = processes[0]["4"]["nt_xent", "mlp"]
    assert _difference(right, processes[0]["faulty"][fault]) > 1e-2


def test_the_mean_over_processes_loses_their_number(processes: list[dict[str, Any]]) -> None:
    right, wrong = (
        f["gradients"][0] for f in (processes[0]["4"]["nt_xent", "mlp"], processes[0]["faulty"]["gradients averaged"])
    )
    torch.testing.assert_close(wrong * PROCESSES, right)


@pytest.mark.parametrize(("count", "ranks"), [(8, 4), (17, 4), (5, 5), (131_072, 8)])
def test_shards_are_disjoint_complete_and_differ_by_one_row_at_most(
    count: int, ranks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "world_size", lambda: ranks)
    shards = [exchange.shard_rows(count, rank) for rank in range(ranks)]
    assert [i for own in shards for i in range(own.start, own.stop)] == list(range(count))
    lengths = {own.stop - own.start for own in shards}
    assert max(lengths) - min(lengths) <= 1


def test_the_network_is_not_called_on_a_whole_batch_by_every_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the gradient of the network would count once per process."""
    setup = _setup("nt_xent", "mlp")
    monkeypatch.setattr(parallel, "world_size", lambda: 2)
    monkeypatch.setattr(parallel, "_broadcast", lambda tensors: None)
    parallel.prepare_model(setup.model, setup.loss)
    with pytest.raises(RuntimeError, match="must be called through parallel.run_sharded"):
        setup.model.encoder(torch.zeros(4, 1, SIDE, SIDE))
    setup.model.eval().encoder(torch.zeros(4, 1, SIDE, SIDE))  # only one process evaluates


def test_a_subclass_of_batch_norm_is_refused() -> None:
    class Custom(nn.BatchNorm1d): ...

    with pytest.raises(
        InputError, match=r"0: batch norm must be one of BatchNorm1d, BatchNorm2d, BatchNorm3d .* Got Custom"
    ):
        batch_norm.convert_sync_batch_norm(nn.Sequential(Custom(3)))
