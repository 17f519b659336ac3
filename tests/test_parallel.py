"""One training on several processes is the training on one: the same losses, gradients and weights, for every loss."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn

from cl_semisup import losses, plugins
from cl_semisup.gate.float64 import float64
from cl_semisup.losses import asks
from cl_semisup.settings import Projector, Schedule, Views
from cl_semisup.training import loop, parallel
from cl_semisup.training.loop import History, Parts
from cl_semisup.training.model import Model
from cl_semisup.views import ViewMaker, weak

IMAGES, BATCH, EPOCHS, STEPS = 85, 17, 4, 20
SIDE, DIM, CLASSES = 8, 6, 3
NAMES = ("random", 0)
SMALL: dict[str, Any] = {"hidden": 8, "prototypes": 12, "queue": 40, "memory": 40}  # where a loss has such a setting
LOSSES = plugins.names("losses")
Found = dict[str, Tensor]


def _parts(name: str) -> Parts:
    """A small run on random images, half of them labelled: batch norm in one and two dimensions."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (IMAGES, 1, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    shown = torch.arange(IMAGES) % CLASSES
    shown[::2] = -1
    fields = plugins.load("losses", name).__dataclass_fields__
    settings = {key: small for key, small in SMALL.items() if key in fields and type(fields[key].default) is int}
    loss = losses.build(name, dim=DIM, classes=CLASSES, images=IMAGES, **settings)
    encoder = plugins.load("encoders", "convnet")(width=4, blocks=2)
    model = Model(lambda: encoder.build(1, SIDE), Projector(dim=DIM), CLASSES, asks(loss).needs, NAMES)
    looks = Views(rotation=10.0, shift=0.1)
    mean, std = torch.tensor([0.5]), torch.tensor([0.3])
    views = {"full": ViewMaker(looks, mean, std), "weak": ViewMaker(weak(looks), mean, std)}
    optimizer = plugins.load("optimizers", "sgd")().build(*loop.parameters(model, loss))
    return Parts(model, loss, views, optimizer, images, shown, NAMES, History())


def _train(name: str) -> Found:
    """Gradients of every step, the curve of the loss, and all that training has changed at its end."""
    parts = _parts(name)
    learned = [p for group in parts.optimizer.param_groups for p in group["params"]]
    gradients: list[Tensor] = []

    def keep(*_: Any) -> None:
        gradients.append(torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in learned]))

    parts.optimizer.register_step_pre_hook(keep)
    loop.train(parts, epochs=EPOCHS, batch_size=BATCH, peak=0.05, schedule=Schedule(warmup_epochs=0))
    state = parts.model.state_dict()
    if isinstance(parts.loss, nn.Module):
        state |= {f"loss.{key}": value for key, value in parts.loss.state_dict().items()}
    ends = torch.cat([value.double().flatten() for value in state.values() if isinstance(value, Tensor)])
    return {"gradients": torch.stack(gradients), "loss": torch.tensor(parts.history.loss), "end": ends}


def _train_all(names: list[str], double: bool) -> dict[str, Found]:
    with float64() if double else nullcontext():
        return {name: _train(name) for name in names}


@contextmanager
def _together(rank: int, ranks: int, folder: Path) -> Iterator[None]:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=ranks)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def _work(rank: int, ranks: int, folder: Path, names: list[str], double: bool) -> None:
    with _together(rank, ranks, folder):
        torch.save(_train_all(names, double), folder / f"{rank}.pt")


def _on(ranks: int, folder: Path, names: list[str], double: bool) -> list[dict[str, Found]]:
    """What every process of a training on so many has found."""
    if ranks == 1:
        return [_train_all(names, double)]
    folder.mkdir()
    multiprocessing.start_processes(_work, (ranks, folder, names, double), nprocs=ranks, start_method="spawn")
    return [torch.load(folder / f"{rank}.pt") for rank in range(ranks)]


def test_all(tmp_path):
    import time
    alone = {}
    for double in (True, False):
        for ranks in (1, 2, 4):
            t = time.time()
            found = _on(ranks, tmp_path / f"{ranks}{double}", LOSSES, double)
            print("RANKS", ranks, double, time.time() - t)
            if ranks == 1:
                alone = found[0]; continue
            for name in LOSSES:
                f, a = found[0][name], alone[name]
                scale = a["gradients"].abs().max()
                print(f"{ranks} {name:25} grad0 {float((f['gradients'][0]-a['gradients'][0]).abs().max()/scale):.1e} grads {float((f['gradients']-a['gradients']).abs().max()/scale):.1e} loss {float((f['loss']-a['loss']).abs().max()):.1e} end {float((f['end']-a['end']).abs().max()):.1e} same {all(torch.equal(o[name]['end'], f['end']) for o in found)}", float(scale))
