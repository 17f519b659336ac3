from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn

from cl_semisup.contrast import logsumexp, mean, others, unit
from cl_semisup.losses import Loss, Setting, Share
from cl_semisup.losses._wrapper import Wrapper
from cl_semisup.plugins import PluginField

ITERATIONS = 20  # of k-means
SMOOTHING = 10  # a of the concentration
SHARPNESS = 2.0  # t of the uniformity
EPS = 1e-5  # added to the variance of a prototype's dimension


@dataclass(frozen=True)
class PAUC:
    """PAUC, its three prototype terms a reconstruction: contrast with k-means prototypes that does not coagulate.

        L = L_base + 1/G sum over granularities [ w P + w_a A + w_u U + w_c C ]
        P = mean_i over both views  -log( e^{u.m_s/phi_s} / sum_c e^{u.m_c/phi_c} ),    s the cluster of image i
        A = mean_c |c1 - c2|^2          c1, c2: mean row of cluster c in view 1 and 2 of the batch, scaled to length 1
        U = mean over views of log mean_{c != c'} exp(-2 |c - c'|^2)
        C = 1/D [ sum_d (1 - R_dd)^2 + l sum_{d != e} R_de^2 ],  R: correlation of c1 and c2 over the batch's clusters

    The clusters are k-means of a memory of every image's last projection (mean of both views, length 1), computed at
    the first step of every epoch, with K, 2K, 4K, ... clusters. phi_c = mean distance to m_c / log(n_c + 10), where a
    cluster of one image gets the largest; it is clipped to the 10th and 90th percentile and scaled to mean t. P is
    ProtoNCE. Prototypes of the memory carry no gradient, so A, U and C use those of the batch. During the warm-up there
    is only the base loss.

    Group: reproductions
    Source: arXiv 2210.10194, which names A, U and C and their purposes, and whose exact forms and weights we could not
    read; ProtoNCE: arXiv 2005.04966; salesforce/PCL pcl/builder.py, main_pcl.py
    Difference: no momentum encoder or queue: the memory holds projections of the network itself, up to an epoch old;
    all prototypes are negatives, not a sample of them
    Degenerate: fewer images seen than clusters make fewer clusters; an image not seen before has none. A single cluster
    in the batch has no U and C. Labels matter only if they do to the base loss.

    Args:
        base: the loss between the images themselves: a name, {name: settings}, or none
        clusters: K, >= 0; 0 means as many as classes
        granularities: G, clusterings with K, 2K, 4K, ... clusters
        temperature: t, mean of phi, > 0
        weight: w, >= 0
        alignment: w_a, >= 0
        uniformity: w_u, >= 0
        correlation: w_c, >= 0
        redundancy: l, >= 0
        warmup: share of all steps before the prototypes come in, in [0, 1]
    """

    base: Annotated[Any, PluginField("losses", optional=True)] = "nt_xent"
    clusters: Annotated[int, Ge(0)] = 0
    granularities: Annotated[int, Interval(ge=1, le=5)] = 2
    temperature: Annotated[float, Gt(0)] = 0.2
    weight: Annotated[float, Ge(0)] = 1.0
    alignment: Annotated[float, Ge(0)] = 1.0
    uniformity: Annotated[float, Ge(0)] = 0.1
    correlation: Annotated[float, Ge(0)] = 0.1
    redundancy: Annotated[float, Ge(0)] = 0.005
    warmup: Share = 0.1

    def build(self, setting: Setting) -> nn.Module:
        dim, classes = setting.require("pauc")
        images = setting.memory_size("pauc")
        clusterings = [
            _Clustering((self.clusters or classes) * 2**level, dim, images, self.temperature)
            for level in range(self.granularities)
        ]
        return _Prototypical(self, setting.loss(self.base), torch.zeros(images, dim), clusterings, seed=setting.seed)


class _Prototypical(Wrapper):
    """The base loss, the memory (M, D) and its clusterings, which are computed once an epoch, at its start."""

    memory: Tensor
    remembered: Tensor

    def __init__(self, settings: PAUC, base: Loss, memory: Tensor, clusterings: "list[_Clustering]", *, seed: int):
        super().__init__(base, "epoch", "index", "progress")
        self.settings, self.seed = settings, seed
        exempt = {
            **self.requirements.exempt,
            "rotation": "correlation is of single dimensions",
            "gradient": "the prototypes of the memory follow the embeddings, but are constants of the gradient",
        }
        self.requirements = replace(self.requirements, exempt=exempt)
        self.clustered = -1  # the epoch of the clusterings
        self.register_buffer("memory", memory)
        self.register_buffer("remembered", torch.zeros(len(memory), dtype=torch.bool))
        self.clusterings: Any = nn.ModuleList(clusterings)

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.clustered)

    def set_extra_state(self, state: Tensor) -> None:
        self.clustered = int(state)

    def forward(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None, **needed: Any) -> Tensor:
        index, epoch = needed["index"], needed["epoch"]
        early = needed["progress"] < self.settings.warmup
        loss = self.base_loss(z1, z2, labels, needed)
        u, v = unit(z1), unit(z2)  # (N, D)
        if self.training and torch.is_grad_enabled():
            self._remember(u, v, index)
            if not early and epoch != self.clustered:
                self._cluster(epoch)
        if early or self.clustered < 0:
            return loss
        terms = [self._terms(u, v, clustering, index) for clustering in self.clusterings]
        return loss + torch.stack(terms).mean()

    @torch.no_grad()
    def _remember(self, u: Tensor, v: Tensor, index: Tensor) -> None:
        self.memory[index] = unit(u + v).to(self.memory.dtype)
        self.remembered[index] = True

    @torch.no_grad()
    def _cluster(self, epoch: int) -> None:
        known = torch.nonzero(self.remembered).squeeze(1)
        generator = torch.Generator().manual_seed(self.seed + epoch)
        order = torch.randperm(len(known), generator=generator).to(known.device)
        for clustering in self.clusterings:
            clustering.fit(self.memory[known], known, order)
        self.clustered = epoch

    def _terms(self, u: Tensor, v: Tensor, clustering: "_Clustering", index: Tensor) -> Tensor:
        settings, own = self.settings, clustering.cluster[index]  # (N,), -1 without one
        z = torch.cat([u, v])
        loss = settings.weight * mean(clustering.contrast(z, own.repeat(2)), (own >= 0).repeat(2), u, v)
        members = (own == torch.arange(len(clustering.size), device=u.device)[:, None]).to(u.dtype)  # (K, N)
        count = members.sum(dim=1)
        present = count > 0
        c1, c2 = (unit(members @ view / count.clamp(min=1)[:, None]) for view in (u, v))  # (K, D)
        loss = loss + settings.alignment * mean((c1 - c2).square().sum(dim=1), present, u, v)
        loss = loss + settings.uniformity * (_uniformity(c1, present) + _uniformity(c2, present)) / 2
        return loss + settings.correlation * _correlation(c1, c2, present, settings.redundancy)


class _Clustering(nn.Module):
    """K unit `centroids` (K, D) with their `size` (K,) and `concentration` phi (K,); `cluster` (M,) of every image."""

    centroids: Tensor
    size: Tensor
    concentration: Tensor
    cluster: Tensor

    def __init__(self, clusters: int, dim: int, images: int, temperature: float):
        super().__init__()
        self.temperature = temperature
        self.register_buffer("centroids", torch.zeros(clusters, dim))
        self.register_buffer("size", torch.zeros(clusters, dtype=torch.long))
        self.register_buffer("concentration", torch.ones(clusters))
        self.register_buffer("cluster", torch.full((images,), -1))

    def contrast(self, z: Tensor, own: Tensor) -> Tensor:
        """(n,) ProtoNCE of rows with their cluster; without meaning where the cluster is -1."""
        logits = z @ self.centroids.to(z.dtype).T / self.concentration.to(z.dtype)  # (n, K)
        among = (self.size > 0).expand(len(z), -1)
        return logsumexp(logits, among) - logits.gather(1, own.clamp(min=0)[:, None]).squeeze(1)

    def fit(self, rows: Tensor, images: Tensor, order: Tensor) -> None:
        """K-means of rows (n, D) of the `images` (n,); the initial centres are the first rows in `order`."""
        clusters = min(len(self.size), len(rows))
        centres, number = rows[order[:clusters]], torch.arange(clusters, device=rows.device)
        for _ in range(ITERATIONS):
            own = _squared(rows, centres).argmin(dim=1)
            members = (own == number[:, None]).to(rows.dtype)  # (K, n); a product with it adds in a fixed order
            count = members.sum(dim=1)[:, None]
            centres = torch.where(count > 0, members @ rows / count.clamp(min=1), centres)  # an empty one stays
        own = _squared(rows, centres).argmin(dim=1)
        distance = torch.linalg.vector_norm(rows - centres[own], dim=1)  # of rows near a centre too
        members = (own == number[:, None]).to(rows.dtype)
        self.size.zero_()[:clusters] = members.sum(dim=1).long()
        self.centroids[:clusters] = unit(centres).to(self.centroids.dtype)
        self.concentration[:clusters] = self._phi(members @ distance, self.size[:clusters])
        self.cluster.fill_(-1)[images] = own

    def _phi(self, distances: Tensor, size: Tensor) -> Tensor:
        """(K,) phi of clusters from their sums of distances to the centre; empty clusters do not count."""
        phi = distances / size.clamp(min=1) / (size + SMOOTHING).to(distances.dtype).log()
        several, some = size > 1, size > 0
        if not several.any() or not phi[several].max() > 0:
            return torch.full_like(phi, self.temperature)
        phi = torch.where(several, phi, phi[several].max())
        low, high = phi[some].quantile(0.1), phi[some].quantile(0.9)
        phi = phi.clamp(low, high)
        return self.temperature * (phi / phi[some].mean()).clamp(min=0.01)  # 0 for clusters of equal rows


def _squared(rows: Tensor, centres: Tensor) -> Tensor:
    """(n, K) squared distances, measured from the centres' mean: rows that are all close keep their digits."""
    middle = centres.mean(dim=0)
    rows, centres = rows - middle, centres - middle
    lengths = rows.square().sum(dim=1)[:, None] + centres.square().sum(dim=1)
    return (lengths - 2 * (rows @ centres.T)).clamp(min=0)


def _uniformity(prototypes: Tensor, present: Tensor) -> Tensor:
    """log of the mean of exp(-t |c - c'|^2) over ordered pairs of present prototypes; 0 without a pair."""
    pairs = present[:, None] & present & others(len(present), present.device)
    count = pairs.sum().to(prototypes.dtype)
    energies = SHARPNESS * (2 * (prototypes @ prototypes.T) - 2)
    total = logsumexp(energies.flatten()[None], pairs.flatten()[None]).squeeze(0)
    return torch.where(count > 0, total - count.clamp(min=1).log(), 0)


def _correlation(c1: Tensor, c2: Tensor, present: Tensor, redundancy: float) -> Tensor:
    """Distance of the cross-correlation of both views' prototypes from the identity; 0 with fewer than two."""
    x1, x2 = _standardised(c1, present), _standardised(c2, present)
    correlation = x1.T @ x2 / present.sum().clamp(min=1)  # (D, D)
    diagonal = correlation.diagonal()
    off = correlation.square().sum() - diagonal.square().sum()
    return ((1 - diagonal).square().sum() + redundancy * off) / len(diagonal) * (present.sum() > 1)


def _standardised(prototypes: Tensor, present: Tensor) -> Tensor:
    """Present rows, standardised in every dimension; the others are 0."""
    count, weight = present.sum().clamp(min=1), present[:, None].to(prototypes.dtype)
    centred = (prototypes - (prototypes * weight).sum(dim=0) / count) * weight
    return centred / (centred.square().sum(dim=0) / count + EPS).sqrt()
