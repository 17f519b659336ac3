"""Functions that contrastive losses share: unit rows, identities, pairs of views, sums in log space.

Shapes: N inputs, D embedding; Z stacks both views as (2N, D), row i and row i + N being the same image.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_semisup.contrast import chunked
from cl_semisup.native.pairs import log_sum_and_partner

CLOSE = 1e-3  # squared distance of unit rows below which 2 - 2 cos has lost half of its digits
EPS = 1e-12  # a zero row stays a zero row, so its similarity to each row is 0


def unit(z: Tensor) -> Tensor:
    """Rows scaled to length 1, in float32 or better: similarities lose their meaning in half precision."""
    return F.normalize(z if z.dtype == torch.float64 else z.float(), dim=-1, eps=EPS)


def both(z1: Tensor, z2: Tensor) -> Tensor:
    """(2N, D) unit rows of both views."""
    return unit(torch.cat([z1, z2]))


def squared_distances(z: Tensor) -> Tensor:
    """(n, n) squared distances of unit rows z (n, D); those of close rows from their difference.

    2 - 2 cos, which is faster, has an error of 1e-7 in single precision, so close rows would lose value and gradient.
    """
    other = others(len(z), z.device)
    apart = (2 - 2 * z @ z.T).masked_fill(~other, 0.0)
    close = (apart.detach() < CLOSE) & other
    if z.device.type == "cpu" and not close.any():  # elsewhere the host would wait for the answer
        return apart
    exact = torch.cdist(z, z, compute_mode="donot_use_mm_for_euclid_dist").square()
    return torch.where(close, exact, apart)


def identities(labels: Tensor | None, count: int, device: torch.device) -> Tensor:
    """(N,) the identity of each image: its label if that is >= 0, else -1 - i for image i.

    So two images are the same if they have the same label, and an unlabelled image is the same as itself only.
    """
    own = -1 - torch.arange(count, device=device)
    return own if labels is None else torch.where(labels >= 0, labels, own)


def same(ids: Tensor) -> Tensor:
    """(N, N) bool: do images i and j have the same identity?"""
    return ids[:, None] == ids[None, :]


def others(count: int, device: torch.device) -> Tensor:
    """(n, n) bool: all pairs except those of a row with itself."""
    return ~torch.eye(count, dtype=torch.bool, device=device)


def partners(similarity: Tensor) -> Tensor:
    """(2N,) from each row of a (2N, 2N) matrix the entry of the other view of the same image."""
    half = similarity.shape[0] // 2
    return torch.cat([similarity.diagonal(half), similarity.diagonal(-half)])


def logsumexp(logits: Tensor, mask: Tensor) -> Tensor:
    """(n,) log of the sum of exp over the entries where `mask` is true; a row without any gets -inf and no gradient."""
    some = mask.any(dim=1, keepdim=True)
    total = logits.masked_fill(~mask & some, -torch.inf).logsumexp(dim=1)  # an empty row is summed whole, then dropped
    return total.masked_fill(~some.squeeze(1), -torch.inf)


def against_others(z: Tensor, temperature: float, ids: Tensor) -> tuple[Tensor, Tensor]:
    """For each row a of (2N, D) Z: log of the sum of exp(s_ab / t) over rows b of another id, and s_{a,p(a)} / t.

    p(a) is the other view of the same image. The (2N, 2N) matrix s is made whole where it is small.
    """
    if chunked.too_large(len(z), len(z)):
        first, second = z.chunk(2)
        partner = (first * second).sum(dim=1) / temperature
        return chunked.log_sum(z, z, temperature, ids, ids), partner.repeat(2)
    if chunked.is_dense():
        logits = z @ z.T / temperature  # (2N, 2N)
        return logsumexp(logits, ~same(ids)), partners(logits)
    return log_sum_and_partner(z, temperature, ids)


def attraction(z: Tensor, temperature: float, ids: Tensor) -> Tensor:
    """(n,) mean of s_ab / t over the other rows b of the same identity.

    It takes sums over identities instead of an (n, n) matrix. Every identity must have two rows or more.
    """
    _, group, count = ids.unique(return_inverse=True, return_counts=True)
    sums = torch.zeros(len(count), z.shape[1], dtype=z.dtype, device=z.device).index_add(0, group, z)
    return (z * (sums[group] - z)).sum(dim=1) / temperature / (count[group] - 1)


def mean(values: Tensor, mask: Tensor, z1: Tensor, z2: Tensor) -> Tensor:
    """Mean over the anchors where `mask` is true; without any, zero with a graph (finite, differentiable).

    `torch.where` keeps inf and NaN of the other anchors out of value and gradient.
    """
    count = mask.sum()
    total = torch.where(mask, values, torch.zeros_like(values)).sum() / count.clamp(min=1)
    return total + nothing(z1, z2)


def nothing(z1: Tensor, z2: Tensor) -> Tensor:
    """Zero that depends on both inputs: backward works even if no anchor counts."""
    return (z1.sum() + z2.sum()) * 0.0
