"""Run -> Record: train, evaluate, tell. The only place where a failure becomes data."""

import math
import platform
import subprocess
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

import cl_semisup
from cl_semisup import evaluation
from cl_semisup.data import labels
from cl_semisup.errors import InputError
from cl_semisup.evaluation import Features
from cl_semisup.execution import collapsed_loss, embedding_plot, memory
from cl_semisup.execution.data import Data, Probed, Read, part, place, read
from cl_semisup.execution.machine import Machine
from cl_semisup.execution.trainer import Trainer, out_of_memory, resolved_precision, synchronize, way
from cl_semisup.execution.training_groups import RunResults, TrainingGroup, single_run
from cl_semisup.results import protocol, verdict
from cl_semisup.results.records import LARGEST, SCHEMA, Record
from cl_semisup.suite.run import Run
from cl_semisup.training.loop import Diverged, History

MOST_WORDS = 1000  # characters of an error's message in a record


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


def free_memory(device: str) -> int:
    """Bytes of a GPU that nobody uses."""
    return int(torch.cuda.mem_get_info(device)[0])


class Executor:
    """Executes runs one after the other on one machine, keeping the last data set loaded.

    `leave` says whether this process has been asked to go; training then saves its state and raises Preempted. Within
    `together` training goes on, with other processes if it says so. Data sets are read from the machine's folder,
    unless `images` brings them from elsewhere.
    """

    def __init__(
        self,
        machine: Machine,
        leave: Callable[[], bool] = lambda: False,
        together: Callable[[], AbstractContextManager[None]] = nullcontext,
        images: Read | None = None,
    ):
        self.machine, self.leave, self.together = machine, leave, together
        self.images: Read = images or partial(read, data_dir=machine.data_dir)
        self.device = torch.device(machine.device)
        self._data: tuple[str, Data] | None = None
        self.probed = Probed(self.images)
        if not machine.plain:
            memory.keep()

    def __call__(self, run: Run, data: Data | None = None) -> tuple[Record, dict[str, Any]]:
        """The record and the curves of a run. `data` replaces the data set, for a trial on a part of it."""
        return self.training(single_run(run), data)[0]

    def training(self, asked: TrainingGroup, data: Data | None = None) -> RunResults:
        """Train once and evaluate for every run; any failure of a run is a record too."""
        trained, answers = Trainer(asked, self.machine, self.probed, self.leave, self.together), []
        for run in asked.runs:
            started = datetime.now(UTC)
            attempt = _Attempt(run, self.machine)
            try:
                with way(self.machine):
                    attempt.go(data or self.data(run), trained)
            except Diverged as error:
                attempt.diverged(error)
            except (Exception, SystemExit) as error:  # a stranger's loss may leave; the run ends, not the worker
                attempt.failed(error)
            answers.append((attempt.record(started), attempt.curves))
        trained.free()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return tuple(answers)

    def follow(self, asked: TrainingGroup) -> None:
        """Take part in a training that another process evaluates and answers for."""
        run = asked.runs[0]
        data = self.data(run)
        drawn = labels.of_run(data.train_labels.cpu().numpy(), run.as_dict())
        visible_labels = torch.from_numpy(drawn.visible_labels).to(self.device)
        trained = Trainer(asked, self.machine, self.probed, self.leave, self.together)
        with way(self.machine):
            trained.train(part(data, drawn.indices), visible_labels)

    def data(self, run: Run) -> Data:
        key = repr(run.dataset)
        if self._data is None or self._data[0] != key:
            self._data = None  # free the old one first
            self._data = (key, place(self.images(run.dataset), self.device))
        return self._data[1]


def failed(run: Run, machine: Machine, reason: str) -> tuple[Record, dict[str, Any]]:
    """The record of a run that could not even be executed."""
    attempt = _Attempt(run, machine)
    attempt.status, attempt.reason = "failed", reason
    return attempt.record(datetime.now(UTC)), attempt.curves


def failures(training: TrainingGroup, machine: Machine, reason: str) -> RunResults:
    """The records of a training that could not even be executed."""
    return tuple(failed(run, machine, reason) for run in training.runs)


class _Attempt:
    """What is known of a run so far; a record can be made of it at any point."""

    def __init__(self, run: Run, machine: Machine):
        self.run, self.machine, self.device = run, machine, torch.device(machine.device)
        self.status, self.reason = "ok", ""
        precision = resolved_precision(run.precision, machine)
        self.resolved: dict[str, Any] = {"device": self._device_name(), "precision": precision}
        if machine.plain:
            self.resolved["plain"] = True
        self.scores: dict[str, float] = {}
        self.diagnostics: dict[str, float] = {}
        self.cost: dict[str, float] = {}
        self.curves: dict[str, Any] = {}
        self.data_hash = ""
        self.probed_hashes: dict[str, str] = {}
        self.history = History()

    def go(self, data: Data, trained: Trainer) -> None:
        """Train, unless that is done, and evaluate; every finding is kept as soon as it is known."""
        run = self.run
        drawn = labels.of_run(data.train_labels.cpu().numpy(), run.as_dict())
        visible_labels, data = torch.from_numpy(drawn.visible_labels).to(self.device), part(data, drawn.indices)
        self.data_hash = data.content_hash
        self.resolved |= {"classes": data.classes, "train_images": len(data.train_images)}
        self.resolved |= {"label_set": drawn.fingerprint, "labelled_images": int((visible_labels >= 0).sum())}
        if run.epochs and (run.batch_size or 0) > len(visible_labels):
            rule = f"must not exceed the images that imbalance and unlabelled_ratio keep, {len(visible_labels)}"
            raise InputError(f"batch_size: {rule}. Got {run.batch_size}. Lower it.")
        try:
            trained.train(data, visible_labels)
        finally:
            self.history = trained.history
            self.resolved |= trained.resolved
            self.cost |= trained.cost

        began = time.perf_counter()
        embedded = trained.embed(data, visible_labels)
        for named in protocol.probed_datasets(run):
            self.probed_hashes[next(iter(named))] = trained.probed(named).content_hash
        measured = evaluation.measure(embedded, run.evaluation)
        self.scores = {name: float(value) for name, value in measured.scores.items()}
        self.diagnostics = _plain(measured.diagnostics)
        self.curves |= _plain(embedding_plot.of(embedded, trained.loss) | measured.curves)
        synchronize(self.device)
        self.cost["evaluation_seconds"] = time.perf_counter() - began
        if run.epochs:
            self._judge(embedded, trained)

    def _judge(self, embedded: Features, trained: Trainer) -> None:
        """Say so if what was trained is no representation; scores are kept beside the verdict."""
        counts = torch.bincount(embedded.test_labels, minlength=embedded.classes)
        images, width = embedded.test.shape
        batch, dim = self.run.batch_size or 0, embedded.test_projections.shape[1]
        assert trained.loss is not None  # of what was trained
        of_a_point = collapsed_loss.collapsed_loss_value(
            trained.loss, embedded.visible_labels, batch, dim, embedded.classes
        )
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

    def record(self, started: datetime) -> Record:
        """Everything known of the run, in the schema of `records`."""
        kept = protocol.settings(
            self.run, self.data_hash, self.resolved["precision"], self.probed_hashes, self.machine.plain
        )
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
            "cost": {**self.cost, "peak_memory_bytes": memory.peak(self.device)},
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
        if out_of_memory(error):
            tried = f" in {chunks} chunks a batch" if (chunks := self.resolved.get("chunks")) else ""
            peak = memory.peak(self.device) / 2**30
            self.reason = f"out of memory{tried} (peak {peak:.2f} GiB): {words.splitlines()[0]}"
        self.scores, self.diagnostics = {}, {}
        self.curves = {"traceback": "".join(traceback.format_exception(error))[-10 * MOST_WORDS :]}

    def _device_name(self) -> str:
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type


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
