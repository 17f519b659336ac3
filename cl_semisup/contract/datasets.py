"""The contract of data sets: what runs, leaderboards and the check of stale records rely on."""

import hashlib
import mmap
import os
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cl_semisup import plugins
from cl_semisup.config import grid
from cl_semisup.contract.checks import Broken, other_randomness
from cl_semisup.contract.clauses import Contract, PluginUnderTest
from cl_semisup.contract.other_process import Questions
from cl_semisup.data.images import Facts, Images
from cl_semisup.data.settings import Views
from cl_semisup.system import owner

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
CODE = (".py", ".pyc", ".so")
SYSTEM = tuple(
    {os.path.realpath(path) for path in (sys.prefix, sys.base_prefix, *sysconfig.get_paths().values())}
    | {"/proc", "/sys", "/dev", "/etc", "/usr"}
)


@dataclass(frozen=True)
class Subject(PluginUnderTest):
    """A data set under test."""

    folder = "datasets"

    def load(self) -> Images:
        images = self.make().load(self.data_dir)
        if not isinstance(images, Images):
            raise Broken(f"load gives {type(images).__name__}, not Images.")
        return images

    @cached_property
    def images(self) -> Images:
        """Loaded once, for clauses that only look at it."""
        return self.load()

    def questions(self) -> Questions:
        """What is loaded."""

        def digest(name: str) -> str:
            return hashlib.sha256(np.ascontiguousarray(getattr(self.images, name)).data).hexdigest()

        questions: dict[str, Callable[[], str]] = {name: partial(digest, name) for name in ARRAYS}
        return questions | {"class_names": lambda: repr(self.images.class_names)}


CONTRACT = Contract[Subject]()


@CONTRACT.clause
def loads(subject: Subject) -> None:
    """It loads: uint8 images (M, 1 or 3, side, side) and int64 labels (M,) in range, in both parts."""
    images = subject.images
    for name in ("train_labels", "test_labels"):
        if (dtype := getattr(images, name).dtype) != np.int64:
            raise Broken(f"{name} must be int64. Got {dtype}.")
    names = images.class_names
    if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
        raise Broken(f"class_names must be a tuple of texts. Got {names!r}.")
    if len(set(names)) < len(names):
        raise Broken("two classes have the same name.")


@CONTRACT.clause
def deterministic(subject: Subject) -> None:
    """Two loads give the same images and labels; no global random generator is used."""
    loaded = []
    for seed in (1, 2):
        with other_randomness(seed):
            loaded.append(subject.load())
    for name in ARRAYS:
        if not np.array_equal(getattr(loaded[0], name), getattr(loaded[1], name)):
            raise Broken(f"two loads differ in {name}.")
    if loaded[0].class_names != loaded[1].class_names:
        raise Broken("two loads differ in class_names.")


@CONTRACT.clause
def own_arrays(subject: Subject) -> None:
    """What is written into the arrays of one load reaches neither the next load nor a file."""
    first = subject.load()
    kept = {name: getattr(first, name).copy() for name in ARRAYS}
    for name in ARRAYS:
        array = getattr(first, name)
        if array.flags.writeable and _is_mapped(array):
            raise Broken(f"{name} is mapped for writing: a change of it would change the file. Map it read-only.")
        if array.flags.writeable:
            array[...] = array.max() - array
    second = subject.load()
    for name, values in kept.items():
        if not np.array_equal(getattr(second, name), values):
            raise Broken(f"a change of {name} changes what is loaded next: the array is shared. Copy it.")


@CONTRACT.clause
def facts(subject: Subject) -> None:
    """`facts` are those of what is loaded."""
    declared, loaded = subject.make().facts(subject.data_dir), subject.images.facts()
    if not isinstance(declared, Facts):
        raise Broken(f"facts gives {type(declared).__name__}, not Facts.")
    for field in fields(Facts):
        declared_value, loaded_value = getattr(declared, field.name), getattr(loaded, field.name)
        if field.compare and declared_value != loaded_value:
            raise Broken(f"facts says {field.name} {declared_value}, but {loaded_value} is loaded.")


@CONTRACT.clause
def data_files(subject: Subject) -> None:
    """`data_files` names every file that a load reads, and they exist: records are stale when they change."""
    with _opened() as opened:
        subject.load()
    named = subject.make().data_files(subject.data_dir)
    if missing := [path for path in named if not Path(path).exists()]:
        raise Broken(f"data_files names {missing[0]}, which does not exist.")
    known = {os.path.realpath(path) for path in named}
    if unknown := sorted(opened - known):
        raise Broken(f"load reads {unknown[0]}, which data_files does not name.")


@CONTRACT.clause
def prepare(subject: Subject) -> None:
    """`prepare` accepts data that are there, without a download."""
    subject.make().prepare(subject.data_dir, False)


@CONTRACT.clause
def views(subject: Subject) -> None:
    """`views` are settings of the basic recipe, or views with their settings, that a suite could name."""
    own: Any = plugins.load("datasets", subject.name)
    if set(own.views) <= set(grid.annotations(Views)):
        grid.canonical(Views, own.views, "views")
    else:
        for name, settings in own.views.items():
            grid.build("views", name, settings)


def _is_mapped(array: NDArray[Any]) -> bool:
    """Does a change of the array change a file? One that is mapped copy-on-write keeps it."""
    owner_of: Any = array
    while owner_of is not None:
        if isinstance(owner_of, np.memmap):
            return owner_of.mode != "c"
        if isinstance(owner_of, mmap.mmap):
            return True
        owner_of = owner_of.obj if isinstance(owner_of, memoryview) else getattr(owner_of, "base", None)
    return False


_listeners: list[set[str]] = []  # an audit hook stays for ever, so there is one; it listens only within `_opened`


@contextmanager
def _opened() -> Iterator[set[str]]:
    """Real paths of the files that are opened for reading within.

    Code, what belongs to the system, and hidden files, which are a data set's own caches, do not count.
    """
    if not hasattr(_opened_hook, "added"):
        sys.addaudithook(_opened_hook)
        _opened_hook.added = True  # type: ignore[attr-defined]
    opened: set[str] = set()
    _listeners.append(opened)
    try:
        yield opened
    finally:
        _listeners.remove(opened)
    ignored = list(SYSTEM)
    with suppress(owner.Unusable, OSError):
        ignored.append(os.path.realpath(owner.folder()))
    for path in list(opened):
        inside = any(path.startswith(folder + os.sep) for folder in ignored)
        cached = os.path.basename(path).startswith(".")
        if inside or cached or path.endswith(CODE) or not os.path.isfile(path):
            opened.discard(path)


def _opened_hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "open" or not _listeners:
        return
    path, mode, flags = arguments
    reads = not flags & (os.O_WRONLY | os.O_RDWR) if isinstance(flags, int) else "r" in (mode or "r")
    if reads and isinstance(path, str | bytes | os.PathLike):
        for listener in _listeners:
            listener.add(os.path.realpath(os.fsdecode(path)))
