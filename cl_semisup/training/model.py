"""The network of a run: encoder, projector, and the heads that its loss needs."""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import TypeVar

import torch
from torch import nn

from cl_semisup.seeds import seed
from cl_semisup.suite.settings import Projector

M = TypeVar("M", bound=nn.Module)
HeadBuilder = Callable[[int, int], nn.Module]  # (width of the features F, number of classes C) -> head


class Model(nn.Module):
    """`encoder(images)` -> h (N, F); `projector(h)` -> z (N, D); `heads[name](h)` -> other outputs that the loss needs.

    Args:
        encoder: builds the encoder, a module with the width of its features as `dim`
        projector: settings of the projector
        classes: C
        heads: name -> builder of a head
        seed_key: (data set, repetition), seeds the initial weights: every loss of a repetition starts from the same
    """

    def __init__(
        self,
        encoder: Callable[[], nn.Module],
        projector: Projector,
        classes: int,
        heads: Mapping[str, HeadBuilder],
        seed_key: tuple[object, ...],
    ):
        super().__init__()
        self.encoder = seeded(encoder, "encoder", *seed_key)
        self.feature_dim = int(self.encoder.dim)  # type: ignore[arg-type]
        self.dim = projector.dim if projector.layers else self.feature_dim
        self.projector = seeded(lambda: build_projector(self.feature_dim, projector), "projector", *seed_key)
        self.heads = nn.ModuleDict()
        for name, build in heads.items():
            self.heads[name] = seeded(lambda build=build: build(self.feature_dim, classes), name, *seed_key)  # type: ignore[misc]

    def train(self, mode: bool = True) -> "Model":
        """As in torch, but frozen modules of the encoder stay in evaluation mode: their statistics do not move."""
        super().train(mode)
        for name in getattr(self.encoder, "frozen", ()):
            self.encoder.get_submodule(name).eval()
        return self


def build_projector(features: int, settings: Projector) -> nn.Module:
    """`settings.layers` - 1 Linear-norm-ReLU blocks and a last Linear; with 0 layers the identity."""
    if settings.layers == 0:
        return nn.Identity()
    norm = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm, "none": None}[settings.norm]
    widths = [features] + [settings.hidden or features] * (settings.layers - 1)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs, bias=norm is None), *([norm(outputs)] if norm else [])]
        layers.append(nn.ReLU(inplace=True))
    if norm is None or not settings.last_norm:
        return nn.Sequential(*layers, nn.Linear(widths[-1], settings.dim))
    last = (
        nn.BatchNorm1d(settings.dim, affine=False)
        if settings.norm == "batch"
        else nn.LayerNorm(settings.dim, elementwise_affine=False)
    )
    return nn.Sequential(*layers, nn.Linear(widths[-1], settings.dim, bias=False), last)


def seeded(make: Callable[[], M], *seed_key: object) -> M:
    """Build a module whose initial weights depend on `seed_key` only. The global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed("weights", *seed_key))
        return make()
