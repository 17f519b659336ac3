"""The shape of a feature_set of embeddings: its spectrum, how many directions it uses, how evenly it covers the sphere.

Rows are embeddings, (N, D) or unit rows where it says so. Nothing here knows of classes; neural collapse is another
thing, measured in `evaluation/neural_collapse.py`.
"""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ROWS = 1024  # rows at once where all pairs are visited: bounds memory to ROWS x N similarities (40 MB at 10,000)
RANKME_EPSILON = 1e-7
REQ_FIRST = 3  # alpha-ReQ fits the decay from the fourth eigenvalue to the hundredth
REQ_LAST = 100
FLAT = 1e-12  # of the summed squares of all features: differences below it are rounding


# spectrum -----------------------------------------------------------------------------------------------------------


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


def rankme(z: Tensor) -> Tensor:
    """Effective rank of raw features, neither centred nor normalised, with 1e-7 on every share; in [1, min(N, D)].

    The paper takes N = 25,600 rows; compare values of equal N and D only.
    Source: arXiv 2210.02885
    """
    values = singular_values(z)
    shares = values / values.sum().clamp(min=torch.finfo(values.dtype).tiny) + RANKME_EPSILON
    return torch.special.entr(shares).sum().exp()


def alpha_req(z: Tensor) -> tuple[float, float]:
    """(alpha, R^2) of eigenvalue_j ~ j^-alpha, by least squares of logs weighted with 1/j; around 1 is said to be good.

    Eigenvalues are those of the centred covariance, ranks 4 to min(100, D, N - 1), down to 1e-10 of the largest; with
    fewer than three of them both are NaN. Values over different ranges of ranks cannot be compared.

    Source: Agrawal et al., NeurIPS 2022; range and weights as in the authors' code
    """
    eigenvalues = singular_values(z - z.mean(dim=0)).double().square().cpu().numpy()
    ranks = np.arange(1, len(eigenvalues) + 1)
    used = (ranks > REQ_FIRST) & (ranks <= min(REQ_LAST, len(z) - 1)) & (eigenvalues > 1e-10 * eigenvalues[:1])
    if used.sum() < 3:
        return float("nan"), float("nan")
    x, y, weights = np.log(ranks[used]), np.log(eigenvalues[used]), 1 / ranks[used]
    slope, offset = np.polyfit(x, y, 1, w=np.sqrt(weights))
    rest = (weights * (y - slope * x - offset) ** 2).sum()
    total = (weights * (y - np.average(y, weights=weights)) ** 2).sum()
    return float(-slope), float(1 - rest / total) if total > 0 else float("nan")


def lidar(views: Tensor, delta: float = 1e-4) -> Tensor:
    """Effective rank of the spread between images measured in units of the spread between views of one image.

        exp(entropy of eig(S_w^-1/2 S_b S_w^-1/2)),  S_b (1/(n-1)) sum (m_i - m)(m_i - m)^T,
        S_w (1/(n(q-1))) sum (e_ij - m_i)(e_ij - m_i)^T + delta I

    With n (q - 1) < D, S_w is singular but for delta and the value is noise: give more views or images.

    Source: arXiv 2312.04000, section 4
    Difference: shares are used as they are, without the paper's epsilon of 1e-8

    Args:
        views: (q, n, D), q >= 2 views of n >= 2 images
        delta: added to the diagonal of S_w
    """
    q, n, width = views.shape
    e = _exact(views)
    means = e.mean(dim=0)  # (n, D)
    inside = (e - means).reshape(q * n, width)
    between = means - means.mean(dim=0)
    within = inside.T @ inside / (n * (q - 1)) + delta * torch.eye(width, dtype=e.dtype, device=e.device)
    values, directions = torch.linalg.eigh(within)
    whitened = between @ directions / values.clamp(min=delta).sqrt() / (n - 1) ** 0.5  # (n, D)
    eigenvalues = torch.linalg.svdvals(whitened).square()
    shares = eigenvalues / eigenvalues.sum().clamp(min=torch.finfo(e.dtype).tiny)
    return torch.special.entr(shares).sum().exp()


# the sphere ---------------------------------------------------------------------------------------------------------


def feature_std(u: Tensor) -> Tensor:
    """Mean standard deviation of unit rows' coordinates times sqrt(D): 1 for uniform points, 0 for a single point.

    Source: arXiv 2011.10566, section 4.1, which watches for values near 0
    """
    return u.std(dim=0, correction=0).mean() * u.shape[1] ** 0.5


def alignment(u: Tensor, v: Tensor) -> Tensor:
    """Mean squared distance of paired unit rows; in [0, 4]. Source: arXiv 2005.10242 (alpha = 2)"""
    return (u - v).square().sum(dim=1).mean()


def uniformity(u: Tensor) -> Tensor:
    """log mean over pairs i < j of exp(-2 |u_i - u_j|^2) for unit rows; in [-8, 0], lower is more uniform.

    Uniform points in D dimensions give about -4 + 8 / D. One row has no pair and gives 0.
    Source: arXiv 2005.10242 (t = 2)
    """
    if len(u) < 2:
        return u.new_zeros(())
    total = sum(_energies(u, first) for first in range(0, len(u), ROWS))
    pairs = len(u) * (len(u) - 1) / 2
    return u.new_tensor(total / pairs).clamp(min=torch.finfo(u.dtype).tiny).log()


def _energies(u: Tensor, first: int) -> float:
    """The sum of exp(-2 |u_i - u_j|^2) over j > i for a chunk of i; |u_i - u_j|^2 = 2 - 2 u_i.u_j on the sphere."""
    rows = u[first : first + ROWS]
    energies = (rows @ u[first:].T).mul_(4).sub_(4).exp_()  # (n, N - first)
    corner = energies[:, : len(rows)]  # pairs within the chunk: met twice, and each row once with itself
    corner.triu_(diagonal=1)
    return float(energies.sum(dim=1).double().sum())


def wasserstein_uniformity(u: Tensor) -> float:
    """W1 between the cosines of all pairs of unit rows and the law of uniform points' cosines; in [0, 1], 0 is best.

        W1 = mean_k | s_(k) - q((k - 1/2) / m) |,  s the m sorted cosines, q the law's quantiles

    The law is 2 B - 1 with B ~ Beta((D-1)/2, (D-1)/2), for D >= 2. 1 for a single point; 0.14 for 10 orthonormal points
    in equal shares at D = 128; 0.001 to 0.002 for points that are uniform. One row has no pair and gives NaN.

    Source: arXiv 2405.18045, appendix on metrics
    Difference: exact quantiles in D dimensions; the published code draws 10,000 of them and always for D = 128
    """
    count, width = u.shape
    if count < 2 or width < 2:
        return float("nan")
    cosines = (u @ u.T)[torch.ones(count, count, dtype=torch.bool, device=u.device).triu(diagonal=1)]
    found = cosines.sort().values.double().cpu().numpy()
    return float(np.abs(found - _uniform_cosines(len(found), width)).mean())


@lru_cache(maxsize=4)
def _uniform_cosines(count: int, width: int) -> NDArray[np.float64]:
    """(count,) mid-quantiles of the cosine between two uniform points on the sphere in `width` dimensions."""
    from scipy.special import betaincinv  # a tenth of a second that most commands can do without

    half = (width - 1) / 2
    quantiles = (np.arange(1, (count + 1) // 2 + 1) - 0.5) / count  # symmetric: half of them suffice
    lower = 2 * betaincinv(half, half, quantiles) - 1
    upper = -lower[: count // 2][::-1]
    return np.concatenate([lower, upper])


# two clouds of points ------------------------------------------------------------------------------------------


def cka(x: Tensor, y: Tensor, unbiased: bool = False) -> float:
    """Linear centred kernel alignment of two embeddings of the same N images; 1 up to rotation and scale.

        |Yc^T Xc|^2 / (|Xc^T Xc| |Yc^T Yc|),  Frobenius norms, columns centred; in [0, 1]

    With N < 10 D this is biased towards 1: `unbiased` takes HSIC_1 instead, which may fall below 0 and needs N >= 4.
    A constant feature_set has no direction to compare and gives NaN.

    Source: arXiv 1905.00414; unbiased: arXiv 2010.15327
    """
    x, y = _exact(x), _exact(y)
    product = _hsic_unbiased if unbiased else _hsic
    scale = (product(x, x) * product(y, y)) ** 0.5
    return float(product(x, y) / scale) if scale > 0 else float("nan")


def _hsic(x: Tensor, y: Tensor) -> float:
    return float(((y - y.mean(dim=0)).T @ (x - x.mean(dim=0))).square().sum())


def _hsic_unbiased(x: Tensor, y: Tensor) -> float:
    n = len(x)
    k, m = x @ x.T, y @ y.T
    k.fill_diagonal_(0)
    m.fill_diagonal_(0)
    total = (k * m).sum() + k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k.sum(dim=0) @ m.sum(dim=1))
    return float(total) / (n * (n - 3))


def centred_gram(x: Tensor) -> Tensor:
    """(N (N - 1) / 2,) all that unbiased CKA has to know of an embedding of N images, at length 1, in float64.

        g ~ u above the diagonal,  u_ij = k_ij - (r_i + r_j) / (N - 2) + t / ((N - 1) (N - 2)),
        k_ij = x_i . x_j off the diagonal and 0 on it, r the sums of its rows, t their sum

    The dot product of two of them is `cka(x, y, unbiased=True)`, for sum_ij u_ij v_ij is N (N - 3) HSIC_1. All zero
    where CKA is not defined: N < 4, constant features, or all images equally far from each other.

    Source: HSIC_1 of Song et al. 2012; U-centring: Szekely & Rizzo 2014, Annals of Statistics 42(6)
    """
    x, n = _exact(x), len(x)
    moved = x - x.mean(dim=0)  # changes nothing but rounding, where the mean is large
    k = (moved @ moved.T).fill_diagonal_(0)
    rows = k.sum(dim=0)
    u = k - (rows[:, None] + rows) / (n - 2) + rows.sum() / ((n - 1) * (n - 2))  # (N, N), the diagonal is not used
    found = u[torch.ones_like(u, dtype=torch.bool).triu(diagonal=1)]
    length = found.norm()
    return found / length if length > FLAT * x.square().sum() else torch.zeros_like(found)


def _exact(z: Tensor) -> Tensor:
    """In float64; devices without it (MPS) hand over to the CPU."""
    return z.detach().cpu().double() if z.device.type == "mps" else z.detach().double()
