"""Random views of a batch of images, made on their device with parameters drawn for every image on its own.

Equal in distribution to torchvision's RandomResizedCrop, RandomHorizontalFlip, RandomAffine, ColorJitter,
RandomGrayscale and GaussianBlur applied image by image, except for one thing: the images of a call share the random
order of the four colour changes. (Each image's own order is still uniform over all orders.)
"""

import torch
from torch import Generator, Tensor

from cl_semisup.data.settings import Views
from cl_semisup.native import views
from cl_semisup.native.views import luma

__all__ = ["ViewMaker", "draw", "luma", "weak"]


def weak(settings: Views) -> Views:
    """The weak recipe of semi-supervised methods (FixMatch): a mirror where the data allow it, a shift of 1/8 side."""
    return Views(flip=settings.flip, shift=0.125, jitter=0.0)


class ViewMaker:
    """`maker(images, seed)` draws a view of every image; same seed, same views.

    Args:
        settings: strengths and probabilities
        mean, std: (channels,) of the data set, in [0, 1]; the views come out normalised by them
    """

    def __init__(self, settings: Views, mean: Tensor, std: Tensor):
        self.settings = settings
        self.mean, self.std = mean[:, None, None], std[:, None, None]
        self.random = Generator(mean.device)
        self.order_random = Generator()  # on the host: the program needs the order, and must not wait for a device

    def normalize(self, images: Tensor) -> Tensor:
        """(N, C, H, W) uint8 -> float32, normalised, not augmented: what evaluation sees."""
        return (images.float() / 255 - self.mean) / self.std

    def __call__(self, images: Tensor, seed: int) -> Tensor:
        """(N, C, H, W): one view of every image."""
        draws = draw(self.settings, images.shape, self.random.manual_seed(seed), self.order_random.manual_seed(seed))
        return views.apply(images, draws, self.settings, self.mean, self.std)


def draw(s: Views, shape: torch.Size, random: Generator, order_random: Generator) -> dict[str, Tensor]:
    """All random numbers of a call, step by step, see `native.views`. Each step is a draw of its own.

    Steps that change nothing are left out, and draw nothing.
    """
    n, channels = shape[:2]
    colourful = channels == 3
    strengths = {"brightness": s.brightness, "contrast": s.contrast}
    strengths |= {"saturation": s.saturation * colourful, "hue": s.hue * colourful}
    grayscale = s.grayscale * colourful
    steps = [("crop", s.crop_area < 1), ("affine", s.rotation or s.shift or s.zoom), ("flip", s.flip)]
    if s.jitter and (any(strengths.values()) or grayscale or s.blur):
        order = torch.randperm(len(strengths), generator=order_random).tolist()
        steps += [("jitter", True), *(list(strengths.items())[change] for change in order)]
    steps += [("grayscale", grayscale), ("blur", s.blur), ("negate", s.negate)]
    draws = {
        step: torch.rand(views.ROWS.get(step, 1), n, device=random.device, generator=random)
        for step, happens in steps
        if happens
    }
    if s.noise:
        draws["noise"] = torch.randn(shape, device=random.device, generator=random)
    return draws
