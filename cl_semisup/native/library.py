"""The compiled kernels: compiler, cache, signatures. A machine without a compiler, or without a cache, has none."""

import ctypes
import hashlib
import hmac
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import POINTER, c_float, c_int, c_size_t, c_void_p
from functools import cache
from pathlib import Path
from typing import IO

from cl_semisup.system import files, owner, seal

SOURCES = tuple(sorted(Path(__file__).parent.glob("*.[ch]")))
# The compiler may fuse products and sums and compare several numbers at once; it must not assume finite numbers.
FLAGS = ("-std=gnu11", "-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math")
EXTRA_FLAGS_VARIABLE = "CL_SEMISUP_CFLAGS"  # environment variable: more flags, such as a sanitizer's
COMPILER_SECONDS = 120  # a compiler that takes longer hangs
MAX_BYTES = 100_000_000  # of a compiled file; it has some 100,000, with a sanitizer ten times as many
READ_BYTES, KEPT_BYTES, MAX_LINE = 2**16, 10_000, 500  # of what a compiler writes
STREAM_SECONDS = 5  # after the compiler's end
EXTRA_SECONDS = 900  # with more flags: sanitizers make it many times slower, above all on a busy machine
LOAD_SECONDS = 60
FULL = ("No space left on device", "Disk quota exceeded", "File too large")  # C's words for it, in any compiler's lines
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
        *((name, c_int) for name in ("n", "channels", "h", "w", "source")),
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
        no_execution = hasattr(os, "statvfs") and os.statvfs(path).f_flag & getattr(os, "ST_NOEXEC", 0)
        place = "Set XDG_CACHE_HOME to a folder of yours on a mount without noexec"
        advice = place if no_execution else _other_compiler()
        raise MissingError(f"{path} cannot be loaded: {error}. {advice}.") from error
    return library


def _compiled() -> Path:
    """The compiled file for these sources, this compiler and this processor; compiles it if there is no sound one."""
    words = (os.environ.get("CC") or "").split() or ["cc"]
    compiler = shutil.which(words[0])
    if compiler is None:
        of_cc = ", which CC names. Set CC to another, or unset it" if os.environ.get("CC") else ""
        raise MissingError(
            f"there is no C compiler {words[0]!r}{of_cc or '. Install gcc or clang, or name yours in CC'}."
        )
    extra = os.environ.get(EXTRA_FLAGS_VARIABLE, "").split()
    command = [compiler, *words[1:], *FLAGS, *extra]
    text = b"".join(source.read_bytes() for source in SOURCES)
    ingredients = repr((command, _run([compiler, *words[1:], "--version"]), _processor(), text))
    path = _folder() / f"kernels-{hashlib.sha256(ingredients.encode()).hexdigest()[:16]}.so"
    if not _is_sound(path):
        _compile(command, path, EXTRA_SECONDS if extra else COMPILER_SECONDS)
    return path


def _is_sound(path: Path) -> bool:
    """Whether the file ends with this user's seal. A library that was cut off kills who loads it."""
    try:
        if path.is_symlink():
            return False
        with files.open_regular(path, MAX_BYTES) as file:
            _check_owner(path, os.fstat(file.fileno()))
            content = file.read()
    except OSError:
        return False
    end = len(content) - seal.SEAL_BYTES
    return end > 0 and hmac.compare_digest(content[end:], seal.of(path.name, content[:end]))


def _compile(command: list[str], path: Path, seconds: float) -> None:
    """Compile elsewhere, then rename: other processes may do the same at this time, and the machine may stop."""
    try:
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            library = Path(folder) / path.name
            sources = [str(source) for source in SOURCES if source.suffix == ".c"]
            _run([*command, "-shared", "-fPIC", "-o", str(library), *sources, "-lm"], seconds, folder)
            try:
                with files.open_regular(library, MAX_BYTES) as file:
                    content = file.read()
            except OSError:
                raise MissingError(f"the C compiler has made no file of a sane size. {_other_compiler()}.") from None
            _try_to_load(library)
            files.write(path.parent, path, content, seal.of(path.name, content))
    except OSError as error:
        raise MissingError(
            f"{path.parent} cannot be written: {error}. Set XDG_CACHE_HOME to a folder of yours."
        ) from error


def _try_to_load(path: Path) -> None:
    """In another process: a file that its compiler has cut off kills who loads it. Errors are those of `_load`."""
    program = "import contextlib, ctypes, sys\nprint('begun', flush=True)\n"
    program += "with contextlib.suppress(OSError): ctypes.CDLL(sys.argv[1])\nprint('ended', flush=True)"
    none, pipe = subprocess.DEVNULL, subprocess.PIPE
    if not sys.executable:
        return
    try:
        command = [sys.executable, "-I", "-c", program, str(path)]
        done = subprocess.run(command, stdin=none, stdout=pipe, stderr=none, timeout=LOAD_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise MissingError(f"what the C compiler has made hangs who loads it. {_other_compiler()}.") from None
    if done.stdout.split() == [b"begun"]:
        raise MissingError(f"what the C compiler has made kills who loads it. {_other_compiler()}.")


def _run(command: list[str], seconds: float = COMPILER_SECONDS, folder: str = "") -> str:
    """The end of what a command writes, which may be more than the memory. Its own files lie in `folder`, if given."""
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"} | {"LC_ALL": "C"}
    environment |= {"TMPDIR": folder} if folder else {}
    pipe = subprocess.PIPE
    try:  # a sanitizer or a profiler that is preloaded here would make the compiler many times slower
        process = subprocess.Popen(command, 0, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=environment)
        assert process.stdout is not None
        assert process.stderr is not None
        ends = [_End(process.stdout), _End(process.stderr)]
        try:
            code = process.wait(seconds)
        finally:
            process.kill()
            process.wait()
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingError(f"the C compiler cannot be used: {error}. {_other_compiler()}.") from error
    output, errors = (end.text() for end in ends)
    if code:
        full = any(words in errors for words in FULL)
        place = f"Make room in {Path(folder).parent}, or set XDG_CACHE_HOME to a folder of yours with some"
        advice = place if full and folder else _other_compiler()
        raise MissingError(f"the C compiler ended with {code}: {_reason(errors)}. {advice}.")
    return output


def _reason(errors: str) -> str:
    """The line that says most of what a compiler has complained about; its last ones are often of its own parts."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    told = [line for line in lines if any(words in line for words in FULL)] or [
        line for line in lines if re.search(r"\berror: (?!ld returned)", line)
    ]
    return (told[:1] or lines[-1:] or ["no message"])[0][:MAX_LINE].rstrip(".")


def _other_compiler() -> str:
    """What to do where the compiler is of no use."""
    unset = f", or unset {EXTRA_FLAGS_VARIABLE}" if os.environ.get(EXTRA_FLAGS_VARIABLE) else ""
    return f"Set CC to another{unset}"


class _End(threading.Thread):
    """Reads a stream to its end and keeps the last bytes. What a killed compiler has started may hold it open."""

    def __init__(self, stream: IO[bytes]):
        super().__init__(daemon=True)
        self._stream, self._kept = stream, b""
        self.start()

    def run(self) -> None:
        with self._stream:
            while piece := self._stream.read(READ_BYTES):
                self._kept = (self._kept + piece)[-KEPT_BYTES:]

    def text(self) -> str:
        self.join(STREAM_SECONDS)
        return self._kept.decode("utf-8", "replace")


def _folder() -> Path:
    """The cache, an absolute path."""
    try:
        return owner.folder()
    except owner.Unusable as error:
        raise MissingError(str(error)) from error


def _check_owner(path: Path, state: os.stat_result) -> None:
    """Only this user may write to what is executed."""
    if not files.only_this_user_writes(state):
        raise MissingError(f"{path} must be writable by its owner, who must be you, alone. Mend its mode.")


def _processor() -> str:
    """Its instruction sets. Different machines may share one home."""
    try:
        features = re.search(r"^(flags|Features)\s*:.*$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        features = None
    return f"{platform.machine()} {features.group() if features else platform.processor()}"
