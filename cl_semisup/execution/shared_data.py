"""One copy of a data set on a GPU that several processes read.

The process that made it gives handles to it; another process maps the same memory by one of them (CUDA IPC). A mapping
is good only while the first process lives and keeps the data, so that is the command, which outlives its workers.
"""

import inspect
import math
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing import reductions

from cl_semisup.data.images import Images
from cl_semisup.device import is_lost
from cl_semisup.errors import ProcessMustStop, message
from cl_semisup.execution.data import Data, nbytes
from cl_semisup.execution.machine import Machine

WORTH = 2 * 2**30  # bytes of copies that are saved at least: four times what a CUDA context of the command takes
SHARED = "yes"  # in `resolved.shared_data` of a record


@dataclass(frozen=True)
class Handle:
    """A data set that another process holds.

    Args:
        tensors: name -> function and arguments that map the tensor
        sums: name -> sum of the tensor's bytes, by which a wrong mapping is known
        facts: what else the data set has
    """

    tensors: Mapping[str, tuple[Callable[..., Tensor], tuple[Any, ...]]]
    sums: Mapping[str, int]
    facts: Mapping[str, Any]


def worth_from(machine: Machine, workers: int, gpus: int) -> int:
    """The size in bytes from which on a data set is shared by so many workers of so many GPUs; 0 for never."""
    neighbours = math.ceil(workers / gpus) - 1
    return math.ceil(WORTH / neighbours) if neighbours > 0 and can_share(machine) else 0


def can_share(machine: Machine) -> bool:
    """Whether a process may map what another one has on the device; the driver can still refuse it."""
    return machine.device.startswith("cuda") and platform.system() == "Linux" and not machine.plain


def handle_of(data: Data) -> Handle:
    """The handle that every process may be given. RuntimeError where the driver has none."""
    tensors = _tensors(data)
    facts = {name: value for name, value in vars(data).items() if name not in tensors} | {"shared": SHARED}
    made = {name: reductions.reduce_tensor(tensor) for name, tensor in tensors.items()}
    for rebuild, arguments in made.values():
        if rebuild is reductions.rebuild_cuda_tensor:
            _count_no_readers(arguments)
    return Handle(made, _sums(tensors), facts)


def opened(receive: Callable[[], Handle | str], images: Images, device: torch.device) -> Data | str:
    """The command's copy of these images by the handle that is received, or why there is none.

    ProcessMustStop if the attempt has cost this process its GPU.
    """
    try:
        handle = receive()
        if isinstance(handle, str):
            return handle
        if handle.facts["content_hash"] != images.content_hash:
            return "the files of the data set have changed"
        tensors: dict[str, Any] = {name: rebuild(*arguments) for name, (rebuild, arguments) in handle.tensors.items()}
        if _sums(tensors) != handle.sums:
            return "the mapped memory has other contents"
    except (RuntimeError, OSError) as error:
        if is_lost(device):
            raise ProcessMustStop("the GPU was lost when memory of the command was mapped") from error
        return message(error).splitlines()[0]
    return Data(**tensors, **handle.facts)


def is_large(images: Images, machine: Machine) -> bool:
    """Whether workers are to share these images. Folds are on the GPU one by one, and each worker has its own."""
    return 0 < machine.share_from <= nbytes(images) and images.fold is None


def _tensors(data: Data) -> dict[str, Tensor]:
    return {name: value for name, value in vars(data).items() if isinstance(value, Tensor)}


def _sums(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    return {name: int(tensor.flatten().view(torch.uint8).sum(dtype=torch.int64)) for name, tensor in tensors.items()}


def _count_no_readers(arguments: tuple[Any, ...]) -> None:
    """Have torch free the memory as soon as this process drops it.

    torch counts readers and keeps memory until each has said that it is done, which a killed worker never does. Who
    reads is known to the engine, which waits for them.
    """
    known = dict(zip(inspect.signature(reductions.rebuild_cuda_tensor).parameters, arguments, strict=True))
    torch.UntypedStorage._release_ipc_counter_cuda(known["ref_counter_handle"], known["ref_counter_offset"])
