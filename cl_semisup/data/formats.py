"""Images of one data set in the format of another: what an encoder of other images can take."""

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_semisup.data.views import luma
from cl_semisup.errors import InputError


def fitted(images: Tensor, channels: int, side: int, key: str = "probes") -> Tensor:
    """(N, C, s, s) uint8 -> (N, channels, side, side) uint8; images of that format stay as they are.

    Grey images get equal channels, coloured ones become their luma (ITU-R 601), and the side is resized bilinearly with
    antialiasing. InputError for other numbers of channels: nothing says which band is which; its message
    names `key`, the key of the suite that asks for these images.
    """
    if images.shape[1] not in (1, channels) and (images.shape[1], channels) != (3, 1):
        rule = f"images of another data set must have 1 or {channels} channels, as the run's images"
        raise InputError(f"{key}: {rule}. Got {images.shape[1]}. Leave that data set out.")
    if images.shape[1] == 3 and channels == 1:
        images = luma(images.float()).round().to(torch.uint8)
    if images.shape[-1] != side:
        resized = F.interpolate(images.float(), (side, side), mode="bilinear", antialias=True)
        images = resized.round().clamp(0, 255).to(torch.uint8)
    return images.expand(-1, channels, -1, -1)
