"""The pairs of rows that both forms of SimO compare."""

import torch
from torch import Tensor

from cl_semisup.contrast import both, identities, others, same, squared_distances


def class_pairs(
    z1: Tensor, z2: Tensor, labels: Tensor | None, unlabelled: str
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Of the 2N unit rows of both views: cosines, squared distances, same class?, which pairs count, which rows count.

    The first four are (2N, 2N), the last is (2N,). With `unlabelled` = "out" unlabelled rows do not count; else each
    unlabelled image is a class of its own.
    """
    z = both(z1, z2)  # (2N, D)
    with torch.autocast(z.device.type, enabled=False):  # the gradient, up to 1/eps, overflows half precision
        cosine, apart = z @ z.T, squared_distances(z)
    ids = identities(labels, len(z1), z.device).repeat(2)
    counts = ids >= 0 if unlabelled == "out" else torch.ones_like(ids, dtype=torch.bool)
    pairs = others(len(z), z.device) & counts[:, None] & counts
    return cosine, apart, same(ids), pairs, counts
