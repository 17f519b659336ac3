"""Growth of time and memory with batch size, embedding dimension, number of classes and number of images.

    python benchmarks/scaling.py             five minutes on a quiet core
    python benchmarks/scaling.py --quick     a tenth of each size, for a look; writes nothing

One axis varies at a time, from B = 1024, D = 128, C = 100 (the classes at D = 1024, which has room for a prototype for
each). Losses are measured alone, forward and backward: the shortest time of some calls, and the peak memory of tensors
beyond the inputs. The last axis is an mlp on random 8 x 8 images: one epoch (half of the difference between three
epochs and one, which removes fixed costs) and the evaluation of an untrained network, each size in a process of its
own. Times on a CPU are processor times of one thread. Exponents are slopes of log against log over the largest three
sizes: 1 is linear.
"""

import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import _common

BASE = {"batch": 1024, "dim": 128, "classes": 100}
AXES = {
    "batch": (256, 1024, 4096, 8192, 16_384),
    "dim": (32, 128, 512, 2048),
    "classes": (10, 100, 1000),
    "images": (2_000, 8_000, 32_000),
}
LOSSES = ("nt_xent", "clop")
MAX_CALLS, ENOUGH_SECONDS = 5, 2.0  # of the timed calls; no further call begins after ENOUGH_SECONDS
SUITE = {
    "question": "How does time grow with the data?",
    "datasets": {"arrays": {"file": "random.npz"}},
    "encoder": {"mlp": {"width": 64, "layers": 1}},
    "losses": "nt_xent",
    "label_fraction": 0.1,
    "learning_rate": 0.1,
    "batch_size": 64,
    "repetitions": 1,
    "validation": "all",
}


def loss_alone(name: str, batch: int, dim: int, classes: int) -> tuple[float, float]:
    """(milliseconds, MB) of one value and gradient on this process's device."""
    import torch

    from benchmarks.losses import peak
    from cl_semisup import losses

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(1)
    loss = losses.build(name, dim=dim, classes=classes)
    if isinstance(loss, torch.nn.Module):
        loss.to(device)
    z1, z2 = (torch.randn(batch, dim, device=device, requires_grad=True) for _ in range(2))
    labels = torch.arange(batch, device=device) % classes
    labels[labels % 2 == 0] = -1

    def step() -> None:
        loss(z1, z2, labels).backward()

    memory = peak(step, device) / 1e6  # also warms up
    limits: dict[str, Any] = {"least": 1, "most": MAX_CALLS, "enough": ENOUGH_SECONDS}
    return 1000 * min(_common.repeated(step, **limits, clock=_clock(device), device=device)), memory


def on_images(images: int) -> tuple[float, float, float]:
    """(seconds of an epoch, seconds of an evaluation, MB beyond the libraries') on that many images."""
    import torch

    from cl_semisup.execution.execute import Executor, choose_device
    from cl_semisup.execution.machine import Machine
    from cl_semisup.suite import suite

    torch.set_num_threads(1)
    device = choose_device()
    with tempfile.TemporaryDirectory() as folder:
        _common.save_random_images(Path(folder), (8, 8), images, images // 5)
        run = suite.parse(json.dumps(SUITE | {"epochs": 1}), "scaling.yaml", folder).runs[-1]
        execute = Executor(Machine(device, folder))

        def seconds(epochs: int) -> float:
            this_run = replace(run, epochs=epochs) if epochs else run.untrained()
            taken, (record, _) = _common.timed(lambda: execute(this_run), _clock(device), device)
            assert record["status"] != "failed", record["reason"]
            return taken

        seconds(1)  # the first training also imports modules and reads the data
        before = _memory("VmRSS")
        one, three, none = seconds(1), seconds(3), seconds(0)
    return (three - one) / 2, none, _memory("VmHWM") - before


def _clock(device: str) -> Callable[[], float]:
    """Processor time on a CPU, since other programs may run there too; wall time on a GPU."""
    return time.process_time if device == "cpu" else time.perf_counter


def _memory(what: str) -> float:
    """MB of this process now (VmRSS) or at most (VmHWM). The peak of getrusage would include its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) * 1024 / 1e6


def exponent(sizes: tuple[int, ...], values: list[float]) -> float:
    """Slope of log value against log size over the largest three; nan where a value is not positive."""
    import numpy

    if min(values[-3:]) <= 0:
        return math.nan
    return float(numpy.polyfit(numpy.log(sizes[-3:]), numpy.log(values[-3:]), 1)[0])


def rows(scale: int) -> Iterator[dict[str, Any]]:
    for axis in ("batch", "dim", "classes"):
        sizes = tuple(max(8, size // scale) for size in AXES[axis])
        base = BASE | ({"dim": 1024} if axis == "classes" else {})
        for name in LOSSES:
            least = base["classes"] if name == "clop" and axis == "dim" else 0  # its prototypes need as many dimensions
            valid = tuple(size for size in sizes if size >= least)
            measured = [loss_alone(name, **(base | {axis: size})) for size in valid]
            for column, what in enumerate(("time, ms", "memory, MB")):
                yield _row(axis, f"{name} alone: {what}", valid, [pair[column] for pair in measured])
    sizes = tuple(size // scale for size in AXES["images"])
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        on_size = list(pool.map(on_images, sizes))
    for column, what in enumerate(("an epoch, s", "evaluation, s", "memory beyond the libraries', MB")):
        yield _row("images", what, sizes, [numbers[column] for numbers in on_size])


def _row(axis: str, what: str, sizes: tuple[int, ...], values: list[float]) -> dict[str, Any]:
    sized = ", ".join(f"{size:,}: {value:,.3g}" for size, value in zip(sizes, values, strict=True))
    return {"axis": axis, "what": what, "values": sized, "exponent": round(exponent(sizes, values), 2)}


def main() -> None:
    parser = _common.parser(__doc__)
    parser.add_argument("--quick", action="store_true")
    if parser.parse_args().quick:
        for row in rows(10):
            print(*row.values(), sep=" | ", flush=True)
        return
    about = "Growth along one axis at a time from B = 1,024, D = 128, C = 100 (classes: D = 1,024); one thread."
    print(_common.write("scaling", about, list(rows(1))))


if __name__ == "__main__":
    main()
