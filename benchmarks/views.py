"""What a chain of views costs: the time of a training step under it, against that under the basic view alone.

    python benchmarks/views.py            one thread, SimCLR, batch 64; two minutes of a core

The chains take turns in one process, ROUNDS times. Times are medians of the thread's processor time, without the first
training of each. `benchmarks/step.py` has the trainings.
"""

import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from unittest.mock import patch

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import _common, step
from cl_semisup.training import loop

ROUNDS = 5
RECIPE = "crop_area: 0.2, flip: 0.5, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1, grayscale: 0.2"
BASIC = f"crop_and_color: {{{RECIPE}}}"
CHAINS = {
    "crop_and_color": f"{{{BASIC}}}",
    "crop_and_color + solarize": f"{{{BASIC}, solarize: }}",
    "crop_and_color + mixup": f"{{{BASIC}, mixup: }}",
    "crop_and_color + cutmix": f"{{{BASIC}, cutmix: }}",
    "crop_and_color + randaugment": f"{{{BASIC}, randaugment: }}",
    "multi_crop + crop_and_color": f"{{multi_crop: , {BASIC}}}",
    "randaugment": "{randaugment: }",
}


def rows(folder: str) -> Iterator[dict[str, str]]:
    for network in ("convnet, 8 x 8", "convnet, 32 x 32"):
        trainings = {name: step.trainer(network, folder, views=chain) for name, chain in CHAINS.items()}
        times: dict[str, list[float]] = defaultdict(list)
        for number in range(ROUNDS + 1):
            for name, train in trainings.items():
                seconds, steps = _common.timed(train, time.thread_time)
                times[name] += [1000 * seconds / steps] * (number > 0)
        for name, milliseconds in times.items():
            ratio = f"{median(milliseconds) / median(times['crop_and_color']):.2f}"
            yield {"network": network, "views": name, "ms a step": f"{median(milliseconds):.3g}", "ratio": ratio}


def main() -> None:
    torch.set_num_threads(1)
    with patch.object(loop, "LOGGED_POINTS", 1), tempfile.TemporaryDirectory() as folder:
        step.random_images(folder)
        found = list(rows(folder))
    about = "Milliseconds of a step of SimCLR at batch 64, two views, one thread, and their ratio to those under the "
    about += f"basic view alone, which kernels in C make. Medians of {ROUNDS} trainings in turn."
    print(_common.write("views", about, found))


if __name__ == "__main__":
    main()
