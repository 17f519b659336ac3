"""What a GPU does otherwise than a CPU, with stand-ins for the driver."""

import pytest
import torch
from torch import Tensor

from cl_semisup import device
from cl_semisup.errors import OutOfMemory

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 1)


@pytest.mark.parametrize(
    ("capability", "hip", "has_it"),
    [((7, 0), None, False), ((7, 5), None, False), ((8, 0), None, True), ((9, 0), None, True), ((7, 0), "6.1", True)],
)
def test_bfloat16_is_taken_where_the_gpu_of_the_run_has_it_and_not_where_it_is_emulated(
    capability: tuple[int, int], hip: str | None, has_it: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda one: (asked.append(one), capability)[1])
    monkeypatch.setattr(torch.version, "hip", hip)
    assert device.has_bfloat16(CUDA) is has_it
    assert hip or asked == [CUDA]  # and not the current device, which may be another one
    assert not device.has_bfloat16(CPU)
    assert not device.has_bfloat16(torch.device("mps"))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 TiB."),
        OutOfMemory("too little"),
        MemoryError(),
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("MPS backend out of memory (MPS allocated: 18.10 GB)"),
        RuntimeError("CUDA driver error: out of memory"),
        torch.AcceleratorError("HIP error: out of memory"),
        RuntimeError("CUDA error: HIPBLAS_STATUS_ALLOC_FAILED when calling `hipblasCreate(handle)`"),
        RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`"),
        RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"),
        RuntimeError("miopenStatusAllocFailed"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes."),
    ],
)
def test_lack_of_memory_is_known_by_its_class_or_words(error: BaseException) -> None:
    assert device.is_out_of_memory(error)


@pytest.mark.parametrize(
    "error", [RuntimeError("CUDA error: device-side assert triggered"), ValueError("not enough memory")]
)
def test_other_errors_are_no_lack_of_memory(error: BaseException) -> None:
    assert not device.is_out_of_memory(error)


def test_a_gpu_is_lost_if_it_answers_nothing_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: torch.device) -> None:
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    assert not device.is_lost(CPU)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: None)
    assert not device.is_lost(CUDA)
    monkeypatch.setattr(torch.cuda, "synchronize", fails)
    assert device.is_lost(CUDA)


def test_tf32_is_forbidden_in_convolutions_and_products(monkeypatch: pytest.MonkeyPatch) -> None:
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    try:
        cudnn.allow_tf32 = matmul.allow_tf32 = True
        device.forbid_tf32()
        assert (cudnn.allow_tf32, matmul.allow_tf32) == (False, False)
    finally:
        cudnn.allow_tf32, matmul.allow_tf32 = before


def test_a_process_pins_memory_for_the_gpu_of_its_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(device, "forbid_tf32", lambda: None)
    for one in (CPU, CUDA, torch.device("cuda"), torch.device("mps")):
        device.prepare(one)
    assert current == [CUDA]


def test_several_tensors_are_sent_in_one_copy_and_keep_their_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    copies: list[int] = []
    monkeypatch.setattr(device, "send", lambda tensor, to: (copies.append(tensor.numel()), tensor)[1])
    tensors: dict[str, Tensor] = {"a": torch.rand(2, 3), "b": torch.rand(4), "c": torch.rand(1, 2, 2)}
    sent = device.send_all(tensors, CUDA)
    assert copies == [14]
    assert list(sent) == list(tensors)  # the order of the steps of a view
    assert all(torch.equal(sent[name], tensors[name]) for name in tensors)
    assert device.send_all({}, CUDA) == {}
    on_cpu = device.send_all(tensors, CPU)
    assert all(on_cpu[name] is tensors[name] for name in tensors)


def test_what_is_on_the_device_is_not_copied() -> None:
    tensor = torch.ones(3)
    assert device.send(tensor, CPU) is tensor
