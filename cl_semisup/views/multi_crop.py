from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Interval
from torch import Tensor

from cl_semisup.errors import InputError
from cl_semisup.native.views import CROP_BOXES, random_resized_crop
from cl_semisup.views import Draw

Area = Annotated[float, Interval(gt=0, le=1)]


@dataclass(frozen=True)
class MultiCrop:
    """Multi-crop: two global crops, and several local ones for the losses that take them.

        global crop: area uniform in [global_area, 1] of the image; local crop: in [local_area, global_area]

    Losses with local views (`dino`, `swav`) match each local view with the targets of both global ones; the others
    train on the global views alone. This view makes the crops, so a `crop_and_color` after it has `crop_area: 1`.

    Source: SwAV, arXiv 2006.09882, section 3.3 (2 x 224 pixels from 0.14 on, 6 x 96 from 0.05 to 0.14); DINO, arXiv
    2104.14294 (from 0.25 on, 8 local ones from 0.05 to 0.25)
    Difference: an approximation: a local crop is resized to the full side and not to a smaller one. So a local view
    costs as much as a global one, and what it shows is enlarged more. All views go through the encoder together, so
    batch norm sees both kinds; there each size is a batch of its own

    Args:
        local_views: number of local views of an image
        local_area: smallest share of the area of a local crop
        global_area: smallest share of a global crop, and largest share of a local one
        crop_ratio: largest aspect ratio of a crop (its inverse is the smallest)
    """

    local_views: Annotated[int, Interval(ge=1, le=32)] = 6
    local_area: Area = 0.05
    global_area: Area = 0.25
    crop_ratio: Annotated[float, Interval(ge=1, le=10)] = 4 / 3

    inputs: ClassVar[str] = "images"
    crops: ClassVar[bool] = True  # at the start of a chain it takes larger images, and gives `draw.side`

    def __post_init__(self) -> None:
        if self.local_area > self.global_area:
            got = f"Got {self.local_area:g} and {self.global_area:g}"
            raise InputError(f"local_area: must not exceed global_area. {got}. Lower it.")

    def view(self, images: Tensor, draw: Draw) -> Tensor:
        low, high = (self.local_area, self.global_area) if draw.local else (self.global_area, 1.0)
        numbers = draw.uniform(4 * CROP_BOXES, len(images))
        return random_resized_crop(images, low, self.crop_ratio, numbers, high, draw.side)
