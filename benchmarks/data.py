"""Reading images from a mapped file, from memory, and with torchvision's ImageFolder and DataLoader, on the same files.

    python benchmarks/data.py [--count 100000] [--side 64] [--limit-mb 2000] [--folder /tmp/images] [--fill]

The first rows are of 5,000 PNG files of 32 x 32: decoded for the first time, opened again, and decoded by a plain loop
over PIL, in turn. Then it makes `count` JPEG files (512 kinds, and links to them), decodes them once, and reads
shuffled batches of 256 in turn, of at most 100,000 images. The best of several rounds counts, by the clock and by the
processor, since other work on the machine can only slow a round down. Another process reads the same mapped file, and
the system says how many of the pages are each one's own share.

The last rows train one epoch in a process that may have `limit-mb` of memory, torch included (`ulimit -d`, which counts
all private writable memory; pages of a mapped file can be taken back at any time). None of these pages are in memory
before. Another process tries to hold the same pixels in memory under the same limit.
1.5 GB are too little for this: torch, its threads and a batch of 1,000 images in float32 count too.

`--many-small 30000` measures small images alone: 5,000 files as above, and then up to so many, decoded in this process
and in one process a core, as files and as images in an archive, which are sent to the processes, in turn.

A million images of 64 x 64: `--count 1000000 --limit-mb 4000 --fill`. With `--fill` the mapped file is written from the
decoded 512 kinds, because a million files take an hour to decode on two cores.
"""

import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from itertools import chain, cycle, islice
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import _common

BATCH, ROUNDS, BATCHES = 256, 15, 50
ROUNDS_OF_TORCHVISION = 3
MOST_READ = 100_000  # images that the comparison reads
CLASSES, KINDS = 10, 512  # different files; the others are copies
SMALL_FILES, SMALL_SIDE, SMALL_ROUNDS = 5000, 32, 5
MANY_SMALL_ROUNDS = 3
DATA: dict[str, Any] = {"folder": "images"}
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


def fill(folder: Path, side: int) -> None:
    """The mapped file of the training images, written from one decoded image of each kind."""
    import numpy as np
    from numpy.lib import format as npy

    from cl_semisup.datasets import _pixels
    from cl_semisup.datasets.image_folder import ImageFolder
    from cl_semisup.system import seal

    data_set = ImageFolder(**DATA, side=side)
    part, settings = data_set._find(folder).train, data_set.pixel_settings
    target = part.cache(settings, part)
    assert target is not None
    if target.exists():
        return
    kinds = np.array([int(Path(name).stem) % KINDS for name in part.files])
    of_kind = {int(kind): number for number, kind in reversed(list(enumerate(kinds)))}
    paths = [part.root / part.files[of_kind[kind]] for kind in range(KINDS)]
    pixels = np.stack([_pixels.decode(_pixels.of_file(path), settings) for path in paths])
    sealed = seal.start(target.name)
    with open(target, "wb") as file:
        header = io.BytesIO()
        npy.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": part.shape(settings)})
        chunks = (pixels[kinds[start : start + 4096]].tobytes() for start in range(0, len(kinds), 4096))
        for piece in chain([header.getvalue()], chunks):
            sealed.update(piece)
            file.write(piece)
        file.write(sealed.digest())


def speeds(folder: Path, side: int) -> dict[str, tuple[float, float]]:
    """Images per second of the clock and of the processor, of each way to read: the best of rounds that take turns."""
    import numpy as np
    import torch
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import PILToTensor

    from cl_semisup import plugins
    from cl_semisup.execution.data import _tensor

    data_set: Any = plugins.load("datasets", "image_folder")(**DATA, side=side)
    torch.set_num_threads(1)
    mapped = data_set.load(folder).train_images[:MOST_READ]
    assert isinstance(mapped, np.memmap)
    tensors = {"memory": torch.as_tensor(np.array(mapped)), "mapped": _tensor(mapped)}
    tensors["mapped"].sum(dtype=torch.int64)  # a warm page cache
    files = ImageFolder(str(folder / "images" / "train"), PILToTensor())
    loaders = {
        "torchvision, in this process": DataLoader(files, BATCH, shuffle=True),
        f"torchvision, {_common.cores()} workers": DataLoader(
            files, BATCH, shuffle=True, num_workers=_common.cores(), persistent_workers=True
        ),
    }
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in (*tensors, *loaders)}
    for number in range(ROUNDS):
        order = torch.randperm(len(mapped), generator=torch.Generator().manual_seed(number))
        order = order.repeat(-(-BATCH * BATCHES // len(mapped)))[: BATCH * BATCHES]
        for name in sorted(tensors, reverse=bool(number % 2)):
            rates[name].append(_rate(tensors[name].index_select(0, index) for index in order.split(BATCH)))
        for name, loader in loaders.items() if number < ROUNDS_OF_TORCHVISION else ():
            rates[name].append(_rate(islice((images for images, _ in loader), BATCHES)))
    return {name: (max(clock for clock, _ in found), max(own for _, own in found)) for name, found in rates.items()}


def make_small(root: Path, count: int) -> list[Path]:
    """PNG files of 32 x 32 pixels, a tenth of them for testing."""
    import numpy as np
    from PIL import Image

    random, paths = np.random.default_rng(0), list[Path]()
    for number in range(count):
        path = root / ("test" if number % 10 == 9 else "train") / str(number // 10 % CLASSES) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        coarse.resize((SMALL_SIDE, SMALL_SIDE), Image.Resampling.BICUBIC).save(path)
        paths.append(path)
    return paths


def many_small(folder: Path, most: int) -> None:
    """Small images decoded in this process and in one process a core, for several numbers of them, in turn."""
    import numpy as np

    from cl_semisup.datasets import _decoder, _pixels

    known = "; ".join(row["what"].partition(": ")[2] for row in small_files(folder))
    sources = [_pixels.of_file(path) for path in make_small(folder / "many", most)]
    archived = [source._replace(path=None) for source in sources]
    settings = _pixels.PixelSettings(side=SMALL_SIDE)
    few, many = most + 1, _decoder.MANY_FILES

    def decode(sources: list[_pixels.Source], count: int, from_which_on: int) -> float:
        _decoder.MANY_FILES = from_which_on
        images = np.empty((count, 3, SMALL_SIDE, SMALL_SIDE), np.uint8)
        faults: list[Any] = []
        began = time.perf_counter()
        with (
            _decoder.bar("decoding", count) as shown,
            _decoder.Decoder(settings, False, count, shown, faults) as decoder,
        ):
            for start in range(0, count, 4096):
                decoder.fill(images[start : start + 4096], sources[start : min(start + 4096, count)])
        assert not faults
        return time.perf_counter() - began

    rows = []
    for count in sorted({c for c in (2500, 5000, 10_000, 20_000, 30_000, most) if c <= most}):
        ways = ((sources, few), (sources, 0), (archived, few), (archived, 0))
        times = [[decode(found, count, least) for found, least in ways] for _ in range(MANY_SMALL_ROUNDS)]
        one, several, one_archived, several_archived = map(min, zip(*times, strict=True))
        rows.append(
            {
                "small images": f"{count:,}",
                "files, one process, images/s": f"{count / one:,.0f}",
                f"{_common.cores()} processes, images/s": f"{count / several:,.0f}",
                "as fast": f"{one / several:.2f}",
                "in an archive, one process, images/s": f"{count / one_archived:,.0f}",
                f"in an archive, {_common.cores()} processes, images/s": f"{count / several_archived:,.0f}",
                "as fast in an archive": f"{one_archived / several_archived:.2f}",
                "used": "processes" if count >= many else "one process",
            }
        )
    load = os.getloadavg()[0]
    about = (
        f"PNG files of {SMALL_SIDE} x {SMALL_SIDE} pixels, decoded without writing them anywhere; the start of the "
        f"processes is counted. The best of {MANY_SMALL_ROUNDS} rounds in turn; the load of the machine was {load:.1f} "
        f"at the end. `used` is what a data set of that size does. A data set of {SMALL_FILES:,} files, the best of "
        f"{SMALL_ROUNDS} rounds in turn: {known}."
    )
    _common.write("data_small_files", about, rows, packages=("pillow",))


def small_files(folder: Path) -> list[dict[str, str]]:
    """Rows of many small files: decoded and opened by the product, and decoded by a plain loop over PIL, in turn."""
    import numpy as np
    from PIL import Image

    from cl_semisup import plugins

    root = folder / "small"
    paths = make_small(root, SMALL_FILES)
    data_set: Any = plugins.load("datasets", "image_folder")(folder="small", side=SMALL_SIDE)

    def first() -> None:
        for path in root.glob(".cl_semisup-*"):
            path.unlink()
        data_set.prepare(folder, False)

    def plain() -> None:
        for path in paths:
            with Image.open(path) as image:
                np.asarray(image.convert("RGB").resize((SMALL_SIDE, SMALL_SIDE), Image.Resampling.BILINEAR))

    ways = {
        "decode": first,
        "open again": lambda: data_set.load(folder),
        "decode by a loop over PIL": plain,
        "facts, which decode nothing": lambda: data_set.facts(folder),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(SMALL_ROUNDS):
        for name, way in ways.items():
            began = time.process_time()
            seconds, _ = _common.timed(way)
            found[name].append((seconds, time.process_time() - began))
    rows = []
    for name, times in found.items():
        clock, own = min(seconds for seconds, _ in times), min(seconds for _, seconds in times)
        what = f"{SMALL_FILES:,} small files: {name}, {clock:.2f} s ({own:.2f} s of the processor)"
        of_processor = f"{SMALL_FILES / own:,.0f}"
        rows.append(
            {"what": what, "images/s": f"{SMALL_FILES / clock:,.0f}", "images per processor second": of_processor}
        )
    return rows


def shared(folder: Path, side: int) -> str:
    """What the system says of the mapped training images in two processes that have read all of them."""
    from cl_semisup import plugins

    data_set: Any = plugins.load("datasets", "image_folder")(**DATA, side=side)
    mapped = data_set.load(folder).train_images[:MOST_READ]
    part, settings = data_set._find(folder).train, data_set.pixel_settings
    path = str(part.cache(settings, part).resolve())
    command = [sys.executable, __file__, "--folder", str(folder), "--side", str(side), "--limited", "touch"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        other.stdout.readline()  # it has read all
        mapped.sum()
        found = [_mapping(process, path) for process in (os.getpid(), other.pid)]
        other.communicate("")
    both = (f"{one['Rss'] / 1e3:,.0f} MB mapped, {one['Pss'] / 1e3:,.0f} MB its share" for one in found)
    return "; ".join(both)


def _mapping(process: int, path: str) -> dict[str, int]:
    """Name -> kB of the mapping of a file in a process."""
    _, _, rest = Path(f"/proc/{process}/smaps").read_text().partition(path)
    lines = (line.split() for line in rest.splitlines()[1:24])
    return {words[0].rstrip(":"): int(words[1]) for words in lines if len(words) == 3}


def _rate(batches: Iterator[Any]) -> tuple[float, float]:
    """Images per second of the clock, and of this process's processor time; the first batch is not counted."""
    next(batches)
    began, count = (time.perf_counter(), time.process_time()), 0
    for batch in batches:
        count += len(batch)
    return count / (time.perf_counter() - began[0]), count / (time.process_time() - began[1])


class PeakOfOwnMemory(threading.Thread):
    """Samples the anonymous memory of this process, which no file holds."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0

    def run(self) -> None:
        while True:
            lines = Path("/proc/self/status").read_text().splitlines()
            self.peak = max(
                self.peak, next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
            )
            time.sleep(0.1)


def limited(folder: Path, side: int, limit: int, action: str) -> str:
    """Train an epoch, or hold the pixels in memory, in this process under the limit."""
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    import torch

    torch.set_num_threads(1)
    actions: dict[str, Callable[[Path, int], str]] = {"train": _train, "hold": _hold, "touch": _touch}
    return actions[action](folder, side)


def _train(folder: Path, side: int) -> str:
    from cl_semisup.execution.execute import Executor
    from cl_semisup.execution.machine import Machine
    from cl_semisup.suite.run import Run

    count = sum(len(os.listdir(path)) for path in (folder / "images" / "train").iterdir())
    batch = max(BATCH, count // 500)
    run = Run(dataset={"image_folder": {**DATA, "side": side}}, **{**RUN, "batch_size": batch})
    (memory := PeakOfOwnMemory()).start()
    record, _ = Executor(Machine("cpu", str(folder)))(run)
    if record["status"] == "failed":
        return f"failed: {record['reason']}"
    text = (
        f"{record['status']}, {record['resolved']['steps']} steps, {record['cost']['images_per_second']:,.0f} images/s"
    )
    return f"{text}, at most {memory.peak / 1e6:,.0f} MB of its own"


def _hold(folder: Path, side: int) -> str:
    import numpy as np

    from cl_semisup import plugins

    data_set: Any = plugins.load("datasets", "image_folder")(**DATA, side=side)
    try:
        return f"{np.array(data_set.load(folder).train_images).nbytes / 1e6:,.0f} MB held"
    except MemoryError:
        return "not possible: MemoryError"


def _touch(folder: Path, side: int) -> str:
    """Read all mapped images, and stay until the other process has looked."""
    from cl_semisup import plugins

    data_set: Any = plugins.load("datasets", "image_folder")(**DATA, side=side)
    mapped = data_set.load(folder).train_images[:MOST_READ]  # held, as the mapping goes with it
    print(mapped.sum(), flush=True)
    return sys.stdin.read()


def main() -> None:
    arguments = _common.parser(__doc__)
    arguments.add_argument("--count", type=int, default=100_000)
    arguments.add_argument("--side", type=int, default=64)
    arguments.add_argument("--limit-mb", type=int, default=2000)
    arguments.add_argument("--folder", type=Path)
    arguments.add_argument("--fill", action="store_true", help="write the mapped file without decoding every copy")
    arguments.add_argument("--limited", choices=("train", "hold", "touch"), help="do this alone; a process of its own")
    arguments.add_argument("--many-small", type=int, help="decode so many small files alone")
    options = arguments.parse_args()
    limit = options.limit_mb * 10**6
    if options.limited:
        print(json.dumps(limited(options.folder, options.side, limit, options.limited)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if options.many_small:
            many_small(folder, options.many_small)
            return
        make(folder, options.count, options.side)
        if options.fill:
            fill(folder, options.side)
        report(folder, options.count, options.side, options.limit_mb)


def report(folder: Path, count: int, side: int, limit_mb: int) -> None:
    from cl_semisup import plugins

    data_set: Any = plugins.load("datasets", "image_folder")(**DATA, side=side)
    decoded = any((folder / "images").glob(".cl_semisup-*.npy"))
    began = time.process_time()
    seconds, _ = _common.timed(lambda: data_set.prepare(folder, False))
    own = time.process_time() - began
    first = {"images/s": "not run: decoded before"}
    if not decoded:
        first = {"images/s": f"{count / seconds:,.0f}", "images per processor second": f"{count / own:,.0f}"}
    again, _ = _common.timed(lambda: data_set.prepare(folder, False))
    small = small_files(folder) if count < 1_000_000 else []
    found = speeds(folder, side)
    pages = shared(folder, side)
    words = ["--folder", str(folder), "--side", str(side), "--limit-mb", str(limit_mb), "--limited"]
    forget_pages(folder)
    proofs = {action: _common.run_json(__file__, *words, action) for action in ("train", "hold")}
    size = count * 3 * side * side / 1e6
    rows = [
        *small,
        {"what": f"decode {count:,} files once, on {_common.cores()} cores"} | first,
        {"what": "open them again (check that no file has changed)", "images/s": f"{count / again:,.0f}"},
        *(_row(name, rates, found["memory"]) for name, rates in found.items()),
        {"what": "two processes that have read all of them, the system's figures", "images/s": pages},
        {"what": f"train an epoch on {size:,.0f} MB of pixels, {limit_mb:,} MB allowed", "images/s": proofs["train"]},
        {"what": f"hold these pixels in memory, {limit_mb:,} MB allowed", "images/s": proofs["hold"]},
    ]
    rows = [{"images per processor second": "", "of memory": "", **row} for row in rows]
    keys = ("what", "images/s", "images per processor second", "of memory")
    rows = [{key: row[key] for key in keys} for row in rows]
    about = (
        f"JPEG files of {side} x {side} pixels; {BATCHES} shuffled batches of {BATCH} of {min(count, MOST_READ):,} "
        f"images; the best of {ROUNDS} rounds in turn ({ROUNDS_OF_TORCHVISION} of torchvision), because other work ran "
        "on the machine. `of memory` is by the clock, in brackets by the processor. The page cache is warm, except "
        "before training. `torchvision` is ImageFolder with DataLoader, on the same files. The small files are PNG of "
        f"{SMALL_SIDE} x {SMALL_SIDE}, the best of {SMALL_ROUNDS} rounds in turn."
    )
    name = "data" if count < 1_000_000 else "data_million"
    _common.write(name, about, rows, packages=("torch", "torchvision", "pillow"))


def _row(name: str, rates: tuple[float, float], memory: tuple[float, float]) -> dict[str, str]:
    """A way to read; the processor time of workers is not this process's."""
    row = {"what": f"read, {name}", "images/s": f"{rates[0]:,.0f}"}
    if "workers" in name:
        return row
    share = f"{rates[0] / memory[0]:.0%} ({rates[1] / memory[1]:.0%})"
    return row | {"images per processor second": f"{rates[1]:,.0f}", "of memory": share}


def forget_pages(folder: Path) -> None:
    """Let the mapped files' pages go, so that training reads them from the disk."""
    for path in (folder / "images").glob(".cl_semisup-*.npy"):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == "__main__":
    main()
