"""Where and how runs execute. Without torch: a worker knows its machine before it imports anything heavy."""

import os
from dataclasses import dataclass
from pathlib import Path

from cl_semisup.execution.training_groups import TrainingGroup

CONTEXT = 600 * 2**20  # bytes that CUDA and its libraries take of a GPU in every process
SLACK = 1.25  # of memory that torch holds, over what tensors take
FILLED = 0.9  # share of a GPU's memory that is given out


def default_workers(device: str) -> int:
    """One a core on a CPU, where one thread each beats threads for small networks; one a GPU."""
    return len(os.sched_getaffinity(0)) if device == "cpu" and hasattr(os, "sched_getaffinity") else 1


def default_threads(device: str) -> int:
    """Of a worker. On a CPU always 1, since the number moves the last digits and must not follow that of workers."""
    return 1 if device == "cpu" else len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def fitting(free: int, peak: int) -> int:
    """How many runs like one whose tensors took `peak` bytes go at once into `free` bytes of a GPU; at least one."""
    return max(1, int(FILLED * free / (SLACK * peak + CONTEXT)))


@dataclass(frozen=True)
class Need:
    """What one training takes of a cluster's node; with a fraction of a GPU, several share it."""

    cpus: float
    gpus: float

    def __str__(self) -> str:
        return f"{self.cpus:g} CPU and {self.gpus:g} GPU" if self.gpus else f"{self.cpus:g} CPU"


@dataclass(frozen=True)
class Machine:
    """Where and how runs execute; none of it is part of the question.

    Args:
        device: cpu, cuda, cuda:1, mps
        data_dir: folder of data sets
        channels_last: memory layout of the network; 1.4 to 1.6 times faster on a CPU, also with one channel
        native: kernels in C for views and for blocks of small networks, on a CPU that has a compiler, with one thread
        compile: compile the encoder with torch.compile; benchmarks/results/fast_paths.md has what it does on a CPU
        plain: nothing that is there for speed alone, to compare with: float32, the default layout, nothing compiled, no
            kernels in C, optimizers that take one tensor at a time, similarity matrices whole, workers that are not
            forked, freed memory given back at once
        checkpoints: folder for the states of unfinished runs; "" keeps none
        checkpoint_seconds: time between two states of a run
        threads: of a worker process; the number moves the last bits of sums, so it never follows the number of workers
    """

    device: str
    data_dir: str
    channels_last: bool = True
    native: bool = True
    compile: bool = False
    plain: bool = False
    checkpoints: str = ""
    checkpoint_seconds: float = 60.0
    threads: int = 1

    def wants_kernels(self) -> bool:
        """Do its runs go through the kernels in C, if there are any? These do not share their work among threads."""
        return self.native and not self.plain and self.device == "cpu" and self.threads == 1

    def checkpoint_path(self, training: TrainingGroup) -> Path:
        return Path(self.checkpoints) / f"{training.id}.pt"
