"""A run's data set on the device, the subset that the run draws, and the other data sets of its probes."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from cl_semisup import plugins
from cl_semisup.data.images import Images
from cl_semisup.results import data_hashes
from cl_semisup.suite.run import Named

CACHE_SIZE = 4  # data sets of probes that stay loaded
ReadImages = Callable[[Named], Images]


@dataclass(frozen=True, eq=False)
class Data:
    """A data set on the device: uint8 images (M, C, side, side), true labels (M,), pixel mean and std (C,).

    Features are float32 (M, F, 1, 1) with mean 0 and std 1.

    Args:
        train_rows, test_rows: (M, V, F) all stored rows of features, if there are several
        val_images, val_labels: the data's own validation part, or what a run holds out, or none
        larger_images: (M, C, S, S) the training images at a larger side, which training views are cropped from, or none
        duplicates: test images that are also training images, pixel by pixel
        split: hash of a split that the data do not bring themselves; "" if they do
        shared: whether the memory is the command's, which all workers of a GPU read: yes, or why not; "" if not wanted
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    mean: Tensor
    std: Tensor
    classes: int
    content_hash: str
    train_rows: Tensor | None = None
    test_rows: Tensor | None = None
    val_images: Tensor | None = None
    val_labels: Tensor | None = None
    larger_images: Tensor | None = None
    duplicates: int = 0
    split: str = ""
    shared: str = ""

    @property
    def view_side(self) -> int | None:
        """Side of training views, where they are cropped from larger images."""
        return None if self.larger_images is None else self.train_images.shape[-1]

    def to(self, device: torch.device) -> "Data":
        """The same on another device; on its own device it is itself, with images that do not fit left on the host."""
        if device.type == self.train_labels.device.type:
            return self
        moved: dict[str, Any] = {name: v.to(device) for name, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **moved)


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
            self._cache[key] = self.read_images(named).of_repetition(0)
        return self._cache[key]


def load_images(named: Named, data_dir: str) -> Images:
    """A data set, by its plug-in, from the folder of data sets."""
    images: Images = data_hashes.load(named, data_dir)
    return images


def to_device(images: Images, device: torch.device) -> Data:
    """Move a data set to the device. Its images stay on the host if they do not fit beside training."""
    mean, std = pixel_statistics(images.pixel_facts.counts, images.train_images.shape[1])
    stored = images.train_rows, images.test_rows
    image_device = device if _fits(nbytes(images), device) else torch.device("cpu")
    own_val = images.val_images is not None and images.val_labels is not None
    train_rows, test_rows = (None if rows is None else torch.as_tensor(rows).to(image_device) for rows in stored)
    return Data(
        _tensor(images.train_images).to(image_device),
        torch.as_tensor(images.train_labels).to(device),
        _tensor(images.test_images).to(image_device),
        torch.as_tensor(images.test_labels).to(device),
        mean.to(device),
        std.to(device),
        images.classes,
        images.content_hash,
        train_rows=train_rows,
        test_rows=test_rows,
        val_images=_tensor(images.val_images).to(image_device) if own_val else None,
        val_labels=torch.as_tensor(images.val_labels).to(device) if own_val else None,
        larger_images=None if images.larger_images is None else _tensor(images.larger_images).to(image_device),
        duplicates=images.pixel_facts.duplicates,
        split=images.split,
    )


def nbytes(images: Images) -> int:
    """Bytes of the images or rows of a data set, without labels."""
    stored = images.train_rows, images.test_rows, images.val_images, images.larger_images
    return sum(part.nbytes for part in (images.train_images, images.test_images, *stored) if part is not None)


def normalised_for(encoder: Named, data: Data) -> Data:
    """The data with mean and std of the images that the encoder's weights were made with, where it asks for these."""
    (name, settings) = next(iter(encoder.items()))
    plugin = plugins.load("encoders", name)(**settings)
    found = plugin.pixels(data.train_images.shape[1]) if hasattr(plugin, "pixels") else None
    if found is None:
        return data
    mean, std = (torch.tensor(values, dtype=torch.float32).to(data.mean.device) for values in found)
    return replace(data, mean=mean, std=std)


def _tensor(images: NDArray[Any] | None) -> Tensor:
    """The images without a copy. Mapped ones are read-only, as nothing here writes to images."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.as_tensor(images)


def data_facts(data: Data) -> dict[str, Any]:
    """What a record tells of the data beside their hash, where there is something to tell."""
    facts: dict[str, Any] = {"duplicate_test_images": data.duplicates} if data.duplicates else {}
    facts |= {"split": data.split} if data.split else {}
    facts |= {"shared_data": data.shared} if data.shared else {}
    return facts | ({} if data.val_labels is None else {"validation_images": len(data.val_labels)})


def subset(data: Data, indices: Any) -> Data:
    """The data set with the training images at these indices only; no copy if these are all."""
    if len(indices) == len(data.train_images):
        return data
    rows = torch.from_numpy(indices)
    names = ("train_images", "train_labels", "train_rows", "larger_images")
    held = {name: part for name in names if (part := getattr(data, name)) is not None}
    return replace(data, **{name: part[rows.to(part.device)] for name, part in held.items()})


def pixel_statistics(counts: Sequence[Sequence[int]], channels: int) -> tuple[Tensor, Tensor]:
    """Mean and std per channel of images, scaled to [0, 1]; exact, from counts of the 256 values.

    Features have no counts. They are taken as they are: mean 0 and std 1.
    """
    if not counts:
        return torch.zeros(channels), torch.ones(channels)
    values = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for row in counts:
        of_values = torch.tensor(row, dtype=torch.float64)
        frequencies = of_values / of_values.sum()
        mean = (frequencies * values).sum()
        means.append(mean)
        stds.append((frequencies * (values - mean).square()).sum().sqrt().clamp(min=1e-3))
    return torch.stack(means).float(), torch.stack(stds).float()


def _fits(size_bytes: int, device: torch.device) -> bool:
    """Whether images of this size take less than half of a GPU's free memory; the rest is for training."""
    return device.type != "cuda" or size_bytes < torch.cuda.mem_get_info(device)[0] // 2
