"""Where a training step on a CPU spends its time: its parts, and the longest operations of torch.

    python benchmarks/step.py            one thread, SimCLR, float32; two minutes of a core

The small network on 8 x 8 digits, then the small network and ResNet-18 on random images of 3 x 32 x 32. Times are
processor times of the thread, which a busy machine changes little: once by parts, once in torch's profiler by
operation. Curves are logged once instead of 40 times, since their share of a long run is small.

Two runs that shared their views would save at most half of the time of `views`, less the cost of waiting for each other
and of passing images between processes. That is too little, so runs do not share views.
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

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import _common
from cl_semisup import plugins
from cl_semisup.data.views import ViewMaker
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.fast_paths import kernel_context
from cl_semisup.execution.machine import Machine
from cl_semisup.execution.trainer import Trainer
from cl_semisup.execution.training_groups import single_run
from cl_semisup.suite import suite
from cl_semisup.training import loop
from cl_semisup.training.chunks import ChunkedEncoder

LONGEST_OPERATIONS = 8
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
views: {views}
validation: all
"""
NETWORKS = {
    "convnet, 8 x 8": {"dataset": "digits", "encoder": "convnet", "epochs": 8},
    "convnet, 32 x 32": {"dataset": "{arrays: {file: random.npz}}", "encoder": "convnet", "epochs": 8},
    "resnet18, 32 x 32": {"dataset": "{arrays: {file: random.npz}}", "encoder": "resnet18", "epochs": 1},
}
IMAGES = 256  # random ones, of 3 x 32 x 32


def random_images(folder: str) -> None:
    """The data set of the networks on 32 x 32."""
    _common.save_random_images(Path(folder), (32, 32, 3), IMAGES, 20)


def trainer(
    network: str, folder: str, precision: str = "float32", batch_size: int = 64, views: str = "{}", **machine: Any
) -> Callable[[], int]:
    """A function that trains the network once on loaded data and returns the number of steps."""
    text = SUITE.format(**NETWORKS[network], precision=precision, batch_size=batch_size, views=views)
    run = suite.parse(text, "step.yaml", folder).runs[-1]
    execute = Executor(Machine("cpu", folder, **machine))
    data = execute.data(run)
    visible_labels = torch.full((len(data.train_images),), -1)

    def train() -> int:
        trainer = Trainer(single_run(run), execute.machine, execute.probe_datasets)
        with kernel_context(execute.machine):
            trainer.train(data, visible_labels)
        return int(trainer.resolved["steps"])

    return train


@contextmanager
def parts_timed(spent: dict[str, float]) -> Iterator[None]:
    """Inside, the processor seconds of a step's parts are added to `spent`; the parts do not overlap."""
    parts: dict[str, tuple[Any, str]] = {
        "views": (ViewMaker, "__call__"),
        "encoder": (ChunkedEncoder, "__call__"),
        "loss": (plugins.load("losses", "nt_xent"), "__call__"),
        "backward": (torch.Tensor, "backward"),
        "optimizer": (torch.optim.SGD, "step"),
    }

    def add_time(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            seconds, result = _common.timed(lambda: function(*args, **kwargs), time.thread_time)
            spent[part] += seconds
            return result

        return run

    with ExitStack() as stack:
        for part, (owner, name) in parts.items():
            stack.enter_context(patch.object(owner, name, add_time(part, getattr(owner, name))))
        yield


def parts(train: Callable[[], object]) -> Iterator[tuple[str, float]]:
    """Shares of a training's processor time."""
    spent: dict[str, float] = defaultdict(float)
    with parts_timed(spent):
        whole, _ = _common.timed(train, time.thread_time)
    spent["projector, order, the rest"] = whole - sum(spent.values())
    yield from ((part, seconds / whole) for part, seconds in spent.items())


def operations(train: Callable[[], object]) -> Iterator[tuple[str, float]]:
    """Shares of the longest operations, each without the operations that it calls."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True) as profile:
        train()
    events = sorted(profile.key_averages(), key=lambda event: -event.self_cpu_time_total)
    whole = sum(event.self_cpu_time_total for event in events)
    yield from ((event.key, event.self_cpu_time_total / whole) for event in events[:LONGEST_OPERATIONS])


def rows(folder: str) -> Iterator[dict[str, str]]:
    for network in NETWORKS:
        train = trainer(network, folder)
        train()  # warm-up
        for kind, shares in (("part", parts(train)), ("operation", operations(train))):
            for what, share in shares:
                yield {"network": network, "by": kind, "what": what, "share": f"{100 * share:.1f} %"}


def main() -> None:
    torch.set_num_threads(1)
    with patch.object(loop, "LOGGED_POINTS", 1), tempfile.TemporaryDirectory() as folder:
        random_images(folder)
        shares = list(rows(folder))
    about = "Shares of a training's processor time, SimCLR at batch 64, two views, one thread, float32. "
    about += "Two runs that shared their views would save at most half of `views`."
    print(_common.write("step", about, shares))


if __name__ == "__main__":
    main()
