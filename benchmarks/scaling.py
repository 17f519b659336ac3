"""How time and memory grow with batch size, width of the embedding, number of classes and of images.

    python benchmarks/scaling.py

One axis at a time from B = 1024, D = 128, C = 100; each point in a process of its own. `time` is of the loss alone,
forward and backward, the best of five; `memory` what it adds to the process's peak. The last axis trains and evaluates
one epoch of an mlp on random 8 x 8 images through the whole suite. Exponents are slopes of log against log over the
largest three sizes: 1 is linear.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import _record  # noqa: E402

BATCH, DIM, CLASSES = 1024, 128, 100
AXES = {
    "batch": (256, 1024, 4096, 8192, 16384),
    "dim": (32, 128, 512, 2048),
    "classes": (10, 100, 1000),
    "images": (2_000, 8_000, 32_000),
}


def loss_alone(name: str, batch: int, dim: int, classes: int) -> tuple[float, float]:
    """(seconds, MB) of one value and gradient on this process's device."""
    import resource

    import torch

    from cl_semisup import losses

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(1)
    loss = losses.build(name, dim=max(dim, classes), classes=classes)
    if isinstance(loss, torch.nn.Module):
        loss.to(device)
    z1, z2 = (torch.randn(batch, max(dim, classes), device=device, requires_grad=True) for _ in range(2))
    labels = torch.arange(batch, device=device) % classes
    labels[labels % 2 == 0] = -1

    def once() -> float:
        began = time.perf_counter()
        loss(z1, z2, labels).backward()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = min(once() for _ in range(5))
    if device == "cuda":
        return seconds, torch.cuda.max_memory_allocated() / 1e6
    return seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 1e6


def suite_of(images: int) -> tuple[float, float, float]:
    """(training s, evaluation s, peak MB) of a run on that many images."""
    import numpy

    asked = {
        "question": "How does time grow with the data?",
        "datasets": {"arrays": {"file": "random.npz"}},
        "encoder": {"mlp": {"width": 64, "layers": 1}},
        "losses": "nt_xent",
        "label_fraction": 0.1,
        "learning_rate": 0.1,
        "batch_size": 256,
        "repetitions": 1,
        "epochs": 1,
    }
    with tempfile.TemporaryDirectory() as folder:
        random = numpy.random.default_rng(0)
        arrays: dict[str, Any] = {}
        for part, count in (("train", images), ("test", images // 5)):
            arrays[f"{part}_labels"] = numpy.arange(count) % 10
            arrays[f"{part}_images"] = random.integers(0, 256, (count, 8, 8), dtype=numpy.uint8)
        numpy.savez(Path(folder) / "random.npz", **arrays)
        file = Path(folder) / "scaling.yaml"
        file.write_text(json.dumps(asked))
        command = [sys.executable, str(ROOT / "benchmark.py"), str(file), "--results", folder, "--data-dir", folder]
        subprocess.run([*command, "--workers", "1"], check=True, stdout=subprocess.DEVNULL)
        cost = json.loads(next(Path(folder).glob("records/arrays/nt_xent/[0-9a-f]*[0-9a-f].json")).read_text())["cost"]
    return cost["train_seconds"], cost["evaluation_seconds"], cost["peak_memory_bytes"] / 1e6


def exponent(sizes: tuple[int, ...], values: list[float]) -> float:
    """Slope of log value against log size over the largest three."""
    import numpy

    return float(numpy.polyfit(numpy.log(sizes[-3:]), numpy.log(numpy.maximum(values[-3:], 1e-9)), 1)[0])


def rows() -> Iterator[dict[str, Any]]:
    for axis in ("batch", "dim", "classes"):
        for name in ("nt_xent", "clop"):
            found = []
            for size in AXES[axis]:
                at = {"batch": BATCH, "dim": DIM, "classes": CLASSES, axis: size}
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                    found.append(pool.submit(loss_alone, name, at["batch"], at["dim"], at["classes"]).result())
            yield _row(axis, f"{name} alone: time, ms", AXES[axis], [1e3 * one[0] for one in found])
            yield _row(axis, f"{name} alone: memory, MB", AXES[axis], [one[1] for one in found])
    sizes = AXES["images"]
    measured = [suite_of(size) for size in sizes]
    for at, what in enumerate(("training an epoch, s", "evaluation, s", "peak memory of the process, MB")):
        yield _row("images", what, sizes, [one[at] for one in measured])


def _row(axis: str, what: str, sizes: tuple[int, ...], values: list[float]) -> dict[str, Any]:
    sized = ", ".join(f"{size:,}: {value:,.3g}" for size, value in zip(sizes, values, strict=True))
    return {"axis": axis, "what": what, "values": sized, "exponent": round(exponent(sizes, values), 2)}


def main() -> None:
    about = f"Growth along one axis at a time from B = {BATCH:,}, D = {DIM}, C = {CLASSES}; one thread."
    print(_record.write("scaling", about, list(rows())))


if __name__ == "__main__":
    main()
