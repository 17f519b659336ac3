"""Kernels in C for what a CPU spends a suite's time on, compiled once on each machine, for its processor.

They give what torch's own operations give but for rounding, and are used only while somebody says so:

    with native.used():
        native.library().block_forward(...)

Where there is no C compiler, or no place to keep what it makes, `library()` is None, `missing()` says why, and torch's
operations do the work.
"""

import ctypes
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import POINTER, c_float, c_int, c_int64, c_size_t, c_void_p
from functools import cache
from pathlib import Path

SOURCES = tuple(sorted(Path(__file__).parent.glob("*.[ch]")))
# Sums may be joined to products, and comparisons made for several numbers at once; nothing is assumed to be finite.
FLAGS = ("-std=gnu11", "-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math")
SECONDS = 120  # a compiler that takes longer hangs
CHANGES = 4  # brightness, contrast, saturation, hue
_in_use = False


class Missing(Exception):
    """Why there are no kernels here, and what to do about it."""


class Shape(ctypes.Structure):
    """Of a block, as in blocks.c."""

    _fields_ = [(name, c_int) for name in ("n", "h", "w", "cin", "cout", "pool", "half")]


class BatchNorm(ctypes.Structure):
    """What a batch norm is given and makes of a batch, as in blocks.c."""

    _fields_ = [
        *((name, c_void_p) for name in ("gamma", "beta")),
        *((name, c_float) for name in ("eps", "momentum")),
        *((name, c_void_p) for name in ("running_mean", "running_variance", "mean", "deviation")),
    ]


class Recipe(ctypes.Structure):
    """Of views, as in views.c."""

    _fields_ = [
        *((name, c_int) for name in ("n", "channels", "h", "w")),
        *((name, c_float) for name in ("crop_area", "crop_log_ratio", "flip", "rotation", "shift", "zoom", "jitter")),
        ("strength", c_float * CHANGES),
        ("order", c_int * CHANGES),
        *((name, c_float) for name in ("grayscale", "blur", "negate", "noise")),
    ]


SIGNATURES = {  # function -> its result, its arguments; those of tensors are addresses
    "lanes": (c_int, []),
    "block_forward": (None, [POINTER(Shape), *[c_void_p] * 3, POINTER(BatchNorm), *[c_void_p] * 3]),
    "block_scratch": (c_size_t, [POINTER(Shape)]),
    "block_backward": (None, [POINTER(Shape), *[c_void_p] * 5, POINTER(BatchNorm), *[c_void_p] * 5]),
    "norm_forward": (None, [c_void_p, c_int, c_int, POINTER(BatchNorm), c_void_p, c_void_p]),
    "norm_backward": (None, [c_void_p, c_void_p, c_int, c_int, POINTER(BatchNorm), *[c_void_p] * 4]),
    "spatial_mean": (None, [c_void_p, c_void_p, c_int, c_int, c_int]),
    "spatial_mean_backward": (None, [c_void_p, c_void_p, c_int, c_int, c_int]),
    "compare": (None, [c_void_p, c_void_p, c_float, c_void_p, c_void_p, c_int]),
    "compare_backward": (None, [*[c_void_p] * 4, c_float, c_int, c_void_p]),
    "unit_rows": (None, [c_void_p, c_float, c_void_p, c_void_p, c_int, c_int]),
    "unit_rows_backward": (None, [*[c_void_p] * 3, c_float, c_void_p, c_int, c_int]),
    "view_work": (c_size_t, [POINTER(Recipe)]),
    "make_views": (None, [POINTER(Recipe), *[c_void_p] * 7]),
}


@contextmanager
def used(yes: bool = True) -> Iterator[None]:
    """Within, kernels do what they can do, if there are any."""
    global _in_use
    before, _in_use = _in_use, yes
    try:
        yield
    finally:
        _in_use = before


def library() -> ctypes.CDLL | None:
    """The compiled kernels, while they are used and if there can be any on this machine."""
    found = _found() if _in_use else None
    return None if isinstance(found, Missing) else found


def missing() -> str:
    """Why there are none; "" if there are."""
    found = _found()
    return str(found) if isinstance(found, Missing) else ""


@cache
def strides(of: tuple[int, ...]) -> ctypes.Array[c_int64]:
    """A tensor's strides, as C takes them."""
    return (c_int64 * len(of))(*of)


@cache
def _found() -> ctypes.CDLL | Missing:
    try:
        return _load(_compiled())
    except Missing as reason:
        return reason


def _load(path: Path) -> ctypes.CDLL:
    try:
        found = ctypes.CDLL(str(path))
        for name, (result, arguments) in SIGNATURES.items():
            function = getattr(found, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise Missing(f"{path} cannot be loaded: {error}. Remove it.") from error
    return found


def _compiled() -> Path:
    """The file of kernels for these sources, this compiler and this processor, made if it is not there."""
    words = os.environ.get("CC", "cc").split()
    compiler = shutil.which(words[0]) if words else None
    if compiler is None:
        raise Missing("there is no C compiler (cc, or what CC names). Install gcc or clang.")
    command = [compiler, *words[1:]]
    text = b"".join(source.read_bytes() for source in SOURCES)
    made_of = repr((command, _run([*command, "--version"]), FLAGS, _processor(), text))
    path = _folder() / f"kernels-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}.so"
    if not path.exists():
        _compile(command, path)
    return path


def _compile(command: list[str], path: Path) -> None:
    """Under its name only when it is whole: other processes may be at it too."""
    try:
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            made = Path(folder) / path.name
            sources = [str(source) for source in SOURCES if source.suffix == ".c"]
            _run([*command, *FLAGS, "-shared", "-fPIC", "-o", str(made), *sources, "-lm"])
            made.replace(path)
    except OSError as error:
        raise Missing(f"{path.parent} cannot be written: {error}. Set XDG_CACHE_HOME to a folder of yours.") from error


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"the C compiler cannot be used: {error}. Set CC to another.") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise Missing(f"the C compiler ended with {done.returncode}: {last}. Set CC to another.")
    return done.stdout


def _folder() -> Path:
    """Of this user alone: what lies there is executed."""
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cl_semisup"
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = home.stat()
    except (OSError, RuntimeError) as error:  # the latter: nobody knows this user's home
        raise Missing(f"no folder can be made for them: {error}. Set XDG_CACHE_HOME to one of yours.") from error
    if hasattr(os, "getuid") and (state.st_uid != os.getuid() or state.st_mode & 0o022):
        raise Missing(f"{home} must be writable by its owner, who must be you, alone. Mend its mode.")
    return home


def _processor() -> str:
    """What it can do: a home may be shared by machines that differ."""
    try:
        found = re.search(r"^(flags|Features)\s*:.*$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return f"{platform.machine()} {found.group() if found else platform.processor()}"
