from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from cl_semisup.data.settings import Views
from cl_semisup.native import views
from cl_semisup.views import Draw


@dataclass(frozen=True)
class CropAndColor(Views):
    """The basic recipe: random crop, affine map, mirror, colour changes, blur and noise of every image on its own.

    A suite that names nothing else writes its settings alone: `views: {crop_area: 0.2}`. Settings that it leaves out
    are those of the data set. At the start of a chain the kernels in C make it; elsewhere torch does, from other draws.

    Source: SimCLR, arXiv 2002.05709, appendix A; torchvision's transforms, see `cl_semisup/data/views.py`
    """

    inputs: ClassVar[str] = "images"

    def view(self, images: Tensor, draw: Draw) -> Tensor:
        draws = views.draw(self, images.shape, draw.random, draw.random)
        on_device = {step: draw.send(numbers) for step, numbers in draws.items()}
        return views.apply(images, on_device, self, images.new_zeros(()), images.new_ones(()))
