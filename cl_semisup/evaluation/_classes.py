"""The geometry of classes: spread within classes against distances of class means. Lower means more collapsed."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_semisup.measures.geometry import effective_rank

ONE_POINT = 1e-24  # mean squared distance of unit rows from their centre that is rounding
CUT = 1e-5  # eigenvalues of the spread between classes below this share of the largest count as 0 in NC1


@dataclass(frozen=True, eq=False)
class Clusters:
    """Class means (C, F), their centre (F,) as the mean of means, and residuals (N, F) from the own class's mean.

    In float64 where the device has it. `y` (N,) numbers the classes 0 .. C-1, each with at least one row.
    """

    means: Tensor
    centre: Tensor
    residuals: Tensor
    y: Tensor

    @classmethod
    def of(cls, x: Tensor, y: Tensor) -> "Clusters":
        if x.device.type == "mps":
            x, y = x.cpu(), y.cpu()
        x = x.double()
        counts = torch.bincount(y)
        means = x.new_zeros(len(counts), x.shape[1]).index_add_(0, y, x) / counts[:, None]
        return cls(means, means.mean(dim=0), x - means[y], y)

    def nc1(self) -> float:
        """tr(S_W S_B^+) / C; NaN where all means coincide.

        S_B = M^T M / C with M (C, F) the centred means, so only its C - 1 directions are used.
        """
        count = len(self.means)
        _, values, directions = torch.linalg.svd(self.means - self.centre, full_matrices=False)
        eigenvalues = values.square() / count
        keep = eigenvalues > CUT * eigenvalues[0]
        if not bool(keep.any()):
            return float("nan")
        within = (self.residuals @ directions[keep].T).square().mean(dim=0)  # diagonal of S_W in these directions
        return float((within / eigenvalues[keep]).sum() / count)

    def nc2(self) -> dict[str, float]:
        """Of the centred means: variation of the norms, standard deviation of the cosines, distance from -1/(C-1).

        Standard deviations divide by the number of norms and cosines, not by one less. NaN where all means coincide.
        """
        centred = self.means - self.centre
        norms = centred.norm(dim=1)
        if not bool(norms.any()):
            return dict.fromkeys(("nc2_norm", "nc2_angle", "nc2_simplex"), float("nan"))
        count = len(centred)
        u = F.normalize(centred, dim=1)
        cosines = (u @ u.T)[~torch.eye(count, dtype=torch.bool, device=u.device)]
        return {
            "nc2_norm": float(norms.std(correction=0) / norms.mean()),
            "nc2_angle": float(cosines.std(correction=0)),
            "nc2_simplex": float((cosines + 1 / (count - 1)).abs().mean()),
        }

    def nc3(self, weight: Tensor) -> float:
        """Distance of a head's (C, F) weights, centred, from the centred means, each scaled to norm 1.

        In [0, 2]; not squared.
        """
        weight = weight.to(self.means)
        weight = weight - weight.mean(dim=0)
        centred = self.means - self.centre
        return float((weight / weight.norm() - centred / centred.norm()).norm())

    def nc4(self, x: Tensor, predictions: Tensor) -> float:
        """Share of rows for which a head's class is not that of the nearest mean."""
        x = x.to(self.means)
        nearest = (self.means.square().sum(dim=1) - 2 * x @ self.means.T).argmin(dim=1)
        return float((nearest != predictions.to(nearest.device)).double().mean())

    def variances(self) -> Tensor:
        """(C,) mean squared residual of each class."""
        squares = self.residuals.square().sum(dim=1)
        return squares.new_zeros(len(self.means)).index_add_(0, self.y, squares) / torch.bincount(self.y)

    def cdnv(self) -> float:
        """Mean over pairs of classes of (Var_i + Var_j) / (2 |m_i - m_j|^2), Var the mean squared residual."""
        variance = self.variances()
        i, j = torch.triu_indices(len(variance), len(variance), offset=1, device=variance.device)
        distance = (self.means[i] - self.means[j]).square().sum(dim=1)
        return float(((variance[i] + variance[j]) / (2 * distance)).mean())

    def directional_cdnv(self) -> float:
        """Mean over ordered pairs of the variance of class i along the line to m_j, over |m_i - m_j|^2."""
        ratios = []
        for label, mean in enumerate(self.means):
            lines = torch.cat([self.means[:label], self.means[label + 1 :]]) - mean  # (C - 1, F)
            along = self.residuals[self.y == label] @ lines.T  # (n, C - 1)
            ratios.append(along.square().mean(dim=0) / lines.square().sum(dim=1).square())
        return float(torch.cat(ratios).mean())


def class_separation(x: Tensor, y: Tensor) -> float:
    """1 - mean cosine distance within classes / that of all pairs, classes with equal weights; in [0, 1].

    Within a class a row is also paired with itself. A mean cosine distance is the mean squared distance of unit rows
    from their centre, which close rows keep. NaN if all rows have one direction. Source: arXiv 2010.16402, section 4.1
    """
    clusters = Clusters.of(F.normalize(x, dim=1), y)
    within = clusters.variances().mean()
    total = within + (clusters.means - clusters.centre).square().sum(dim=1).mean()
    return float(1 - within / total) if total > ONE_POINT else float("nan")


def class_effective_rank(x: Tensor, y: Tensor) -> float:
    """Mean over classes of the effective rank of the class's rows, centred."""
    ranks = [effective_rank(x[y == label], centred=True) for label in range(int(y.max()) + 1)]
    return float(torch.stack(ranks).mean())
