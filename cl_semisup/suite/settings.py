"""Settings of training that belong to no plug-in: each field is a YAML key, a record key and a report column."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Interval, Le

from cl_semisup.config.added_later import AddedLater
from cl_semisup.plugins import PluginField


@dataclass(frozen=True)
class Schedule:
    """How the learning rate is scaled and how it changes; it is set before every step.

    Args:
        scaling: effective rate = learning_rate * (batch_size / 256) ** (0, 1 or 1/2) for none, linear, sqrt
        warmup_epochs: epochs of linear growth from 0; at most half of all steps
        decay: shape after the warm-up, flat (constant) or to 0 one step after the last (cosine)
    """

    scaling: Literal["none", "linear", "sqrt"] = "linear"
    warmup_epochs: Annotated[float, Ge(0)] = 0.0
    decay: Literal["cosine", "constant"] = "cosine"


@dataclass(frozen=True)
class Projector:
    """The head between backbone features and loss: Linear-norm-ReLU blocks and a last Linear (SimCLR).

    Args:
        layers: linear layers; 0 leaves the features as they are
        hidden: width of the hidden layers; 0 means as wide as the encoder's features
        dim: width of the output, D
        norm: between a hidden Linear and its ReLU: batch norm, layer norm, or none
        last_norm: the same norm after the last Linear, without scale and shift, as in SimSiam and MoCo v3
    """

    layers: Annotated[int, Interval(ge=0, le=8)] = 2
    hidden: Annotated[int, Ge(0)] = 0
    dim: Annotated[int, Ge(1)] = 128
    norm: Annotated[Literal["batch", "none", "layer"], AddedLater()] = "batch"
    last_norm: Annotated[bool, AddedLater()] = False


@dataclass(frozen=True)
class UnlabelledFrom:
    """Unlabelled training images of another data set, resized and recoloured to the format of the run's own.

    Either a share of the run's unlabelled images is replaced, which keeps the number of steps, or images are added.

    Args:
        dataset: the other data set; its training images are used, without their labels
        share: share of the run's unlabelled images that are replaced by foreign ones
        count: instead, so many foreign images are added
    """

    dataset: Annotated[Any, PluginField("datasets")]
    share: Annotated[float, Interval(gt=0, le=1)] | None = None
    count: Annotated[int, Interval(ge=1, le=1_000_000_000)] | None = None


Repetitions = Annotated[int, Interval(ge=1, le=1000)]
TuneRepetitions = Annotated[int, Interval(ge=0, le=1000)]
Validation = Literal["held_out", "labelled", "all", "own"]
LearningRate = Annotated[float, Gt(0), Le(1e12)]
