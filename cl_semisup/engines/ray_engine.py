"""Trainings on a Ray cluster: one long-lived actor a slot, since importing torch and placing data take seconds.

Workers share no folder with the command. The package travels by content, plug-ins as text, each data set once through
Ray's object store, which keeps one copy a node; records and the states of unfinished trainings come back as messages.
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
from cl_semisup.engines.pool import Member, Pool
from cl_semisup.errors import EngineError, InputError
from cl_semisup.execution import stop
from cl_semisup.execution.machine import Machine, Need
from cl_semisup.execution.training_groups import Finished, RunResults, TrainingGroup
from cl_semisup.results import protocol

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster that is started here reports to nobody
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's coming default, which it wants to be chosen

try:
    import ray
except ImportError:
    raise InputError("--engine ray: needs Ray. Got none. Install it: pip install 'cl-semisup[ray]'.") from None

PACKAGE = Path(__file__).parents[1]
REACH_SECONDS = 10.0  # until an address that does not answer is nobody's
LOOK_SECONDS = 5.0  # between two looks at which nodes there are
LOST_SECONDS = 300.0  # without a node that could work, until the command gives up; the cluster may be mending itself


def connect(address: str | None) -> None:
    """Join the cluster at the address; without one, that of RAY_ADDRESS or of this machine, else start one here."""
    address = address or os.environ.get("RAY_ADDRESS")
    handlers = {number: signal.getsignal(number) for number in stop.SIGNALS}
    quiet = {"include_dashboard": False, "logging_level": logging.ERROR, "log_to_driver": False}
    try:
        _reach(address or "")
        with tempfile.TemporaryDirectory() as empty:  # else workers look for code in this command's folder first
            code = {"py_modules": [str(PACKAGE)], "working_dir": empty, "excludes": ["**/__pycache__"]}
            ray.init(address, runtime_env=code, **quiet)
    except (OSError, RuntimeError, ValueError) as error:
        raise EngineError(f"--address: no Ray cluster can be used. Got {address!r}: {str(error).strip()}") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():  # Ray has put its own in their place
                signal.signal(number, handler)


def _reach(address: str) -> None:
    """Ray would try for ten minutes where nobody listens."""
    host, _, port = address.rpartition(":")
    if port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), REACH_SECONDS).close()


def choose_device(asked: str) -> str:
    """`auto` is cuda where the cluster has a GPU; which GPU a worker gets is Ray's to say."""
    if asked == "auto":
        return "cuda" if any(node["Resources"].get("GPU") for node in _nodes()) else "cpu"
    if asked not in ("cpu", "cuda"):
        raise InputError(f"--device: must be auto, cpu or cuda on Ray, which hands out GPUs itself. Got {asked!r}.")
    return asked


def room(nodes: Sequence[Mapping[str, Any]], need: Need) -> int:
    """How many trainings these nodes could execute at once; none is spread over two nodes."""
    return sum(_room(node["Resources"], need) for node in nodes)


def _room(resources: Mapping[str, float], need: Need) -> int:
    shares = [resources.get("CPU", 0.0) / need.cpus]
    if need.gpus:
        shares.append(resources.get("GPU", 0.0) / need.gpus)
    return math.floor(min(shares) + 1e-9)  # 0.3 / 0.1 is a little less than 3


def _nodes() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _too_much(need: Need) -> str:
    """Ray would wait for ever for a node that is not there."""
    there = [node["Resources"] for node in _nodes()]
    sizes = {f"{size.get('CPU', 0):g} CPU and {size.get('GPU', 0):g} GPU" for size in there}
    return f"a run must fit on one node. Got a need of {need}, and nodes of {', '.join(sorted(sizes)) or 'nothing'}."


class Ray(Pool["_Worker"]):
    """An engine (see `conduct.Engine`) on the cluster that `connect` has joined.

    At most `workers` trainings at once, each for at most `limit` seconds since its last start.
    """

    def __init__(
        self,
        machine: Machine,
        need: Need,
        workers: float = math.inf,
        plugin_files: Sequence[Path] = (),
        limit: float = math.inf,
    ):
        plugins = {path.name: path.read_text("utf-8") for path in plugin_files}
        actor = ray.remote(concurrency_groups={"beside": 1})(_Actor).options(num_cpus=need.cpus, num_gpus=need.gpus)
        here = replace(machine, device="cpu")  # a worker's GPU may have gone with it, or never have been here
        super().__init__(here, limit, lambda: _Worker(actor.remote(machine, plugins)))
        self.need, self.workers = need, workers
        self._images: dict[str, Any] = {}  # a data set as asked -> where the object store has it
        self._travelling: tuple[_Worker, TrainingGroup, Any] | None = None  # a state on its way here, and its reference
        self._looked, self._slots, self._had_room = -math.inf, 0, time.monotonic()
        if not self.slots:
            raise InputError(f"--run-cpus, --run-gpus: {_too_much(need)} Ask for less, or add a node.")

    @property
    def slots(self) -> int:
        """As many as the nodes that are there have room for; nodes come and go."""
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._slots, self._looked = int(min(self.workers, room(_nodes(), self.need))), time.monotonic()
            if self._slots:
                self._had_room = self._looked
            elif self._looked - self._had_room > LOST_SECONDS:
                raise EngineError(f"no node with room for a run has come back: {_too_much(self.need)}")
        return self._slots

    def cancel(self, seconds: float = 0.0) -> list[Finished]:
        finished = super().cancel(seconds)
        ray.shutdown()
        return finished

    def _assign(self) -> None:
        """Ask workers for what is due: trainings of those that are idle, a state of one that is busy."""
        super()._assign()
        self._fetch_a_state()

    def _give(self, worker: "_Worker", training: TrainingGroup) -> None:
        worker.give(training, self._saved(training), self._data(training))

    def _data(self, training: TrainingGroup) -> dict[str, Any]:
        """The data sets of a training and its probes in the object store, from where each node fetches them once."""
        from cl_semisup.execution import data

        asked = [named for run in training.runs for named in (run.dataset, *protocol.probed_datasets(run))]
        for named in asked:
            if repr(named) not in self._images:
                images = data.load_images(named, self.machine.data_dir)
                _ = images.content_hash  # computed here once, and kept with the images
                self._images[repr(named)] = ray.put(images)
        return {repr(named): self._images[repr(named)] for named in asked}

    def _hear(self, until: float) -> list[Finished]:
        speakers = {worker.reference: worker for worker in self._workers if worker.reference}
        references = [*speakers, *([self._travelling[2]] if self._travelling else [])]
        patience = max(0.0, until - time.monotonic())
        if not references:
            time.sleep(patience)
            return []
        ready, _ = ray.wait(references, timeout=patience)
        ready, _ = ray.wait(references, num_returns=len(references), timeout=0) if ready else ([], [])
        if self._travelling and self._travelling[2] in ready:
            self._keep_state()
        heard = (self._listen(speakers[reference]) for reference in ready if reference in speakers)
        return [finished for finished in heard if finished]

    def _listen(self, worker: "_Worker") -> Finished | None:
        """A worker's result; None when it is ready, has left, or has died and its training goes back to the queue."""
        try:
            message = ray.get(worker.reference)
        except ray.exceptions.RayTaskError as error:  # the worker lives, and says what is wrong
            if isinstance(error.cause, InputError):
                raise error.cause from None
            raise EngineError(f"a worker cannot work: {type(error.cause).__name__}: {error.cause}") from error
        except ray.exceptions.RuntimeEnvSetupError as error:
            raise EngineError(f"the package cannot be brought to a worker: {error}") from error
        except ray.exceptions.RayError as error:
            self._drop(worker)
            self._looked = -math.inf  # it may have gone with its node
            return self._mourn(worker, str(error).strip() or type(error).__name__)
        worker.reference, training, worker.training = None, worker.training, None
        if training is None:
            worker.ready, worker.node, self._stillborn = True, message, 0
            return None
        if isinstance(message, tuple):
            return training, _from_here(message)
        self._save(training, message)
        return None

    def _saved(self, training: TrainingGroup) -> bytes | None:
        """The state that a training goes on from, of this command or of one before."""
        if self.machine.checkpoints:
            with contextlib.suppress(FileNotFoundError):
                return self.machine.checkpoint_path(training).read_bytes()
        return None

    def _fetch_a_state(self) -> None:
        """Bring states home so that a lost node costs minutes: one at a time, so that they never crowd the network."""
        if self._travelling or not self.machine.checkpoints:
            return
        due = time.monotonic() - self.machine.checkpoint_seconds
        if late := [worker for worker in self._busy() if worker.asked <= due]:
            worker = min(late, key=lambda one: one.asked)
            worker.asked = time.monotonic()
            assert worker.training is not None  # it is busy
            self._travelling = worker, worker.training, worker.actor.state.remote()

    def _keep_state(self) -> None:
        """Write a state that has come home, unless its training has finished meanwhile."""
        assert self._travelling is not None
        worker, training, reference = self._travelling
        self._travelling = None
        with contextlib.suppress(ray.exceptions.RayError):  # its worker has died: its own reference tells
            state = ray.get(reference)
            if state and worker.training is training:
                self._save(training, state)
                worker.progressed = True

    def _save(self, training: TrainingGroup, state: bytes | None) -> None:
        if state and self.machine.checkpoints:
            _write(self.machine.checkpoint_path(training), state)


class _Worker(Member):
    """The command's end of an actor; `reference` is what it owes."""

    def __init__(self, actor: Any):
        self.actor, self.reference = actor, actor.start.remote()
        self.node, self.asked, self.progressed = "", 0.0, False

    def give(self, training: TrainingGroup, state: bytes | None, data: dict[str, Any]) -> None:
        self.asked, self.progressed = time.monotonic(), False
        self.reference = self.actor.execute.remote(training, state, list(data), *data.values())

    def blameless(self) -> bool:
        """Has a state come home since it was given, or has its node gone?"""
        return self.progressed or self.node not in {node["NodeID"] for node in _nodes()}

    def leave(self) -> None:
        self.actor.leave.remote()

    def end(self) -> None:
        ray.kill(self.actor)


class _Actor:
    """The life of a worker, in a process of Ray's somewhere: one training after the other.

    `leave` and `state` are answered beside a training, by a thread of their own.
    """

    def __init__(self, machine: Machine, plugins: dict[str, str]):
        self._folder = tempfile.TemporaryDirectory(dir=PACKAGE.parent)  # Ray's, which goes with its session
        self.machine = replace(machine, checkpoints=str(Path(self._folder.name) / "checkpoints"))
        self.plugins, self._leave = plugins, threading.Event()
        self._path: Path | None = None  # of the state of what is trained
        self._images: dict[str, Images] = {}  # the data sets of what is trained

    def start(self) -> str:
        """Import all there is to import, and say on which node."""
        import torch

        from cl_semisup import plugins
        from cl_semisup.execution.execute import Executor

        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # it is Ray's, and only read
        torch.set_num_threads(self.machine.threads)
        for name, text in self.plugins.items():
            path = Path(self._folder.name) / name
            path.write_text(text, "utf-8")
            plugins.add(path)
        gc.freeze()  # as in serve.py
        self._executor = Executor(self.machine, self._leave.is_set, read_images=lambda named: self._images[repr(named)])
        return str(ray.get_runtime_context().get_node_id())

    def execute(
        self, training: TrainingGroup, state: bytes | None, names: list[str], *images: Images
    ) -> RunResults | bytes | None:
        """The answers; or, if asked to leave, the state to go on from. Ray fetches what is an argument."""
        from cl_semisup.training.checkpoint import Preempted

        self._path = path = self.machine.checkpoint_path(training)
        if state:
            _write(path, state)
        try:
            self._images = dict(zip(names, images, strict=True))
            return self._executor.run_group(training)
        except Preempted:
            return self.state()
        finally:
            path.unlink(missing_ok=True)

    @ray.method(concurrency_group="beside")
    def state(self) -> bytes | None:
        """The last state of what is trained; None if there is none yet."""
        try:
            return self._path.read_bytes() if self._path else None
        except FileNotFoundError:
            return None

    @ray.method(concurrency_group="beside")
    def leave(self) -> None:
        self._leave.set()


def _write(path: Path, state: bytes) -> None:
    """Whole or not at all; a state holds its own checksum."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_bytes(state)
    os.replace(temporary, path)


def _from_here(answers: RunResults) -> RunResults:
    """The worker's copy of the package has no history: say of which commit it is a copy."""
    from cl_semisup.execution.execute import environment

    here = environment()
    for record, _ in answers:
        record["versions"] |= {name: here[name] for name in ("commit", "clean")}
    return answers
