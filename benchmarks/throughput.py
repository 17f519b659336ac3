"""Training throughput compared with lightly + Lightning on the same network, views, batch, loss and optimizer.

    python benchmarks/throughput.py digits small resnet18       on a CPU; needs `pip install lightly`
    python benchmarks/throughput.py --float32 digits small      on a processor without bfloat16
    python benchmarks/throughput.py gpu512 gpu64                on a GPU

lightly runs as its users run it: per-image torchvision transforms in a DataLoader, Lightning's loop, one run at a time,
in the best of several settings of threads, DataLoader workers and precision; then two such processes side by side.
Ours is a suite run by `benchmark.py`: one process for each core on a CPU, one run at a time on a GPU. The two take
turns (A B A B); times are medians. An image counts once for both of its views. Start-up and evaluation are excluded.

The ceiling is the rate of operations that torch reaches in large products and convolutions on this machine, in the same
precision and on as many cores. A training's share of it counts the operations of its network, forward and backward for
both views.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import _common

ROUNDS = 3
ROTATION, SHIFT, ZOOM, TEMPERATURE, RATE, DIM = 15.0, 0.1, 0.15, 0.5, 0.1, 128


@dataclass(frozen=True)
class Job:
    """The common job on random images of `channels` x `side` x `side` pixels. `epochs` is (ours, lightly's), chosen for
    some seconds each. Lightly trains one more epoch first, which is not counted; our first epoch is counted.
    """

    encoder: str
    channels: int
    side: int
    images: int
    batch: int
    epochs: tuple[int, int]
    target: str


JOBS = {
    "digits": Job("convnet", 1, 8, 1408, 64, (40, 4), "12x, and 7x two processes"),
    "small": Job("convnet", 3, 32, 1024, 128, (40, 3), "6x"),
    "resnet18": Job("resnet18", 3, 32, 192, 64, (5, 2), "2x its default, 1.2x its bfloat16"),
    "gpu512": Job("resnet18", 3, 32, 50_000, 512, (6, 2), "8x; at most 1.5 s an epoch"),
    "gpu64": Job("resnet18", 3, 32, 50_000, 64, (3, 1), "half the images/s of batch 512"),
    "drill512": Job("resnet18", 3, 32, 8192, 512, (2, 1), "8x, in the seconds that benchmarks/gpu.py has"),
    "drill64": Job("resnet18", 3, 32, 4096, 64, (2, 1), "8x, in the seconds that benchmarks/gpu.py has"),
    "trial": Job("convnet", 3, 8, 24, 12, (1, 1), "none; it tries benchmarks/gpu.py"),
}


@dataclass(frozen=True)
class Setting:
    """Settings of a lightly process: threads, DataLoader workers and precision (32-true or bf16-mixed)."""

    threads: int
    workers: int
    precision: str

    def __str__(self) -> str:
        return f"{self.threads} thread(s), {self.workers} worker(s), {self.precision}"


def ours(job: Job, precision: str, processes: int) -> float:
    """Images/s of a suite with one run for each process, from the records."""
    grey = {"rotation": ROTATION, "shift": SHIFT, "zoom": ZOOM, "crop_area": 1.0, "flip": 0.0, "jitter": 0.0}
    suite = {
        "question": "How many images a second?",
        "datasets": {"arrays": {"file": "random.npz"}},
        "encoder": job.encoder,
        "losses": {"nt_xent": {"temperature": TEMPERATURE}},
        "learning_rate": RATE,
        "batch_size": job.batch,
        "epochs": job.epochs[0],
        "repetitions": processes,
        "precision": precision,
        "projector": {"dim": DIM},
        "probes": {"knn": {"k": 1}, "linear": False, "geometry": False},
        "score": "knn_top1",
        "validation": "all",
        **({"views": grey} if job.channels == 1 else {}),
    }
    with tempfile.TemporaryDirectory() as folder:
        _common.save_random_images(Path(folder), (job.side, job.side, job.channels), job.images, 20)
        words = ("--data-dir", folder, "--workers", str(processes))
        _, records = _common.run_suite(json.dumps(suite), Path(folder), *words)
    rates = [record["cost"]["images_per_second"] for record in records if record["run"]["epochs"]]
    assert len(rates) == processes, f"{len(rates)} of {processes} runs have a speed"
    return sum(rates)


def lightly(job: Job, setting: Setting) -> float:
    """Images/s of one run of lightly + Lightning, in this process."""
    import numpy
    import pytorch_lightning
    import torch
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms import SimCLRTransform
    from lightly.transforms.multi_view_transform import MultiViewTransform
    from PIL import Image
    from torchvision import transforms

    from cl_semisup.config import grid

    torch.set_num_threads(setting.threads)
    if job.channels == 1:
        affine = transforms.RandomAffine(ROTATION, translate=(SHIFT, SHIFT), scale=(1 - ZOOM, 1 + ZOOM))
        one_view = transforms.Compose([affine, transforms.ToTensor(), transforms.Normalize(0.5, 0.25)])
        transform: Any = MultiViewTransform([one_view, one_view])
    else:
        transform = SimCLRTransform(
            input_size=job.side, cj_strength=0.5, min_scale=0.2, gaussian_blur=0.0, random_gray_scale=0.2
        )
    shape = (job.images, job.side, job.side) + ((3,) if job.channels == 3 else ())
    pixels = numpy.random.default_rng(0).integers(0, 256, shape, dtype=numpy.uint8)

    class Data(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return job.images

        def __getitem__(self, index: int) -> Any:
            return transform(Image.fromarray(pixels[index]))

    class SimCLR(pytorch_lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = grid.build("encoders", job.encoder, {}).build(job.channels, job.side)
            self.head = SimCLRProjectionHead(self.encoder.dim, self.encoder.dim, DIM)
            self.criterion = NTXentLoss(temperature=TEMPERATURE)
            self.began = 0.0

        def training_step(self, batch: Any, index: int) -> Any:
            z0, z1 = (self.head(self.encoder(view).flatten(1)) for view in batch)
            return self.criterion(z0, z1)

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), RATE, momentum=0.9, weight_decay=1e-4)
            return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, job.epochs[1] + 1)]

        def on_train_epoch_start(self) -> None:
            if self.current_epoch == 1:  # after the warm-up
                self._wait()
                self.began = time.perf_counter()

        def on_train_end(self) -> None:
            self._wait()
            self.began = time.perf_counter() - self.began

        def _wait(self) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()

    loader = torch.utils.data.DataLoader(
        Data(), job.batch, shuffle=True, drop_last=True, num_workers=setting.workers,
        persistent_workers=setting.workers > 0, pin_memory=torch.cuda.is_available(),
    )  # fmt: skip
    model = SimCLR()
    trainer = pytorch_lightning.Trainer(
        max_epochs=job.epochs[1] + 1, precision=setting.precision, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, accelerator="auto", devices=1,
    )  # fmt: skip
    trainer.fit(model, loader)
    return job.epochs[1] * len(loader) * job.batch / model.began


def operations_per_image(job: Job) -> float:
    """Floating-point operations of a training for one image in two views: network, forward and backward."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from cl_semisup.config import grid
    from cl_semisup.suite.settings import Projector
    from cl_semisup.training.model import build_projector

    encoder = grid.build("encoders", job.encoder, {}).build(job.channels, job.side)
    head = build_projector(encoder.dim, Projector(dim=DIM))
    views = torch.zeros(2 * job.batch, job.channels, job.side, job.side)
    with FlopCounterMode(display=False) as counter:
        head(encoder(views)).sum().backward()
    return counter.get_total_flops() / job.batch


def best_operation_rate(precision: str) -> float:
    """Operations a second of this process: the best of large products and convolutions, on a GPU if there is one."""
    import torch

    torch.set_num_threads(1)
    device, scale = ("cuda", 8) if torch.cuda.is_available() else ("cpu", 1)
    number: dict[str, Any] = {"dtype": torch.bfloat16 if precision == "bfloat16" else torch.float32, "device": device}
    picture = torch.randn(32 * scale, 128, 16, 16, **number).to(memory_format=torch.channels_last)
    kernel = torch.randn(128, 128, 3, 3, **number).to(memory_format=torch.channels_last)
    candidates: list[tuple[int, Callable[[], Any]]] = [
        (2 * picture.numel() * 128 * 9, lambda: torch.nn.functional.conv2d(picture, kernel, padding=1))
    ]
    for size in (512 * scale, 1024 * scale):
        matrix = torch.randn(size, size, **number)
        candidates.append((2 * size**3, partial(torch.matmul, matrix, matrix)))
    best = 0.0
    for operations, compute in candidates:
        best = max(best, operations / min(_common.repeated(compute, least=20, most=20, device=device)))
    return best


def ceiling(precision: str, processes: int) -> float:
    """The sum of the best operation rates of that many processes side by side."""
    return sum(float(line) for line in _side_by_side(["--fastest", precision], processes, threads=1))


def lightly_speed(name: str, setting: Setting, processes: int = 1) -> float:
    """Images/s of that many processes of lightly side by side."""
    arguments = json.dumps({"job": name, **asdict(setting)})
    return sum(float(line) for line in _side_by_side(["--lightly", arguments], processes, setting.threads))


def lightly_speeds(wanted: list[tuple[str, Setting]]) -> dict[tuple[str, Setting], float]:
    """Images/s of lightly in each job and setting, one after the other in one process."""
    arguments = json.dumps([{"job": name, **asdict(setting)} for name, setting in wanted])
    (line,) = _side_by_side(["--lightly", arguments], 1, wanted[0][1].threads)
    return dict(zip(wanted, json.loads(line), strict=True))


def _side_by_side(words: list[str], processes: int, threads: int) -> Iterator[str]:
    """The last line of the output of each process."""
    command, environment = [sys.executable, __file__, *words], {**os.environ, "OMP_NUM_THREADS": str(threads)}
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        for _ in range(processes)
    ]
    for process in running:
        out, err = process.communicate()
        if process.returncode:
            raise SystemExit(f"{' '.join(words)} stopped with {process.returncode}: {err[-2000:]}")
        yield out.splitlines()[-1]


def settings(cores: int) -> Iterator[Setting]:
    """Common settings; the first is the default."""
    yield Setting(cores, 0, "32-true")
    yield Setting(1, 0, "32-true")
    yield Setting(1, cores, "32-true")
    yield Setting(cores, cores, "32-true")
    yield Setting(cores, 0, "bf16-mixed")
    yield Setting(1, cores, "bf16-mixed")


def measure(name: str, cores: int, gpu: bool, bfloat16: bool) -> Iterator[dict[str, Any]]:
    """A row for every pair of settings that are compared; with `bfloat16` some use it."""
    job, processes = JOBS[name], 1 if gpu else cores
    candidates = [setting for setting in settings(cores) if bfloat16 or setting.precision == "32-true"]
    try:
        speeds = {setting: lightly_speed(name, setting) for setting in candidates}
    except FileNotFoundError as error:
        raise SystemExit(f"cannot start a process: {error}") from error
    for setting, speed in speeds.items():
        print(f"{name}: lightly, {setting}: {speed:,.0f} images/s", flush=True)
    default, best = next(iter(speeds)), max(speeds, key=speeds.__getitem__)
    best_float32 = max((s for s in speeds if s.precision == "32-true"), key=speeds.__getitem__)
    kinds = ["auto"] if gpu or job.side < 32 or not bfloat16 else ["float32", "bfloat16"]
    measured: dict[Any, list[float]] = {}
    for _ in range(ROUNDS):
        for kind in kinds:
            measured.setdefault(kind, []).append(ours(job, kind, processes))
        for other in dict.fromkeys([(default, 1), (best_float32, 1), (best, 1), (best, processes)]):
            measured.setdefault(other, []).append(lightly_speed(name, *other))
    for kind in kinds:
        precision = "bfloat16" if gpu or kind == "bfloat16" else "float32"
        share = median(measured[kind]) * operations_per_image(job) / ceiling(precision, processes)
        for (setting, count), theirs in ((key, value) for key, value in measured.items() if isinstance(key, tuple)):
            yield {
                "job": f"{name}: {job.encoder}, {job.side} x {job.side}, batch {job.batch}",
                "ours, images/s": f"{median(measured[kind]):,.0f} ({processes} process(es), {kind})",
                "of the ceiling": f"{100 * share:.0f} %",
                "lightly + Lightning, images/s": f"{median(theirs):,.0f} ({count} process(es), {setting})",
                "ratio": round(median(measured[kind]) / median(theirs), 2),
                "wanted": job.target,
            }


def main() -> None:
    parser = _common.parser(__doc__)
    parser.add_argument("jobs", nargs="*", choices=[*JOBS, []], default=[])
    parser.add_argument("--lightly", help=argparse.SUPPRESS)
    parser.add_argument("--fastest", help=argparse.SUPPRESS)
    parser.add_argument("--float32", action="store_true", help="leave bfloat16 out")
    options = parser.parse_args()
    if options.fastest:
        print(best_operation_rate(options.fastest))
        return
    if options.lightly:
        arguments = json.loads(options.lightly)
        several = arguments if isinstance(arguments, list) else [arguments]
        speeds = [lightly(JOBS[one.pop("job")], Setting(**one)) for one in several]
        print(speeds if isinstance(arguments, list) else speeds[0])
        return
    import torch

    gpu = torch.cuda.is_available()
    names = options.jobs or (["gpu512", "gpu64"] if gpu else ["digits", "small", "resnet18"])
    rows = [row for name in names for row in measure(name, _common.cores(), gpu, not options.float32)]
    about = (
        "Training images/s of a machine: ours as a suite runs, lightly + Lightning one run at a time (and side by "
        f"side), medians of {ROUNDS} rounds in turn."
    )
    packages = ("torch", "torchvision", "lightly", "pytorch-lightning")
    kind = "_gpu" if gpu else "_float32" if options.float32 else ""
    print(_common.write(f"throughput{kind}", about, rows, packages))


if __name__ == "__main__":
    main()
