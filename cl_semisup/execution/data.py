"""A run's data set on the device, the part of it that a run draws, and the data sets that probes look at beside it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cl_semisup import plugins
from cl_semisup.data.images import Images
from cl_semisup.suite.run import Named

KEPT = 4  # data sets of probes that stay loaded
Read = Callable[[Named], Images]


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


class Probed:
    """The data sets that probes look at beside the run's own, by their plug-ins; the last few are kept on the host."""

    def __init__(self, read: Read):
        self.read = read
        self._kept: dict[str, Images] = {}

    def __call__(self, named: Named) -> Images:
        key = repr(named)
        if key not in self._kept:
            while len(self._kept) >= KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = self.read(named)
        return self._kept[key]


def read(named: Named, data_dir: str) -> Images:
    """A data set from its folder."""
    (name, params) = next(iter(named.items()))
    images: Images = plugins.load("datasets", name)(**params).load(Path(data_dir))
    return images


def place(images: Images, device: torch.device) -> Data:
    """A data set on the device where it fits beside training; on a CPU its images are not copied."""
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


def part(data: Data, kept: Any) -> Data:
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
