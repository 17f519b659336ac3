"""Trainings on a Ray cluster: one long-lived actor a slot, since importing torch and loading data take seconds.

Workers share no folder with the command. They get the package as an archive and plug-ins as text. Each data set goes
once through Ray's object store, which keeps one copy a node. Records and states of unfinished trainings come back as
messages.
"""

import contextlib
import gc
import logging
import math
import os
import signal
import socket
import tempfile
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cl_semisup.data.images import Images
from cl_semisup.engines.pool import WorkerHandle, WorkerPool
from cl_semisup.errors import EngineError, InputError, described
from cl_semisup.execution import stop
from cl_semisup.execution.machine import Machine, Need
from cl_semisup.execution.training_groups import Finished, RunResults, TrainingGroup
from cl_semisup.plugins import user_files
from cl_semisup.results import protocol
from cl_semisup.training import state_file

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage reports from a cluster that we start
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's future default; unset, Ray warns

try:
    import ray
except ImportError:
    raise InputError("--engine ray: needs Ray. Got none. Install it: pip install 'cl-semisup[ray]'.") from None

PACKAGE = Path(__file__).parents[1]
CONNECT_TIMEOUT_SECONDS = 10.0
NODE_POLL_SECONDS = 5.0  # between two looks at which nodes there are
NO_NODE_TIMEOUT_SECONDS = 300.0  # without a node that has room for a run; the cluster may replace a lost one


def connect(address: str | None) -> None:
    """Join the cluster at the address, by default that of RAY_ADDRESS or of this machine; else start one here."""
    address = address or os.environ.get("RAY_ADDRESS")
    handlers = {number: signal.getsignal(number) for number in stop.SIGNALS}
    quiet = {"include_dashboard": False, "logging_level": logging.ERROR, "log_to_driver": False}
    try:
        _check_port(address or "")
        with tempfile.TemporaryDirectory() as empty:  # else workers import from this command's folder first
            code = {"py_modules": [str(PACKAGE)], "working_dir": empty, "excludes": ["**/__pycache__"]}
            ray.init(address, runtime_env=code, **quiet)
    except (OSError, RuntimeError, ValueError) as error:
        raise EngineError(f"--address: no Ray cluster can be used. Got {address!r}: {str(error).strip()}") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():  # Ray has replaced them
                signal.signal(number, handler)


def _check_port(address: str) -> None:
    """OSError if nobody listens at the address; Ray would try for ten minutes."""
    host, _, port = address.rpartition(":")
    if port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_SECONDS).close()


def choose_device(device: str) -> str:
    """`auto` is cuda if the cluster has a GPU; Ray decides which GPU a worker gets."""
    if device == "auto":
        return "cuda" if any(node["Resources"].get("GPU") for node in _nodes()) else "cpu"
    if device not in ("cpu", "cuda"):
        raise InputError(f"--device: must be auto, cpu or cuda on Ray, which hands out GPUs itself. Got {device!r}.")
    return device


def count_slots(nodes: Sequence[Mapping[str, Any]], need: Need) -> int:
    """How many trainings these nodes could execute at once; none is spread over two nodes."""
    slots = 0
    for node in nodes:
        shares = [node["Resources"].get("CPU", 0.0) / need.cpus]
        if need.gpus:
            shares.append(node["Resources"].get("GPU", 0.0) / need.gpus)
        slots += math.floor(min(shares) + 1e-9)  # 0.3 / 0.1 is a little less than 3
    return slots


def _nodes() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _does_not_fit(need: Need) -> str:
    """The message if no node is large enough; Ray would wait for one for ever."""
    resources = [node["Resources"] for node in _nodes()]
    sizes = {f"{size.get('CPU', 0):g} CPU and {size.get('GPU', 0):g} GPU" for size in resources}
    return f"a run must fit on one node. Got a need of {need}, and nodes of {', '.join(sorted(sizes)) or 'nothing'}."


class RayEngine(WorkerPool["_RayWorker"]):
    """An engine (see `scheduler.Engine`) on the cluster that `connect` has joined.

    At most `max_workers` trainings at once, each for at most `limit` seconds since its last start.
    """

    def __init__(
        self,
        machine: Machine,
        need: Need,
        max_workers: float = math.inf,
        plugin_files: Sequence[Path] = (),
        limit: float = math.inf,
    ):
        plugins = [(file.path.name, file.text) for file in user_files(plugin_files)]
        actor = ray.remote(concurrency_groups={"beside": 1})(_Actor).options(num_cpus=need.cpus, num_gpus=need.gpus)
        here = replace(machine, device="cpu")  # this machine may have no GPU to name in records of failures
        super().__init__(here, limit, lambda: _RayWorker(actor.remote(machine, plugins)))
        self.need, self.max_workers = need, max_workers
        self._images: dict[str, Any] = {}  # a data set's repr -> its reference in the object store
        self._pending_state: tuple[_RayWorker, TrainingGroup, Any] | None = None  # requested; with Ray's reference
        self._nodes_read_at, self._slots, self._last_slots_at = -math.inf, 0, time.monotonic()
        if not self.slots:
            raise InputError(f"--run-cpus, --run-gpus: {_does_not_fit(need)} Ask for less, or add a node.")

    @property
    def slots(self) -> int:
        """What the present nodes have room for; nodes come and go."""
        if time.monotonic() - self._nodes_read_at > NODE_POLL_SECONDS:
            self._slots = int(min(self.max_workers, count_slots(_nodes(), self.need)))
            self._nodes_read_at = time.monotonic()
            if self._slots:
                self._last_slots_at = self._nodes_read_at
            elif self._nodes_read_at - self._last_slots_at > NO_NODE_TIMEOUT_SECONDS:
                raise EngineError(f"no node with room for a run has come back: {_does_not_fit(self.need)}")
        return self._slots

    def cancel(self, seconds: float = 0.0) -> list[Finished]:
        finished = super().cancel(seconds)
        ray.shutdown()
        return finished

    def _assign(self) -> None:
        """Send trainings to idle workers, and request a state from a busy one if it is due."""
        super()._assign()
        self._request_state()

    def _send(self, worker: "_RayWorker", training: TrainingGroup) -> None:
        worker.send(training, self._load_state(training), self._data(training))

    def _data(self, training: TrainingGroup) -> dict[str, Any]:
        """References to the data sets of a training and its probes in the object store; a node fetches each once."""
        from cl_semisup.execution import data

        choices = [choice for run in training.runs for choice in (run.dataset, *protocol.probed_datasets(run))]
        for choice in choices:
            if repr(choice) not in self._images:
                images = data.load_images(choice, self.machine.data_dir)
                _ = images.content_hash  # computed here once, and stored with the images
                self._images[repr(choice)] = ray.put(images)
        return {repr(choice): self._images[repr(choice)] for choice in choices}

    def _poll(self, deadline: float) -> list[Finished]:
        workers = {worker.reference: worker for worker in self._workers if worker.reference}
        references = [*workers, *([self._pending_state[2]] if self._pending_state else [])]
        seconds = max(0.0, deadline - time.monotonic())
        if not references:
            time.sleep(seconds)
            return []
        ready, _ = ray.wait(references, timeout=seconds)
        ready, _ = ray.wait(references, num_returns=len(references), timeout=0) if ready else ([], [])
        if self._pending_state and self._pending_state[2] in ready:
            self._receive_state()
        received = (self._receive(workers[reference]) for reference in ready if reference in workers)
        return [finished for finished in received if finished]

    def _receive(self, worker: "_RayWorker") -> Finished | None:
        """A worker's result; None if it became ready, was stopped, or died and its training goes back to the queue."""
        try:
            message = ray.get(worker.reference)
        except ray.exceptions.RayTaskError as error:  # the worker is alive and raised this
            if isinstance(error.cause, InputError):
                raise error.cause from None
            raise EngineError(f"a worker cannot work: {described(error.cause)}") from error
        except ray.exceptions.RuntimeEnvSetupError as error:
            raise EngineError(f"the package cannot be brought to a worker: {error}") from error
        except ray.exceptions.RayError as error:
            self._kill(worker)
            self._nodes_read_at = -math.inf  # its node may be gone too
            return self._on_worker_death(worker, str(error).strip() or type(error).__name__)
        worker.reference = None
        if worker.training is None:
            worker.ready, worker.node, self._failed_starts = True, message, 0
            return None
        if isinstance(message, tuple):
            return self._on_answer(worker, _add_commit(message))
        self._save_state(worker.training, message)
        worker.training = None
        return None

    def _load_state(self, training: TrainingGroup) -> bytes | None:
        """The saved state that the training goes on from."""
        path = self.machine.checkpoint_path(training)
        return state_file.read(path, bytes.fromhex(self.machine.state_key)) if self.machine.checkpoints else None

    def _request_state(self) -> None:
        """Fetch states, so that a lost node costs minutes: one at a time, so that they never crowd the network."""
        if self._pending_state or not self.machine.checkpoints:
            return
        due = time.monotonic() - self.machine.checkpoint_seconds
        if workers := [worker for worker in self._busy() if worker.state_time <= due]:
            worker = min(workers, key=lambda one: one.state_time)
            worker.state_time = time.monotonic()
            assert worker.training is not None  # it is busy
            self._pending_state = worker, worker.training, worker.actor.state.remote()

    def _receive_state(self) -> None:
        """Save the requested state, unless its training has finished meanwhile."""
        assert self._pending_state is not None
        worker, training, reference = self._pending_state
        self._pending_state = None
        with contextlib.suppress(ray.exceptions.RayError):  # the worker died: `_receive` handles that
            state = ray.get(reference)
            if state and worker.training is training:
                self._save_state(training, state)
                worker.saved_state = True

    def _save_state(self, training: TrainingGroup, state: bytes | None) -> None:
        if state and self.machine.checkpoints:
            state_file.write(self.machine.checkpoint_path(training), state, bytes.fromhex(self.machine.state_key))


class _RayWorker(WorkerHandle):
    """The command's handle of an actor; `reference` is to the result of the actor's current call."""

    def __init__(self, actor: Any):
        self.actor, self.reference = actor, actor.start.remote()
        self.node, self.saved_state = "", False
        self.state_time = 0.0  # when its training started, or its state was last requested

    def send(self, training: TrainingGroup, state: bytes | None, data: dict[str, Any]) -> None:
        self.state_time, self.saved_state = time.monotonic(), False
        self.reference = self.actor.execute.remote(training, state, list(data), *data.values())

    def made_progress(self) -> bool:
        """Has a state come back since the training was sent, or has the node gone?"""
        return self.saved_state or self.node not in {node["NodeID"] for node in _nodes()}

    def ask_to_stop(self) -> None:
        self.actor.ask_to_stop.remote()

    def kill(self) -> None:
        ray.kill(self.actor)


class _Actor:
    """The worker, in a process on some node: executes one training after the other.

    `ask_to_stop` and `state` are answered during a training, by a thread of their own.
    """

    def __init__(self, machine: Machine, plugins: list[tuple[str, str]]):
        self._folder = tempfile.TemporaryDirectory(dir=PACKAGE.parent)  # Ray removes it with its session
        self.machine = replace(machine, checkpoints=str(Path(self._folder.name) / "checkpoints"))
        self.plugins, self._stop_requested = plugins, threading.Event()
        self._state_path: Path | None = None  # of the current training
        self._images: dict[str, Images] = {}  # the data sets of the current training

    def start(self) -> str:
        """Import all that trainings need; the id of the node."""
        import torch

        from cl_semisup import plugins
        from cl_semisup.execution.execute import Executor

        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # it is Ray's; we only read it
        torch.set_num_threads(self.machine.threads)
        for number, (name, text) in enumerate(self.plugins):  # a loss and a probe may have the same name
            path = Path(self._folder.name) / f"plugin{number}" / name
            path.parent.mkdir()
            path.write_text(text, "utf-8")
            plugins.register(path)
        gc.freeze()  # as in worker_main.py
        stop_requested = self._stop_requested.is_set
        self._executor = Executor(self.machine, stop_requested, read_images=lambda choice: self._images[repr(choice)])
        return str(ray.get_runtime_context().get_node_id())

    def execute(
        self, training: TrainingGroup, state: bytes | None, names: list[str], *images: Images
    ) -> RunResults | bytes | None:
        """The results, or the state to go on from if asked to stop. Ray fetches `images`, since they are arguments."""
        from cl_semisup.training.checkpoint import Preempted

        if self._executor.device_lost:
            os._exit(1)  # another process can go on with the GPU, this one cannot
        self._state_path = path = self.machine.checkpoint_path(training)
        if state:
            state_file.write(path, state, bytes.fromhex(self.machine.state_key))
        try:
            self._images = dict(zip(names, images, strict=True))
            return self._executor.run_group(training)
        except Preempted:
            return self.state()
        finally:
            path.unlink(missing_ok=True)

    @ray.method(concurrency_group="beside")
    def state(self) -> bytes | None:
        """The last saved state of the current training; None if there is none yet."""
        path, key = self._state_path, bytes.fromhex(self.machine.state_key)
        return state_file.read(path, key) if path else None

    @ray.method(concurrency_group="beside")
    def ask_to_stop(self) -> None:
        self._stop_requested.set()


def _add_commit(results: RunResults) -> RunResults:
    """Name the commit of our package in the records; the workers' copy of it has no history."""
    from cl_semisup.execution.environment import environment

    here = environment()
    for record, _ in results:
        record["versions"] |= {name: here[name] for name in ("commit", "clean")}
    return results
