"""Random views, one a file. To add one, write a frozen dataclass whose fields are its settings, with:

    inputs: ClassVar[str]                "images", "features" or "any": what it can take
    view(images, draw) -> Tensor         the view, of the same shape, float32

`images` are (N, C, H, W) float32 in [0, 1] on their device (pixel noise may leave the range a little), or the rows
(N, F, 1, 1) of a data set of features, as they are. A view is a pure function of images and `draw`: what is random
comes from `draw.random` alone, so the same seed gives the same view. A suite names views in the order in which they
are applied: `views: {crop_and_color: {crop_area: 0.2}, solarize: {probability: 0.2}}`.
"""

from cl_semisup.data.views import Draw

__all__ = ["Draw"]
