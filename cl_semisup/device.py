"""What a GPU does otherwise than a CPU: copies that must not wait, rounding, its start, memory, errors that stay."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from cl_semisup.errors import OutOfMemory

OUT_OF_MEMORY = (  # where torch has no error class of its own: of drivers, and of libraries that share a GPU's memory
    "can't allocate memory",
    "not enough memory",
    "out of memory",  # CUDA error, CUDA driver error, HIP error, MPS backend
    "_ALLOC_FAILED",  # cuBLAS, cuDNN, cuSOLVER, cuSPARSE, cuFFT, hipBLAS
    "_ALLOCATION_FAILED",  # cuDNN from 9 on
    "miopenStatusAllocFailed",
    "rocblas_status_memory_error",
)
BFLOAT16_CAPABILITY = (8, 0)  # of NVIDIA's GPUs from Ampere on; torch says yes for older ones, which emulate it


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device. The host does not wait: on CUDA the copy is made from pinned memory."""
    if tensor.device.type == device.type:
        return tensor
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def send_all(tensors: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Tensors of the host on the device, all of one dtype, in one copy."""
    if device.type == "cpu" or not tensors:
        return dict(tensors)
    sizes = [tensor.numel() for tensor in tensors.values()]
    sent = send(torch.cat([tensor.flatten() for tensor in tensors.values()]), device).split(sizes)
    return {name: part.view(tensors[name].shape) for name, part in zip(tensors, sent, strict=True)}


def read_later(values: Tensor) -> Callable[[], list[float]]:
    """A function that reads (K,) floats of a GPU and waits for no work that is given to the GPU after this call."""
    host = torch.zeros(len(values)).pin_memory()
    host.copy_(values, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record()

    def read() -> list[float]:
        copied.synchronize()
        known: list[float] = host.tolist()
        return known

    return read


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 at full speed."""
    if device.type != "cuda":
        return False
    return bool(torch.version.hip) or torch.cuda.get_device_capability(device) >= BFLOAT16_CAPABILITY


def prepare(device: torch.device) -> None:
    """Before a process computes on it: float32 is never TF32, and memory is pinned for this GPU and not for GPU 0."""
    if device.type == "cuda":
        forbid_tf32()
        if device.index is not None:
            torch.cuda.set_device(device)


def forbid_tf32() -> None:
    """Have convolutions and products of float32 round as float32; cuDNN's default is TF32, with 10 bits and not 23."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def start(device: torch.device) -> None:
    """Load the driver and its libraries, which takes seconds; else the first run of a process would be charged."""
    if device.type != "cuda":
        return
    x = torch.ones(8, 8, 8, 8, device=device, requires_grad=True)
    for dtype in (torch.float32, torch.bfloat16) if has_bfloat16(device) else (torch.float32,):
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            y = torch.nn.functional.conv2d(x, torch.ones(8, 8, 3, 3, device=device))
            (y.flatten(1) @ torch.ones(288, 8, device=device)).sum().backward()
    torch.linalg.svdvals(torch.ones(8, 8, device=device))
    synchronize(device)


def synchronize(device: torch.device) -> None:
    """Wait for the device, so that measured times are right."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def gpu_uuid(device: torch.device) -> str:
    """The UUID of an NVIDIA GPU, by which its driver knows it whatever its number is here; "" for other devices."""
    if device.type != "cuda" or torch.version.hip:
        return ""
    return str(torch.cuda.get_device_properties(device).uuid)


def is_lost(device: torch.device) -> bool:
    """Whether no further call can succeed in this process, as after an index out of range in a kernel of CUDA."""
    try:
        synchronize(device)
    except RuntimeError:  # the same error again, whoever caused it
        return True
    return False


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is lack of memory, by its class or by torch's words."""
    if isinstance(error, torch.OutOfMemoryError | OutOfMemory | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)
