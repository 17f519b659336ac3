from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from cl_semisup.views import Draw


@dataclass(frozen=True)
class StoredView:
    """One of the rows that the data set stores for each image: real views, such as two parts of a text.

    Of two rows the first view is the first and the second view the second. Of more, the views of a step are distinct
    random ones. What comes before it in a chain is replaced. Test rows without stored views stay as they are.
    """

    inputs: ClassVar[str] = "features"
    needs_rows: ClassVar[bool] = True  # the data set must store several rows an image

    def view(self, images: Tensor, draw: Draw) -> Tensor:
        if draw.rows is None:
            return images
        index, (_, count, _) = draw.index.to(draw.rows.device), draw.rows.shape
        number = torch.full((len(index),), draw.view % count, device=index.device)
        if count > 2:
            order = torch.rand(len(index), count, generator=draw.shared).argsort(dim=1)
            number = draw.send(order[:, draw.view % count]).to(index.device)
        return draw.send(draw.rows[index, number][:, :, None, None])
