"""The shape of a cloud of embeddings: its spectrum and how many directions it uses."""

import torch
from torch import Tensor


def singular_values(z: Tensor) -> Tensor:
    """(min(N, D),) singular values, largest first, in float32 or better; no gradient."""
    z = z.detach()
    return torch.linalg.svdvals(z if z.dtype == torch.float64 else z.float())


def effective_rank(z: Tensor, centred: bool = False) -> Tensor:
    """exp of the entropy of the singular values over their sum; in [1, min(N, D)]. All-zero input gives 1.

    Source: Roy & Vetterli 2007; without centring and up to an epsilon this is RankMe (arXiv 2210.02885)
    """
    values = singular_values(z - z.mean(dim=0) if centred else z)
    shares = values / values.sum().clamp(min=torch.finfo(values.dtype).tiny)
    return torch.special.entr(shares).sum().exp()


def alignment(u: Tensor, v: Tensor) -> Tensor:
    """Mean squared distance of paired unit rows; in [0, 4]. Source: arXiv 2005.10242, eq. 4 (alpha = 2)"""
    return (u - v).square().sum(dim=1).mean()


def uniformity(u: Tensor) -> Tensor:
    """log mean over pairs i < j of exp(-2 |u_i - u_j|^2) for unit rows; in [-8, 0], lower is more uniform.

    Uniform points in D dimensions give about -4 + 8 / D. One row has no pair and gives 0.
    Source: arXiv 2005.10242, eq. 5 (t = 2)
    """
    count = len(u)
    if count < 2:
        return u.new_zeros(())
    total = torch.stack([_energies(rows, u) for rows in u.split(2048)]).logsumexp(dim=0)
    # All ordered pairs are summed: take the N pairs of a row with itself out, each exp(0) = 1.
    pairs = total.double().exp() - count
    return (pairs.clamp(min=1e-300) / (count * (count - 1))).log()


def _energies(rows: Tensor, u: Tensor) -> Tensor:
    """log of the sum of exp(-2 |r - u|^2) over all pairs of a chunk; |r - u|^2 = 2 - 2 r.u on the sphere."""
    return (4 * (rows @ u.T) - 4).flatten().logsumexp(dim=0)
