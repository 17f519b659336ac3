from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge, Interval
from numpy.typing import NDArray

from cl_semisup.data.images import Facts, Images
from cl_semisup.datasets import Generated
from cl_semisup.seeds import seed

Reals = NDArray[np.float64]
CHUNK = 500  # images drawn at once: bounds memory to CHUNK x strokes x side^2 distances (20 MB at 28 pixels)


@dataclass(frozen=True)
class Glyphs(Generated):
    """Procedural characters: each class is a fixed random figure of strokes, each image draws it under nuisances.

    A class is a path of `strokes` segments through random points. An image turns, moves, scales and bends the figure,
    varies the stroke's width, ink and paper, and adds noise, all in proportion to `difficulty`. At 0 all images of a
    class are the same, so that any classifier needs one labelled image a class. At 1 figures turn by up to 30 degrees,
    move by up to 15 % of the side and change by up to 30 % in size; noise has a standard deviation of 0.2.

    Source: this project
    Difference: None

    Args:
        classes: number of figures, up to 1,000
        per_class: training images of each class; a fifth as many test images
        side: pixels
        strokes: segments of a figure; more are easier to tell apart
        difficulty: strength of all nuisances together, in [0, 2]
        draw: names the figures and images
    """

    classes: Annotated[int, Interval(ge=2, le=1000)] = 10
    per_class: Annotated[int, Interval(ge=5, le=10_000)] = 100
    side: Annotated[int, Interval(ge=8, le=64)] = 16
    strokes: Annotated[int, Interval(ge=2, le=12)] = 4
    difficulty: Annotated[float, Interval(ge=0, le=2)] = 1.0
    draw: Annotated[int, Ge(0)] = 0

    views: ClassVar[dict[str, Any]] = {"rotation": 15.0, "shift": 0.1, "zoom": 0.15, "brightness": 0.3, "contrast": 0.3}

    def facts(self, data_dir: Path) -> Facts:
        train, test = self.classes * self.per_class, self.classes * (self.per_class // 5)
        return Facts(train, test, self.classes, channels=1, side=self.side, smallest_class=self.per_class)

    def load(self, data_dir: Path) -> Images:
        random = np.random.default_rng(seed("glyphs", self.classes, self.strokes, self.draw))
        figures = 0.7 * (2 * random.random((self.classes, self.strokes + 1, 2)) - 1)  # corners of each class's path
        random = np.random.default_rng(seed("glyph images", self.classes, self.strokes, self.difficulty, self.draw))
        parts: list[Any] = []
        for count in (self.per_class, self.per_class // 5):
            labels = np.arange(count * self.classes, dtype=np.int64) % self.classes
            chunks = [self._draw(figures[labels[i : i + CHUNK]], random) for i in range(0, len(labels), CHUNK)]
            parts += [np.concatenate(chunks), labels]
        train_images, train_labels, test_images, test_labels = parts
        names = tuple(f"glyph {c}" for c in range(self.classes))
        return Images(train_images, train_labels, test_images, test_labels, names)

    def _draw(self, paths: Reals, random: np.random.Generator) -> NDArray[np.uint8]:
        """(N, strokes + 1, 2) corners in [-1, 1] -> (N, 1, side, side) grey images."""
        count, hard = len(paths), self.difficulty

        def vary(*shape: int) -> Reals:
            return hard * (2 * random.random((count, *shape)) - 1)

        angle, size = np.radians(30) * vary(), 1 + 0.3 * vary()
        cos, sin = size * np.cos(angle), size * np.sin(angle)
        turn = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)  # (N, 2, 2)
        corners = (paths + 0.08 * vary(self.strokes + 1, 2)) @ turn + 0.3 * vary(1, 2)
        width = (0.12 * (1 + 0.4 * vary()))[:, None, None]
        depth = np.clip((self._distance(corners) - width) * self.side / 2 + 0.5, 0, 1)  # one pixel of soft edge
        ink, paper = (1 - 0.3 * np.abs(vary()))[:, None, None], (0.3 * np.abs(vary()))[:, None, None]
        picture = ink + (paper - ink) * depth + 0.2 * hard * random.standard_normal(depth.shape)
        return np.clip(np.rint(255 * picture), 0, 255).astype(np.uint8)[:, None]

    def _distance(self, corners: Reals) -> Reals:
        """(N, side, side) distance of every pixel to the nearest segment of the path."""
        at = (np.arange(self.side) + 0.5) / self.side * 2 - 1
        pixels = np.stack(np.meshgrid(at, at), axis=-1)  # (side, side, 2)
        start, segment = corners[:, :-1], np.diff(corners, axis=1)  # (N, strokes, 2)
        offset = pixels[None, None] - start[:, :, None, None]  # (N, strokes, side, side, 2)
        along = np.einsum("nsijc,nsc->nsij", offset, segment) / np.maximum((segment**2).sum(-1), 1e-9)[:, :, None, None]
        nearest = np.clip(along, 0, 1)[..., None] * segment[:, :, None, None]
        distances: Reals = np.sqrt(((offset - nearest) ** 2).sum(-1)).min(axis=1)
        return distances
