"""The geometry of embeddings: spectrum, effective rank, uniformity on the sphere, similarity of two representations.

Rows are embeddings, (N, D); `u` and `v` are unit rows. Nothing here uses labels: `evaluation/neural_collapse.py` does.
"""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CHUNK_ROWS = 1024  # bounds the memory of all pairs to CHUNK_ROWS x N similarities (40 MB at N = 10,000)
RANKME_EPSILON = 1e-7
ALPHA_REQ_RANKS = (4, 100)  # the first and last eigenvalue that alpha-ReQ fits
CKA_EPSILON = 1e-12  # share of the features' summed squares: smaller differences are rounding


# spectrum -----------------------------------------------------------------------------------------------------------


def singular_values(z: Tensor) -> Tensor:
    """(..., min(N, D)) singular values in descending order, in float32 or float64; without a gradient."""
    z = z.detach()
    return torch.linalg.svdvals(z if z.dtype == torch.float64 else z.float())


def effective_rank(z: Tensor, centred: bool = False) -> Tensor:
    """exp of the entropy of the singular values over their sum; in [1, min(N, D)]. All-zero input gives 1.

    Source: Roy & Vetterli 2007; without centring and up to an epsilon this is RankMe (arXiv 2210.02885)
    """
    return effective_count(singular_values(z - z.mean(dim=0) if centred else z))


def effective_count(values: Tensor) -> Tensor:
    """exp of the entropy of values (K,) >= 0 over their sum; of equal ones it is their number."""
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
    """(alpha, R^2) of eigenvalue_j ~ j^-alpha, by least squares of logs weighted with 1/j; alpha near 1 is good.

    Uses eigenvalues of the centred covariance with ranks 4 to min(100, D, N - 1) and at least 1e-10 of the largest;
    with fewer than three of them both are NaN. Compare values of equal ranges of ranks only.

    Source: Agrawal et al., NeurIPS 2022; range and weights as in the authors' code
    """
    eigenvalues = singular_values(z - z.mean(dim=0)).double().square().cpu().numpy()
    ranks = np.arange(1, len(eigenvalues) + 1)
    first, last = ALPHA_REQ_RANKS
    used = (ranks >= first) & (ranks <= min(last, len(z) - 1)) & (eigenvalues > 1e-10 * eigenvalues[:1])
    if used.sum() < 3:
        return float("nan"), float("nan")
    x, y, weights = np.log(ranks[used]), np.log(eigenvalues[used]), 1 / ranks[used]
    slope, offset = np.polyfit(x, y, 1, w=np.sqrt(weights))
    residual = (weights * (y - slope * x - offset) ** 2).sum()
    total = (weights * (y - np.average(y, weights=weights)) ** 2).sum()
    return float(-slope), float(1 - residual / total) if total > 0 else float("nan")


def lidar(views: Tensor, delta: float = 1e-4) -> Tensor:
    """Effective rank of the covariance between images, whitened by the covariance of the views of one image.

        exp(entropy of eig(S_w^-1/2 S_b S_w^-1/2)),  S_b (1/(n-1)) sum (m_i - m)(m_i - m)^T,
        S_w (1/(n(q-1))) sum (e_ij - m_i)(e_ij - m_i)^T + delta I

    With n (q - 1) < D, S_w is singular without delta, and the value is noise: use more views or images.

    Source: arXiv 2312.04000, section 4
    Difference: without the paper's epsilon of 1e-8 on the shares

    Args:
        views: (q, n, D), q >= 2 views of n >= 2 images
        delta: added to the diagonal of S_w
    """
    q, n, width = views.shape
    e = _float64(views)
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
    total = sum(_energies(u, first) for first in range(0, len(u), CHUNK_ROWS))
    pairs = len(u) * (len(u) - 1) / 2
    return u.new_tensor(total / pairs).clamp(min=torch.finfo(u.dtype).tiny).log()


def _energies(u: Tensor, first: int) -> float:
    """Sum of exp(-2 |u_i - u_j|^2) over j > i for a chunk of rows i; |u_i - u_j|^2 = 2 - 2 u_i.u_j on the sphere."""
    rows = u[first : first + CHUNK_ROWS]
    energies = (rows @ u[first:].T).mul_(4).sub_(4).exp_()  # (n, N - first)
    corner = energies[:, : len(rows)]  # holds pairs within the chunk twice, and each row with itself
    corner.triu_(diagonal=1)
    return float(energies.sum(dim=1).double().sum())


def wasserstein_uniformity(u: Tensor) -> float:
    """W1 distance between the cosines of all pairs of rows and the cosines of uniform points; in [0, 1], 0 is uniform.

        W1 = mean_k | s_(k) - q((k - 1/2) / m) |,  s the m sorted cosines, q the quantiles of 2 B - 1,
        B ~ Beta((D-1)/2, (D-1)/2),  D >= 2

    1 for a single point; 0.14 for 10 orthonormal points in equal shares at D = 128; 0.001 to 0.002 for uniform points.
    One row has no pair and gives NaN.

    Source: arXiv 2405.18045, appendix on metrics
    Difference: exact quantiles in D dimensions; the published code draws 10,000 of them and always for D = 128
    """
    count, width = u.shape
    if count < 2 or width < 2:
        return float("nan")
    cosines = (u @ u.T)[torch.ones(count, count, dtype=torch.bool, device=u.device).triu(diagonal=1)]
    ordered = cosines.sort().values.double().cpu().numpy()
    return float(np.abs(ordered - _uniform_cosines(len(ordered), width)).mean())


@lru_cache(maxsize=4)
def _uniform_cosines(count: int, width: int) -> NDArray[np.float64]:
    """(count,) quantiles, at (k - 1/2) / count, of the cosine of two uniform points on the sphere in R^width."""
    from scipy.special import betaincinv  # imported here: it takes 0.1 s, and most commands do not need it

    half = (width - 1) / 2
    quantiles = (np.arange(1, (count + 1) // 2 + 1) - 0.5) / count  # the other half by symmetry
    lower = 2 * betaincinv(half, half, quantiles) - 1
    upper = -lower[: count // 2][::-1]
    return np.concatenate([lower, upper])


# two representations -----------------------------------------------------------------------------------------------


def cka(x: Tensor, y: Tensor, unbiased: bool = False) -> float:
    """Linear centred kernel alignment of two embeddings of the same N images; 1 if equal up to rotation and scale.

        |Yc^T Xc|^2 / (|Xc^T Xc| |Yc^T Yc|),  Frobenius norms, columns centred; in [0, 1]

    For N < 10 D this is biased towards 1. `unbiased` uses HSIC_1 instead, which may be negative and needs N >= 4. NaN
    if all rows of an embedding are equal, but for rounding; unbiased, also if all their distances are.

    Source: arXiv 1905.00414; unbiased: arXiv 2010.15327
    """
    product = _hsic_unbiased if unbiased else _hsic
    centred, spreads = [], []
    for z in (_float64(x), _float64(y)):
        centred.append(z - z.mean(dim=0))
        spread = product(centred[-1], centred[-1])
        if spread <= (CKA_EPSILON * float(z.square().sum())) ** 2:
            return float("nan")
        spreads.append(spread)
    return product(*centred) / (spreads[0] * spreads[1]) ** 0.5


def _hsic(x: Tensor, y: Tensor) -> float:
    return float((y.T @ x).square().sum())


def _hsic_unbiased(x: Tensor, y: Tensor) -> float:
    """N (N - 3) HSIC_1 of centred embeddings; HSIC_1 does not depend on their means, but its rounding does."""
    n = len(x)
    k, m = x @ x.T, y @ y.T
    k.fill_diagonal_(0)
    m.fill_diagonal_(0)
    total = (k * m).sum() + k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k.sum(dim=0) @ m.sum(dim=1))
    return float(total)


def centred_gram(x: Tensor) -> Tensor:
    """(N (N - 1) / 2,) unit vector in float64 that represents an embedding of N images in unbiased CKA.

        g ~ u above the diagonal,  u_ij = k_ij - (r_i + r_j) / (N - 2) + t / ((N - 1) (N - 2)),
        k_ij = x_i . x_j off the diagonal and 0 on it, r the sums of its rows, t their sum

    The dot product of two such vectors is `cka(x, y, unbiased=True)`, since sum_ij u_ij v_ij is N (N - 3) HSIC_1. All
    zero if CKA is undefined: N < 4, constant features, or equal distances between all images.

    Source: HSIC_1 of Song et al. 2012; U-centring: Szekely & Rizzo 2014, Annals of Statistics 42(6)
    """
    x, n = _float64(x), len(x)
    centred = x - x.mean(dim=0)  # same result with less rounding if the mean is large
    k = (centred @ centred.T).fill_diagonal_(0)
    rows = k.sum(dim=0)
    u = k - (rows[:, None] + rows) / (n - 2) + rows.sum() / ((n - 1) * (n - 2))  # (N, N), without its diagonal
    vector = u[torch.ones_like(u, dtype=torch.bool).triu(diagonal=1)]
    length = vector.norm()
    return vector / length if length > CKA_EPSILON * x.square().sum() else torch.zeros_like(vector)


def _float64(z: Tensor) -> Tensor:
    """In float64; on the CPU if the device has no float64 (MPS)."""
    return z.detach().cpu().double() if z.device.type == "mps" else z.detach().double()
