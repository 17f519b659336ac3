"""What fine-tuning adds to a run: 50 labelled digits, and 1,000 photographs of 32 x 32 pixels.

    OMP_NUM_THREADS=1 python benchmarks/finetune.py

Of the digits, a run like those of `suites/digits.yaml` (SimCLR, 20 epochs, batch 128, five labels a class) is made
with the probe `finetune`, which tunes and trains the whole network and, beside it, the control from random weights. The
photographs are random pixels: a step costs the same. Processor seconds of one core, medians of 3.
"""

import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from benchmarks import _common
from cl_semisup.data.images import Images
from cl_semisup.execution.data import to_device
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine
from cl_semisup.suite import suite

TIMES = 3
PHOTOGRAPHS = 1000
SUITE = """\
question: What does fine-tuning cost?
datasets: digits
encoder: convnet
losses: nt_xent
labels_per_class: {labels}
learning_rate: 0.3
batch_size: 128
repetitions: 1
epochs: {epochs}
probes: {{finetune: {settings}}}
validation: all
"""


def cost_of(settings: str, labels: int, epochs: int, images: Images | None = None) -> dict[str, Any]:
    """The cost of one run, medians of processor seconds."""
    run = next(run for run in suite.parse(SUITE.format(**locals()), "finetune.yaml").runs if run.epochs)
    executor = Executor(Machine("cpu", str(_common.ROOT / "data")))
    data = executor.data(run) if images is None else to_device(images, executor.device)
    total, probe = [], []
    for _ in range(TIMES):
        began = time.process_time()
        record, _ = executor(run, data)
        total.append(time.process_time() - began)
        scale = total[-1] / (record["cost"]["train_seconds"] + record["cost"]["evaluation_seconds"])
        probe.append(scale * sum(v for name, v in record["cost"].items() if name.startswith("finetune")))
        assert record["status"] in ("ok", "collapsed"), record["reason"]
    return {"run": median(total), "probe": median(probe)}


def photographs() -> Images:
    """Random pixels, 100 images in each of ten classes, and as many for the test."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (2, PHOTOGRAPHS, 3, 32, 32), dtype=np.uint8)
    labels = np.arange(PHOTOGRAPHS) % 10
    return Images(pixels[0], labels, pixels[1], labels, tuple("0123456789"))


def main() -> None:
    rows = []
    for what, settings in (("with the control from random weights", "{}"), ("without it", "{scratch: false}")):
        found = cost_of(settings, labels=5, epochs=20)
        rest = found["run"] - found["probe"]
        rows.append({
            "images": f"50 labelled digits, {what}",
            "run without the probe, s": round(rest, 2),
            "probe, s": round(found["probe"], 2),
            "added": f"{100 * found['probe'] / rest:.0f} %",
        })  # fmt: skip
    found = cost_of("{scratch: false}", labels=100, epochs=1, images=photographs())
    rows.append({
        "images": f"{PHOTOGRAPHS:,} photographs of 32 x 32, without it",
        "run without the probe, s": round(found["run"] - found["probe"], 2),
        "probe, s": round(found["probe"], 2),
        "added": "-",
    })  # fmt: skip
    print(_common.write("finetune", f"What fine-tuning adds to a run, processor seconds, medians of {TIMES}.", rows))


if __name__ == "__main__":
    main()
