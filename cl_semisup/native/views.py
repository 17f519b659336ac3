"""A batch of views as a function of images and random numbers: in C (views.c), on a GPU (views.cu), or in torch.

The random numbers (`draws`) are a mapping from each step to its own, in the order in which the steps are applied:

    crop        area, aspect, left and top of CROP_BOXES boxes
    affine      angle, scale, shift across and down
    jitter      whether this image's colours change
    brightness, contrast, saturation, hue      how much they change
    blur        sigma, and whether this image is blurred
    flip, grayscale, negate     whether it happens to this image
    noise       normal numbers, as large as the images

ROWS says how many uniform numbers in [0, 1) a step takes; they are (rows, N).
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from cl_semisup.native import library, view_kernel

MAX_BLUR_SIDE = 1280  # pixels of a side up to which a blur fits the arrays in views.c
CROP_BOXES = 10  # as in views.c
ROWS = {"crop": 4 * CROP_BOXES, "affine": 4, "blur": 2}  # each other step takes one
LUMA = (0.2989, 0.587, 0.114)  # ITU-R 601, as in torchvision


def draw(s: Any, shape: torch.Size, random: Generator, order_random: Generator) -> dict[str, Tensor]:
    """All random numbers of a call, step by step; `s` is a `data.settings.Views`. Each step is a draw of its own.

    They are drawn where the generators are, which is the host: then a GPU sees the views that a CPU sees. Steps that
    change nothing are left out, and draw nothing.
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
        step: torch.rand(ROWS.get(step, 1), n, device=random.device, generator=random)
        for step, happens in steps
        if happens
    }
    if s.noise:
        draws["noise"] = torch.randn(shape, device=random.device, generator=random)
    return draws


def apply(
    images: Tensor, draws: Mapping[str, Tensor], recipe: Any, mean: Tensor, std: Tensor, side: int | None = None
) -> Tensor:
    """(N, C, H, W) views, normalised by mean and std.

    Args:
        images: (N, C, H, W), bytes, or floats as they are meant; kernels take bytes, C = 1 or 3, H = W
        draws: random numbers of each step, see above
        recipe: strengths and probabilities, a `data.settings.Views`
        mean, std: (C, 1, 1) in [0, 1]
        side: pixels of a side of the views, if it is smaller than that of the images, which are square: they are
            cropped to it, or resized where there is no crop, antialiased
    """

    def in_torch() -> Tensor:
        return _in_torch(images, draws, recipe, mean, std, side)

    if not _fits(images, draws, mean):
        return in_torch()
    if images.device.type == "cuda":
        return view_kernel.make(images, draws, recipe, mean, std, side or images.shape[3], in_torch)
    if kernels := library.get():
        return _in_c(images, draws, recipe, mean, std, kernels, side or images.shape[3])
    return in_torch()


def _fits(images: Tensor, draws: Mapping[str, Tensor], mean: Tensor) -> bool:
    """Can a kernel do it? It takes square grey or colour images of bytes, knows these steps, and gives float32."""
    here = images.device.type == mean.device.type in ("cpu", "cuda") and images.dtype == torch.uint8
    float32 = mean.dtype == torch.get_default_dtype() == torch.float32
    square = images.shape[1] in (1, 3) and images.shape[2] == images.shape[3] <= MAX_BLUR_SIDE
    return here and float32 and square and draws.keys() <= set(library.Draws.STEPS)


def _in_c(
    images: Tensor, draws: Mapping[str, Tensor], r: Any, mean: Tensor, std: Tensor, kernels: Any, side: int
) -> Tensor:
    order = [library.CHANGES.index(step) for step in draws if step in library.CHANGES]
    recipe = library.Recipe(
        *images.shape[:2], side, side, images.shape[3],
        r.crop_area, math.log(r.crop_ratio), r.flip, math.radians(r.rotation), r.shift, r.zoom,
        r.jitter, tuple(getattr(r, change) for change in library.CHANGES), len(order), tuple(order),
        r.grayscale, r.blur, r.negate, r.noise,
    )  # fmt: skip
    addresses = library.Draws(**{step: numbers.data_ptr() for step, numbers in draws.items()})
    images, views = images.contiguous(), torch.empty(*images.shape[:2], side, side)
    mean, std = mean.contiguous(), std.contiguous()
    scratch = torch.empty(kernels.views_scratch(recipe))
    kernels.make_views(recipe, addresses, *(tensor.data_ptr() for tensor in (images, mean, std, views, scratch)))
    return views


def _in_torch(
    images: Tensor, draws: Mapping[str, Tensor], r: Any, mean: Tensor, std: Tensor, side: int | None
) -> Tensor:
    x = images.float() / 255 if images.dtype == torch.uint8 else images.float()
    if side and "crop" not in draws:
        x = resized(x, side)
    for step, numbers in draws.items():
        match step:
            case "crop":
                x = random_resized_crop(x, r.crop_area, r.crop_ratio, numbers, side=side)
            case "affine":
                x = random_affine(x, r.rotation, r.shift, r.zoom, numbers)
            case "flip":
                x = torch.where(_chosen(numbers, r.flip), x.flip(-1), x)
            case "jitter":
                jittered = _chosen(numbers, r.jitter)
            case "brightness" | "contrast" | "saturation" | "hue":
                x = COLOUR_CHANGES[step](x, getattr(r, step), jittered, numbers)
            case "grayscale":
                x = torch.where(_chosen(numbers, r.grayscale), luma(x).expand_as(x), x)
            case "blur":
                x = random_blur(x, r.blur, numbers)
            case "negate":
                x = torch.where(_chosen(numbers, r.negate), 1 - x, x)
            case "noise":
                x = x + r.noise * numbers
            case _:
                raise AssertionError(f"no such step of a view: {step}")
    return (x - mean) / std


def random_resized_crop(
    x: Tensor, area: float, ratio: float, numbers: Tensor, largest: float = 1.0, side: int | None = None
) -> Tensor:
    """A box of random area in [area, largest] and aspect in [1/ratio, ratio], resized bilinearly to the whole image.

    Of an image's CROP_BOXES boxes the first that fits is taken; if none fits, the whole image is. numbers: (40, N).
    With a `side` smaller than that of the images, the result has that side, and boxes are antialiased as they shrink.
    """
    n, _, height, width = x.shape
    numbers = numbers.view(4, CROP_BOXES, n)
    areas = (area + (largest - area) * numbers[0]) * (height * width)
    ratios = torch.exp((2 * numbers[1] - 1) * math.log(ratio))
    widths = (areas * ratios).sqrt().round().clamp(min=1)  # (10, N)
    heights = (areas / ratios).sqrt().round().clamp(min=1)
    fits = (widths <= width) & (heights <= height)
    first = fits.to(torch.uint8).argmax(dim=0, keepdim=True)  # (1, N)
    some = fits.any(dim=0)
    box_width = torch.where(some, widths.gather(0, first)[0], float(width))
    box_height = torch.where(some, heights.gather(0, first)[0], float(height))
    left = (numbers[2, 0] * (width - box_width + 1)).floor()
    top = (numbers[3, 0] * (height - box_height + 1)).floor()
    if side:
        rows, columns = _shrink(top, box_height, height, side), _shrink(left, box_width, width, side)
    else:
        rows, columns = _resize(top, box_height, height), _resize(left, box_width, width)
    return rows[:, None] @ x @ columns[:, None].transpose(-1, -2)


def resized(x: Tensor, side: int) -> Tensor:
    """(N, C, side, side): the whole of larger square images, bilinear and antialiased."""
    start = x.new_zeros(1)
    weights = _shrink(start, start + x.shape[3], x.shape[3], side)
    return weights @ x @ weights.transpose(-1, -2)


def _shrink(start: Tensor, length: Tensor, side: int, to: int) -> Tensor:
    """(N, to, side) bilinear weights that make `to` pixels of `length` from `start`, antialiased where these are more.

    Pixels outside of the box have no weight, as if it were cut out first.
    """
    pixel, place = (torch.arange(n, device=start.device, dtype=torch.float32) for n in (side, to))
    step, last = (length / to)[:, None, None], (start + length - 1)[:, None, None]
    position = start[:, None, None] + (place[:, None] + 0.5) * step - 0.5
    weights = (1 - (position - pixel).abs() / step.clamp(min=1)).relu()
    weights = weights * ((pixel >= start[:, None, None]) & (pixel <= last))
    return weights / weights.sum(dim=2, keepdim=True)


def _resize(start: Tensor, length: Tensor, side: int) -> Tensor:
    """(N, side, side) bilinear weights that stretch `length` pixels from `start` over the whole side."""
    pixel = torch.arange(side, device=start.device, dtype=torch.float32)
    position = start[:, None] + (pixel + 0.5) * (length / side)[:, None] - 0.5
    position = torch.maximum(position, start[:, None])  # stay in the box, as resize does
    position = torch.minimum(position, (start + length - 1)[:, None])
    return (1 - (position[:, :, None] - pixel).abs()).relu()


def random_affine(x: Tensor, degrees: float, shift: float, zoom: float, numbers: Tensor) -> Tensor:
    """Rotation in +-degrees, shift in +-shift sides on each axis, scale in [1 - zoom, 1 + zoom]; black outside."""
    signed = 2 * numbers - 1
    angle = signed[0] * math.radians(degrees)
    scale = 1 / (1 + zoom * signed[1])  # output coordinates are mapped back to the input's
    cos, sin = angle.cos() * scale, angle.sin() * scale
    to = 2 * shift * signed[2:]  # the side is 2 units of the sampling grid
    theta = torch.stack([cos, sin, -cos * to[0] - sin * to[1], -sin, cos, sin * to[0] - cos * to[1]], dim=1)
    grid = F.affine_grid(theta.view(-1, 2, 3), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def luma(x: Tensor) -> Tensor:
    """(N, 1, H, W) grey of a colour image."""
    return LUMA[0] * x[:, 0:1] + LUMA[1] * x[:, 1:2] + LUMA[2] * x[:, 2:3]


def _brightness(x: Tensor, strength: float, jittered: Tensor, numbers: Tensor) -> Tensor:
    return (x * _factor(strength, jittered, numbers)).clamp(0, 1)


def _contrast(x: Tensor, strength: float, jittered: Tensor, numbers: Tensor) -> Tensor:
    grey = luma(x) if x.shape[1] == 3 else x
    return torch.lerp(grey.mean(dim=(2, 3), keepdim=True), x, _factor(strength, jittered, numbers)).clamp(0, 1)


def _saturation(x: Tensor, strength: float, jittered: Tensor, numbers: Tensor) -> Tensor:
    return torch.lerp(luma(x), x, _factor(strength, jittered, numbers)).clamp(0, 1)


def _hue(x: Tensor, strength: float, jittered: Tensor, numbers: Tensor) -> Tensor:
    return turn_hue(x, (2 * numbers.view(-1, 1, 1, 1) - 1) * strength * jittered)


COLOUR_CHANGES = dict(zip(library.CHANGES, (_brightness, _contrast, _saturation, _hue), strict=True))


def turn_hue(x: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue of RGB in [0, 1] by `turn` (N, 1, 1, 1) of a circle; value and saturation stay (HSV)."""
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
    offsets = torch.arange(5.0, 0.0, -2.0, device=x.device)[:, None, None]  # a copy from the host would block
    k = (offsets + hue[:, None]) % 6
    return value[:, None] - chroma[:, None] * torch.minimum(k, 4 - k).clamp(0, 1)


def random_blur(x: Tensor, probability: float, numbers: Tensor) -> Tensor:
    """Gaussian blur with sigma in [0.1, 2] pixels; the kernel spans a tenth of the side (odd, >= 3), as SimCLR's."""
    side = x.shape[-1]
    radius = max(1, side // 20)
    sigma = 0.1 + 1.9 * numbers[0, :, None]
    offsets = torch.arange(-radius, radius + 1, device=x.device, dtype=torch.float32)
    weights = torch.exp(-0.5 * (offsets / sigma).square())
    weights = weights / weights.sum(dim=1, keepdim=True)  # (N, K)
    pixel = torch.arange(side, device=x.device)
    source = (pixel + offsets[:, None].long()).abs()  # reflected at the first pixel, then at the last
    source = torch.where(source >= side, 2 * (side - 1) - source, source)
    blur = torch.einsum("nk,kij->nij", weights, F.one_hot(source, side).float())
    blur = torch.where(_chosen(numbers[1:], probability)[:, 0], blur, torch.eye(side, device=x.device))[:, None]
    return blur @ x @ blur.transpose(-1, -2)


def _factor(strength: float, jittered: Tensor, numbers: Tensor) -> Tensor:
    """(N, 1, 1, 1) uniform in [max(0, 1 - strength), 1 + strength], and 1 where nothing changes."""
    low = max(0.0, 1 - strength)
    factor = low + (1 + strength - low) * numbers.view(-1, 1, 1, 1)
    return torch.where(jittered, factor, 1.0)


def _chosen(numbers: Tensor, probability: float) -> Tensor:
    """(N, 1, 1, 1) bool: the images to which a step happens."""
    return (numbers < probability).view(-1, 1, 1, 1)
