"""Shared by all tests: one thread (two processes test side by side), and a suite's text to vary."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from cl_semisup import plugins
from cl_semisup.suite import suite
from cl_semisup.suite.suite import Suite

_cache = tempfile.TemporaryDirectory()  # tests leave nothing in the user's cache; only its compiled kernels are used
_home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cl_semisup"
Path(_cache.name, "cl_semisup").mkdir(mode=0o700)
for _kernels in _home.glob("kernels-*.so"):
    shutil.copy(_kernels, Path(_cache.name, "cl_semisup"))
os.environ["XDG_CACHE_HOME"] = _cache.name

os.fsync = lambda fd: None  # no test cuts the power, and waiting for the disk took a third of the time of some

SUITE = """\
question: Is it checked?
datasets: digits
encoder: {mlp: {width: 16, layers: 1}}
losses: [nt_xent, clop]
label_fraction: 0.1
learning_rate: 0.1
batch_size: 128
repetitions: 1
epochs: 1
"""


@pytest.fixture
def text() -> str:
    """A small valid suite."""
    return SUITE


@pytest.fixture
def parse() -> Callable[[str], Suite]:
    """Parse a suite's text as the file `s.yaml`."""
    return lambda text: suite.parse(text, "s.yaml")


@pytest.fixture
def forget_plugins() -> Iterator[None]:
    """Forget the user's plug-ins that a test adds."""
    before = dict(plugins._user_files)
    yield
    plugins._user_files.clear()
    plugins._user_files.update(before)
    plugins.installed.found.cache_clear()
    plugins.load.cache_clear()
    plugins.version.cache_clear()
