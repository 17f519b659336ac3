"""Training throughput against lightly + Lightning doing the same job: same network, views, batch, loss and optimizer.

    python benchmarks/throughput.py digits small resnet18       on a CPU; needs `pip install lightly`
    python benchmarks/throughput.py --float32 digits small      where the processor has no bfloat16: minutes without it
    python benchmarks/throughput.py gpu512 gpu64                on a GPU

lightly runs as its users run it: per-image torchvision transforms in a DataLoader, Lightning's loop, one run at a time,
in the best of several settings of threads, DataLoader workers and precision; then two such processes side by side.
Ours is a suite run by `benchmark.py`: one process a core on a CPU, one run at a time on a GPU. Both in turn, A B A B,
medians. An image counts once, though it is seen in two views. Start-up and evaluation are not counted.

The ceiling is the most that torch's large products and convolutions do a second on this machine, in the same precision
and on as many cores; a training's share of it is the arithmetic of its network, forward and backward for both views.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import _record  # noqa: E402

ROUNDS = 3
ROTATION, SHIFT, ZOOM, TEMPERATURE, RATE, DIM = 15.0, 0.1, 0.15, 0.5, 0.1, 128


@dataclass(frozen=True)
class Job:
    """What both train: random images of `channels` x `side` x `side` pixels. `epochs` is (ours, lightly's), chosen for
    some seconds each. Lightly's first epoch is not counted, so it has one more; ours is, and has to be a small part.
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
}


@dataclass(frozen=True)
class Setting:
    """Of one process: threads, DataLoader workers and precision (32-true or bf16-mixed)."""

    threads: int
    workers: int
    precision: str

    def __str__(self) -> str:
        return f"{self.threads} thread(s), {self.workers} worker(s), {self.precision}"


def ours(job: Job, precision: str, processes: int) -> float:
    """Images/s of this machine with a suite of runs on it, from the records."""
    import numpy

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
        **({"views": grey} if job.channels == 1 else {}),
    }
    with tempfile.TemporaryDirectory() as folder:
        random = numpy.random.default_rng(0)
        shape = (job.images, job.side, job.side, job.channels)
        numpy.savez(
            Path(folder) / "random.npz",
            train_images=random.integers(0, 256, shape, dtype=numpy.uint8),
            train_labels=numpy.arange(job.images) % 10,
            test_images=random.integers(0, 256, (20, *shape[1:]), dtype=numpy.uint8),
            test_labels=numpy.arange(20) % 10,
        )
        file = Path(folder) / "throughput.yaml"
        file.write_text(json.dumps(suite))  # JSON is YAML
        command = [sys.executable, str(ROOT / "benchmark.py"), str(file), "--results", folder, "--data-dir", folder]
        subprocess.run([*command, "--workers", str(processes)], check=True, stdout=subprocess.DEVNULL)
        found = [json.loads(path.read_text()) for path in Path(folder).glob("records/*/nt_xent/*.json")]
        rates = [one["cost"]["images_per_second"] for one in found if "cost" in one]
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

    class Data(torch.utils.data.Dataset):  # type: ignore[type-arg]
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


def arithmetic(job: Job) -> float:
    """Operations of a training, per image in its two views: products and sums of the network, forward and backward."""
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


def fastest(precision: str) -> float:
    """Operations a second of this process: the best of large products and convolutions, on the GPU if there is one."""
    import torch

    torch.set_num_threads(1)
    device, scale = ("cuda", 8) if torch.cuda.is_available() else ("cpu", 1)
    number = {"dtype": torch.bfloat16 if precision == "bfloat16" else torch.float32, "device": device}
    picture = torch.randn(32 * scale, 128, 16, 16, **number).to(memory_format=torch.channels_last)
    kernel = torch.randn(128, 128, 3, 3, **number).to(memory_format=torch.channels_last)
    tried = [(2 * picture.numel() * 128 * 9, lambda: torch.nn.functional.conv2d(picture, kernel, padding=1))]
    for size in (512 * scale, 1024 * scale):
        matrix = torch.randn(size, size, **number)
        tried.append((2 * size**3, lambda matrix=matrix: matrix @ matrix))
    best = 0.0
    for operations, do in tried:
        for _ in range(20):
            began = time.perf_counter()
            do()
            if device == "cuda":
                torch.cuda.synchronize()
            best = max(best, operations / (time.perf_counter() - began))
    return best


def ceiling(precision: str, processes: int) -> float:
    """The same of that many processes side by side."""
    return sum(float(line) for line in _side_by_side(["--fastest", precision], processes, threads=1))


def others(name: str, setting: Setting, processes: int = 1) -> float:
    """Images/s of that many processes of lightly side by side."""
    asked = json.dumps({"job": name, **asdict(setting)})
    return sum(float(line) for line in _side_by_side(["--lightly", asked], processes, setting.threads))


def _side_by_side(words: list[str], processes: int, threads: int) -> Iterator[str]:
    """The last line that each of them prints."""
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
    """Those that users try: the default first."""
    yield Setting(cores, 0, "32-true")
    yield Setting(1, 0, "32-true")
    yield Setting(1, cores, "32-true")
    yield Setting(cores, cores, "32-true")
    yield Setting(cores, 0, "bf16-mixed")
    yield Setting(1, cores, "bf16-mixed")


def measure(name: str, cores: int, gpu: bool, half: bool) -> Iterator[dict[str, Any]]:
    """A row for every pair of settings that are compared; with `half` some are in bfloat16."""
    job, processes = JOBS[name], 1 if gpu else cores
    candidates = [setting for setting in settings(cores) if half or setting.precision == "32-true"]
    try:
        tried = {setting: others(name, setting) for setting in candidates}
    except FileNotFoundError as error:
        raise SystemExit(f"cannot start a process: {error}") from error
    for setting, speed in tried.items():
        print(f"{name}: lightly, {setting}: {speed:,.0f} images/s", flush=True)
    default, best = next(iter(tried)), max(tried, key=lambda one: tried[one])
    plain = max((one for one in tried if one.precision == "32-true"), key=lambda one: tried[one])
    kinds = ["auto"] if gpu or job.side < 32 or not half else ["float32", "bfloat16"]
    sums: dict[Any, list[float]] = {}
    for _ in range(ROUNDS):
        for kind in kinds:
            sums.setdefault(kind, []).append(ours(job, kind, processes))
        for other in dict.fromkeys([(default, 1), (plain, 1), (best, 1), (best, processes)]):
            sums.setdefault(other, []).append(others(name, *other))
    for kind in kinds:
        precision = "bfloat16" if gpu or kind == "bfloat16" else "float32"
        share = median(sums[kind]) * arithmetic(job) / ceiling(precision, processes)
        for (setting, count), speeds in ((key, value) for key, value in sums.items() if isinstance(key, tuple)):
            yield {
                "job": f"{name}: {job.encoder}, {job.side} x {job.side}, batch {job.batch}",
                "ours, images/s": f"{median(sums[kind]):,.0f} ({processes} process(es), {kind})",
                "of the ceiling": f"{100 * share:.0f} %",
                "lightly + Lightning, images/s": f"{median(speeds):,.0f} ({count} process(es), {setting})",
                "ratio": round(median(sums[kind]) / median(speeds), 2),
                "wanted": job.target,
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", nargs="*", choices=[*JOBS, []], default=[])
    parser.add_argument("--lightly", help=argparse.SUPPRESS)
    parser.add_argument("--fastest", help=argparse.SUPPRESS)
    parser.add_argument("--float32", action="store_true", help="leave bfloat16 out")
    asked = parser.parse_args()
    if asked.fastest:
        print(fastest(asked.fastest))
        return
    if asked.lightly:
        told = json.loads(asked.lightly)
        print(lightly(JOBS[told.pop("job")], Setting(**told)))
        return
    import torch

    gpu = torch.cuda.is_available()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    names = asked.jobs or (["gpu512", "gpu64"] if gpu else ["digits", "small", "resnet18"])
    rows = [row for name in names for row in measure(name, cores, gpu, not asked.float32)]
    about = (
        "TrainingGroup images/s of a machine: ours as a suite runs, lightly + Lightning one run at a time (and side by "
        f"side), medians of {ROUNDS} rounds in turn."
    )
    packages = ("torch", "torchvision", "lightly", "pytorch-lightning")
    kind = "_gpu" if gpu else "_float32" if asked.float32 else ""
    print(_record.write(f"throughput{kind}", about, rows, packages))


if __name__ == "__main__":
    main()
