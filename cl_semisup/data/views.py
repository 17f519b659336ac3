"""Random views of a batch of images, made on their device with parameters drawn for every image on its own.

The basic recipe is equal in distribution to torchvision's RandomResizedCrop, RandomHorizontalFlip, RandomAffine,
ColorJitter, RandomGrayscale and GaussianBlur applied image by image, except for one thing: the images of a call share
the random order of the four colour changes. (Each image's own order is still uniform over all orders.)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Protocol

import torch
from torch import Generator, Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from cl_semisup.data.settings import Views
from cl_semisup.device import send, send_all
from cl_semisup.errors import InputError
from cl_semisup.native import views
from cl_semisup.native.views import draw, luma
from cl_semisup.seeds import seed as named_seed

__all__ = ["Draw", "RandomView", "ViewMaker", "draw", "geometric", "luma", "once_for_data", "weak"]


def once_for_data(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """What the function makes of a tensor and numbers is kept while the tensor lives, which this does not prolong."""
    kept: Any = WeakTensorKeyDictionary()  # tensor -> numbers -> result

    @wraps(function)
    def of(data: Tensor, *numbers: int) -> Tensor:
        found: dict[tuple[int, ...], Tensor] = kept.setdefault(data, {})
        if numbers not in found:
            found[numbers] = function(data, *numbers)
        return found[numbers]

    return of


@dataclass(frozen=True, eq=False)
class Draw:
    """All that a view may depend on beside the images.

    Args:
        random: on the host, seeded by names: data set, repetition, step, view, and position in the chain
        index: (N,) positions of the images in `data`, on the images' device
        data: (M, ...) the training images as stored (of the test images, where their views are evaluated); not
            necessarily on the images' device
        view: number of the view: 0, 1, ...
        local: whether this is one of the local views, which follow the global ones; see `multi_crop`
        shared: as `random`, but the same for all views of a step
        rows: (M, V, F) all stored rows of the images in `data`, where features have several; else None
        side: pixels of a side that the first view of a chain gives, where it `crops` larger images to it
    """

    random: Generator
    index: Tensor
    data: Tensor
    view: int
    local: bool = False
    shared: Generator = field(default_factory=Generator)
    rows: Tensor | None = None
    side: int | None = None

    def uniform(self, *shape: int) -> Tensor:
        """Random numbers in [0, 1) on the images' device, drawn on the host: no step waits for a device."""
        return self.send(torch.rand(*shape, generator=self.random))

    def send(self, tensor: Tensor) -> Tensor:
        """A tensor of the host on the images' device; no step waits for the copy."""
        return send(tensor, self.index.device)

    def chosen(self, probability: float) -> Tensor:
        """(N, 1, 1, 1) bool: the images to which something of this probability happens."""
        return (self.uniform(len(self.index)) < probability).view(-1, 1, 1, 1)

    def partners(self) -> Tensor:
        """(N, ...) for each image another one of `data`, uniformly drawn, as `floats`; itself if there is no other."""
        others = len(self.data) - 1
        steps = 1 + torch.randint(max(others, 1), (len(self.index),), generator=self.random)
        partner = (self.index + self.send(steps)) % len(self.data)
        return floats(self.send(self.data[partner.to(self.data.device)]))


class RandomView(Protocol):
    """A member of a chain, see `cl_semisup.views`."""

    def view(self, images: Tensor, draw: Draw) -> Tensor: ...


def weak(settings: Views) -> Views:
    """The weak recipe of semi-supervised methods (FixMatch): a mirror where the data allow it, a shift of 1/8 side."""
    return Views(flip=settings.flip, shift=0.125, jitter=0.0)


def geometric(settings: Views) -> Views:
    """The recipe without changes of colour, blur and noise: what the field fine-tunes with (arXiv 2002.05709, B.5)."""
    names = ("crop_area", "crop_ratio", "flip", "rotation", "shift", "zoom", "negate")
    return Views(**{name: getattr(settings, name) for name in names}, jitter=0.0)


def floats(images: Tensor) -> Tensor:
    """Stored images as views take them: bytes scaled to [0, 1], and floats (features) as they are."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


class ViewMaker:
    """`maker(images, seed)` draws a view of every image; same seed, same views.

    Args:
        chain: the basic recipe, or views that are applied in this order; none gives the image itself
        mean, std: (channels,) of the data set, of values as in `floats`; the views come out normalised by them
        local: whether it makes local views
        rows: (M, V, F) all stored rows of the training images, if there are several
        side: pixels of a side of the views, if the images that they are made of are larger
    """

    def __init__(
        self,
        chain: Views | Sequence[RandomView],
        mean: Tensor,
        std: Tensor,
        local: bool = False,
        rows: Tensor | None = None,
        side: int | None = None,
    ):
        self.local, self.rows, self.side = local, rows, side
        self.settings, self.others = Views(), list[tuple[int, RandomView]]()
        if isinstance(chain, Views):
            self.settings = chain
        else:
            self.others = list(enumerate(chain))
            if self.others and isinstance(first := self.others[0][1], Views):
                self.settings, self.others = first, self.others[1:]  # it takes bytes, so the kernels in C can make it
        crops = bool(self.others) and self.others[0][0] == 0 and getattr(self.others[0][1], "crops", False)
        self.first_side = None if crops else side  # of what the basic recipe gives, where that is not the images'
        self.mean, self.std = mean[:, None, None], std[:, None, None]
        self.zero, self.one = torch.zeros_like(self.mean), torch.ones_like(self.std)
        self.random, self.order_random = Generator(), Generator()  # on the host: every device sees the same views

    def normalize(self, images: Tensor) -> Tensor:
        """(N, C, H, W) as stored -> float32, normalised, not augmented: what evaluation sees."""
        return (floats(images) - self.mean) / self.std

    @property
    def is_basic(self) -> bool:
        """Is there nothing but the basic recipe? Then a view is `basic(images, draws(images.shape, seed))`."""
        return not self.others

    def draws(self, shape: torch.Size, seed: int) -> dict[str, Tensor]:
        """The random numbers of the basic recipe for images of this shape, on the host, in the order of its steps."""
        random, order_random = self.random.manual_seed(seed), self.order_random.manual_seed(seed)
        return draw(self.settings, self._shape(shape), random, order_random)

    def basic(self, images: Tensor, draws: Mapping[str, Tensor]) -> Tensor:
        """(N, C, H, W) views by the basic recipe, normalised; the draws are where the images are."""
        return views.apply(images, draws, self.settings, self.mean, self.std, self.side)

    def _shape(self, stored: torch.Size) -> torch.Size:
        """Of the views of such images."""
        return torch.Size((*stored[:2], self.side, self.side)) if self.side else stored

    def __call__(
        self,
        images: Tensor,
        seed: int,
        view: int = 0,
        index: Tensor | None = None,
        data: Tensor | None = None,
        shared_seed: int = 0,
    ) -> Tensor:
        """(N, C, H, W): one view of every image, normalised.

        Args:
            images: (N, C, H, W) as stored: uint8, or float32 features; larger than `data` where there is a `side`
            view: number of the view, 0, 1, ...
            index: (N,) positions of the images in `data`; without it the images are the data
            shared_seed: the same for all views of a step
        """
        draws = send_all(self.draws(images.shape, seed), images.device)
        if self.is_basic:
            return self.basic(images, draws)
        made = views.apply(images, draws, self.settings, self.zero, self.one, self.first_side)
        if index is None or data is None:
            index, data = torch.arange(len(images), device=images.device), images
        for position, member in self.others:
            random = Generator().manual_seed(named_seed("view", seed, position))
            shared = Generator().manual_seed(named_seed("views of a step", shared_seed, position))
            made = member.view(made, Draw(random, index, data, view, self.local, shared, self.rows, self.side))
            if made.shape != self._shape(images.shape) or made.dtype != torch.float32:
                got = f"Got {made.dtype} {tuple(made.shape)} of {tuple(self._shape(images.shape))}"
                raise InputError(f"{type(member).__name__}: a view must be float32 and keep the shape. {got}. Mend it.")
        return (made - self.mean) / self.std
