from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Interval
from torch import Tensor
from torch.nn.functional import normalize

from cl_semisup.data.views import once_for_data
from cl_semisup.views import Draw

CHUNK = 2048  # rows whose similarities to all others are held at once


@dataclass(frozen=True)
class NeighbourMixup:
    """Each row is mixed with a random one of its nearest training rows by cosine similarity.

        x' = (1 - w) x + w x_j,   w ~ U[0, strength],   j uniform over the k nearest of the row as it is stored

    The neighbours are computed once for a data set and kept.

    Source: after mixup, arXiv 1710.09412, between neighbours as in arXiv 2104.14548 (NNCLR)
    Difference: neighbours are those of the stored features, and partners are no positives but are mixed in

    Args:
        neighbours: k, capped by the number of other rows
        strength: the largest share of the neighbour
    """

    neighbours: Annotated[int, Interval(ge=1, le=1000)] = 5
    strength: Annotated[float, Interval(ge=0, le=1)] = 0.5

    inputs: ClassVar[str] = "features"

    def view(self, images: Tensor, draw: Draw) -> Tensor:
        if (count := min(self.neighbours, len(draw.data) - 1)) == 0:
            return images
        nearest = _nearest(draw.data, count)  # (M, k)
        index = draw.index.to(nearest.device)
        chosen = (draw.uniform(len(index)) * count).long().clamp(max=count - 1).to(nearest.device)
        partners = draw.send(draw.data[nearest[index, chosen]])
        share = self.strength * draw.uniform(len(index)).view(-1, 1, 1, 1)
        return torch.lerp(images, partners, share)


@once_for_data
def _nearest(data: Tensor, count: int) -> Tensor:
    """(M, k) the most similar other rows of each row, the most similar first."""
    rows = normalize(data.flatten(1), dim=1)
    found = []
    for first in range(0, len(rows), CHUNK):
        similarities = rows[first : first + CHUNK] @ rows.T
        own = torch.arange(len(similarities), device=rows.device)
        similarities[own, own + first] = -torch.inf
        found.append(similarities.topk(count, dim=1).indices)
    return torch.cat(found)
