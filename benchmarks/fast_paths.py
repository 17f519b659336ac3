"""What single fast paths gain in a training on a CPU: the time of a step with and without each of them.

    python benchmarks/fast_paths.py            one thread, SimCLR, batch 64; fifteen minutes of a core

Every setting trains in a process of its own, all in turn, ROUNDS times; medians of the thread's processor time. The
first training of a process is not counted, nor what compiling takes. Trainings are those of `benchmarks/step.py`.
"""

import json
import subprocess
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

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import _record, step  # noqa: E402
from cl_semisup.execution import memory  # noqa: E402
from cl_semisup.training import loop  # noqa: E402

ROUNDS = 2
SECONDS = 4.0  # of trainings in a process, at least one
DEFAULT = "as it is"
NOT_KEPT = "freed memory given back to the system"
SETTINGS: dict[str, dict[str, Any]] = {  # what `step.trainer` is told
    DEFAULT: {},
    "no kernels in C": {"native": False},
    NOT_KEPT: {},
    "default memory layout": {"channels_last": False},
    "compiled encoder": {"compile": True},
    "bfloat16": {"precision": "bfloat16"},
}


def one(network: str, setting: str) -> float:
    """Milliseconds of a step, in this process."""
    torch.set_num_threads(1)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        stack.enter_context(patch.object(loop, "LOGGED_POINTS", 1))
        if setting == NOT_KEPT:
            stack.enter_context(patch.object(memory, "retain_freed_memory", lambda: None))
        step.random_images(folder)
        train = step.trainer(network, folder, **SETTINGS[setting])
        train()
        times, began = [], time.thread_time()
        while not times or time.thread_time() - began < SECONDS:
            started = time.thread_time()
            steps = train()
            times.append(1000 * (time.thread_time() - started) / steps)
    return median(times)


def rows() -> Iterator[dict[str, str]]:
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for _ in range(ROUNDS):
        for network in step.NETWORKS:
            for setting in SETTINGS:
                command = [sys.executable, __file__, network, setting]
                told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                found[network, setting].append(json.loads(told.splitlines()[-1]))
    for (network, setting), times in found.items():
        ratio = median(times) / median(found[network, DEFAULT])
        yield {"network": network, "setting": setting, "ms a step": f"{median(times):.3g}", "ratio": f"{ratio:.2f}"}


def main() -> None:
    if sys.argv[1:]:
        print(json.dumps(one(*sys.argv[1:])))
        return
    about = "Milliseconds of a step of SimCLR at batch 64, two views, one thread, and their ratio to the default's. "
    about += f"Medians of {ROUNDS} processes in turn; more than 1 is slower."
    print(_record.write("fast_paths", about, list(rows())))


if __name__ == "__main__":
    main()
