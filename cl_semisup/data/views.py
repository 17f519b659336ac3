"""Random views of a batch of images, made on their device with parameters drawn for every image on its own.

Equal in distribution to torchvision's RandomResizedCrop, RandomHorizontalFlip, RandomAffine, ColorJitter,
RandomGrayscale and GaussianBlur applied image by image, except for one thing: the images of a call share the random
order of the four colour changes. (Each image's own order is still uniform over all orders.)
"""

from torch import Generator, Tensor

from cl_semisup.data.settings import Views
from cl_semisup.native import views
from cl_semisup.native.views import draw, luma

__all__ = ["ViewMaker", "draw", "geometric", "luma", "weak"]


def weak(settings: Views) -> Views:
    """The weak recipe of semi-supervised methods (FixMatch): a mirror where the data allow it, a shift of 1/8 side."""
    return Views(flip=settings.flip, shift=0.125, jitter=0.0)


def geometric(settings: Views) -> Views:
    """The recipe without changes of colour, blur and noise: what the field fine-tunes with (arXiv 2002.05709, B.5)."""
    names = ("crop_area", "crop_ratio", "flip", "rotation", "shift", "zoom", "negate")
    return Views(**{name: getattr(settings, name) for name in names}, jitter=0.0)


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
