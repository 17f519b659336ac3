"""The network of a run: encoder, projector, and the parts that its loss declares."""

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import TypeVar

import torch
from torch import nn

from cl_semisup.seeds import seed
from cl_semisup.settings import Projector
from cl_semisup.training.needs import NEEDS

Part = TypeVar("Part", bound=nn.Module)


class Model(nn.Module):
    """`encoder(images)` -> h (N, F); `projector(h)` -> z (N, D); `parts[name]`: what the loss needs beside.

    `names` name the first weights: every loss of a repetition starts from the same ones.
    """

    def __init__(
        self,
        encoder: Callable[[], nn.Module],
        projector: Projector,
        classes: int,
        needs: Iterable[str],
        names: tuple[object, ...],
    ):
        super().__init__()
        self.encoder = seeded(encoder, "encoder", *names)
        self.feature_dim = int(self.encoder.dim)  # type: ignore[arg-type]
        self.dim = projector.dim if projector.layers else self.feature_dim
        self.projector = seeded(lambda: build_projector(self.feature_dim, projector), "projector", *names)
        self.parts = nn.ModuleDict()
        for part in {part.__name__: part for part in (NEEDS[need].part for need in needs) if part}.values():
            self.parts[part.__name__] = seeded(lambda part=part: part(self, classes), part.__name__, *names)  # type: ignore[misc]


def build_projector(features: int, settings: Projector) -> nn.Module:
    """Linear-BatchNorm-ReLU blocks and a last Linear; without layers the features themselves."""
    if settings.layers == 0:
        return nn.Identity()
    widths = [features] + [settings.hidden or features] * (settings.layers - 1)
    layers: list[nn.Module] = []
    for narrow, wide in pairwise(widths):
        layers += [nn.Linear(narrow, wide, bias=False), nn.BatchNorm1d(wide), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(widths[-1], settings.dim))


def seeded(make: Callable[[], Part], *names: object) -> Part:
    """Build a module whose first weights depend on names alone, whatever was built before it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed("weights", *names))
        return make()
