"""Run -> Record: build the parts, train, evaluate. The only place where a failure becomes data."""

import platform
import resource
import subprocess
import time
import traceback
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import cl_semisup
from cl_semisup import evaluation, geometry, labels, losses, plugins, protocol, verdict
from cl_semisup.errors import InputError, OutOfMemory
from cl_semisup.evaluation import Embedded, Network
from cl_semisup.records import SCHEMA, Record
from cl_semisup.run import Run
from cl_semisup.seeds import seed
from cl_semisup.settings import Projector, Schedule, Views
from cl_semisup.training import loop
from cl_semisup.training.checkpoint import Checkpoint
from cl_semisup.training.loop import Diverged, History, Parts
from cl_semisup.training.model import Model
from cl_semisup.training.schedule import effective
from cl_semisup.views import ViewMaker, weak

EVALUATION_CHUNK = 1000  # images at once when features are extracted
PICTURE_POINTS = 300  # test images in the two-dimensional picture


@dataclass(frozen=True)
class Machine:
    """Where and how runs execute; none of it is part of the question.

    Args:
        device: cpu, cuda, cuda:1, mps
        data_dir: folder of data sets
        channels_last: memory layout of the network; 1.4 to 1.6 times faster on a CPU, also with one channel
        compile: compile the encoder with torch.compile
        checkpoints: folder for the states of unfinished runs; "" keeps none
        checkpoint_seconds: time between two states of a run
    """

    device: str
    data_dir: str
    channels_last: bool = True
    compile: bool = False
    checkpoints: str = ""
    checkpoint_seconds: float = 60.0


def choose_device(asked: str = "auto") -> str:
    """CUDA, then Apple's MPS, then the CPU; a device that is asked for must be there."""
    known = ["cpu"]
    if torch.backends.mps.is_available():
        known.insert(0, "mps")
    if torch.cuda.is_available():
        known[:0] = ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if asked == "auto":
        return known[0]
    if asked not in known:
        raise InputError(f"--device: {asked!r} is not on this machine. Known: {', '.join(known)}.")
    return asked


@dataclass(frozen=True, eq=False)
class Data:
    """A data set on the device: uint8 images (M, C, side, side), true labels, statistics of its training images."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    mean: Tensor
    std: Tensor
    classes: int
    content_hash: str


class Executor:
    """Executes runs one after the other on one machine, keeping the last data set loaded."""

    def __init__(self, machine: Machine):
        self.machine = machine
        self.device = torch.device(machine.device)
        self._data: tuple[str, Data] | None = None

    def __call__(self, run: Run, data: Data | None = None) -> tuple[Record, dict[str, Any]]:
        """The record and the curves of a run; any failure of the run itself is a record too.

        `data` replaces the data set, for a trial on a part of it.
        """
        started = datetime.now(UTC)
        attempt = _Attempt(run, self.machine)
        try:
            attempt.go(data or self.data(run))
        except Diverged as error:
            attempt.status, attempt.reason = "diverged", str(error)
        except (torch.OutOfMemoryError, OutOfMemory, MemoryError) as error:
            attempt.status, attempt.reason = "failed", f"out of memory: {str(error).splitlines()[0]}"
        except Exception as error:
            attempt.status, attempt.reason = "failed", f"{type(error).__name__}: {error}"
            attempt.curves["traceback"] = traceback.format_exc()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return attempt.record(started), attempt.curves

    def data(self, run: Run) -> Data:
        key = repr(run.dataset)
        if self._data is None or self._data[0] != key:
            self._data = None  # free the old one first
            self._data = (key, load(run, self.machine, self.device))
        return self._data[1]


def failed(run: Run, machine: Machine, reason: str) -> tuple[Record, dict[str, Any]]:
    """The record of a run that could not even be executed."""
    attempt = _Attempt(run, machine)
    attempt.status, attempt.reason = "failed", reason
    return attempt.record(datetime.now(UTC)), attempt.curves


def load(run: Run, machine: Machine, device: torch.device) -> Data:
    """The run's data set, on the device where it fits beside training."""
    (name, params) = next(iter(run.dataset.items()))
    images = plugins.load("datasets", name)(**params).load(Path(machine.data_dir))
    mean, std = _pixel_statistics(images.train_images)
    home = device if _fits(images.train_images.nbytes + images.test_images.nbytes, device) else torch.device("cpu")
    return Data(
        torch.as_tensor(images.train_images).to(home),
        torch.as_tensor(images.train_labels).to(device),
        torch.as_tensor(images.test_images).to(home),
        torch.as_tensor(images.test_labels).to(device),
        mean.to(device),
        std.to(device),
        images.classes,
        images.content_hash,
    )


class _Attempt:
    """What is known of a run so far; a record can be made of it at any point."""

    def __init__(self, run: Run, machine: Machine):
        self.run, self.machine, self.device = run, machine, torch.device(machine.device)
        self.status, self.reason = "ok", ""
        self.resolved: dict[str, Any] = {"device": self._device_name(), "precision": self._precision()}
        self.scores: dict[str, float] = {}
        self.diagnostics: dict[str, float] = {}
        self.cost: dict[str, float] = {}
        self.curves: dict[str, Any] = {}
        self.data_hash = ""
        self.history = History()

    def go(self, data: Data) -> None:
        """Train and evaluate; every finding is kept as soon as it is known."""
        run, dataset = self.run, next(iter(self.run.dataset))
        names = (dataset, run.repetition)
        drawn = labels.of_run(data.train_labels.cpu().numpy(), run.as_dict())
        shown, data = drawn.shown, _part(data, drawn.kept)
        self.data_hash = data.content_hash
        self.resolved |= {"classes": data.classes, "train_images": len(data.train_images)}
        self.resolved |= {"label_set": drawn.fingerprint, "labelled_images": int((shown >= 0).sum())}
        if run.epochs and (run.batch_size or 0) > len(shown):
            rule = f"must not exceed the images that imbalance and unlabelled_ratio keep, {len(shown)}"
            raise InputError(f"batch_size: {rule}. Got {run.batch_size}. Lower it.")
        views = ViewMaker(Views(**run.views), data.mean, data.std)
        loss, model = self._build(data, names)
        labels_shown = torch.from_numpy(shown).to(self.device)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()

        began = time.perf_counter()
        if run.epochs:
            self._train(model, loss, views, data, labels_shown, names)
            self._synchronize()
            seconds = time.perf_counter() - began
            trained = self.resolved["steps"] * (run.batch_size or 0)
            self.cost |= {"train_seconds": seconds, "images_per_second": trained / seconds}

        began = time.perf_counter()
        embedded = self._embed(model, views, data, labels_shown, names)
        measured = evaluation.measure(embedded, run.evaluation)
        self.scores, self.diagnostics = measured.scores, measured.diagnostics
        self.curves |= _picture(embedded) | measured.curves
        self._synchronize()
        self.cost["evaluation_seconds"] = time.perf_counter() - began
        if run.epochs and (why := verdict.collapse(measured.diagnostics)):
            self.status, self.reason = "collapsed", why

    def _build(self, data: Data, names: tuple[object, ...]) -> tuple[losses.Loss | None, Model]:
        run = self.run
        (encoder, encoder_settings) = next(iter(run.encoder.items()))
        (loss_name, loss_settings) = next(iter(run.loss.items()))
        channels, side = data.train_images.shape[1:3]
        built = plugins.load("encoders", encoder)(**encoder_settings)
        projector = Projector(**run.projector)
        loss = None
        if run.epochs:
            prototypes = seed("prototypes", *names)
            dim = projector.dim if projector.layers else built.build(channels, side).dim
            known = {"dim": dim, "classes": data.classes, "seed": prototypes, "images": len(data.train_images)}
            loss = losses.build(loss_name, **known, **loss_settings)
            if isinstance(loss, torch.nn.Module):
                loss.to(self.device)
        needs = losses.asks(loss).needs
        model = Model(lambda: built.build(channels, side), projector, data.classes, needs, names).to(self.device)
        if self.machine.channels_last:
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return loss, model

    def _train(
        self, model: Model, loss: Any, views: ViewMaker, data: Data, shown: Tensor, names: tuple[object, ...]
    ) -> None:
        run = self.run
        assert run.batch_size and run.learning_rate and run.optimizer and run.schedule is not None
        schedule = Schedule(**run.schedule)
        peak = effective(run.learning_rate, run.batch_size, schedule)
        (optimizer, optimizer_settings) = next(iter(run.optimizer.items()))
        weights, others = loop.parameters(model, loss)
        self.resolved |= {
            "effective_learning_rate": peak,
            "steps": run.epochs * (len(data.train_images) // run.batch_size),
        }
        if self.machine.compile:
            model.encoder.compile()
        parts = Parts(
            model=model,
            loss=loss,
            views={"full": views, "weak": ViewMaker(weak(views.settings), data.mean, data.std)},
            optimizer=plugins.load("optimizers", optimizer)(**optimizer_settings).build(weights, others),
            images=data.train_images,
            shown=shown,
            names=names,
            history=self.history,
        )
        autocast = torch.bfloat16 if self.resolved["precision"] == "bfloat16" else None
        loop.train(
            parts,
            epochs=run.epochs,
            batch_size=run.batch_size,
            peak=peak,
            schedule=schedule,
            autocast=autocast,
            checkpoint=self._checkpoint(),
        )

    @torch.no_grad()
    def _embed(self, model: Model, views: ViewMaker, data: Data, shown: Tensor, names: tuple[object, ...]) -> Embedded:
        model.eval()

        @torch.no_grad()
        def outputs(images: Tensor, look: Any) -> tuple[Tensor, Tensor]:
            chunks = []
            for number, chunk in enumerate(images.split(EVALUATION_CHUNK)):
                features = model.encoder(look(chunk.to(self.device), number))
                chunks.append((features, model.projector(features)))
            return torch.cat([f for f, _ in chunks]), torch.cat([p for _, p in chunks])

        def random_view(view: int) -> Tensor:
            return outputs(data.test_images, lambda x, n: views(x, seed("test views", *names, view, n)))[0]

        train, train_projections = outputs(data.train_images, lambda x, _: views.plain(x))
        test, test_projections = outputs(data.test_images, lambda x, _: views.plain(x))
        for part in (train, test):
            if not bool(torch.isfinite(part).all()):
                raise Diverged(self.resolved.get("steps", 0), "a feature after training")
        return Embedded(
            train=train,
            test=test,
            train_projections=train_projections,
            test_projections=test_projections,
            train_labels=data.train_labels,
            test_labels=data.test_labels,
            shown=shown,
            test_views=(random_view(1), random_view(2)),
            classes=data.classes,
            names=names,
            network=Network(
                encoder=model.encoder,
                test_images=data.test_images,
                features=lambda images: outputs(images, lambda x, _: views.plain(x))[0],
                view=random_view,
            ),
        )

    def record(self, started: datetime) -> Record:
        """Everything known of the run, in the schema of `records`."""
        peak = torch.cuda.max_memory_allocated() if self.device.type == "cuda" else _process_peak()
        kept = protocol.settings(self.run, self.data_hash, self.resolved["precision"])
        self.curves["history"] = {name: _finite(values) for name, values in asdict(self.history).items()}
        return {
            "schema": SCHEMA,
            "id": self.run.id,
            "status": self.status,
            "reason": self.reason,
            "run": self.run.as_dict(),
            "resolved": self.resolved,
            "scores": {k: v for k, v in self.scores.items() if v == v},
            "diagnostics": dict(zip(self.diagnostics, _finite(list(self.diagnostics.values())), strict=True)),
            "cost": {**self.cost, "peak_memory_bytes": peak},
            "protocol": {"fingerprint": protocol.fingerprint(kept), "settings": kept},
            "versions": {"plugins": protocol.versions(self.run), "data": self.data_hash, **_environment()},
            "started_at": started.isoformat(timespec="seconds"),
        }

    def _checkpoint(self) -> Checkpoint | None:
        folder = self.machine.checkpoints
        if not folder:
            return None
        made_by = f"{protocol.VERSION} {protocol.versions(self.run)} {self.machine.device}"
        return Checkpoint(Path(folder) / f"{self.run.id}.pt", self.machine.checkpoint_seconds, made_by)

    def _precision(self) -> str:
        if self.run.precision != "auto":
            return self.run.precision
        return "bfloat16" if self.device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"

    def _device_name(self) -> str:
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def _part(data: Data, kept: Any) -> Data:
    """The training images that a run draws; all of them are not copied."""
    if len(kept) == len(data.train_images):
        return data
    rows = torch.from_numpy(kept)
    images, true = data.train_images, data.train_labels
    return replace(data, train_images=images[rows.to(images.device)], train_labels=true[rows.to(true.device)])


def _pixel_statistics(images: Any) -> tuple[Tensor, Tensor]:
    """Per-channel mean and standard deviation of uint8 images in [0, 1], exact, from counts of the 256 values."""
    value = torch.arange(256, dtype=torch.float64) / 255
    means, deviations = [], []
    for channel in range(images.shape[1]):
        counts = torch.zeros(256, dtype=torch.float64)
        for first in range(0, len(images), 10_000):
            part = torch.as_tensor(images[first : first + 10_000, channel]).flatten().int()
            counts += torch.bincount(part, minlength=256)
        shares = counts / counts.sum()
        mean = (shares * value).sum()
        means.append(mean)
        deviations.append((shares * (value - mean).square()).sum().sqrt().clamp(min=1e-3))
    return torch.stack(means).float(), torch.stack(deviations).float()


def _fits(size: int, device: torch.device) -> bool:
    """May the data live on the device? Half of its free memory is left to training."""
    return device.type != "cuda" or size < torch.cuda.mem_get_info(device)[0] // 2


def _picture(embedded: Embedded) -> dict[str, Any]:
    """The test features' singular values and their two principal directions, rounded, for reports."""
    unit = torch.nn.functional.normalize(embedded.test, dim=1)
    values = geometry.singular_values(unit)
    centred = unit - unit.mean(dim=0)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    flat = centred[:PICTURE_POINTS] @ directions[:2].T  # (n, 2)
    return {
        "singular_values": _rounded(values),
        "picture": {
            "x": _rounded(flat[:, 0]),
            "y": _rounded(flat[:, 1]) if flat.shape[1] > 1 else [],
            "label": embedded.test_labels[:PICTURE_POINTS].tolist(),
        },
    }


def _rounded(values: Tensor) -> list[float]:
    return [float(f"{v:.4g}") for v in values.tolist()]


def _finite(values: list[Any]) -> list[Any]:
    """JSON has no NaN: what is not finite becomes null."""
    return [v if not isinstance(v, float) or abs(v) < float("inf") else None for v in values]


def _process_peak() -> int:
    """Bytes of the process's largest resident set so far; Linux counts in KiB, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


@cache
def _environment() -> dict[str, Any]:
    commit, clean = _commit()
    return {
        "package": cl_semisup.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "commit": commit,
        "clean": clean,
    }


def _commit() -> tuple[str, bool]:
    """The checkout's commit and whether the package in it is unchanged; ("", False) outside a checkout."""
    folder = Path(cl_semisup.__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10, check=True
        )
        return done.stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD"), not git("status", "--porcelain", "--", ".")
    except (OSError, subprocess.SubprocessError):
        return "", False
