"""The stages of benchmarks/gpu.py: each compares a GPU with the CPU, or measures it, and returns rows and faults.

On `imitated` the device is that of tests/gpu/imitated.py; `tiny` is for trying the stages themselves.
"""

import copy
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import _common
from benchmarks import throughput as throughput_job
from cl_semisup import contract, losses, plugins
from cl_semisup.contract import Batch
from cl_semisup.data.images import Images
from cl_semisup.data.settings import Views
from cl_semisup.data.views import ViewMaker
from cl_semisup.device import send_all, synchronize
from cl_semisup.engines.local import LocalEngine
from cl_semisup.execution import shared_data
from cl_semisup.execution.data import load_images, nbytes, to_device
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine
from cl_semisup.execution.training_groups import single_run
from cl_semisup.gate.float64 import float64
from cl_semisup.losses import requirements_of
from cl_semisup.native import view_kernel
from cl_semisup.training import graph as recorded
from cl_semisup.training.checkpoint import Preempted
from cl_semisup.training.curves import Curves
from cl_semisup.training.step import Steps
from tests.gpu import trials

IMAGES, DIM, CLASSES = 24, 16, 4
TOLERANCE = {"float64": 1e-9, "float32": 1e-3}  # of value and gradient, relative
LOSS_TOLERANCE = 2e-2  # of the first points of a training in float32 on digits, relative to its first value
SHARED_TOLERANCE = 0.01  # of scores on one copy and on two: atomic sums vary between runs
COMPARED_POINTS = 10  # rounding grows from step to step
LOST = '''
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class OutOfRange:
    """A loss that reads behind the end of a tensor."""

    def __call__(self, z1, z2, labels=None):
        return (z1 - z2)[torch.full((1,), 10**6, device=z1.device)].sum() + (z1 - z2).square().sum()
'''
Row = dict[str, Any]


@dataclass
class Found:
    """What a stage has found: `faults` are broken promises, `files` are further texts by their names."""

    rows: list[Row] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)

    def tell(self) -> None:
        """Print what is known, as the last line that the drill reads if the stage is stopped here."""
        print(json.dumps({"rows": self.rows, "faults": self.faults}, default=str), flush=True)


@dataclass(frozen=True)
class Place:
    """Where a stage computes."""

    device: str  # for torch; that of the imitation is cuda:0
    imitated: bool
    tiny: bool
    out: Path = Path()  # where records are kept

    @property
    def of_processes(self) -> str:
        """The device for other processes, which the imitation does not reach."""
        return "cpu" if self.imitated else self.device

    @property
    def is_gpu(self) -> bool:
        """Is it a real one?"""
        return self.device != "cpu" and not self.imitated


Stage = Callable[[Place], Found]


@contextmanager
def there(name: str, tiny: bool, out: Path = Path()) -> Iterator[Place]:
    imitation = nullcontext()
    if name == "imitated":
        from tests.gpu import imitated  # it registers a device with torch, beside which a real GPU does not work

        imitation = imitated.gpu()
    with imitation:
        yield Place("cuda:0" if name == "imitated" else name, name == "imitated", tiny, out)


def execute(run: Any, device: str, images: Images | None = None, **settings: Any) -> tuple[Row, Row]:
    """Record and curves of a run on the images, by default the first digits."""
    images = images or trials.images()
    executor = Executor(Machine(device, "data", **settings), read_images=lambda _: images)
    record, curves = executor(run, to_device(images, torch.device(device)))
    return dict(record), curves


def random_images(count: int, channels: int, side: int) -> Images:
    random = np.random.default_rng(0)
    shapes = (count, channels, side, side), (64, channels, side, side)
    train, test = (random.integers(0, 256, shape, dtype=np.uint8) for shape in shapes)
    y, tests = np.arange(count) % 10, np.arange(64) % 10
    return replace(trials.images(), train_images=train, train_labels=y, test_images=test, test_labels=tests)


# proofs -------------------------------------------------------------------------------------------------------------


def machine(place: Place) -> Found:
    """Versions, and what the device reaches in a large product and a copy."""
    size, dtype = (256, torch.float32) if place.tiny or not place.is_gpu else (8192, torch.bfloat16)
    a = torch.randn(size, size).to(place.device, dtype)
    _common.timed(lambda: a @ a, device=place.device if place.is_gpu else "cpu")
    seconds = min(_common.repeated(lambda: a @ a, least=3, most=10, device=place.device if place.is_gpu else "cpu"))
    copying = min(_common.repeated(a.clone, least=3, most=10, device=place.device if place.is_gpu else "cpu"))
    row: Row = {
        "torch": torch.__version__,
        "machine": _common.machine(),
        "tera_ops_per_s": 2 * size**3 / seconds / 1e12,
    }
    row["copy_gb_per_s"] = 2 * a.numel() * a.element_size() / copying / 1e9
    row["mps_daemon"] = shutil.which("nvidia-cuda-mps-control") or "not there"
    if tool := shutil.which("nvidia-smi"):
        asked = "--query-gpu=name,memory.total,memory.used,driver_version,compute_mode"
        command = [tool, asked, "--format=csv,noheader"]
        row["nvidia_smi"] = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return Found([row])


VIEWS = {"8x8, batch 64": (1, 8, 64), "32x32, batch 128": (3, 32, 128), "32x32, batch 512": (3, 32, 512)}


def views(place: Place) -> Found:
    """The kernel for views against torch's operations, and against what torch compiles: the same views, and seconds."""
    found = Found()
    for name, (channels, side, batch) in VIEWS.items():
        images, statistics = (
            random_images(12 if place.tiny else batch, channels, side).train_images,
            torch.full((channels,), 0.5),
        )
        stored = torch.from_numpy(images).to(place.device)
        maker = ViewMaker(Views(**_color()), statistics.to(place.device), statistics.to(place.device))
        draws = send_all(maker.draws(stored.shape, 0), stored.device)
        row: Row = {"views": name}
        with view_kernel.used(False):
            expected = maker.basic(stored, draws)
            row["torch_s"] = _seconds(partial(maker.basic, stored, draws), place)
        with view_kernel.used(True):
            before = view_kernel.launches()
            made = maker.basic(stored, draws)
            row["kernel"] = view_kernel.since(before)
            row["kernel_s"] = _seconds(partial(maker.basic, stored, draws), place)
        row["largest difference"] = float((made - expected).abs().max())
        if view_kernel.different(made, expected, maker.std) or (place.is_gpu and row["kernel"] != "yes"):
            found.faults.append(f"{name}: {row['kernel']}, apart by {row['largest difference']}")
        if place.is_gpu and name == "32x32, batch 128":
            row |= _compiled_views(maker, stored, draws, place)
        found.rows.append(row)
    return found


def _compiled_views(maker: ViewMaker, stored: Tensor, draws: dict[str, Tensor], place: Place) -> Row:
    """What torch makes of its operations in one order of colours: seconds to compile, and of a batch."""
    compiled = torch.compile(maker.basic)
    with view_kernel.used(False):
        try:
            took, _ = _common.timed(lambda: compiled(stored, draws), device=place.device)
            return {"compiled_s": _seconds(lambda: compiled(stored, draws), place), "compiling_s": took}
        except Exception as error:  # this is a comparison, and no part of the product
            return {"compiled_s": f"{type(error).__name__}: {str(error)[:200]}"}


def _seconds(work: Callable[[], Any], place: Place) -> float:
    return min(_common.repeated(work, least=3, most=20, device=place.device if place.is_gpu else "cpu"))


def kernels(place: Place) -> Found:
    """Value and gradient of every loss, three batches in a row, against the CPU's."""
    found = Found()
    for name in trials.names("losses"):
        row: Row = {"loss": name}
        for precision in ("float64", "float32"):
            try:
                with float64() if precision == "float64" else nullcontext():
                    row[precision] = _largest_difference(name, place.device)
            except Exception as error:
                row[precision] = f"{type(error).__name__}: {str(error)[:200]}"
            if not isinstance(row[precision], float) or not row[precision] < TOLERANCE[precision]:
                found.faults.append(f"{name} in {precision}: {row[precision]}")
        found.rows.append(row)
    return found


def _largest_difference(name: str, device: str) -> float:
    """Relative, of values and gradients of a loss between the CPU and the device."""
    here = losses.build(name, dim=DIM, classes=CLASSES, images=IMAGES)
    if isinstance(here, nn.Module):
        here.to(torch.get_default_dtype())
    other = copy.deepcopy(here)
    other = other.to(device) if isinstance(other, nn.Module) else other
    generator = torch.Generator().manual_seed(0)
    labels, worst = torch.arange(IMAGES) % CLASSES, 0.0
    if requirements_of(here).trains_on == "all":
        labels[::3] = -1
    for _ in range(3):
        z1 = torch.randn(IMAGES, DIM, generator=generator, dtype=torch.float64).to(torch.get_default_dtype())
        z2 = z1 + 0.5 * torch.randn(IMAGES, DIM, generator=generator, dtype=torch.float64).to(z1)
        results = [
            _value_and_gradients(loss, z1.to(at), z2.to(at), labels.to(at))
            for loss, at in ((here, "cpu"), (other, device))
        ]
        for one, two in zip(*results, strict=True):
            worst = max(worst, float((one - two).norm() / one.norm().clamp(min=1e-6)))
    return worst


def _value_and_gradients(loss: Any, z1: Tensor, z2: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    z1, z2 = z1.detach().requires_grad_(), z2.detach().requires_grad_()
    index = torch.arange(len(z1), device=z1.device)
    extras = contract.extra_inputs(requirements_of(loss), Batch(z1, z2, labels), index, CLASSES)
    if "support" in extras:
        extras["support"] = tuple(part.to(z1.device) for part in extras["support"])
    value = loss(z1, z2, labels, **extras)
    gradients = torch.autograd.grad(value, (z1, z2), allow_unused=True)
    filled = [torch.zeros_like(z) if g is None else g for z, g in zip((z1, z2), gradients, strict=True)]
    return tuple(x.detach().cpu().double() for x in (value, *filled))


def waits(place: Place) -> Found:
    """Every loss trains, and no step waits for the device, but for the losses that say so."""
    found = Found()
    for name in trials.names("losses"):
        with _waiting_is_an_error() if place.is_gpu and name not in trials.WAITS else nullcontext():
            record, _ = execute(trials.run(name), place.device)
        row = {"loss": name, "status": record["status"], "reason": record["reason"][:300]}
        if record["status"] == "failed":
            found.faults.append(f"{name}: {record['reason'][:300]}")
        found.rows.append(row)
    return found


@contextmanager
def _waiting_is_an_error() -> Iterator[None]:
    """After the first step of a training, until its curves are computed at its end."""
    add, complete = Curves.add, Curves.complete

    def adding(curves: Curves, *point: Any) -> None:
        add(curves, *point)
        torch.cuda.set_sync_debug_mode("error")

    def completing(curves: Curves) -> None:
        torch.cuda.set_sync_debug_mode("default")
        complete(curves)

    with mock.patch.object(Curves, "add", adding), mock.patch.object(Curves, "complete", completing):
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")


def graph(place: Place) -> Found:
    """Every loss trains by replayed steps as by eager ones, or the record says why it is not replayed."""
    found = Found()
    with mock.patch.object(recorded, "LEAST_STEPS", 5), mock.patch.object(recorded, "LEAST_REPLAYS", 1):
        for name in trials.names("losses"):
            run = trials.run(name, epochs=3)
            record, curves = execute(run, place.device)
            eager, expected = execute(run, place.device, graphs=False)
            row: Row = {"loss": name, "status": record["status"], "graph": record["resolved"].get("graph", "no CUDA")}
            pairs = list(zip(curves["history"]["loss"], expected["history"]["loss"], strict=False))
            row["equal to the bit"] = all(one == two for one, two in pairs)
            row["largest difference"] = max((abs(one - two) for one, two in pairs), default=float("nan"))
            first = max(1.0, *(abs(two) for _, two in pairs[:1]), 0.0)
            if "failed" in (record["status"], eager["status"]) or not row["largest difference"] <= 1e-2 * first:
                found.faults.append(f"{name}: {record['reason'] or row['largest difference']}")
            is_eager = name in trials.EAGER and name != "label_redraw"  # whose short recordings are allowed above
            if place.device != "cpu" and (row["graph"] != "yes") != is_eager:
                found.faults.append(f"{name}: replayed: {row['graph']}")
            found.rows.append(row)
    return found


PROBES: dict[str, Row] = {
    "finetune": {"epochs": 1, "batch_size": 12},
    "linear_augmented": {"epochs": 1, "batch_size": 12},
    "linear_sgd": {"epochs": 2},
    "lidar": {"views": 3, "images": 16},
    "loranpac": {"width": 32},
    "shifted_test": {"datasets": [{"digits": {}}]},
    "transfer": {"datasets": [{"digits": {}}, {"glyphs": {}}], "images": 32},
}


def probes(place: Place) -> Found:
    """Every probe of a network that was trained on the device, against the CPU's."""
    # simclr12 reads twelve data sets from disk; its classifiers are those of `transfer`
    all_probes = {name: PROBES.get(name, {}) for name in trials.names("evaluation") if name != "simclr12"}
    encoder = {"convnet": {"width": 4, "blocks": 2}}
    records = [
        execute(trials.run(probes=all_probes, encoder=encoder), at, plain=True)[0] for at in ("cpu", place.device)
    ]
    found = Found(faults=[record["reason"] for record in records if record["status"] == "failed"])
    here, other = (record["scores"] for record in records)
    for name in sorted(here.keys() | other.keys()):
        row = {"score": name, "cpu": here.get(name), "device": other.get(name)}
        if None in row.values() or abs(here[name] - other[name]) > 3 / trials.TEST:
            found.faults.append(f"{name}: {row['cpu']} and {row['device']}")
        found.rows.append(row)
    return found


def training(place: Place) -> Found:
    """Trainings on digits, step by step against the CPU's, in float32 and as `auto` would have it."""
    found, whole = Found(), None if place.tiny else _digits()
    names = (
        ("nt_xent", "byol") if place.tiny else ("nt_xent", "supcon", "clop", "byol", "moco_v2", "fixmatch", "vicreg")
    )
    for name in names:
        run = trials.run(name, batch_size=12 if whole is None else 64, epochs=1 if whole is None else 4)
        expected, curves = execute(run, "cpu", whole, plain=True)
        for plain in (True, False):
            record, others = execute(run, place.device, whole, plain=plain)
            pairs = list(zip(curves["history"]["loss"], others["history"]["loss"], strict=False))[:COMPARED_POINTS]
            apart = max((abs(one - two) for one, two in pairs), default=float("nan"))
            row = {
                "loss": name,
                "plain": plain,
                "status": record["status"],
                "precision": record["resolved"]["precision"],
            }
            row["largest difference of the loss"] = apart
            row |= {f"{key}, cpu": value for key, value in expected["scores"].items()} | record["scores"]
            first = abs(curves["history"]["loss"][0])
            if record["status"] == "failed" or (plain and not apart <= LOSS_TOLERANCE * max(1.0, first)):
                found.faults.append(f"{name}, plain {plain}: {record['reason'] or f'apart by {apart:.3g}'}")
            found.rows.append(row)
    return found


def _digits() -> Images:
    from cl_semisup.execution.data import load_images

    return load_images({"digits": {}}, "data")


def resume(place: Place) -> Found:
    """A training that is left after its first step and resumed, against one that is not."""
    found = Found()
    for name in ("byol", "moco_v2", "swav", "flexmatch"):
        run = trials.run(name, optimizer={"adamw": {}})
        whole = execute(run, place.device)[1]["history"]["loss"]
        with tempfile.TemporaryDirectory() as folder:
            kept = {"checkpoints": folder, "checkpoint_seconds": 0.0, "state_key": "00" * 32}
            leaving = Executor(
                Machine(place.device, "data", **kept), lambda: True, read_images=lambda _: trials.images()
            )
            try:
                leaving(run, to_device(trials.images(), torch.device(place.device)))
                found.faults.append(f"{name}: was not left")
            except Preempted:
                pass
            record, curves = execute(run, place.device, **kept)
        again = curves["history"]["loss"]
        apart = max((abs(one - two) for one, two in zip(whole, again, strict=False)), default=float("nan"))
        found.rows.append({"loss": name, "largest difference": apart, "equal to the bit": whole == again})
        if len(whole) != len(again) or not apart < 1e-3:
            found.faults.append(f"{name}: {record['reason'] or apart}")
    return found


def memory(place: Place) -> Found:
    """Lack of memory: an encoder without batch norm takes chunks, one with batch norm leaves a record that says so."""
    vit, convnet = {"vit": {"patch": 4, "layers": 2}}, {"convnet": {"width": 64, "blocks": 2}}
    count = 4096 if place.is_gpu else 24
    images, found = random_images(count, 3, 32 if place.is_gpu else 8), Found()
    if place.is_gpu:
        total = torch.cuda.get_device_properties(place.device).total_memory
        torch.cuda.set_per_process_memory_fraction(1.5 * 2**30 / total, torch.device(place.device))
    with nullcontext() if place.is_gpu else _no_room_for_more_than(12):
        for encoder, batch_norm in ((vit, False), (convnet, True)):
            record, _ = execute(trials.run(encoder=encoder, batch_size=count), place.device, images, native=False)
            row = {"encoder": next(iter(encoder)), "status": record["status"], "reason": record["reason"][:200]}
            row["chunks"] = record["resolved"].get("chunks", 1)
            found.rows.append(row)
            as_told = row["reason"].startswith("out of memory") if batch_norm else row["chunks"] > 1
            if not as_told or (row["status"] == "failed") != batch_norm:
                found.faults.append(f"{row['encoder']}: {row['status']}, {row['chunks']} chunks, {row['reason']}")
    return found


@contextmanager
def _no_room_for_more_than(rows: int) -> Iterator[None]:
    """Every encoder runs out of memory in training if it gets more images at once."""
    forward = nn.Module.__call__

    def call(module: nn.Module, *inputs: Any, **named: Any) -> Any:
        if hasattr(module, "dim") and module.training and len(inputs[0]) > rows:
            raise torch.AcceleratorError("CUDA error: out of memory")
        return forward(module, *inputs, **named)

    nn.Module.__call__ = call  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.__call__ = forward  # type: ignore[method-assign]


def lost(place: Place) -> Found:
    """A loss that reads out of range fails with its own reason, and the runs after it are good."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        (folder / "out_of_range.py").write_text(LOST)
        if place.imitated:  # whose processes could not be others
            plugins.register(folder / "out_of_range.py")
            records = [execute(trials.run(name), place.device)[0] for name in ("out_of_range", "nt_xent")]
        else:
            lines = trials.SUITE.replace("[nt_xent]", "[out_of_range, nt_xent, supcon]")
            words = ("--plugin", str(folder / "out_of_range.py"), "--device", place.device, "--workers", "1")
            records = _records_of(lines, folder / "runs", *words)
    found = Found()
    for record in records:
        loss = next(iter(record["run"]["loss"]))
        found.rows.append({"loss": loss, "status": record["status"], "reason": record["reason"][:300]})
        failed = record["status"] == "failed"
        if failed != (loss == "out_of_range") or "worker process died" in record["reason"]:
            found.faults.append(f"{loss}: {record['status']}, {record['reason'][:300]}")
    return found


def _records_of(lines: str, folder: Path, *words: str) -> list[Row]:
    """The records of a suite, some of whose runs may fail."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "s.yaml").write_text(lines)
    command = [*_common.COMMAND, str(folder / "s.yaml"), "--results", str(folder), *words]
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL, cwd=_common.ROOT)
    paths = [path for path in folder.glob("records/*/*/*.json") if not path.name.endswith(".curves.json")]
    return [json.loads(path.read_text()) for path in sorted(paths)]


def shared(place: Place) -> Found:
    """Two workers read one copy of a data set on the device, and find the scores that they find on two copies."""
    dataset: Row = {"digits": {}} if place.tiny else {"subspaces": {"classes": 10, "ambient": 1024, "points": 4000}}
    runs = [trials.run(dataset=dataset, batch_size=64, repetition=n) for n in range(4)]
    size, found, scores, peaks = nbytes(load_images(dataset, "data")), Found(), [], []
    for how in ("copies", "one copy"):
        records, readers = _by_two_workers(runs, place.of_processes, share=how == "one copy")
        told = {record["resolved"].get("shared_data", "no") for record in records}
        scores.append([value for record in records for value in record["scores"].values()])
        peaks.append(max(record["cost"]["peak_memory_bytes"] for record in records))
        row: Row = {"data": how, "data_gib": size / 2**30, "peak_gib": peaks[-1] / 2**30, "readers": readers}
        found.rows.append(row | {"shared_data": ", ".join(sorted(told)), "scores": str(scores[-1])})
        found.faults += [record["reason"] for record in records if record["status"] == "failed"][:3]
        if (how == "one copy") != (told == {"yes"}) or readers != (2 if how == "one copy" else 0):
            found.faults.append(f"{how}: {readers} workers read shared data, and records say {sorted(told)}")
        found.tell()
    tolerance = SHARED_TOLERANCE if place.is_gpu else 0
    if len(scores[0]) != len(scores[1]) or not np.allclose(*scores, rtol=0, atol=tolerance) or not scores[0]:
        found.faults.append(f"scores differ: {scores}")
    if place.is_gpu and peaks[0] - peaks[1] < 0.9 * size:
        found.faults.append(f"a worker's peak must fall by the data's {size} bytes, and was {peaks}")
    return found


def _by_two_workers(runs: Sequence[Any], device: str, share: bool) -> tuple[list[Row], int]:
    """The records of runs by two workers, and how many of these read shared data at the end."""
    patch = mock.patch.object
    with patch(shared_data, "WORTH", 1), patch(shared_data, "can_share", lambda machine: share):
        engine = LocalEngine(Machine(device, "data"), 2)
    records: dict[str, Row] = {}

    def execute_all(some: Sequence[Any]) -> None:
        before = len(records)
        for run in some:
            engine.submit(single_run(run))
        while len(records) < before + len(some):
            records.update({training.id: dict(record) for training, ((record, _),) in engine.results(60.0)})

    try:
        execute_all(runs)
        for n in range(len(runs), 40, 2):  # a worker may have been quicker to start than the other
            if not share or len(engine.held.readers) == 2:
                break
            execute_all([replace(runs[0], repetition=n), replace(runs[0], repetition=n + 1)])
        return [records[run.id] for run in runs], len(engine.held.readers)
    finally:
        engine.cancel()


def gate(place: Place) -> Found:
    """The gate, which computes on the CPU, raises no false alarm on this machine."""
    words = ("gate", "suites/gate.yaml", "--tiers", "function", *(() if place.tiny else ("trajectory",)))
    done = subprocess.run([*_common.COMMAND, *words], capture_output=True, text=True, cwd=_common.ROOT, check=False)
    lines = (done.stdout + done.stderr).strip().splitlines()
    found = Found([{"exit code": done.returncode, "last line": lines[-1] if lines else ""}])
    if done.returncode:
        found.faults.append("\n".join(lines[-10:]))
    return found


# measurements -------------------------------------------------------------------------------------------------------

JOBS = {  # encoder, channels, side, batch, images, epochs of a short and a long training
    "convnet 8x8, batch 64": ({"convnet": {}}, 1, 8, 64, 8192, (2, 20)),
    "convnet 32x32, batch 128": ({"convnet": {}}, 3, 32, 128, 8192, (2, 20)),
    "resnet18 32x32, batch 64": ({"resnet18": {}}, 3, 32, 64, 8192, (1, 4)),
    "resnet18 32x32, batch 512": ({"resnet18": {}}, 3, 32, 512, 32768, (1, 3)),
}
SMALL = tuple(name for name in JOBS if "convnet" in name)
WAYS: dict[str, tuple[Row, tuple[str, ...]]] = {  # settings of the machine, and the jobs
    "graph": ({}, tuple(JOBS)),
    "before": ({"graphs": False, "native": False}, SMALL),  # views by torch's operations
    "eager": ({"graphs": False}, tuple(JOBS)),
    "plain": ({"plain": True}, tuple(JOBS)[:3]),
    "compiled": ({"compile": True}, ("resnet18 32x32, batch 64",)),
}
PROFILED_STEPS = 20


def _job(name: str, place: Place, epochs: int = 1) -> tuple[Any, Images]:
    encoder, channels, side, batch, count, _ = JOBS[name]
    if place.tiny:
        encoder, side, batch, count = {"convnet": {"width": 4, "blocks": 1}}, 8, 12, 24
    run = trials.run(encoder=encoder, batch_size=batch, epochs=epochs, views={**trials.run().views, **_color()})
    return run, random_images(count, channels, side)


def _color() -> Row:
    return {"crop_area": 0.2, "flip": 0.5, "jitter": 0.8, "grayscale": 0.2}


def throughput(place: Place) -> Found:
    """Images a second of a training with its views, by the difference of a long and a short training."""
    found = Found()
    for label, (settings, names) in WAYS.items():
        for name in names if place.is_gpu or label in ("graph", "plain") else ():
            began = time.perf_counter()
            each, start, record = _step_seconds(name, place, JOBS[name][-1] if label == "graph" else (1, 3), **settings)
            row: Row = {"job": name, "how": label, "precision": record["resolved"]["precision"]}
            row |= {key: record["resolved"].get(key, "") for key in ("graph", "view_kernel")}
            row |= {"images_per_s": record["run"]["batch_size"] / each, "step_ms": 1e3 * each}
            row["start_s"] = start  # with the recording
            row["peak_gib"] = record["cost"]["peak_memory_bytes"] / 2**30
            row["wall_s"] = time.perf_counter() - began
            found.rows.append(row)
            if record["status"] == "failed":
                found.faults.append(f"{name}, {label}: {record['reason'][:300]}")
            found.tell()
    return found


def _step_seconds(name: str, place: Place, epochs: tuple[int, int], **settings: Any) -> tuple[float, float, Row]:
    """Seconds of a step, by the difference of a long and a short training; those of all else; the long one's record."""
    known = []
    for count in (1, 2) if place.tiny else epochs:
        run, images = _job(name, place, count)
        record, _ = execute(run, place.device, images, **settings)
        steps = count * (len(images.train_images) // run.batch_size)
        known.append((record["cost"].get("train_seconds", float("nan")), steps))
    (short, few), (long, many) = known
    each = (long - short) / (many - few)
    return each, long - each * many, record


def workers(place: Place) -> Found:
    """Runs a minute with so many workers on one device, with the default, and with as many as fit."""
    repetitions, found = (1, Found()) if place.tiny else (12, Found())
    lines = trials.SUITE.replace("repetitions: 1", f"repetitions: {repetitions}").replace("epochs: 1", "epochs: 20")
    lines = lines.replace("[nt_xent]", "[nt_xent]" if place.tiny else "[nt_xent, supcon, vicreg, clop]")
    lines = lines.replace("batch_size: 12", "batch_size: 64")
    counts: list[tuple[str, ...]] = [("--workers", str(n)) for n in ((1,) if place.tiny else (1, 8))]
    for words in [*counts, *([(), ("--fill-gpu",)] if place.is_gpu else [])]:  # () is the default
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            records = _records_of(lines, Path(folder) / "runs", "--device", place.of_processes, *words)
            seconds = time.perf_counter() - began
        failed = [record["reason"] for record in records if record["status"] == "failed"]
        row = {"workers": " ".join(words) or "default", "runs": len(records)}
        found.rows.append(row | {"runs_per_minute": 60 * len(records) / seconds})
        found.faults += failed[:3]
        found.tell()
    return found


def profile(place: Place) -> Found:
    """Where the time of a step goes: the device's share of some late steps, and the kernels that take most of it."""
    found = Found()
    for number, name in enumerate(JOBS):
        run, images = _job(name, place)
        seen, wall = _profiled(run, images, place)
        events = seen.key_averages()
        on_device = [e for e in events if e.device_type == torch.autograd.DeviceType.CUDA] if place.is_gpu else events
        time_of = attrgetter("self_device_time_total" if place.is_gpu else "self_cpu_time_total")
        busy = sum(map(time_of, on_device)) / 1e6
        longest = sorted(on_device, key=time_of, reverse=True)
        row: Row = {"job": name, "step_ms": 1e3 * wall / PROFILED_STEPS, "busy": busy / wall}
        row["kernels"] = sum(event.count for event in on_device) / PROFILED_STEPS
        row["launches"] = sum(event.count for event in events if "Launch" in event.key) / PROFILED_STEPS
        found.rows.append(row | {"longest": longest[0].key})
        lines = [
            f"{time_of(e) / 1e3 / PROFILED_STEPS:10.4f} ms  {e.count / PROFILED_STEPS:7.1f}  {e.key[:150]}"
            for e in longest
        ]
        found.files[f"profile_{number}.txt"] = "\n".join([f"{name}: time and number in a step", *lines[:40], ""])
        found.tell()
    return found


def _profiled(run: Any, images: Images, place: Place) -> tuple[Any, float]:
    """The profiler, and the seconds of the last steps but one of a training."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    steps = run.epochs * (len(images.train_images) // run.batch_size)
    first = max(0, steps - PROFILED_STEPS - 1)
    activities = [ProfilerActivity.CUDA if place.is_gpu else ProfilerActivity.CPU]
    with profiler(activities=activities):  # what loads its library, which must not come into a recording
        torch.zeros(8, device=place.device).sum().item()
    seen, clock = profiler(activities=activities, acc_events=True), [0.0, 0.0]
    kind = recorded.RecordedSteps if place.is_gpu else Steps
    call = kind.__call__

    def now() -> float:
        synchronize(torch.device(place.device))
        return time.perf_counter()

    def counted(self: Any, number: int) -> Any:
        if number == first:
            now()
            seen.start()
            clock[0] = now()
        outputs = call(self, number)
        if number == min(first + PROFILED_STEPS, steps) - 1:
            clock[1] = now()
            seen.stop()
        return outputs

    with mock.patch.object(kind, "__call__", counted):
        execute(run, place.device, images)
    return seen, clock[1] - clock[0]


def lightly(place: Place) -> Found:
    """The same ResNet-18 by lightly and Lightning in the better of two settings, between two measurements of ours."""
    found, jobs = Found(), {"resnet18 32x32, batch 512": "drill512", "resnet18 32x32, batch 64": "drill64"}
    if not place.is_gpu and not place.tiny:
        return Found([{"skipped": "a GPU's jobs are hours on a CPU"}])
    if place.tiny:
        jobs = {"resnet18 32x32, batch 512": "trial"}

    def ours(name: str) -> float:
        each, _, record = _step_seconds(name, place, JOBS[name][-1])
        return float(record["run"]["batch_size"] / each)

    before = {name: ours(name) for name in jobs}
    precisions = ("32-true",) if place.tiny else ("bf16-mixed", "32-true")
    settings = [throughput_job.Setting(1, _common.cores(), precision) for precision in precisions]
    theirs = throughput_job.lightly_speeds([(job, setting) for job in jobs.values() for setting in settings])
    for name, job in jobs.items():
        speeds = {setting: theirs[job, setting] for setting in settings}
        best = max(settings, key=lambda setting: speeds[setting])
        row: Row = {"job": name, "images_per_s": (before[name] + ours(name)) / 2, "lightly_images_per_s": speeds[best]}
        found.rows.append(row | {"setting": str(best), "ratio": row["images_per_s"] / speeds[best]})
        found.tell()
    return found


def targets(place: Place) -> Found:
    """What was wanted, what the stages before have measured, and where the time goes; from OUT/gpu.json."""
    file = place.out / "gpu.json"
    known = json.loads(file.read_text("utf-8"))["stages"] if file.exists() else {}
    return Found(list(targets_of({name: stage["rows"] for name, stage in known.items()})))


def targets_of(rows: Mapping[str, list[Row]]) -> Iterator[Row]:
    """A row a target: name, what was measured, what was wanted, whether it holds, and the profile of its job."""
    speeds = {(row["job"], row["how"]): row["images_per_s"] for row in rows.get("throughput", [])}
    profiles = {row["job"]: row for row in rows.get("profile", [])}
    ratios = {row["job"]: row["ratio"] for row in rows.get("lightly", []) if "ratio" in row}
    runs = {row["workers"]: row["runs_per_minute"] for row in rows.get("workers", [])}

    def ratio(one: float | None, other: float | None) -> float | None:
        return one / other if one is not None and other else None

    small, large, b64, b512 = JOBS
    replayed = {job: speeds.get((job, "graph")) for job in JOBS}
    shared = max((speed for words, speed in runs.items() if words != "--workers 1"), default=None)
    wanted: list[tuple[str, str, float | None, float]] = [
        (b512, "seconds an epoch of 50,000 images, at most", ratio(50_000, replayed[b512]), 1.5),
        (b64, "images/s of those of batch 512", ratio(replayed[b64], replayed[b512]), 0.5),
        (small, "times the eager step of before", ratio(replayed[small], speeds.get((small, "before"))), 8.0),
        (large, "times the eager step of before", ratio(replayed[large], speeds.get((large, "before"))), 8.0),
        ("48 runs of digits", "times as fast as in turn", ratio(shared, runs.get("--workers 1")), 5.0),
        (b512, "times lightly", ratios.get(b512), 8.0),
        (b64, "times lightly", ratios.get(b64), 8.0),
    ]
    for job, what, measured, bound in wanted:
        holds = measured is not None and (measured <= bound if "at most" in what else measured >= bound)
        row: Row = {"job": job, "what": what, "wanted": bound, "measured": measured}
        row["holds"] = "not measured" if measured is None else "yes" if holds else "no"
        profile = profiles.get(job, {})
        yield row | {key: profile.get(key, "") for key in ("busy", "launches", "longest")}


QUESTION = """\
question: Do prototypes help SimCLR where a hundredth of the labels is known, and does it learn more than labels alone?
datasets: glyphs
encoder: convnet
losses: [cross_entropy, nt_xent, {clop: {base: {nt_xent: {}}}}]
label_fraction: 0.01
learning_rate: 0.1
batch_size: 128
repetitions: 5
epochs: 100
"""


def question(place: Place) -> Found:
    """A suite, as far as the time goes; its records stay in the folder `question` of the results."""
    lines, folder = QUESTION, place.out / "question"
    if place.tiny:
        lines = trials.SUITE
    records = _records_of(lines, folder, "--device", place.of_processes)
    found = Found()
    for record in records:
        row: Row = {"loss": next(iter(record["run"]["loss"])), "repetition": record["run"]["repetition"]}
        row |= {"status": record["status"], "seconds": record["cost"].get("train_seconds")}
        found.rows.append(row | {key: record["scores"].get(key) for key in list(record["scores"])[:3]})
        if record["status"] == "failed":
            found.faults.append(f"{row['loss']}: {record['reason'][:300]}")
    return found


STAGES: dict[str, Stage] = {
    "machine": machine, "views": views, "kernels": kernels, "waits": waits, "graph": graph, "probes": probes,
    "training": training, "resume": resume, "memory": memory, "lost": lost, "shared": shared, "gate": gate,
    "profile": profile, "throughput": throughput, "lightly": lightly, "workers": workers, "targets": targets,
    "question": question,
}  # fmt: skip
