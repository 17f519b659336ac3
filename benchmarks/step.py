"""What bounds a training step on a CPU: its parts, and the operations of torch that take longest.

    python benchmarks/step.py            one thread, SimCLR, float32; two minutes of a core

The small network on 8 x 8 digits, and that one and ResNet-18 on random images of 3 x 32 x 32. Processor time of the
thread, so that a busy machine moves little: once by parts, once in torch's profiler by operation. Curves are logged
once and not 40 times, since long runs hardly feel them.

Two runs side by side that made their views once would save at most half of what `views` take, less what it costs to
wait for each other and to pass images between processes. That is too little to pay for, so it is not done.
"""

import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import _record  # noqa: E402
from cl_semisup import plugins  # noqa: E402
from cl_semisup.data.views import ViewMaker  # noqa: E402
from cl_semisup.execution.execute import Executor  # noqa: E402
from cl_semisup.execution.machine import Machine  # noqa: E402
from cl_semisup.execution.trainer import Trainer, way  # noqa: E402
from cl_semisup.execution.training_groups import single_run  # noqa: E402
from cl_semisup.suite import suite  # noqa: E402
from cl_semisup.training import loop  # noqa: E402
from cl_semisup.training.chunks import Chunks  # noqa: E402

SHOWN = 8  # operations
SUITE = """\
question: What bounds a step?
datasets: {dataset}
encoder: {encoder}
losses: nt_xent
label_fraction: 0.1
learning_rate: 0.1
batch_size: {batch_size}
repetitions: 1
epochs: {epochs}
precision: {precision}
"""
NETWORKS = {
    "convnet, 8 x 8": {"dataset": "digits", "encoder": "convnet", "epochs": 8},
    "convnet, 32 x 32": {"dataset": "{arrays: {file: random.npz}}", "encoder": "convnet", "epochs": 8},
    "resnet18, 32 x 32": {"dataset": "{arrays: {file: random.npz}}", "encoder": "resnet18", "epochs": 1},
}
IMAGES = 256  # random ones, of 3 x 32 x 32


def random_images(folder: str) -> None:
    """The data set of the networks on 32 x 32."""
    random = numpy.random.default_rng(0)
    numpy.savez(
        Path(folder) / "random.npz",
        train_images=random.integers(0, 256, (IMAGES, 32, 32, 3), dtype=numpy.uint8),
        train_labels=numpy.arange(IMAGES) % 10,
        test_images=random.integers(0, 256, (20, 32, 32, 3), dtype=numpy.uint8),
        test_labels=numpy.arange(20) % 10,
    )


def trainer(
    network: str, folder: str, precision: str = "float32", batch_size: int = 64, **machine: bool
) -> Callable[[], int]:
    """What trains that network once, on data that is loaded, and tells its steps. `machine`: as of Machine."""
    text = SUITE.format(**NETWORKS[network], precision=precision, batch_size=batch_size)
    asked = suite.parse(text, "step.yaml", folder).runs[-1]
    execute = Executor(Machine("cpu", folder, **machine))
    data = execute.data(asked)
    visible_labels = torch.full((len(data.train_images),), -1)

    def train() -> int:
        trained = Trainer(single_run(asked), execute.machine, execute.probed)
        with way(execute.machine):
            trained.train(data, visible_labels)
        return int(trained.resolved["steps"])

    return train


@contextmanager
def timed(spent: dict[str, float]) -> Iterator[None]:
    """Processor seconds of a step's parts while entered; none of them is inside another."""
    parts: dict[str, tuple[Any, str]] = {
        "views": (ViewMaker, "__call__"),
        "encoder": (Chunks, "__call__"),
        "loss": (plugins.load("losses", "nt_xent"), "__call__"),
        "backward": (torch.Tensor, "backward"),
        "optimizer": (torch.optim.SGD, "step"),
    }

    def clocked(part: str, does: Callable[..., Any]) -> Callable[..., Any]:
        def run(*words: Any, **named: Any) -> Any:
            began = time.thread_time()
            try:
                return does(*words, **named)
            finally:
                spent[part] += time.thread_time() - began

        return run

    with ExitStack() as stack:
        for part, (home, name) in parts.items():
            stack.enter_context(patch.object(home, name, clocked(part, getattr(home, name))))
        yield


def parts(train: Callable[[], object]) -> Iterator[tuple[str, float]]:
    """Shares of a training's processor time."""
    spent: dict[str, float] = defaultdict(float)
    with timed(spent):
        began = time.thread_time()
        train()
        whole = time.thread_time() - began
    spent["projector, order, the rest"] = whole - sum(spent.values())
    yield from ((part, seconds / whole) for part, seconds in spent.items())


def operations(train: Callable[[], object]) -> Iterator[tuple[str, float]]:
    """Shares of the longest operations, each without what it calls."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True) as profile:
        train()
    events = sorted(profile.key_averages(), key=lambda event: -event.self_cpu_time_total)
    whole = sum(event.self_cpu_time_total for event in events)
    yield from ((event.key, event.self_cpu_time_total / whole) for event in events[:SHOWN])


def rows(folder: str) -> Iterator[dict[str, str]]:
    for network in NETWORKS:
        train = trainer(network, folder)
        train()  # the first time pays for warming up
        for kind, found in (("part", parts(train)), ("operation", operations(train))):
            for what, share in found:
                yield {"network": network, "by": kind, "what": what, "share": f"{100 * share:.1f} %"}


def main() -> None:
    torch.set_num_threads(1)
    with patch.object(loop, "LOGGED_POINTS", 1), tempfile.TemporaryDirectory() as folder:
        random_images(folder)
        found = list(rows(folder))
    about = "Shares of a training's processor time, SimCLR at batch 64, two views, one thread, float32. "
    about += "Two runs that shared their views would save at most half of `views`."
    print(_record.write("step", about, found))


if __name__ == "__main__":
    main()
