"""Shared by all tests: one thread (two processes test side by side), and a suite's text to vary."""

import os
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from cl_semisup.suite import suite
from cl_semisup.suite.suite import Suite

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
