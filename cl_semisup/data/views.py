"""Random views of a batch of images, made on their device with parameters drawn for every image on its own.

Equal in distribution to torchvision's RandomResizedCrop, RandomHorizontalFlip, RandomAffine, ColorJitter,
RandomGrayscale and GaussianBlur applied image by image. One thing is shared by the images of a call: the random order
of the four colour changes (each image's own order is still uniform over all orders).
"""

import ctypes
import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from cl_semisup import native
from cl_semisup.data.settings import Views

LARGEST = 1280  # pixels of a side up to which a blur's kernel has its room in C
GREY = (0.2989, 0.587, 0.114)  # ITU-R 601 luma, as torchvision uses it


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
        self.orders = Generator()  # drawn on the host, so that no device is waited for

    def plain(self, images: Tensor) -> Tensor:
        """(N, C, H, W) uint8 -> float32, normalised, not augmented: what evaluation sees."""
        return (images.float() / 255 - self.mean) / self.std

    def __call__(self, images: Tensor, seed: int) -> Tensor:
        """(N, C, H, W): one view of every image."""
        self.random.manual_seed(seed)
        self.orders.manual_seed(seed)
        if (library := native.library()) and self._suits(images):
            return self._in_c(images, library)
        x = self._geometry(images.float() / 255)
        if self._changes_colour(x):
            x = self._colour(x)
        return (self._corrupt(x) - self.mean) / self.std

    def _corrupt(self, x: Tensor) -> Tensor:
        s = self.settings
        if s.negate:
            negative = _chance(len(x), s.negate, x.device, self.random)[:, None, None, None]
            x = torch.where(negative, 1 - x, x)
        if s.noise:
            x = x + s.noise * torch.randn(x.shape, device=x.device, generator=self.random)
        return x

    # all of it in C ---------------------------------------------------------------------------------------------------

    def _suits(self, images: Tensor) -> bool:
        """Bytes of square grey or colour images on a CPU, to become numbers of single precision."""
        here = images.device.type == self.mean.device.type == "cpu" and images.dtype == torch.uint8
        single = self.mean.dtype == torch.get_default_dtype() == torch.float32
        return here and single and images.shape[1] in (1, 3) and images.shape[2] == images.shape[3] <= LARGEST

    def _in_c(self, images: Tensor, library: ctypes.CDLL) -> Tensor:
        """The same draws in the same order, a row of N numbers each, and the same arithmetic image by image."""
        s, (n, channels, height, width) = self.settings, images.shape
        colourful = channels == 3
        strengths = (s.brightness, s.contrast, s.saturation * colourful, s.hue * colourful)
        changes = self._changes_colour(images)
        jitter, grayscale, blur = (p * changes for p in (s.jitter, s.grayscale * colourful, s.blur))
        order = tuple(torch.randperm(4, generator=self.orders).tolist() if jitter else range(4))
        moves = bool(s.rotation or s.shift or s.zoom)
        rows = 40 * (s.crop_area < 1) + 4 * moves + bool(s.flip) + bool(grayscale) + 2 * bool(blur) + bool(s.negate)
        rows += (1 + sum(map(bool, strengths))) * bool(jitter)
        drawn = torch.rand(rows, n, generator=self.random)
        noise = torch.randn(images.shape, generator=self.random) if s.noise else None
        recipe = native.Recipe(
            n, channels, height, width,
            s.crop_area, math.log(s.crop_ratio), s.flip, math.radians(s.rotation), s.shift, s.zoom,
            jitter, strengths, order, grayscale, blur, s.negate, s.noise,
        )  # fmt: skip
        images, out = images.contiguous(), torch.empty(images.shape)
        mean, std = self.mean.contiguous(), self.std.contiguous()
        work = torch.empty(library.view_work(recipe))
        at = (None if t is None else t.data_ptr() for t in (images, drawn, noise, mean, std, out, work))
        library.make_views(recipe, *at)
        return out

    # geometry: where each output pixel looks ------------------------------------------------------------------------

    def _geometry(self, x: Tensor) -> Tensor:
        s = self.settings
        if s.crop_area < 1:
            x = random_resized_crop(x, s.crop_area, s.crop_ratio, self.random)
        if s.rotation or s.shift or s.zoom:
            x = random_affine(x, s.rotation, s.shift, s.zoom, self.random)
        if s.flip:
            mirrored = _chance(len(x), s.flip, x.device, self.random)[:, None, None, None]
            x = torch.where(mirrored, x.flip(-1), x)
        return x

    # colour ---------------------------------------------------------------------------------------------------------

    def _changes_colour(self, x: Tensor) -> bool:
        s = self.settings
        light = s.jitter > 0 and (s.brightness > 0 or s.contrast > 0)
        hues = x.shape[1] == 3 and ((s.jitter > 0 and (s.saturation > 0 or s.hue > 0)) or s.grayscale > 0)
        return light or hues or s.blur > 0

    def _colour(self, x: Tensor) -> Tensor:
        s = self.settings
        if s.jitter:
            on = _chance(len(x), s.jitter, x.device, self.random)[:, None, None, None]
            colourful = x.shape[1] == 3
            strengths = (s.brightness, s.contrast, s.saturation if colourful else 0, s.hue if colourful else 0)
            for change in torch.randperm(4, generator=self.orders).tolist():
                if strengths[change]:
                    x = _CHANGES[change](x, strengths[change], on, self.random)
        if s.grayscale and x.shape[1] == 3:
            grey = _chance(len(x), s.grayscale, x.device, self.random)[:, None, None, None]
            x = torch.where(grey, luma(x).expand_as(x), x)
        return random_blur(x, s.blur, self.random) if s.blur else x


def random_resized_crop(x: Tensor, area: float, ratio: float, generator: Generator) -> Tensor:
    """A box of random area in [area, 1] and aspect in [1/ratio, ratio], resized bilinearly to the full side.

    Ten boxes are drawn for every image and the first that fits is taken; if none fits, the whole image is.
    """
    n, _, height, width = x.shape
    draw = torch.rand(4, 10, n, device=x.device, generator=generator)
    areas = (area + (1 - area) * draw[0]) * (height * width)
    ratios = torch.exp((2 * draw[1] - 1) * math.log(ratio))
    wide = (areas * ratios).sqrt().round().clamp(min=1)  # (10, N)
    high = (areas / ratios).sqrt().round().clamp(min=1)
    fits = (wide <= width) & (high <= height)
    first = fits.to(torch.uint8).argmax(dim=0, keepdim=True)  # (1, N)
    some = fits.any(dim=0)
    wide = torch.where(some, wide.gather(0, first)[0], float(width))
    high = torch.where(some, high.gather(0, first)[0], float(height))
    left = (draw[2, 0] * (width - wide + 1)).floor()
    top = (draw[3, 0] * (height - high + 1)).floor()
    rows, columns = _resize(top, high, height), _resize(left, wide, width)
    return rows[:, None] @ x @ columns[:, None].transpose(-1, -2)


def _resize(start: Tensor, length: Tensor, side: int) -> Tensor:
    """(N, side, side) bilinear weights that stretch `length` pixels from `start` over the whole side."""
    pixel = torch.arange(side, device=start.device, dtype=torch.float32)
    at = start[:, None] + (pixel + 0.5) * (length / side)[:, None] - 0.5
    at = torch.minimum(
        torch.maximum(at, start[:, None]), (start + length - 1)[:, None]
    )  # stay in the box, as resize does
    return (1 - (at[:, :, None] - pixel).abs()).relu()


def random_affine(x: Tensor, degrees: float, shift: float, zoom: float, generator: Generator) -> Tensor:
    """Rotation in +-degrees, shift in +-shift sides on each axis, scale in [1 - zoom, 1 + zoom]; black outside."""
    draw = 2 * torch.rand(4, len(x), device=x.device, generator=generator) - 1
    angle = draw[0] * math.radians(degrees)
    scale = 1 / (1 + zoom * draw[1])  # output coordinates are mapped back to the input's
    cos, sin = angle.cos() * scale, angle.sin() * scale
    to = 2 * shift * draw[2:]  # the side is 2 units of the sampling grid
    theta = torch.stack([cos, sin, -cos * to[0] - sin * to[1], -sin, cos, sin * to[0] - cos * to[1]], dim=1)
    grid = F.affine_grid(theta.view(-1, 2, 3), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def luma(x: Tensor) -> Tensor:
    """(N, 1, H, W) grey of a colour image."""
    return GREY[0] * x[:, 0:1] + GREY[1] * x[:, 1:2] + GREY[2] * x[:, 2:3]


def _brightness(x: Tensor, strength: float, on: Tensor, generator: Generator) -> Tensor:
    return (x * _factor(x, strength, on, generator)).clamp(0, 1)


def _contrast(x: Tensor, strength: float, on: Tensor, generator: Generator) -> Tensor:
    grey = luma(x) if x.shape[1] == 3 else x
    return torch.lerp(grey.mean(dim=(2, 3), keepdim=True), x, _factor(x, strength, on, generator)).clamp(0, 1)


def _saturation(x: Tensor, strength: float, on: Tensor, generator: Generator) -> Tensor:
    return torch.lerp(luma(x), x, _factor(x, strength, on, generator)).clamp(0, 1)


def _hue(x: Tensor, strength: float, on: Tensor, generator: Generator) -> Tensor:
    turn = (2 * torch.rand(len(x), 1, 1, 1, device=x.device, generator=generator) - 1) * strength * on
    return turn_hue(x, turn)


_CHANGES = (_brightness, _contrast, _saturation, _hue)


def turn_hue(x: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue of RGB in [0, 1] by `turn` (N, 1, 1, 1) of a circle, value and saturation kept (HSV)."""
    red, green, blue = x.unbind(1)
    value = x.amax(dim=1)
    chroma = value - x.amin(dim=1)
    safe = torch.where(chroma > 0, chroma, 1.0)
    hue = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    hue = hue + 6 * turn.squeeze(1)  # in sixths of the circle
    offsets = torch.arange(5.0, 0.0, -2.0, device=x.device)[:, None, None]  # made there: a copy would be waited for
    k = (offsets + hue[:, None]) % 6
    return value[:, None] - chroma[:, None] * torch.minimum(k, 4 - k).clamp(0, 1)


def random_blur(x: Tensor, probability: float, generator: Generator) -> Tensor:
    """Gaussian blur with sigma in [0.1, 2] pixels; the kernel spans a tenth of the side (odd, >= 3), as SimCLR's."""
    side = x.shape[-1]
    radius = max(1, side // 20)
    sigma = 0.1 + 1.9 * torch.rand(len(x), 1, device=x.device, generator=generator)
    on = _chance(len(x), probability, x.device, generator)[:, None, None]
    offsets = torch.arange(-radius, radius + 1, device=x.device, dtype=torch.float32)
    weights = torch.exp(-0.5 * (offsets / sigma).square())
    weights = weights / weights.sum(dim=1, keepdim=True)  # (N, K)
    pixel = torch.arange(side, device=x.device)
    looks = (pixel + offsets[:, None].long()).abs()  # mirrored at the first pixel, then at the last
    looks = torch.where(looks >= side, 2 * (side - 1) - looks, looks)
    spread = F.one_hot(looks, side).float()  # (K, side, side)
    blur = torch.einsum("nk,kij->nij", weights, spread)
    blur = torch.where(on, blur, torch.eye(side, device=x.device))[:, None]
    return blur @ x @ blur.transpose(-1, -2)


def _factor(x: Tensor, strength: float, on: Tensor, generator: Generator) -> Tensor:
    """(N, 1, 1, 1) uniform in [max(0, 1 - strength), 1 + strength], and 1 where the change is off."""
    low = max(0.0, 1 - strength)
    drawn = low + (1 + strength - low) * torch.rand(len(x), 1, 1, 1, device=x.device, generator=generator)
    return torch.where(on, drawn, 1.0)


def _chance(count: int, probability: float, device: torch.device, generator: Generator) -> Tensor:
    return torch.rand(count, device=device, generator=generator) < probability
