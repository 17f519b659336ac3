"""The gain of each fast path of a training on a CPU: the time of a step with and without it.

    python benchmarks/fast_paths.py            one thread, SimCLR, batch 64; fifteen minutes of a core

Every setting trains in a process of its own; the settings take turns, ROUNDS times. Times are medians of the thread's
processor time, without the first training of a process and without compilation. `benchmarks/step.py` has the trainings.
"""

import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import _common, step
from cl_semisup.execution import memory
from cl_semisup.training import loop

ROUNDS = 2
SECONDS = 4.0  # duration of the trainings in a process, which has at least one
DEFAULT = "as it is"
NOT_KEPT = "freed memory given back to the system"
SETTINGS: dict[str, dict[str, Any]] = {  # arguments of `step.trainer`
    DEFAULT: {},
    "no kernels in C": {"native": False},
    NOT_KEPT: {},
    "default memory layout": {"channels_last": False},
    "compiled encoder": {"compile": True},
    "bfloat16": {"precision": "bfloat16"},
}


def milliseconds_per_step(network: str, setting: str) -> float:
    """The median over trainings in this process."""
    torch.set_num_threads(1)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        stack.enter_context(patch.object(loop, "LOGGED_POINTS", 1))
        if setting == NOT_KEPT:
            stack.enter_context(patch.object(memory, "retain_freed_memory", lambda: None))
        step.random_images(folder)
        train = step.trainer(network, folder, **SETTINGS[setting])
        train()
        times: list[float] = []
        began = time.thread_time()
        while not times or time.thread_time() - began < SECONDS:
            seconds, steps = _common.timed(train, time.thread_time)
            times.append(1000 * seconds / steps)
    return median(times)


def rows() -> Iterator[dict[str, str]]:
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for _ in range(ROUNDS):
        for network in step.NETWORKS:
            for setting in SETTINGS:
                times[network, setting].append(_common.run_json(__file__, network, setting))
    for (network, setting), milliseconds in times.items():
        ratio = f"{median(milliseconds) / median(times[network, DEFAULT]):.2f}"
        yield {"network": network, "setting": setting, "ms a step": f"{median(milliseconds):.3g}", "ratio": ratio}


def main() -> None:
    if sys.argv[1:]:
        print(json.dumps(milliseconds_per_step(*sys.argv[1:])))
        return
    about = "Milliseconds of a step of SimCLR at batch 64, two views, one thread, and their ratio to the default's. "
    about += f"Medians of {ROUNDS} processes in turn; more than 1 is slower."
    print(_common.write("fast_paths", about, list(rows())))


if __name__ == "__main__":
    main()
