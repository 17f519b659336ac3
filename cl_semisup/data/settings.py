"""Settings of the training data: random views, long tails, wrong labels. Fields are YAML keys and record keys."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Interval, Le

Probability = Annotated[float, Interval(ge=0, le=1)]
Strength = Annotated[float, Interval(ge=0, le=10)]
LabelFraction = Annotated[float, Interval(gt=0, le=1)]
UnlabelledRatio = Annotated[float, Ge(0), Le(1e9)]


@dataclass(frozen=True)
class Views:
    """How a random view is drawn from an image; every parameter is drawn for every image and view on its own.

    Args:
        crop_area: smallest share of the area that a random resized crop keeps; 1 means no crop
        crop_ratio: largest aspect ratio of the crop (its inverse is the smallest)
        flip: probability of a horizontal mirror
        rotation: degrees to either side, uniform
        shift: share of the side to either direction, uniform, on both axes
        zoom: relative change of scale to either direction, uniform
        jitter: probability of the four colour changes below, in a random order
        brightness: factor in [1-b, 1+b]
        contrast: factor in [1-c, 1+c] about the mean grey
        saturation: factor in [1-s, 1+s] about the pixel's grey
        hue: turn of the colour circle in [-h, h]
        grayscale: probability of losing the colour
        blur: probability of a Gaussian blur with sigma uniform in [0.1, 2] pixels
        negate: probability of the negative, for data where a point and its opposite are the same thing
        noise: standard deviation of Gaussian pixel noise, where the pixels' range is 1
    """

    crop_area: Annotated[float, Interval(gt=0, le=1)] = 1.0
    crop_ratio: Annotated[float, Interval(ge=1, le=10)] = 4 / 3
    flip: Probability = 0.0
    rotation: Annotated[float, Interval(ge=0, le=180)] = 0.0
    shift: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    zoom: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    jitter: Probability = 0.8
    brightness: Strength = 0.0
    contrast: Strength = 0.0
    saturation: Strength = 0.0
    hue: Annotated[float, Interval(ge=0, le=0.5)] = 0.0
    grayscale: Probability = 0.0
    blur: Probability = 0.0
    negate: Probability = 0.0
    noise: Annotated[float, Interval(ge=0, le=1)] = 0.0


@dataclass(frozen=True)
class Imbalance:
    """How rare the classes of a long-tailed training set are: class c keeps the share q_c of its images.

        exponential  q = factor ** (-rank / (C - 1)),  rank 0 .. C-1     (CIFAR-LT, arXiv 1901.05555)
        step         q = 1 for the first half of the ranks (the larger half), 1 / factor for the rest (arXiv 1710.05381)

    Args:
        factor: images of the most frequent class over those of the rarest
        shape: how the share falls with the rank of a class
        order: ranks by class number (CIFAR-LT), the other way round, or drawn for each repetition
    """

    factor: Annotated[float, Interval(ge=1, le=1e6)] = 100.0
    shape: Literal["exponential", "step"] = "exponential"
    order: Literal["index", "reversed", "drawn"] = "index"


@dataclass(frozen=True)
class LabelNoise:
    """Wrong labels among those that a run sees.

    Args:
        fraction: chance of each label to be wrong
        kind: a uniformly random other class, or always the next class (arXiv 1804.06872, "pair"), of those with labels
    """

    fraction: Annotated[float, Interval(gt=0, le=1)]
    kind: Literal["symmetric", "pair_flip"] = "symmetric"
