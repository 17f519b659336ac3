"""Where and how runs execute. This module does not import torch, so that commands start fast."""

from dataclasses import dataclass, field
from pathlib import Path

from cl_semisup.execution import energy
from cl_semisup.execution.training_groups import TrainingGroup
from cl_semisup.system.cgroups import memory_limit, usable_cores

CUDA_CONTEXT_BYTES = 600 * 2**20  # GPU memory that CUDA and its libraries take in every process
ALLOCATOR_OVERHEAD = 1.25  # memory that torch reserves / memory of tensors
USABLE_SHARE = 0.9  # of a GPU's free memory, or of the memory that a container may use
WORKER_BYTES = 600 * 2**20  # memory that a worker with a small network on a CPU adds, at its peak


def default_workers(device: str, root: Path = Path("/")) -> int:
    """One per usable core on a CPU, as small networks gain nothing from threads, but no more than have room in memory.

    On a GPU 1. `root` is the folder of the system's files.
    """
    if device != "cpu":
        return 1
    return max(1, int(min(usable_cores(root), USABLE_SHARE * memory_limit(root) / WORKER_BYTES)))


def default_threads(device: str, root: Path = Path("/"), workers: int = 1) -> int:
    """Threads per worker: on a GPU the cores in equal parts.

    Always 1 on a CPU: the number moves the last digits, so it must not depend on the machine.
    """
    return 1 if device == "cpu" else max(1, usable_cores(root) // workers)


def runs_that_fit(free: int, peak: int) -> int:
    """The number of runs that fit in `free` bytes of a GPU at once if the tensors of each take `peak` bytes; >= 1."""
    return max(1, int(USABLE_SHARE * free / (ALLOCATOR_OVERHEAD * peak + CUDA_CONTEXT_BYTES)))


@dataclass(frozen=True)
class Need:
    """CPUs and GPUs of a cluster's node that one training takes. Several trainings share a GPU if `gpus` < 1."""

    cpus: float
    gpus: float

    def __str__(self) -> str:
        return f"{self.cpus:g} CPU and {self.gpus:g} GPU" if self.gpus else f"{self.cpus:g} CPU"


@dataclass(frozen=True)
class Machine:
    """Where and how runs execute. None of it is part of a run's id.

    Args:
        device: cpu, cuda, cuda:1, mps
        data_dir: folder of data sets
        channels_last: memory layout of the network; 1.4 to 1.6 times faster on a CPU, also with one channel
        native: C kernels for views and for blocks of small networks, on a CPU with a C compiler and one thread; on CUDA
            a kernel for views
        compile: compile the encoder with torch.compile; benchmarks/results/fast_paths.md has its times on a CPU
        graphs: on CUDA, record a step of training as a CUDA graph and replay it; see `training/graph.py`
        plain: reference mode without any fast path: float32, the default layout, no compilation, no C kernels,
            optimizers without fused steps, whole similarity matrices, workers that are not forked, freed memory
            returned at once
        early_stop: trainings that have collapsed or diverged beyond return end there and are evaluated
        points: of a training's curves, after which it ends; 0 for all
        checkpoints: folder for the states of unfinished runs; "" means none
        checkpoint_seconds: time between two states of a run
        threads: per worker process; the number moves the last bits of sums
        gpu_share: largest share of a GPU's memory that a worker takes; 1 for all that is free
        share_from: bytes from which on a data set is held on the GPU by the command, for all workers; 0 for never
        keep: which weights of a trained network are kept: none, encoder, all
        kept: the results folder that they are kept in
        question: of the suite, for the cards of kept networks
        grams_co2_per_kwh: of electricity, for the CO2 of runs; the user's, see energy.py
        state_key: hex digits of the key that states are signed with; workers on other machines get it from here
    """

    device: str
    data_dir: str
    channels_last: bool = True
    native: bool = True
    compile: bool = False
    graphs: bool = True
    plain: bool = False
    early_stop: bool = False
    points: int = 0
    checkpoints: str = ""
    checkpoint_seconds: float = 60.0
    threads: int = 1
    gpu_share: float = 1.0
    share_from: int = 0
    keep: str = "none"
    kept: str = ""
    question: str = ""
    grams_co2_per_kwh: float = field(default_factory=energy.grams_per_kwh)
    state_key: str = field(default="", repr=False)

    def wants_kernels(self) -> bool:
        """Whether runs use the C kernels, if these can be compiled. The kernels are single-threaded."""
        return self.native and not self.plain and self.device == "cpu" and self.threads == 1

    def wants_view_kernel(self) -> bool:
        """Whether a GPU makes views by one kernel, if it can be compiled."""
        return self.native and not self.plain and self.device.startswith("cuda")

    def checkpoint_path(self, training: TrainingGroup) -> Path:
        return Path(self.checkpoints) / f"{training.id}.pt"
