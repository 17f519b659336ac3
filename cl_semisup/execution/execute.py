"""Run -> Record: build the parts, train, evaluate. The only place where a failure becomes data."""

import math
import platform
import resource
import subprocess
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import cl_semisup
from cl_semisup import evaluation, labels, losses, plugins, protocol, verdict
from cl_semisup.errors import InputError, OutOfMemory
from cl_semisup.evaluation import Embedded, Network
from cl_semisup.execution import chance, picture
from cl_semisup.execution.machine import Machine
from cl_semisup.records import LARGEST, SCHEMA, Record
from cl_semisup.run import Run
from cl_semisup.seeds import seed
from cl_semisup.settings import Projector, Schedule, Views
from cl_semisup.training import loop
from cl_semisup.training.checkpoint import Checkpoint
from cl_semisup.training.chunks import divisible
from cl_semisup.training.loop import Diverged, History, Parts
from cl_semisup.training.model import Model
from cl_semisup.training.schedule import effective
from cl_semisup.views import ViewMaker, weak

EVALUATION_CHUNK = 1000  # images at once when features are extracted
MOST_WORDS = 1000  # characters of an error's message in a record
TRIAL_IMAGES = 8  # that show whether an encoder may take its batch in chunks


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
    """Executes runs one after the other on one machine, keeping the last data set loaded.

    `leave` says whether this process has been asked to go; training then saves its state and raises Left.
    """

    def __init__(self, machine: Machine, leave: Callable[[], bool] = lambda: False):
        self.machine, self.leave = machine, leave
        self.device = torch.device(machine.device)
        self._data: tuple[str, Data] | None = None

    def __call__(self, run: Run, data: Data | None = None) -> tuple[Record, dict[str, Any]]:
        """The record and the curves of a run; any failure of the run itself is a record too.

        `data` replaces the data set, for a trial on a part of it.
        """
        started = datetime.now(UTC)
        attempt = _Attempt(run, self.machine, self.leave)
        try:
            attempt.go(data or self.data(run))
        except Diverged as error:
            attempt.diverged(error)
        except (Exception, SystemExit) as error:  # a stranger's loss may want to leave; the run ends, not the worker
            attempt.failed(error)
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

    def __init__(self, run: Run, machine: Machine, leave: Callable[[], bool] = lambda: False):
        self.run, self.machine, self.device, self.leave = run, machine, torch.device(machine.device), leave
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
        labels_shown = torch.from_numpy(shown).to(self.device)
        loss, model = self._trained(views, data, labels_shown, names)

        began = time.perf_counter()
        embedded = self._embed(model, views, data, labels_shown, names)
        measured = evaluation.measure(embedded, run.evaluation)
        self.scores = {name: float(value) for name, value in measured.scores.items()}
        self.diagnostics = _plain(measured.diagnostics)
        self.curves |= _plain(picture.of(embedded, loss) | measured.curves)
        self._synchronize()
        self.cost["evaluation_seconds"] = time.perf_counter() - began
        if run.epochs:
            self._judge(embedded, loss, model.dim)

    def _judge(self, embedded: Embedded, loss: Any, dim: int) -> None:
        """Say so if what was trained is no representation; scores are kept beside the verdict."""
        counts = torch.bincount(embedded.test_labels, minlength=embedded.classes)
        images, width = embedded.test.shape
        of_a_point = chance.loss_of_a_point(loss, embedded.shown, self.run.batch_size or 0, dim, embedded.classes)
        if why := verdict.divergence(self.history.loss):
            self.status, self.reason = "diverged", why
        elif why := verdict.collapse(
            self.diagnostics,
            self.scores,
            classes=embedded.classes,
            images=images,
            dim=width,
            chance=float(counts.max()) / images,
        ) or verdict.stuck(self.history.loss, of_a_point):
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
            model = model.to(memory_format=torch.channels_last)
        return loss, model

    def _trained(
        self, views: ViewMaker, data: Data, shown: Tensor, names: tuple[object, ...]
    ) -> tuple[losses.Loss | None, Model]:
        """The loss and the network after training, if there is any.

        Where memory runs out the run begins anew with its batch in twice as many chunks, down to one image in all its
        views, if that leaves the gradient what it is. The batch size stays what was asked.
        """
        chunks = 1
        while True:
            loss, model = self._build(data, names)
            if not self.run.epochs:
                return loss, model
            try:
                self._train(model, loss, views, data, shown, names, chunks)
                return loss, model
            except Exception as error:
                if not _out_of_memory(error) or 2 * chunks > (self.run.batch_size or 0):
                    raise
                traceback.clear_frames(error.__traceback__)  # they hold the tensors of the step
                if not divisible(model.encoder, views.plain(data.train_images[:TRIAL_IMAGES].to(self.device))):
                    raise
            chunks *= 2
            self.resolved["chunks"] = chunks

    def _train(
        self,
        model: Model,
        loss: Any,
        views: ViewMaker,
        data: Data,
        shown: Tensor,
        names: tuple[object, ...],
        chunks: int,
    ) -> None:
        run, began, self.history = self.run, time.perf_counter(), History()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        assert run.batch_size is not None
        assert run.learning_rate is not None
        assert run.optimizer is not None
        assert run.schedule is not None
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
        checkpoint = self._checkpoint()
        loop.train(
            parts,
            epochs=run.epochs,
            batch_size=run.batch_size,
            peak=peak,
            schedule=schedule,
            autocast=autocast,
            checkpoint=checkpoint,
            chunks=chunks,
        )
        self._synchronize()
        seconds = (checkpoint.seconds if checkpoint else 0.0) + time.perf_counter() - began
        self.cost |= {"train_seconds": seconds, "images_per_second": self.resolved["steps"] * run.batch_size / seconds}

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
        for part in (train, test, train_projections, test_projections):
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
        kept = protocol.settings(self.run, self.data_hash, self.resolved["precision"])
        self.curves["history"] = _plain(asdict(self.history))
        return {
            "schema": SCHEMA,
            "id": self.run.id,
            "status": self.status,
            "reason": self.reason,
            "run": self.run.as_dict(),
            "resolved": self.resolved,
            "scores": {name: value for name, value in self.scores.items() if math.isfinite(value)},
            "diagnostics": self.diagnostics,
            "cost": {**self.cost, "peak_memory_bytes": self._peak()},
            "protocol": {"fingerprint": protocol.fingerprint(kept), "settings": kept},
            "versions": {"plugins": protocol.versions(self.run), "data": self.data_hash, **environment()},
            "started_at": started.isoformat(timespec="seconds"),
        }

    def diverged(self, error: Diverged) -> None:
        """The network's numbers are no longer numbers: where, and what was last known to be well."""
        self.status, self.reason = "diverged", str(error)
        self.resolved["diverged_at_step"] = error.step
        if self.history.step:
            self.resolved["last_good"] = _plain({name: values[-1] for name, values in asdict(self.history).items()})

    def failed(self, error: BaseException) -> None:
        """Anything else that ends a run; what it has found so far counts for nothing."""
        words = _words(error)
        self.status, self.reason = "failed", f"{type(error).__name__}: {words}"
        if _out_of_memory(error):
            tried = f" in {chunks} chunks a batch" if (chunks := self.resolved.get("chunks")) else ""
            self.reason = f"out of memory{tried} (peak {self._peak() / 2**30:.2f} GiB): {words.splitlines()[0]}"
        self.scores, self.diagnostics = {}, {}
        self.curves = {"traceback": "".join(traceback.format_exception(error))[-10 * MOST_WORDS :]}

    def _peak(self) -> int:
        return torch.cuda.max_memory_allocated() if self.device.type == "cuda" else _process_peak()

    def _checkpoint(self) -> Checkpoint | None:
        if not self.machine.checkpoints:
            return None
        code = f"{protocol.VERSION} {protocol.versions(self.run)} {torch.__version__}"
        made_by = f"{code} {self.machine.device} {self.machine.threads}"
        path, every = self.machine.checkpoint_path(self.run), self.machine.checkpoint_seconds
        return Checkpoint(path, every, made_by, self.leave)

    def _precision(self) -> str:
        if self.run.precision != "auto":
            return self.run.precision
        return "bfloat16" if self.device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"

    def _device_name(self) -> str:
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def _out_of_memory(error: BaseException) -> bool:
    """Is it that? torch has a class for it on a GPU and words alone on a CPU and in cuBLAS."""
    words = ("can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")
    known = isinstance(error, torch.OutOfMemoryError | OutOfMemory | MemoryError)
    return known or (isinstance(error, RuntimeError) and any(word in str(error) for word in words))


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


def _plain(value: Any) -> Any:
    """As JSON has it: what is not finite, or absurd, becomes null. Anything else that JSON lacks is refused."""
    if isinstance(value, dict):
        return {str(key): _plain(inside) for key, inside in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inside) for inside in value]
    if isinstance(value, float):
        return float(value) if abs(value) <= LARGEST else None
    if value is None or isinstance(value, str | int):
        return value
    raise TypeError(f"a probe found a {type(value).__name__}, which a record cannot hold")


def _words(error: BaseException) -> str:
    """What an error says, fit for a record: a stranger's code may say anything, at any length."""
    try:
        text = str(error).strip()
    except Exception:
        text = ""
    return (text or type(error).__name__)[:MOST_WORDS].encode("utf-8", "replace").decode()


def _process_peak() -> int:
    """Bytes of the process's largest resident set so far; Linux counts in KiB, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


@cache
def environment() -> dict[str, Any]:
    """Versions, machine and commit: where a number comes from."""
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
