"""Views on a GPU by one kernel instead of some 30 to 150: views.cu, compiled by NVRTC, which comes with torch.

The first views of each kind (recipe, size) in a process are compared with those of torch's operations. If the kernel
cannot be had, fails or differs, torch makes the views from then on; `since` says why, for the record.
"""

import ctypes
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cl_semisup.errors import described, stops_process
from cl_semisup.native.library import CHANGES, Draws
from cl_semisup.system import files, owner, seal

NAME = "make_views"
HEADER, SOURCE = (Path(__file__).with_name(name) for name in ("views.h", "views.cu"))
MOST_BYTES = 2**22  # of machine code
STEPS = ("crop", "affine", "flip", "jitter", "grayscale", "blur", "negate", "noise")  # as numbered in views.cu
MOST_THREADS = 256  # of a block, as in views.cu
TOLERANCE = 1e-3  # of a pixel in [0, 1]
MOST_OTHER_BOXES = 0.02  # share of a batch in which rounding may have chosen a crop that is a pixel wider


@dataclass(eq=False)
class _Use:
    """What this process knows of the kernel."""

    allowed: bool = False
    launches: int = 0
    refused: str = ""  # why it is not used any more
    kernels: dict[int, Any] = field(default_factory=dict)  # by GPU
    compared: set[object] = field(default_factory=set)  # kinds of views


_use = _Use()


@contextmanager
def used(yes: bool) -> Iterator[None]:
    """Within, views on a GPU are made by the kernel."""
    before, _use.allowed = _use.allowed, yes
    try:
        yield
    finally:
        _use.allowed = before


def launches() -> int:
    """How often this process has called it. A recorded call counts once."""
    return _use.launches


def since(before: int) -> str:
    """Has the kernel made views since so many launches? Else why not."""
    if _use.refused or not _use.allowed:
        return f"no, because {_use.refused or 'it is not to be used'}"
    return "yes" if _use.launches > before else "no, because no view was such that it could"


def load(device: torch.device) -> None:
    """Compile it, which takes part of a second, before the first run of a process."""
    if _use.allowed and device.type == "cuda":
        with _refused_by_errors():
            _kernel(device)


def make(
    images: Tensor,
    draws: Mapping[str, Tensor],
    recipe: Any,
    mean: Tensor,
    std: Tensor,
    side: int,
    in_torch: Callable[[], Tensor],
) -> Tensor:
    """As `views.apply`, for images (N, C, S, S) of bytes on a GPU; `in_torch` gives the same by torch's operations."""
    kind = repr(recipe), images.shape, side, images.device, frozenset(draws)
    compare = kind not in _use.compared
    if not _use.allowed or _use.refused or (compare and torch.cuda.is_current_stream_capturing()):
        return in_torch()
    made = torch.empty(*images.shape[:2], side, side, device=images.device)
    spare = torch.empty_like(made)
    with _refused_by_errors():
        _launch(images.contiguous(), draws, recipe, mean.contiguous(), std.contiguous(), made, spare)
        _use.launches += 1
        if compare:
            expected = in_torch()
            if different(made, expected, std):
                _use.refused = "its views were not those of torch"
            _use.compared.add(kind)
    return in_torch() if _use.refused else made


def different(made: Tensor, expected: Tensor, std: Tensor) -> bool:
    """Are they other views, rather than the same ones rounded otherwise?"""
    apart = ((made - expected) * std).abs().flatten(1).amax(dim=1)
    wrong = int((~(apart <= TOLERANCE)).sum())  # NaN is wrong
    return wrong > max(1, int(MOST_OTHER_BOXES * len(made)))


@contextmanager
def _refused_by_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if stops_process(error) or isinstance(error, torch.OutOfMemoryError):
            raise
        _use.refused = described(error).splitlines()[0][:300]


def _launch(
    images: Tensor, draws: Mapping[str, Tensor], r: Any, mean: Tensor, std: Tensor, made: Tensor, spare: Tensor
) -> None:
    n, channels, side, _ = made.shape
    steps = sum(1 << number for number, step in enumerate(STEPS) if step in draws)
    changes = [CHANGES.index(step) for step in draws if step in CHANGES]
    order = sum((change + 1) * (len(CHANGES) + 1) ** place for place, change in enumerate(changes))
    numbers = [r.crop_area, math.log(r.crop_ratio), r.flip, math.radians(r.rotation), r.shift, r.zoom, r.jitter]
    numbers += [*(getattr(r, change) for change in CHANGES), r.grayscale, r.blur, r.negate, r.noise]
    tensors = [images, mean, std, made, spare, *(draws.get(step, spare) for step in Draws.STEPS)]
    threads = min(MOST_THREADS, max(32, 1 << (side * side - 1).bit_length()))
    arguments = [*tensors, steps, order, n, channels, side, images.shape[3], *map(float, numbers)]
    _kernel(images.device)(grid=(n, 1, 1), block=(threads, 1, 1), args=arguments)


def _kernel(device: torch.device) -> Any:
    number = torch.cuda.current_device() if device.index is None else device.index
    if number not in _use.kernels:
        _use.kernels[number] = _loaded(torch.device("cuda", number))
    return _use.kernels[number]


def _loaded(device: torch.device) -> Any:
    """The kernel in the memory of a GPU; what launches it comes from torch, which keeps it to itself so far."""
    from torch.cuda import _utils

    with torch.cuda.device(device):
        code = machine_code("".join(map(str, torch.cuda.get_device_capability(device))))
        return _utils._cuda_load_module(code, [NAME])[NAME]  # type: ignore[index]


def machine_code(capability: str) -> bytes:
    """The kernel for GPUs of this capability; compiled once for all processes of this user, if it can be kept."""
    parts = [text.read_bytes() for text in (HEADER, SOURCE)] + [f"{torch.version.cuda} {capability}".encode()]
    try:
        home = owner.folder()
        path = home / f"views-{hashlib.sha256(b'|'.join(parts)).hexdigest()[:16]}.cubin"
        with suppress(OSError):
            content = files.read(home, path, MOST_BYTES, alone=True)
            code = content[: -seal.SEAL_BYTES]
            if content.endswith(seal.of(path.name, code)):  # else it was cut off
                return code
    except owner.Unusable:
        return compiled(capability)
    made = compiled(capability)
    with suppress(OSError):
        files.write(home, path, made, seal.of(path.name, made))
    return made


def compiled(capability: str) -> bytes:
    """The machine code for GPUs of this capability. No GPU is needed for it. RuntimeError with the compiler's words."""
    if torch.version.cuda is None:
        raise RuntimeError("this torch has no NVRTC")
    nvrtc = ctypes.CDLL(f"libnvrtc.so.{torch.version.cuda.split('.')[0]}")
    program, log, size = ctypes.c_void_p(), b"", ctypes.c_size_t()
    names, texts = (ctypes.c_char_p * 1)(HEADER.name.encode()), (ctypes.c_char_p * 1)(HEADER.read_bytes())
    _require(nvrtc.nvrtcCreateProgram(ctypes.byref(program), SOURCE.read_bytes(), b"views.cu", 1, texts, names))
    try:
        options = [f"--gpu-architecture=sm_{capability}".encode(), b"--device-as-default-execution-space"]
        code = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
        if code:
            _require(nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size)))
            text = ctypes.create_string_buffer(size.value)
            _require(nvrtc.nvrtcGetProgramLog(program, text))
            log = text.value
        _require(code, log.decode(errors="replace"))
        _require(nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size)))
        binary = ctypes.create_string_buffer(size.value)
        _require(nvrtc.nvrtcGetCUBIN(program, binary))
        return binary.raw
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _require(code: int, words: str = "") -> None:
    if code:
        raise RuntimeError(f"NVRTC ended with {code}{f': {words}' if words else ''}")
