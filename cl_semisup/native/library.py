"""The compiled kernels: compiler, cache, signatures. A machine without a compiler, or without a cache, has none."""

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
from ctypes import POINTER, c_float, c_int, c_size_t, c_void_p
from functools import cache
from pathlib import Path

from cl_semisup import user_cache

SOURCES = tuple(sorted(Path(__file__).parent.glob("*.[ch]")))
# The compiler may fuse products and sums and compare several numbers at once; it must not assume finite numbers.
FLAGS = ("-std=gnu11", "-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math")
COMPILER_SECONDS = 120  # a compiler that takes longer hangs
CHANGES = ("brightness", "contrast", "saturation", "hue")  # of colour, as numbered in views.c
_in_use = False


class MissingError(Exception):
    """Why there are no kernels here, and what to do about it."""


class Shape(ctypes.Structure):
    """`shape` of blocks.c."""

    _fields_ = [(name, c_int) for name in ("n", "h", "w", "cin", "cout", "pool", "bf16")]


class BatchNorm(ctypes.Structure):
    """`batch_norm` of blocks.c."""

    _fields_ = [
        *((name, c_void_p) for name in ("gamma", "beta")),
        *((name, c_float) for name in ("eps", "momentum")),
        *((name, c_void_p) for name in ("running_mean", "running_var", "mean", "inv_std")),
    ]


class Recipe(ctypes.Structure):
    """`recipe` of views.c."""

    _fields_ = [
        *((name, c_int) for name in ("n", "channels", "h", "w")),
        *((name, c_float) for name in ("crop_area", "crop_log_ratio", "flip", "rotation", "shift", "zoom", "jitter")),
        ("strength", c_float * len(CHANGES)),
        ("changes", c_int),
        ("order", c_int * len(CHANGES)),
        *((name, c_float) for name in ("grayscale", "blur", "negate", "noise")),
    ]


class Draws(ctypes.Structure):
    """`draws` of views.c: addresses, None for a step that is left out."""

    STEPS = ("crop", "affine", "flip", "jitter", *CHANGES, "grayscale", "blur", "negate", "noise")
    _fields_ = [(step, c_void_p) for step in STEPS]


SIGNATURES = {  # function -> its result, its arguments; a tensor is passed as its address
    "simd_width": (c_int, []),
    "block_forward": (None, [POINTER(Shape), *[c_void_p] * 3, POINTER(BatchNorm), *[c_void_p] * 3]),
    "block_scratch": (c_size_t, [POINTER(Shape)]),
    "block_backward": (None, [POINTER(Shape), *[c_void_p] * 5, POINTER(BatchNorm), *[c_void_p] * 5]),
    "spatial_mean": (None, [c_void_p, c_void_p, c_int, c_int, c_int]),
    "spatial_mean_backward": (None, [c_void_p, c_void_p, c_int, c_int, c_int]),
    "pair_sums": (None, [c_void_p, c_void_p, c_float, c_void_p, c_void_p, c_int]),
    "pair_sums_backward": (None, [*[c_void_p] * 4, c_float, c_int, c_void_p]),
    "views_scratch": (c_size_t, [POINTER(Recipe)]),
    "make_views": (None, [POINTER(Recipe), POINTER(Draws), *[c_void_p] * 5]),
}


@contextmanager
def used(yes: bool = True) -> Iterator[None]:
    """Within, functions with a kernel use it; with `used(False)` torch does their work."""
    global _in_use
    before, _in_use = _in_use, yes
    try:
        yield
    finally:
        _in_use = before


def active() -> bool:
    """Are kernels used now, and are there any on this machine?"""
    return get() is not None


def missing() -> str:
    """Why there are none; "" if there are."""
    library = _load_once()
    return str(library) if isinstance(library, MissingError) else ""


def get() -> ctypes.CDLL | None:
    """The compiled kernels; None outside of `used()`, and where there are none."""
    library = _load_once() if _in_use else None
    return None if isinstance(library, MissingError) else library


@cache
def _load_once() -> ctypes.CDLL | MissingError:
    try:
        return _load(_compiled())
    except MissingError as reason:
        return reason


def _load(path: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path))
        for name, (result, arguments) in SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise MissingError(f"{path} cannot be loaded: {error}. Remove it.") from error
    return library


def _compiled() -> Path:
    """The compiled file for these sources, this compiler and this processor; compiles it if it does not exist."""
    words = os.environ.get("CC", "cc").split()
    compiler = shutil.which(words[0]) if words else None
    if compiler is None:
        raise MissingError("there is no C compiler (cc, or what CC names). Install gcc or clang.")
    command = [compiler, *words[1:]]
    text = b"".join(source.read_bytes() for source in SOURCES)
    ingredients = repr((command, _run([*command, "--version"]), FLAGS, _processor(), text))
    path = _folder() / f"kernels-{hashlib.sha256(ingredients.encode()).hexdigest()[:16]}.so"
    if not path.exists():
        _compile(command, path)
    return path


def _compile(command: list[str], path: Path) -> None:
    """Compile elsewhere, then rename: other processes may do the same at this time."""
    try:
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            library = Path(folder) / path.name
            sources = [str(source) for source in SOURCES if source.suffix == ".c"]
            _run([*command, *FLAGS, "-shared", "-fPIC", "-o", str(library), *sources, "-lm"])
            library.replace(path)
    except OSError as error:
        raise MissingError(
            f"{path.parent} cannot be written: {error}. Set XDG_CACHE_HOME to a folder of yours."
        ) from error


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=COMPILER_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingError(f"the C compiler cannot be used: {error}. Set CC to another.") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise MissingError(f"the C compiler ended with {done.returncode}: {last}. Set CC to another.")
    return done.stdout


def _folder() -> Path:
    """The cache. Only this user may write to it, since its files are executed."""
    try:
        return user_cache.folder()
    except user_cache.Unusable as error:
        raise MissingError(str(error)) from error


def _processor() -> str:
    """Its instruction sets. Different machines may share one home."""
    try:
        features = re.search(r"^(flags|Features)\s*:.*$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        features = None
    return f"{platform.machine()} {features.group() if features else platform.processor()}"
