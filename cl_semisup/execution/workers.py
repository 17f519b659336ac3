"""How many trainings go at once on this machine, and on which of its GPUs: what `run`, `check` and Python agree on."""

from dataclasses import dataclass

from cl_semisup.execution.execute import all_of
from cl_semisup.execution.machine import default_workers

MOST_ON_A_GPU = 8  # unless more are asked for


@dataclass(frozen=True)
class Workers:
    """Workers of a machine.

    Args:
        devices: they take these in turn
        most: how many there are at most
        measured: there are as many as fit on the GPUs and, unless they are to be filled, as many as pay, which the
            first trainings tell; until then there is one a GPU
        fill: whether as many as fit are wanted, whatever they gain
    """

    devices: tuple[str, ...]
    most: int
    measured: bool = False
    fill: bool = False


def of(device: str, runs: int, requested: int | None = None, fill: bool = False) -> Workers:
    """The workers for so many runs; `requested` is what the user wants."""
    devices, cores = all_of(device), default_workers("cpu")
    if not device.startswith("cuda"):
        return Workers(devices, min(runs, requested or default_workers(device)))
    default = cores * len(devices) if fill else max(len(devices), min(cores, MOST_ON_A_GPU * len(devices)))
    most = min(runs, requested or default)
    return Workers(devices, most, fill or (not requested and most > len(devices)), fill)
