"""A GPU that is not there: tensors say that they are on `cuda:0`, hold their numbers on the CPU, and are as strict as CUDA.

    with imitated.gpu() as gpu:
        torch.ones(3, device="cuda:0") + torch.ones(3)     # RuntimeError, as on a GPU
        float(torch.ones((), device="cuda:0"))              # works, and gpu.waits says where the host would wait

Numbers are real, so whatever depends on data runs too: searches, masks, checkpoints, records. `imitated.gpu("mps:0")` is
Apple's MPS, which refuses float64. An imitation cannot see: kernels that a GPU lacks, rounding, races, memory, speed, and
what autocast does there. Names of devices need a number, `cuda:0`: torch itself asks the driver for the number of `cuda`.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from types import FrameType, SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from cl_semisup.native import view_kernel

NAME = "imitated"
GIB = 2**30
aten = torch.ops.aten
SIZES_FROM_DATA = {  # operations whose output's size is known only when the device has computed it
    aten.nonzero.default, aten.masked_select.default, aten._unique2.default, aten.unique_dim.default,
    aten.unique_consecutive.default, aten.repeat_interleave.Tensor, aten.bincount.default,
}  # fmt: skip
ANYWHERE = {aten.copy_.default, aten._to_copy.default, aten.is_same_size.default}
INDEXING = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default}
NO_SCALARS = ("aten.mm", "aten.cat", "aten.stack", "aten.index")  # take no number of the host either
SYNCHRONOUS = {
    aten._local_scalar_dense.default, aten.equal.default, aten.is_nonzero.default, aten.allclose.default,
}  # fmt: skip
CHECKED = {  # the host reads `info`
    aten._linalg_svd.default, aten._linalg_eigh.default, aten._linalg_check_errors.default,
    aten.linalg_pinv.atol_rtol_tensor,
}  # fmt: skip
_active: list["Gpu"] = []
_setup_privateuseone_for_python_backend(NAME)  # before the first backward of the process, which counts the devices


class Wait(NamedTuple):
    """One place where the host waits for the device.

    `step` is the number of optimizer steps before it.
    """

    operation: str
    place: str  # file:line of the package
    step: int


class OnGpu(torch.Tensor):
    """The metadata of a tensor on a device, and its numbers in `held`, on the CPU."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "OnGpu":
        made: OnGpu = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.size(), held.stride(), held.storage_offset(), dtype=held.dtype, layout=held.layout,
            device=torch.device(NAME, 0),
        )  # fmt: skip
        made.held = held
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return _active[-1].device if _active else torch.device("cuda", 0)

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return self.device.type == "cuda"

    def tolist(self) -> Any:
        _note("copy to the host")
        return self.held.tolist()

    def __format__(self, form: str) -> str:
        return super().__format__(form) if self.ndim else format(self.item(), form)

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"OnGpu({self.held!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> torch.Tensor:  # type: ignore[override]
        with torch.no_grad():
            made: torch.Tensor = self.detach().clone()
        made.requires_grad_(self.requires_grad)
        if getattr(self, "_is_param", False):
            made = torch.nn.Parameter(made, self.requires_grad)
        memo[id(self)] = made
        return made

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.held.detach().__reduce_ex__(protocol)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class Generator(torch.Generator):
    """On the device that it was asked for; its numbers are a CPU's."""

    on: torch.device

    def __new__(cls, device: Any = "cpu") -> "Generator":
        made = super().__new__(cls, "cpu")
        made.on = torch.device(device)
        return made

    @property
    def device(self) -> torch.device:
        return self.on


class Gpu(TorchDispatchMode):
    """The device: where the host waits for it, which copies come from memory that is not pinned, what it computed."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device, self.step = device, 0
        self.waits: list[Wait] = []
        self.unpinned: Counter[str] = Counter()  # place -> copies from the host's pageable memory that do not wait
        self.calls: Counter[str] = Counter()
        self.backward_passes = 0  # in progress
        self.error: Exception | None = None  # of an operation in them

    def waits_in_steps(self, last: int) -> list[Wait]:
        """Those between the first optimizer step of a training of `last` steps and its last one."""
        return [wait for wait in self.waits if 0 < wait.step < last]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Generators(TorchFunctionMode):
    """Holds a generator to the device of what it fills, and replaces what changes a size in place, which OnGpu cannot."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.quantile, torch.Tensor.quantile) and isinstance(args[0], OnGpu):
            if isinstance(args[1], torch.Tensor) and not isinstance(args[1], OnGpu):
                raise RuntimeError("quantile() q tensor must be on the same device as the input tensor")
            q = args[1].held if isinstance(args[1], OnGpu) else args[1]
            return OnGpu(torch.quantile(args[0].detach().held, q, *args[2:], **kwargs))
        if func is torch.Tensor.unsqueeze_ and isinstance(args[0], OnGpu):
            return args[0].unsqueeze(*args[1:], **kwargs)
        generator = kwargs.get("generator")
        if isinstance(generator, torch._C.Generator):  # torch's default one too
            on = generator.device
            device = kwargs.get("device") or (args[0].device if args and isinstance(args[0], torch.Tensor) else "cpu")
            if torch.device(device).type != on.type:
                raise RuntimeError(f"Expected a '{device}' device type for generator but found '{on}'")
        return func(*args, **kwargs)


def _mapped(change: Callable[[Any], Any], values: Any) -> Any:
    """The same lists, tuples and dictionaries, with each member changed; torch's own takes half of a test's time."""
    if isinstance(values, list | tuple) and not isinstance(values, torch.Size):
        return type(values)(_mapped(change, value) for value in values)
    if isinstance(values, dict):
        return {name: _mapped(change, value) for name, value in values.items()}
    return change(values)


def leaves(values: Any) -> Iterator[Any]:
    if isinstance(values, list | tuple):
        for value in values:
            yield from leaves(value)
    elif isinstance(values, dict):
        yield from leaves(list(values.values()))
    else:
        yield values


def _is_gpu(device: Any) -> bool:
    return isinstance(device, torch.device) and device.type in ("cuda", "mps", NAME)


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """One operation: checked as a GPU checks it, and computed on the CPU."""
    flat = list(leaves((args, kwargs)))
    here = [x for x in flat if isinstance(x, OnGpu)]
    asked = next((x for x in flat if isinstance(x, torch.device)), None)
    if not here and not _is_gpu(asked):
        return func(*args, **kwargs)
    to_gpu = _is_gpu(asked) if asked is not None else bool(here)
    if _active:
        _active[-1].calls[str(func)] += 1
    _check_places(func, args, flat)
    _note_waits(func, args, kwargs, bool(here), asked)

    def bare(x: Any) -> Any:
        return x.held if isinstance(x, OnGpu) else torch.device("cpu") if _is_gpu(x) else x

    bare_args = _mapped(bare, args)
    if "_fused_" in str(func):
        bare_args = bare_args[0], [_laid_out_as(p, g) for p, g in zip(*bare_args[:2], strict=True)], *bare_args[2:]
    out = func(*bare_args, **_mapped(bare, kwargs))
    return _returned(func, args, kwargs, out, to_gpu and func not in SYNCHRONOUS)


def fail(error: Exception) -> None:
    """Raise it; within a backward pass at its end, since torch aborts when an error passes through a device of Python."""
    gpu = _active[-1] if _active else None
    if gpu is None or not gpu.backward_passes:
        raise error
    gpu.error = gpu.error or error


def _failing_at_its_end(real: Any) -> Any:
    """torch's backward pass, which raises the first error of its operations when it is done."""

    def backward(*args: Any, **named: Any) -> Any:
        gpu = current()
        gpu.backward_passes += 1
        try:
            done = real(*args, **named)
        finally:
            gpu.backward_passes -= 1
        if gpu.error and not gpu.backward_passes:
            error, gpu.error = gpu.error, None
            raise error
        return done

    return backward


def _laid_out_as(weight: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """The gradient in the weight's memory layout, which autograd sees to, but not for subclasses of Tensor."""
    same = gradient.stride() == weight.stride()
    return gradient if same else torch.empty_like(weight).copy_(gradient)


def _returned(func: Any, args: Any, kwargs: dict[str, Any], out: Any, wrap: bool) -> Any:
    """What was written to is returned as it came; the rest is new."""
    written: list[Any] = []
    for number, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            given = args[number] if number < len(args) else kwargs.get(argument.name)
            if given is not None:
                written += [given] if isinstance(given, torch.Tensor) else list(given)
    known = {id(w.held): w for w in written if isinstance(w, OnGpu)}
    for w in known.values():
        if w.size() != w.held.size():
            raise NotImplementedError(f"{func} changed a tensor's size in place")
    no_float64 = bool(_active) and _active[-1].device.type == "mps"

    def one(x: Any) -> Any:
        if not isinstance(x, torch.Tensor) or not wrap:
            return x
        if no_float64 and x.dtype == torch.float64:
            fail(TypeError(f"Cannot convert a MPS Tensor to float64, at {place()}"))
        if id(x) in known:
            return known[id(x)]
        return x if isinstance(x, OnGpu) else OnGpu(x)

    return _mapped(one, out)


def _check_places(func: Any, args: Any, flat: list[Any]) -> None:
    """Tensors of several devices in one operation: CUDA takes numbers from the host, and indices, and no others."""
    strangers = [x for x in flat if isinstance(x, torch.Tensor) and not isinstance(x, OnGpu)]
    if func in ANYWHERE or not strangers:
        return
    indices = all(x.dtype in (torch.int64, torch.bool, torch.int32, torch.uint8) for x in strangers)
    if func in INDEXING and isinstance(args[0], OnGpu) and indices:
        _note(f"index on the host ({func})")  # CUDA takes it, and copies it
        return
    if all(x.ndim == 0 for x in strangers) and not str(func).startswith(NO_SCALARS):
        return
    fail(RuntimeError(f"{func}: Expected all tensors to be on the same device: cuda:0 and cpu, at {place()}"))


def _note_waits(func: Any, args: Any, kwargs: Any, here: bool, asked: Any) -> None:
    if func in SYNCHRONOUS or (here and func in SIZES_FROM_DATA | CHECKED):
        _note(str(func))
    elif func in INDEXING and any(isinstance(i, OnGpu) and i.dtype in (torch.bool, torch.uint8) for i in args[1]):
        _note(f"{func} by a mask")
    elif func is aten._to_copy.default and asked is not None:
        source = isinstance(args[0], OnGpu)
        if source and not _is_gpu(asked):
            _note("copy to the host")
        elif not source and _is_gpu(asked) and not kwargs.get("non_blocking"):
            _note("copy from the host")
        elif not source and _is_gpu(asked) and not getattr(args[0], "pinned", False) and _active:
            _active[-1].unpinned[place()] += 1
    elif func is aten.copy_.default:
        to_gpu, from_gpu = isinstance(args[0], OnGpu), isinstance(args[1], OnGpu)
        is_number = to_gpu and not args[1].ndim  # of the host, which is an argument of the kernel
        is_sent_later = from_gpu and len(args) > 2 and args[2] and getattr(args[0], "pinned", False)
        if to_gpu != from_gpu and not is_number and not is_sent_later:
            _note("copy_ between host and device")


def _note(operation: str) -> None:
    if _active:
        gpu = _active[-1]
        gpu.waits.append(Wait(operation, place(), gpu.step))


def _frames() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _is_ours(frame: FrameType) -> bool:
    return "/cl_semisup/" in frame.f_code.co_filename


def current() -> "Gpu":
    """The device that is there."""
    return _active[-1]


def place() -> str:
    """The innermost line of the package that is being executed."""
    for frame in _frames():
        if _is_ours(frame):
            return f"{frame.f_code.co_filename.split('/cl_semisup/')[-1]}:{frame.f_lineno}"
    return "elsewhere"


def _pinned(tensor: torch.Tensor) -> torch.Tensor:
    copy = tensor.clone()
    copy.pinned = True  # type: ignore[attr-defined]
    return copy


def _loaded(real: Any) -> Any:
    """`torch.load`, whose `map_location` may be the imitated device."""

    def load(file: Any, map_location: Any = None, **rest: Any) -> Any:
        found = real(file, map_location="cpu", **rest)
        gpu = map_location is not None and _is_gpu(torch.device(map_location))
        return _mapped(lambda x: x.to(torch.device(map_location)) if gpu and isinstance(x, torch.Tensor) else x, found)

    return load


class _Stream:
    """A stream, or an event in one: all work is done at once, in order."""

    def __init__(self, device: Any = None) -> None:
        self.device = device

    def wait_stream(self, other: "_Stream") -> None: ...
    def record(self) -> None: ...
    def synchronize(self) -> None: ...


def _driver(capability: tuple[int, int]) -> dict[str, Any]:
    """What stands in for functions of `torch.cuda` that ask the driver."""
    from tests.gpu import imitated_graph

    return {
        "CUDAGraph": imitated_graph.Graph, "graph_pool_handle": lambda: (0, 0), "Event": _Stream,
        "Stream": _Stream, "stream": lambda stream: nullcontext(), "current_stream": _Stream,
        "is_available": lambda: True, "device_count": lambda: 1, "_lazy_init": lambda: None,
        "is_initialized": lambda: True, "mem_get_info": lambda device=None: (70 * GIB, 80 * GIB),
        "empty_cache": lambda: None, "reset_peak_memory_stats": lambda device=None: None,
        "max_memory_allocated": lambda device=None: GIB, "synchronize": lambda device=None: None,
        "get_device_name": lambda device=None: "imitated", "get_device_capability": lambda device=None: capability,
        "get_device_properties": lambda device=None: SimpleNamespace(total_memory=80 * GIB, major=9, minor=0, uuid="0"),
        "is_current_stream_capturing": lambda: bool(imitated_graph.current_recording()),
        "current_device": lambda: 0, "set_device": lambda device: None,
    }  # fmt: skip


def _no_kernel(device: torch.device) -> Any:
    raise RuntimeError("the imitated GPU has no kernel of its own")


@contextmanager
def gpu(
    device: str = "cuda:0",
    capability: tuple[int, int] = (7, 0),
    kernel: Callable[[torch.device], Any] = _no_kernel,
) -> Iterator[Gpu]:
    """Within, the device is there. Its capability is that of a GPU without bfloat16, so that `auto` is float32.

    `kernel` gives the kernel for views, see `kernel_on_cpu`; without one, torch makes them, to the bit as on a CPU.
    """
    mode = Gpu(torch.device(device))

    def count(*_: Any) -> None:
        mode.step += 1

    with ExitStack() as stack:
        for name, value in _driver(capability).items():
            stack.enter_context(mock.patch.object(torch.cuda, name, value))
        stack.enter_context(mock.patch.object(torch.Tensor, "pin_memory", _pinned))
        stack.enter_context(mock.patch.object(view_kernel, "_loaded", kernel))
        stack.enter_context(mock.patch.object(view_kernel, "_use", view_kernel._Use()))
        stack.enter_context(mock.patch.object(torch, "Generator", Generator))
        stack.enter_context(mock.patch.object(torch, "load", _loaded(torch.load)))
        run_backward = _failing_at_its_end(torch.autograd._engine_run_backward)  # type: ignore[attr-defined]
        stack.enter_context(mock.patch.object(torch.autograd, "_engine_run_backward", run_backward))
        for module in list(sys.modules.values()):
            if getattr(module, "__name__", "").startswith("cl_semisup") and hasattr(module, "Generator"):
                stack.enter_context(mock.patch.object(module, "Generator", Generator))
        # torch starts a thread for backward on each device; a thread of a device that is not there can end in an abort
        stack.enter_context(torch.autograd.set_multithreading_enabled(False))
        stack.callback(register_optimizer_step_post_hook(count).remove)
        stack.callback(torch._C._set_only_lift_cpu_tensors, torch._C._only_lift_cpu_tensors())  # type: ignore[attr-defined]
        torch._C._set_only_lift_cpu_tensors(True)  # type: ignore[attr-defined]
        _active.append(mode)
        stack.callback(_active.pop)
        stack.enter_context(mode)
        stack.enter_context(_Generators())
        yield mode
