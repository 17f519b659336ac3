"""Run -> Record: train and evaluate. Every failure of a run becomes a record here."""

import math
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import Any

import torch

from cl_semisup import device as devices
from cl_semisup import evaluation
from cl_semisup.data.images import Images
from cl_semisup.device import gpu_uuid, is_out_of_memory, synchronize
from cl_semisup.errors import MAX_MESSAGE_LENGTH, DataError, InputError, described, message, stops_process
from cl_semisup.evaluation import Features
from cl_semisup.execution import embedding_plot, energy, keep, memory
from cl_semisup.execution.collapsed_loss import collapsed_loss_value
from cl_semisup.execution.data import Data, ProbeDatasets, ReadImages, data_facts, load_images
from cl_semisup.execution.environment import environment
from cl_semisup.execution.fast_paths import kernel_context, resolved_precision
from cl_semisup.execution.loaded_data import HeldByCommand, LoadedData
from cl_semisup.execution.machine import Machine
from cl_semisup.execution.trainer import Trainer
from cl_semisup.execution.training_data import training_data
from cl_semisup.execution.training_groups import RunResults, TrainingGroup, single_run
from cl_semisup.results import protocol, records, right_images, verdict
from cl_semisup.results.numbers import MAX_VALUE
from cl_semisup.results.records import SCHEMA, Record
from cl_semisup.suite.run import Named, Run
from cl_semisup.text import guarded
from cl_semisup.training.loop import Diverged, History


def choose_device(name: str = "auto") -> str:
    """`auto` is CUDA, else Apple's MPS, else the CPU. InputError if this machine lacks the device."""
    devices = ["cpu"]
    if torch.backends.mps.is_available():
        devices.insert(0, "mps")
    if torch.cuda.is_available():
        devices[:0] = ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if name == "auto":
        return devices[0]
    if name not in devices:
        raise InputError(f"--device: {name!r} is not on this machine. Known: {', '.join(devices)}.")
    return name


def all_of(device: str) -> tuple[str, ...]:
    """The devices that runs on this one are spread over: `cuda` is all GPUs of the machine, `cuda:1` is this GPU."""
    if device == "cuda" and (count := torch.cuda.device_count()) > 1:
        return tuple(f"cuda:{number}" for number in range(count))
    return (device,)


def free_memory(device: str) -> int:
    """Bytes of a GPU that no process uses."""
    return int(torch.cuda.mem_get_info(device)[0])


class Executor:
    """Executes runs one after the other on one machine. The last data set stays loaded.

    Args:
        should_stop: whether this process has been asked to stop; training then saves its state and raises Preempted
        collective_context: entered for each training; under torchrun it sets up communication between the ranks
        read_images: reads a data set; by default from the machine's folder
        held_by_command: see `LoadedData`
    """

    def __init__(
        self,
        machine: Machine,
        should_stop: Callable[[], bool] = lambda: False,
        collective_context: Callable[[], AbstractContextManager[None]] = nullcontext,
        read_images: ReadImages | None = None,
        held_by_command: HeldByCommand = lambda images: "",
    ):
        self.machine, self.should_stop, self.collective_context = machine, should_stop, collective_context
        read: ReadImages = read_images or partial(load_images, data_dir=machine.data_dir)
        self.device = torch.device(machine.device)
        self._loaded = LoadedData(read, self.device, held_by_command)
        self.probe_datasets = ProbeDatasets(read)
        self.device_lost = False  # no further run can succeed in this process
        if not machine.plain:
            memory.retain_freed_memory()
        devices.prepare(self.device)
        if self.device.type == "cuda" and machine.gpu_share < 1:  # else neighbours would be the ones that fail
            torch.cuda.set_per_process_memory_fraction(machine.gpu_share, self.device)

    def __call__(self, run: Run, data: Data | None = None) -> tuple[Record, dict[str, Any]]:
        """The record and the curves of a run. `data` replaces the data set, for a trial on a subset."""
        return self.run_group(single_run(run), data)[0]

    def run_group(self, group: TrainingGroup, data: Data | None = None) -> RunResults:
        """Train once and evaluate every run. A failure of a run becomes its record.

        If the GPU refuses all further work after a failure, `device_lost` is set and the runs after it have no result:
        their failures would not be their own. A failed training is the failure of all of them.
        """
        trainer, results = self._trainer(group), []
        if protocol.uses_users_own(group.runs):
            self._loaded.forget_shared()
        for run in group.runs:
            started = datetime.now(UTC)
            attempt = _Attempt(run, self.machine)
            try:
                with kernel_context(self.machine), self._prints_of(group):
                    attempt.execute(data or self.data(run), trainer)
            except Diverged as error:
                attempt.set_diverged(error)
            except BaseException as error:  # a plug-in may call sys.exit, which must not end the worker
                if stops_process(error):
                    raise
                attempt.set_failed(error)
            record = attempt.record(started)
            if problem := records.cannot_hold(record):  # of a user's own probe or encoder
                attempt, record = _failed(run, self.machine, f"its record {problem} Mend the probe that gives it.")
            if (kept := self._to_keep(attempt)) is not None:
                keep.write(self.machine, run, record, trainer.model, kept)
            results.append((record, attempt.curves))
            self.device_lost = attempt.status == "failed" and devices.is_lost(self.device)
            if self.device_lost and not trainer.failed:
                break
        trainer.release()
        if not self.device_lost:
            torch.cuda.empty_cache()  # does nothing unless this process uses a GPU
        return tuple(results)

    def train_only(self, group: TrainingGroup) -> History:
        """Train without evaluating, as all processes of a training but the first do; its curves."""
        run, trainer = group.runs[0], self._trainer(group)
        data, visible_labels, *_ = training_data(run, self.data(run), self.device, self.probe_datasets)
        with kernel_context(self.machine), self._prints_of(group):
            trainer.train(data, visible_labels)
        return trainer.history

    def data(self, run: Run) -> Data:
        """The run's whole data set on the device; of data with folds, the run's repetition decides which it tests."""
        return self._loaded(run)

    def _prints_of(self, group: TrainingGroup) -> AbstractContextManager[None]:
        """Around code of these runs."""
        return guarded() if protocol.uses_users_own(group.runs) else nullcontext()

    def _to_keep(self, attempt: "_Attempt") -> Data | None:
        """What a network was trained on that is to be kept."""
        wanted = self.machine.keep != "none" and attempt.run.epochs and attempt.status in ("ok", "collapsed")
        return attempt.trained_on if wanted else None

    def _trainer(self, group: TrainingGroup) -> Trainer:
        return Trainer(group, self.machine, self.probe_datasets, self.should_stop, self.collective_context)


def failed_record(run: Run, machine: Machine, reason: str) -> tuple[Record, dict[str, Any]]:
    """The record and the empty curves of a run that could not be executed."""
    attempt, record = _failed(run, machine, reason)
    return record, attempt.curves


def failed_results(group: TrainingGroup, machine: Machine, reason: str) -> RunResults:
    """The records of a group that could not be executed."""
    return tuple(failed_record(run, machine, reason) for run in group.runs)


def _failed(run: Run, machine: Machine, reason: str) -> tuple["_Attempt", Record]:
    attempt = _Attempt(run, machine)
    attempt.status, attempt.reason = "failed", reason
    return attempt, attempt.record(datetime.now(UTC))


class _Attempt:
    """The state of one execution of a run; `record` can be called at any point."""

    def __init__(self, run: Run, machine: Machine):
        self.run, self.machine, self.device = run, machine, torch.device(machine.device)
        self.status, self.reason = "ok", ""
        precision = resolved_precision(run.precision, machine)
        device_name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type
        self.resolved: dict[str, Any] = {"device": device_name, "precision": precision}
        if machine.plain:
            self.resolved["plain"] = True
        self.scores: dict[str, float] = {}
        self.diagnostics: dict[str, float] = {}
        self.cost: dict[str, float] = {}
        self.joules: list[energy.Joules] = []  # of training and evaluation
        self.curves: dict[str, Any] = {}
        self.data_hash = ""
        self.probe_data_hashes: dict[str, str] = {}
        self.history = History()
        self.trained_on: Data | None = None

    def execute(self, data: Data, trainer: Trainer) -> None:
        """Train, unless the trainer has already done so, and evaluate."""
        run = self.run
        data, visible_labels, facts = training_data(run, data, self.device, trainer.probe_datasets)
        self.trained_on = data
        self.data_hash = data.content_hash
        self.resolved |= {"classes": data.classes, "train_images": len(data.train_images)}
        self.resolved |= {**facts, "labelled_images": int((visible_labels >= 0).sum())}
        self.resolved |= data_facts(data)
        if run.epochs and (run.batch_size or 0) > len(visible_labels):
            rule = f"must not exceed the images that imbalance and unlabelled_ratio keep, {len(visible_labels)}"
            raise InputError(f"batch_size: {rule}. Got {run.batch_size}. Lower it.")
        try:
            trainer.train(data, visible_labels)
        finally:
            self.history = trainer.history
            self.resolved |= trainer.resolved
            self.cost |= trainer.cost
            self.joules += [trainer.joules] if run.epochs else []
        with energy.Meter(gpu_uuid(self.device)) as meter:
            features = self._evaluate(data, visible_labels, trainer)
        self.joules.append(meter.joules)
        if run.epochs:
            self._set_status(features, trainer)

    def _evaluate(self, data: Data, visible_labels: torch.Tensor, trainer: Trainer) -> Features:
        run, began = self.run, time.perf_counter()
        features = trainer.features(data, visible_labels)
        self.probe_data_hashes = protocol.probed_hashes(run, partial(_content_hash, trainer.probe_datasets, run))
        result = evaluation.measure(features, run.probes)
        if taken := self.cost.keys() & result.cost.keys():
            raise InputError(
                f"probes: cost needs names of its own. Got {min(taken)!r}, which trainings have. Rename it."
            )
        if run.validation == "labelled":
            result.scores.update(evaluation.validate_by_visible_labels(features, run.probes))
        self.scores = {name: float(value) for name, value in result.scores.items()}
        self.diagnostics = _to_json(result.diagnostics)
        self.curves |= _to_json(embedding_plot.plot_data(features, trainer.loss) | result.curves)
        if result.right:
            self.curves["right"] = right_images.pack({name: one.cpu().numpy() for name, one in result.right.items()})
        synchronize(self.device)
        self.cost |= result.cost
        self.cost["evaluation_seconds"] = time.perf_counter() - began
        return features

    def _set_status(self, features: Features, trainer: Trainer) -> None:
        """Set the status if the training has diverged or collapsed. The scores stay in the record."""
        batch, dim = self.run.batch_size or 0, features.test_projections.shape[1]
        assert trainer.loss is not None
        diagnostics, scores, judged = self.diagnostics, self.scores, features.test
        if trainer.encoder_is_frozen:  # what was trained are the projections
            diagnostics, scores, judged = (
                _of_projections(diagnostics),
                _of_projections(scores),
                features.test_projections,
            )
        images, width = judged.shape
        collapsed_value = collapsed_loss_value(trainer.loss, features.visible_labels, batch, dim, features.classes)
        if reason := verdict.divergence(self.history.loss):
            self.status, self.reason = "diverged", reason
        elif (
            reason := verdict.collapse(
                diagnostics,
                scores,
                classes=features.classes,
                images=images,
                dim=width,
                chance=float(torch.bincount(features.test_labels).max()) / images,
            )
            or verdict.stuck(self.history.loss, collapsed_value)
            or trainer.hopeless
        ):
            self.status, self.reason = "collapsed", reason
        if trainer.hopeless:
            self.reason += f"; stopped at step {self.resolved['stopped_at_step']} of {self.resolved['steps']}"

    def record(self, started: datetime) -> Record:
        """Everything known of the run so far, in the schema of `records`."""
        precision, weights = self.resolved["precision"], self.resolved.get("weights", {})
        settings = protocol.settings(
            self.run, self.data_hash, precision, self.probe_data_hashes, self.machine.plain, weights.get("hash", "")
        )
        versions = {"plugins": protocol.versions(self.run), "data": self.data_hash}
        versions |= {"weights": {weights["file"]: weights["hash"]}} if weights else {}
        self.curves["history"] = _to_json(asdict(self.history))
        joules = energy.costs(self.joules, self.machine.grams_co2_per_kwh)
        return {
            "schema": SCHEMA,
            "id": self.run.id,
            "status": self.status,
            "reason": self.reason,
            "run": self.run.as_dict(),
            "resolved": self.resolved,
            "scores": {name: value for name, value in self.scores.items() if math.isfinite(value)},
            "diagnostics": self.diagnostics,
            "cost": self.cost | joules | {"peak_memory_bytes": memory.peak(self.device)},
            "protocol": {"fingerprint": protocol.fingerprint(settings), "settings": settings},
            "versions": {**versions, **environment()},
            "started_at": started.isoformat(timespec="seconds"),
            "finished_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }

    def set_diverged(self, error: Diverged) -> None:
        """Record the step at which a value was not finite, and the last point of the history."""
        self.status, self.reason = "diverged", str(error)
        self.resolved["diverged_at_step"] = error.step
        if self.history.step:
            self.resolved["last_good"] = _to_json({name: values[-1] for name, values in asdict(self.history).items()})

    def set_failed(self, error: BaseException) -> None:
        """Record any other error. Scores, diagnostics and curves are dropped."""
        text = message(error)
        self.status, self.reason = "failed", described(error)
        if is_out_of_memory(error):
            tried = f" in {chunks} chunks a batch" if (chunks := self.resolved.get("chunks")) else ""
            peak = memory.peak(self.device) / 2**30
            self.reason = f"out of memory{tried} (peak {peak:.2f} GiB): {text.splitlines()[0]}"
        self.scores, self.diagnostics = {}, {}
        self.curves = {"traceback": "".join(traceback.format_exception(error))[-10 * MAX_MESSAGE_LENGTH :]}


def _of_projections(values: dict[str, float]) -> dict[str, float]:
    """What was measured on projections, by the names of features."""
    prefix = evaluation.PROJECTION
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}


def _content_hash(read: Callable[[Named], Images], run: Run, named: Named) -> str | None:
    """Of a data set of the run's probes; None for a missing one that its probes leave out."""
    try:
        return read(named).content_hash
    except DataError:
        if named in protocol.optional_datasets(run):
            return None
        raise


def _to_json(value: Any) -> Any:
    """Convert to JSON types. Floats that are not finite or too large become None; other types raise TypeError."""
    if isinstance(value, dict):
        return {str(key): _to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(item) for item in value]
    if isinstance(value, float | int) and not isinstance(value, bool):
        number = float(value) if isinstance(value, float) else int(value)
        return number if abs(number) <= MAX_VALUE else None
    if value is None or isinstance(value, str | bool):
        return value
    raise TypeError(f"a probe found a {type(value).__name__}, which a record cannot hold")
