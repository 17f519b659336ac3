import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from annotated_types import Interval
from torch import Tensor
from torchvision.transforms.v2 import functional

from cl_semisup.data.settings import Probability
from cl_semisup.views import Draw

GEOMETRIC = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
BLENDS = {  # operation -> torchvision's; with factor 0 it gives the image with which it blends
    "brightness": functional.adjust_brightness,
    "color": functional.adjust_saturation,
    "contrast": functional.adjust_contrast,
    "sharpness": functional.adjust_sharpness,
}
OPERATIONS = ("identity", *GEOMETRIC, *BLENDS, "posterize", "solarize", "autocontrast", "equalize")
SHEAR, TRANSLATE, ROTATE, BLEND = (
    0.3,
    150 / 331,
    30.0,
    0.9,
)  # at magnitude 1: tangent, share of the side, degrees, factor


@dataclass(frozen=True)
class RandAugment:
    """RandAugment: some operations in a row, drawn for every image on its own from fourteen, then a grey square.

    The operations, with their range at magnitude 1: identity, shear (0.3) and translation (0.45 of the side) along
    either axis, rotation (30 degrees), brightness, colour, contrast and sharpness (factor 1 +- 0.9), posterize (down to
    4 bits), solarize (from threshold 1 down to 0), autocontrast, equalize. Signs are drawn. Outside is black.

    Source: arXiv 1909.13719; torchvision.transforms.v2.RandAugment, whose operations and ranges these are (there 2
    operations at 9 of 30). FixMatch (arXiv 2001.07685, appendix) is `{magnitude: 1, law: uniform, cutout: 0.5}`
    Difference: bilinear interpolation, as one grid for all geometric operations (torchvision: nearest). Magnitudes are
    real numbers, not bins. FixMatch's enhancements only darken, fade and blur (factors of 0.05 to 0.95), its
    translation ends at 0.3 and its solarisation may begin anywhere. timm has further operations and a normal law of
    magnitudes. Colour leaves grey images as they are

    Args:
        operations: how many are applied one after the other
        magnitude: of every operation, or the largest one, as a share of its range; 0.3 is torchvision's 9 of 30
        law: `fixed` magnitude, or `uniform` in [0, magnitude] for every image and operation
        cutout: largest side of the grey square as a share of the image's; its side is uniform from 0, 0 for no square
    """

    operations: Annotated[int, Interval(ge=1, le=10)] = 2
    magnitude: Probability = 0.3
    law: Literal["fixed", "uniform"] = "fixed"
    cutout: Probability = 0.0

    inputs: ClassVar[str] = "images"

    def view(self, images: Tensor, draw: Draw) -> Tensor:
        count = len(images)
        x = images.clamp(0, 1)
        for _ in range(self.operations):
            chosen = torch.randint(len(OPERATIONS), (count,), generator=draw.random)
            sign, share = draw.uniform(2, count)
            magnitude = self.magnitude * (share if self.law == "uniform" else torch.ones_like(share))
            signed = torch.where(sign < 0.5, -magnitude, magnitude)
            x = geometric(x, draw.send(chosen), signed)
            for number, operation in enumerate(OPERATIONS):
                rows = torch.nonzero(chosen == number).squeeze(1)  # on the host, so no step waits for a device
                if len(rows) and operation not in ("identity", *GEOMETRIC):
                    rows = draw.send(rows)
                    x = x.index_copy(0, rows, recolor(x[rows], operation, magnitude[rows], signed[rows]))
        return cutout(x, self.cutout, draw.uniform(3, count)) if self.cutout else x


def geometric(x: Tensor, chosen: Tensor, magnitude: Tensor) -> Tensor:
    """The images whose operation (N,) is geometric are sheared, moved or turned by their magnitude in [-1, 1]."""
    side = x.shape[-1]
    amount = {name: magnitude * (chosen == OPERATIONS.index(name)) for name in GEOMETRIC}
    shear_x, shear_y = SHEAR * amount["shear_x"], SHEAR * amount["shear_y"]
    # Whole pixels; the side is 2 units of the sampling grid. A shear leaves the first row or column where it is.
    move_x = 2 / side * (TRANSLATE * side * amount["translate_x"]).trunc()
    move_y = 2 / side * (TRANSLATE * side * amount["translate_y"]).trunc()
    angle = math.radians(ROTATE) * amount["rotate"]
    cos, sin = angle.cos(), angle.sin()
    theta = torch.stack([cos, shear_x - sin, shear_x - move_x, shear_y + sin, cos, shear_y - move_y], dim=1)
    grid = F.affine_grid(theta.view(-1, 2, 3), list(x.shape), align_corners=False)
    moved = F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    any_moved = (chosen > 0) & (chosen <= len(GEOMETRIC))
    return torch.where(any_moved.view(-1, 1, 1, 1), moved, x)


def recolor(x: Tensor, operation: str, magnitude: Tensor, signed: Tensor) -> Tensor:
    """Images of one operation, each with its magnitude in [0, 1], or in [-1, 1] where it has a sign."""
    magnitude, signed = magnitude.view(-1, 1, 1, 1), signed.view(-1, 1, 1, 1)
    if operation in BLENDS:
        return torch.lerp(BLENDS[operation](x, 0.0), x, 1 + BLEND * signed).clamp(0, 1)
    if operation == "posterize":
        levels = torch.exp2((8 - 4 * magnitude).round())
        return torch.minimum((x * levels).floor(), levels - 1) / levels
    if operation == "solarize":
        return torch.where(x >= 1 - magnitude, 1 - x, x)
    changed: Tensor = functional.autocontrast(x) if operation == "autocontrast" else functional.equalize(x)
    return changed


def cutout(x: Tensor, largest: float, numbers: Tensor) -> Tensor:
    """A grey square of a side uniform in [0, largest] about a uniform centre, cut at the borders. numbers: (3, N)."""
    side = x.shape[-1]
    half = (numbers[0] * largest * side / 2).view(-1, 1, 1, 1)
    across, down = (side * numbers[1:]).view(2, -1, 1, 1, 1)
    pixel = torch.arange(side, device=x.device) + 0.5
    inside = ((pixel - across).abs() < half) & ((pixel[:, None] - down).abs() < half)  # (N, 1, side, side)
    return torch.where(inside, 0.5, x)
