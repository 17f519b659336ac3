"""A run's data set on the device, the subset that the run draws, and the other data sets of its probes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from cl_semisup.data.images import Images
from cl_semisup.results import data_hashes
from cl_semisup.suite.run import Named

CACHE_SIZE = 4  # data sets of probes that stay loaded
ReadImages = Callable[[Named], Images]


@dataclass(frozen=True, eq=False)
class Data:
    """A data set on the device: uint8 images (M, C, side, side), true labels (M,), pixel mean and std (C,)."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    mean: Tensor
    std: Tensor
    classes: int
    content_hash: str

    def to(self, device: torch.device) -> "Data":
        """The same on another device; on its own device it is itself, with images that do not fit left on the host."""
        if device.type == self.train_labels.device.type:
            return self
        names = ("train_images", "train_labels", "test_images", "test_labels", "mean", "std")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


class ProbeDatasets:
    """Data sets that probes use beside the run's own; the last few stay in host memory."""

    def __init__(self, read_images: ReadImages):
        self.read_images = read_images
        self._cache: dict[str, Images] = {}

    def __call__(self, named: Named) -> Images:
        key = repr(named)
        if key not in self._cache:
            while len(self._cache) >= CACHE_SIZE:
                del self._cache[next(iter(self._cache))]
            self._cache[key] = self.read_images(named)
        return self._cache[key]


def load_images(named: Named, data_dir: str) -> Images:
    """A data set, by its plug-in, from the folder of data sets."""
    images: Images = data_hashes.load(named, data_dir)
    return images


def to_device(images: Images, device: torch.device) -> Data:
    """Move a data set to the device. Its images stay on the host if they do not fit beside training."""
    floats = images.train_images.dtype != "uint8"  # features, which are taken as they are
    channels = images.train_images.shape[1]
    mean, std = (torch.zeros(channels), torch.ones(channels)) if floats else _pixel_statistics(images.train_images)
    fits = _fits(images.train_images.nbytes + images.test_images.nbytes, device)
    image_device = device if fits else torch.device("cpu")
    return Data(
        torch.as_tensor(images.train_images).to(image_device),
        torch.as_tensor(images.train_labels).to(device),
        torch.as_tensor(images.test_images).to(image_device),
        torch.as_tensor(images.test_labels).to(device),
        mean.to(device),
        std.to(device),
        images.classes,
        images.content_hash,
    )


def subset(data: Data, indices: Any) -> Data:
    """The data set with the training images at these indices only; no copy if these are all."""
    if len(indices) == len(data.train_images):
        return data
    rows = torch.from_numpy(indices)
    images, labels = data.train_images, data.train_labels
    return replace(data, train_images=images[rows.to(images.device)], train_labels=labels[rows.to(labels.device)])


def _pixel_statistics(images: Any) -> tuple[Tensor, Tensor]:
    """Mean and std per channel of uint8 images scaled to [0, 1]; exact, from counts of the 256 values."""
    values = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in range(images.shape[1]):
        counts = torch.zeros(256, dtype=torch.float64)
        for first in range(0, len(images), 10_000):
            pixels = torch.as_tensor(images[first : first + 10_000, channel]).flatten().int()
            counts += torch.bincount(pixels, minlength=256)
        frequencies = counts / counts.sum()
        mean = (frequencies * values).sum()
        means.append(mean)
        stds.append((frequencies * (values - mean).square()).sum().sqrt().clamp(min=1e-3))
    return torch.stack(means).float(), torch.stack(stds).float()


def _fits(size_bytes: int, device: torch.device) -> bool:
    """Whether images of this size take less than half of a GPU's free memory; the rest is for training."""
    return device.type != "cuda" or size_bytes < torch.cuda.mem_get_info(device)[0] // 2
