"""Large data sets that the command holds on its GPUs, once each, for all workers of a GPU.

A worker that dies takes nothing with it, and its successor is given the same handle. Memory is free again when no
living worker reads it and no training that waits needs it.
"""

from collections.abc import Collection
from dataclasses import dataclass

import torch

from cl_semisup.device import is_out_of_memory
from cl_semisup.engines.worker import LocalWorker
from cl_semisup.errors import InputError, message
from cl_semisup.execution.data import Data, load_images, nbytes, to_device
from cl_semisup.execution.shared_data import SHARED, Handle, handle_of
from cl_semisup.execution.training_groups import RunResults, TrainingGroup
from cl_semisup.results import protocol
from cl_semisup.text import show

NO_ROOM = "they do not fit on the GPU beside trainings"
OWN_CODE = "code of the user's own could write to them"


@dataclass(frozen=True)
class _Held:
    data: Data  # as long as it is here, the handle is good
    handle: Handle
    size: int  # bytes


class HeldData:
    """What is held, by GPU and data set, and which worker reads what."""

    def __init__(self, data_dir: str):
        self.data_dir = data_dir
        self.refusal = ""  # why nothing is shared any more
        self._held: dict[tuple[str, str], _Held] = {}
        self.readers: dict[LocalWorker, tuple[str, str]] = {}
        self._works = False  # a worker has trained on shared data

    def give(self, worker: LocalWorker) -> Handle | str:
        """A handle to the data set of the worker's training, which is loaded if it is not held yet, or why not."""
        training = worker.training
        assert training is not None  # only a worker with a training asks
        if self.refusal or protocol.uses_users_own(training.runs):
            return self.refusal or OWN_CODE
        key = _key(worker, training)
        try:
            if key not in self._held and (reason := self._load(key, training)):
                return reason
        except (RuntimeError, OSError, InputError) as error:
            if is_out_of_memory(error):
                return NO_ROOM
            self._refuse(f"{type(error).__name__}: {message(error).splitlines()[0]}")
            return self.refusal
        self.readers[worker] = key
        return self._held[key].handle

    def answered(self, worker: LocalWorker, training: TrainingGroup, results: RunResults) -> None:
        """A worker has finished a training: it reads that one's data set, and no other."""
        if worker not in self.readers:
            return
        told = {record["resolved"].get("shared_data", "") for record, _ in results}
        self._works |= SHARED in told
        if own := [words for words in told if words not in ("", SHARED)]:
            self._refuse(own[0].removeprefix("no: "))
        if own or self.readers[worker] != _key(worker, training):
            del self.readers[worker]

    def lost(self, worker: LocalWorker, cause: str) -> None:
        """A worker has died by itself; if it is the first that was given a handle, that may be the cause."""
        if worker in self.readers and not self._works:
            self._refuse(f"a worker that read them died by {cause.splitlines()[0]}")

    def drop_unused(self, workers: Collection[LocalWorker], waiting: Collection[TrainingGroup]) -> None:
        """Free what none of the living workers reads and no training that waits needs."""
        self.readers = {worker: key for worker, key in self.readers.items() if worker in workers}
        needed = {repr(training.runs[0].dataset) for training in waiting}
        kept = {key: one for key, one in self._held.items() if key in self.readers.values() or key[1] in needed}
        if len(kept) < len(self._held):
            self._held = kept
            torch.cuda.empty_cache()  # does nothing unless this process uses a GPU

    def size(self) -> int:
        """Bytes that are held on the GPU with most of them."""
        gpus = {gpu for gpu, _ in self._held}
        return max((sum(one.size for (on, _), one in self._held.items() if on == gpu) for gpu in gpus), default=0)

    def _load(self, key: tuple[str, str], training: TrainingGroup) -> str:
        """Hold a data set; why not, if it does not fit."""
        images, device = load_images(training.runs[0].dataset, self.data_dir), torch.device(key[0])
        data = to_device(images, device)
        if data.train_images.device.type != device.type:
            return NO_ROOM
        self._held[key] = _Held(data, handle_of(data), nbytes(images))
        return ""

    def _refuse(self, reason: str) -> None:
        if not self.refusal:
            show(f"Each worker has a copy of the data of its own: {reason}", error=True)
            self.refusal = reason


def _key(worker: LocalWorker, training: TrainingGroup) -> tuple[str, str]:
    return worker.machine.device, repr(training.runs[0].dataset)
