"""What fine-tuning adds to a run: 50 labelled digits, and 1,000 photographs of 32 x 32 pixels.

    OMP_NUM_THREADS=1 python benchmarks/finetune.py

Of the digits, runs like those of `suites/digits.yaml` (20 epochs, batch 128, 5 labels a class) are made with the probe
`finetune`, which tunes and trains the whole network and, beside it, the control from random weights. The control is the
same for all losses and rates of a repetition: the first run trains it, the others find it. The photographs are random
pixels: a step costs the same. Processor seconds of one core, medians of 3.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from benchmarks import _common
from cl_semisup.data.images import Images
from cl_semisup.evaluation import Features, ProbeResult
from cl_semisup.evaluation.finetune import FineTune
from cl_semisup.execution.data import to_device
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine
from cl_semisup.suite import suite

TIMES = 3
PHOTOGRAPHS = 1000
LOSSES = "[nt_xent, dcl, vicreg, supcon]"
SUITE = """\
question: What does fine-tuning cost?
datasets: digits
encoder: convnet
losses: {losses}
labels_per_class: {labels}
learning_rate: 0.3
batch_size: 128
repetitions: {times}
epochs: {epochs}
probes: {{finetune: {settings}}}
validation: all
"""


@contextmanager
def timed(seconds: list[float]) -> Iterator[None]:
    """Within, the processor seconds of each call of the probe are collected."""
    measure = FineTune.measure

    def collected(probe: FineTune, features: Features) -> ProbeResult:
        began = time.process_time()
        try:
            return measure(probe, features)
        finally:
            seconds.append(time.process_time() - began)

    with mock.patch.object(FineTune, "measure", collected):
        yield


def costs(settings: str, losses: str, labels: int, epochs: int, times: int, images: Images | None = None) -> Any:
    """(repetitions, losses, 2) processor seconds of each run without the probe, and of the probe."""
    runs = [run for run in suite.parse(SUITE.format(**locals()), "finetune.yaml").runs if run.epochs]
    executor = Executor(Machine("cpu", str(_common.ROOT / "data")))
    data = executor.data(runs[0]) if images is None else to_device(images, executor.device)
    found: dict[int, list[tuple[float, float]]] = {}
    for run in sorted(runs, key=lambda run: run.repetition):
        probe: list[float] = []
        began = time.process_time()
        with timed(probe):
            record, _ = executor(run, data)
        assert record["status"] in ("ok", "collapsed"), record["reason"]
        (seconds,) = probe
        found.setdefault(run.repetition, []).append((time.process_time() - began - seconds, seconds))
    return np.array([found[repetition] for repetition in sorted(found)])


def photographs() -> Images:
    """Random pixels, 100 images in each of ten classes, and as many for the test."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (2, PHOTOGRAPHS, 3, 32, 32), dtype=np.uint8)
    labels = np.arange(PHOTOGRAPHS) % 10
    return Images(pixels[0], labels, pixels[1], labels, tuple("0123456789"))


def row(what: str, found: Any, added: bool = True) -> dict[str, Any]:
    """A row of the table, from (n, 2) seconds."""
    rest, probe = np.median(found, axis=0)
    return {
        "images": what,
        "run without the probe, s": round(float(rest), 2),
        "probe, s": round(float(probe), 2),
        "added": f"{100 * median(found[:, 1] / found[:, 0]):.0f} %" if added else "-",
    }


def main() -> None:
    home = tempfile.mkdtemp()
    costs("{}", "nt_xent", 5, 1, 1)  # compiles the kernels and warms up
    os.environ["XDG_CACHE_HOME"] = home  # where no control is kept yet
    digits = costs("{}", LOSSES, 5, 20, TIMES)
    alone = costs("{scratch: false}", "nt_xent", 5, 20, TIMES)[:, 0]
    large = costs("{scratch: false}", "nt_xent", 100, 1, 2, photographs())[:, 0]
    rows = [
        row("50 labelled digits, all runs of a repetition of four losses, by the run", digits.mean(axis=1)),
        row("the first of them, which trains the control from random weights", digits[:, 0]),
        row("the others, which find it", digits[:, 1:].mean(axis=1)),
        row("without the control", alone),
        row(f"{PHOTOGRAPHS:,} photographs of 32 x 32, without it", large, added=False),
    ]
    print(_common.write("finetune", f"What fine-tuning adds to a run, processor seconds, medians of {TIMES}.", rows))


if __name__ == "__main__":
    main()
