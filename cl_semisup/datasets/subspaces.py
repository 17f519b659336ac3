from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge, Interval
from numpy.typing import NDArray

from cl_semisup.data.images import Facts, Images
from cl_semisup.datasets import Generated
from cl_semisup.errors import DataError
from cl_semisup.seeds import seed

SCALE = 100.0  # pixel steps of one unit of length: a point's coordinate x is stored as 127.5 + 100 x, rounded


@dataclass(frozen=True)
class Subspaces(Generated):
    """A union of linear subspaces: each class is a random subspace, its points fill the unit ball with noise.

    A point of n coordinates is an image of ceil(sqrt(n))^2 grey pixels in steps of 0.01; 0 is mid-grey. A point and its
    opposite belong to the same class, so a view may be the negative. The default is three lines in space; use the
    encoder `mlp`.

    Source: arXiv 2403.18699 version 1, synthetic experiment (lines in 3-D); number of points and noise are not given
    there and are chosen here

    Args:
        classes: number of subspaces
        ambient: dimension n of the space
        dimension: of each subspace
        points: training points of each class; a quarter as many test points
        noise: standard deviation of Gaussian noise in every coordinate
        draw: names the subspaces and points
    """

    classes: Annotated[int, Interval(ge=2, le=1000)] = 3
    ambient: Annotated[int, Interval(ge=2, le=1024)] = 3
    dimension: Annotated[int, Interval(ge=1, le=1023)] = 1
    points: Annotated[int, Interval(ge=8, le=100_000)] = 200
    noise: Annotated[float, Interval(ge=0, le=0.3)] = 0.05
    draw: Annotated[int, Ge(0)] = 0

    views: ClassVar[dict[str, Any]] = {"negate": 0.5, "noise": 0.02}

    def facts(self, data_dir: Path) -> Facts:
        self._check()
        return Facts(
            train=self.classes * self.points,
            test=self.classes * (self.points // 4),
            classes=self.classes,
            channels=1,
            side=self._side(),
            smallest_class=self.points,
        )

    def load(self, data_dir: Path) -> Images:
        self._check()
        random = np.random.default_rng(seed("subspaces", self.classes, self.ambient, self.dimension, self.draw))
        bases = [np.linalg.qr(random.standard_normal((self.ambient, self.dimension)))[0] for _ in range(self.classes)]
        parts: list[Any] = []
        for count in (self.points, self.points // 4):
            labels = np.arange(count * self.classes, dtype=np.int64) % self.classes
            points = np.stack([bases[label] @ _in_ball(self.dimension, random) for label in labels])
            points += self.noise * random.standard_normal(points.shape)
            parts += [self._pixels(points), labels]
        train_images, train_labels, test_images, test_labels = parts
        names = tuple(f"subspace {c}" for c in range(self.classes))
        return Images(train_images, train_labels, test_images, test_labels, names)

    def _pixels(self, points: NDArray[np.float64]) -> NDArray[np.uint8]:
        """(M, n) coordinates -> (M, 1, side, side); pixels beyond n are mid-grey."""
        side = self._side()
        whole = np.zeros((len(points), side * side))
        whole[:, : self.ambient] = points
        return np.clip(np.rint(127.5 + SCALE * whole), 0, 255).astype(np.uint8).reshape(-1, 1, side, side)

    def _side(self) -> int:
        return int(np.ceil(np.sqrt(self.ambient)))

    def _check(self) -> None:
        if self.dimension >= self.ambient:
            text = f"dimension must be below ambient ({self.ambient}): a subspace that is everything tells no class"
            raise DataError(f"subspaces: {text}. Got {self.dimension}. Lower it.")


def _in_ball(dimension: int, random: np.random.Generator) -> NDArray[np.float64]:
    """A uniform point of the unit ball: a uniform direction, radius with density proportional to r^(d-1)."""
    direction = random.standard_normal(dimension)
    return direction / np.linalg.norm(direction) * random.random() ** (1 / dimension)
