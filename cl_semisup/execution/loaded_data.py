"""The data set of the last run, which stays on the device."""

from collections.abc import Callable
from dataclasses import replace

import torch

from cl_semisup.data.images import Images
from cl_semisup.execution.data import Data, ReadImages, to_device
from cl_semisup.execution.shared_data import SHARED
from cl_semisup.suite.run import Run

HeldByCommand = Callable[[Images], Data | str]


class LoadedData:
    """Reads a run's data set and puts it on the device, unless the run before had the same.

    Args:
        held_by_command: the command's copy of a data set on this GPU, or why there is none; "" where none is wanted
    """

    def __init__(self, read_images: ReadImages, device: torch.device, held_by_command: HeldByCommand):
        self.read_images, self.device, self.held_by_command = read_images, device, held_by_command
        self._data: tuple[str, Data | Images] | None = None  # images where each repetition tests another fold

    def __call__(self, run: Run) -> Data:
        """The whole data set on the device; of data with folds, the run's repetition decides which it tests."""
        key = repr(run.dataset)
        if self._data is None or self._data[0] != key:
            self._data = None  # free the old one first
            images = self.read_images(run.dataset)
            self._data = (key, self._placed(images) if images.fold is None else images)
        data = self._data[1]
        return data if isinstance(data, Data) else to_device(data.of_repetition(run.repetition), self.device)

    def forget_shared(self) -> None:
        """Before code of the user's own, which may write to images: other workers read the same memory."""
        if self._data is not None and isinstance(self._data[1], Data) and self._data[1].shared == SHARED:
            self._data = None

    def _placed(self, images: Images) -> Data:
        found = self.held_by_command(images)
        if isinstance(found, Data):
            return found
        data = to_device(images, self.device)
        return replace(data, shared=f"no: {found}") if found else data
