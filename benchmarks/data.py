"""Reading images from a mapped file, from memory, and with torchvision's ImageFolder and DataLoader, on the same files.

    python benchmarks/data.py [--count 100000] [--side 64] [--limit-mb 600] [--folder /tmp/images]

It makes `count` JPEG files, decodes them once (the first number), and then reads shuffled batches of 256 in turn. The
last rows train one epoch in a process that may use `limit-mb` more memory of its own than torch has reserved when it is
imported (RLIMIT_DATA on Linux, which counts private writable memory and not the pages of a file that is mapped for
reading), and try to hold the same pixels in memory under that limit. A million images of 64 x 64:
`--count 1000000 --limit-mb 4000`.
"""

import io
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import _common

BATCH, ROUNDS, BATCHES = 256, 3, 50
CLASSES, KINDS = 10, 512  # different files; the others are copies
DATA = {"folder": "images"}
RUN: dict[str, Any] = {
    "encoder": {"mlp": {"width": 32, "layers": 1}},
    "loss": {"nt_xent": {"temperature": 0.5}},
    "label_fraction": 0.1,
    "labels_per_class": None,
    "learning_rate": 0.1,
    "batch_size": BATCH,
    "epochs": 1,
    "repetition": 0,
    "optimizer": {"sgd": {}},
    "schedule": {"scaling": "linear", "warmup_epochs": 0.0, "decay": "cosine"},
    "projector": {"layers": 1, "hidden": 0, "dim": 32},
    "views": {"crop_area": 0.2, "flip": 0.5},
    "probes": {"geometry": {}},
    "precision": "float32",
}


def make(folder: Path, count: int, side: int) -> None:
    """The files, unless they are there."""
    import numpy as np
    from PIL import Image

    if (folder / "images" / "made.json").exists():
        return
    random, contents = np.random.default_rng(0), []
    for _ in range(KINDS):
        coarse = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        file = io.BytesIO()
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        contents.append(file.getvalue())
    for part, number in (("train", count), ("test", 1000)):
        for label in range(CLASSES):
            (folder / "images" / part / str(label)).mkdir(parents=True, exist_ok=True)
        first: dict[int, Path] = {}
        for index, kind in zip(range(number), cycle(range(KINDS)), strict=False):
            path = folder / "images" / part / str(index % CLASSES) / f"{index}.jpg"
            if kind in first:
                os.link(first[kind], path)  # a copy without its pixels: a million files take seconds
            else:
                path.write_bytes(contents[kind])
                first[kind] = path
    (folder / "images" / "made.json").write_text("{}")


def speeds(folder: Path, side: int) -> dict[str, float]:
    """Images per second of each way to read, medians over rounds that take turns."""
    import numpy as np
    import torch
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import PILToTensor

    from cl_semisup import plugins
    from cl_semisup.execution.data import _tensor

    data_set: Any = plugins.load("datasets", "image_folder")(**DATA, side=side)
    mapped = data_set.load(folder).train_images
    assert isinstance(mapped, np.memmap)
    tensors = {"memory": torch.as_tensor(np.array(mapped)), "mapped": _tensor(mapped)}
    tensors["mapped"].sum(dtype=torch.int64)  # a warm page cache
    files = ImageFolder(str(folder / "images" / "train"), PILToTensor())
    loader = DataLoader(files, BATCH, shuffle=True, num_workers=_common.cores(), persistent_workers=True)
    rates: dict[str, list[float]] = {name: [] for name in ("memory", "mapped", "torchvision")}
    for number in range(ROUNDS):
        order = torch.randperm(len(mapped), generator=torch.Generator().manual_seed(number))
        order = order.repeat(-(-BATCH * BATCHES // len(mapped)))[: BATCH * BATCHES]
        for name, tensor in tensors.items():
            rates[name].append(_rate(tensor.index_select(0, index) for index in order.split(BATCH)))
        rates["torchvision"].append(_rate(islice((images for images, _ in loader), BATCHES)))
    return {name: statistics.median(values) for name, values in rates.items()}


def _rate(batches: Iterator[Any]) -> float:
    """Images per second; the first batch, which starts workers, is not counted."""
    next(batches)
    began, count = time.perf_counter(), 0
    for batch in batches:
        count += len(batch)
    return count / (time.perf_counter() - began)


def limited(folder: Path, side: int, limit: int, action: str) -> str:
    """Train an epoch, or hold the pixels in memory, in this process under the limit."""
    import torch

    torch.set_num_threads(1)
    status = Path("/proc/self/status").read_text().splitlines()
    reserved = next(1024 * int(line.split()[1]) for line in status if line.startswith("VmData"))
    resource.setrlimit(resource.RLIMIT_DATA, (reserved + limit, reserved + limit))
    actions: dict[str, Callable[[Path, int], str]] = {"train": _train, "hold": _hold}
    return actions[action](folder, side)


def _train(folder: Path, side: int) -> str:
    from cl_semisup.execution.execute import Executor
    from cl_semisup.execution.machine import Machine
    from cl_semisup.suite.run import Run

    run = Run(dataset={"image_folder": {**DATA, "side": side}}, **RUN)
    record, _ = Executor(Machine("cpu", str(folder)))(run)
    if record["status"] == "failed":
        return f"failed: {record['reason']}"
    return f"{record['status']}, {record['cost']['images_per_second']:,.0f} images/s"


def _hold(folder: Path, side: int) -> str:
    import numpy as np

    from cl_semisup import plugins

    data_set: Any = plugins.load("datasets", "image_folder")(**DATA, side=side)
    try:
        return f"{np.array(data_set.load(folder).train_images).nbytes / 1e6:,.0f} MB held"
    except MemoryError:
        return "not possible: MemoryError"


def main() -> None:
    arguments = _common.parser(__doc__)
    arguments.add_argument("--count", type=int, default=100_000)
    arguments.add_argument("--side", type=int, default=64)
    arguments.add_argument("--limit-mb", type=int, default=600)
    arguments.add_argument("--folder", type=Path)
    arguments.add_argument("--limited", choices=("train", "hold"), help="do this alone; a process of its own")
    options = arguments.parse_args()
    limit = options.limit_mb * 10**6
    if options.limited:
        print(json.dumps(limited(options.folder, options.side, limit, options.limited)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        make(folder, options.count, options.side)
        report(folder, options.count, options.side, options.limit_mb)


def report(folder: Path, count: int, side: int, limit_mb: int) -> None:
    from cl_semisup import plugins

    data_set: Any = plugins.load("datasets", "image_folder")(**DATA, side=side)
    decoded = any((folder / "images").glob(".cl_semisup-*.npy"))
    seconds, _ = _common.timed(lambda: data_set.prepare(folder, False))
    first = "not run: decoded before" if decoded else f"{count / seconds:,.0f}"
    again, _ = _common.timed(lambda: data_set.prepare(folder, False))
    found = speeds(folder, side)
    words = ["--folder", str(folder), "--side", str(side), "--limit-mb", str(limit_mb), "--limited"]
    proofs = {action: _common.run_json(__file__, *words, action) for action in ("train", "hold")}
    size, memory = count * 3 * side * side / 1e6, found["memory"]
    rows = [
        {"what": f"decode {count:,} files once, on {_common.cores()} cores", "images/s": first},
        {"what": "open them again (check that no file has changed)", "images/s": f"{count / again:,.0f}"},
        *({"what": f"read, {name}", "images/s": f"{rate:,.0f}", "of memory": f"{rate / memory:.0%}"}
          for name, rate in found.items()),
        {"what": f"train on {size:,.0f} MB, {limit_mb} MB allowed beside torch", "images/s": proofs["train"]},
        {"what": f"hold the pixels in memory with {limit_mb} MB allowed beside torch", "images/s": proofs["hold"]},
    ]  # fmt: skip
    if count < 1_000_000:
        rows.append(
            {"what": "1,000,000 images with 4 GB allowed", "images/s": "not run: `--count 1000000 --limit-mb 4000`"}
        )
    rows = [{"of memory": "", **row} for row in rows]
    rows = [{key: row[key] for key in ("what", "images/s", "of memory")} for row in rows]
    about = (
        f"JPEG files of {side} x {side} pixels; {BATCHES} shuffled batches of {BATCH}; median of {ROUNDS} rounds. "
        "The machine was shared, so single figures move; the page cache is warm. `torchvision` is ImageFolder with "
        "DataLoader and a worker for each core."
    )
    _common.write("data", about, rows, packages=("torch", "torchvision", "pillow"))


if __name__ == "__main__":
    main()
