"""The keys of a suite: what it says about itself, and what it varies. Descriptions go into messages and the schema."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Interval, MinLen

from cl_semisup.data.scenario import Scenario
from cl_semisup.data.settings import Imbalance, LabelFraction, LabelNoise, UnlabelledRatio
from cl_semisup.plugins import PluginField
from cl_semisup.suite.settings import (
    LearningRate,
    Projector,
    Repetitions,
    Schedule,
    TuneRepetitions,
    UnlabelledFrom,
    Validation,
)


@dataclass(frozen=True)
class SuiteHeader:
    """What a suite says about itself; one value each.

    Args:
        question: what the suite asks, in a sentence
        name: its folder of results; the file's stem unless given
        baseline: the loss that differences are taken to, by its name in `losses`
        score: the score that orders the leaderboard
        repetitions: paired repetitions of every cell, each with its own labels, first weights and views
        tune_repetitions: so many repetitions before them choose each loss's config, which alone runs in the others; 0
            tunes and reports in the same ones
        data_dir: folder of data sets, relative to where the command runs
        download: fetch a missing data set
        keep: which weights of every trained network are kept beside the records
    """

    question: Annotated[str, MinLen(1)]
    name: str = ""
    baseline: str = ""
    score: str = "linear_top1"
    repetitions: Repetitions = 3
    tune_repetitions: TuneRepetitions = 0
    data_dir: str = "data"
    download: bool = False
    keep: Literal["none", "encoder", "all"] = "none"


@dataclass(frozen=True)
class Axes:
    """What a suite varies; every list is a grid.

    Args:
        datasets: data sets
        losses: losses, each a name or one name with its settings
        encoder: the network before the projector
        label_fraction: share of each class that has labels, at least one image a class
        labels_per_class: labelled images of each class; instead of label_fraction
        imbalance: long tail of the classes, in labels and images, or none
        unlabelled_imbalance: the same of the images alone; imbalance then shapes the labels
        unlabelled_ratio: at most so many unlabelled images for each labelled one, or none to keep all
        unlabelled_classes: classes without any label, drawn for each repetition
        label_noise: wrong labels, or none
        unlabelled_from: unlabelled images of another data set, or none
        scenario: training images that come in increments of classes or are spread over clients, or none. The same run
            on all images at once is added
        validation: what chooses the config of a loss, never the test images. held_out: training images that train
            nothing; labelled: only labels that the run may see; all: training images that no probe has seen, but the
            network has, with all their labels; own: the data's own `val` part, as `val: validate` of the data set says
        learning_rate: before the scaling rule of `schedule`
        batch_size: images a step, each in two views
        epochs: passes over the training images
        optimizer: what moves the weights
        schedule: how the learning rate is scaled and moves
        projector: the head between features and loss
        precision: arithmetic of the network; auto is bfloat16 on a GPU and float32 elsewhere. Losses use float32
    """

    datasets: Annotated[Any, PluginField("datasets")]
    losses: Annotated[Any, PluginField("losses")]
    learning_rate: LearningRate
    batch_size: Annotated[int, Interval(ge=2, le=1_000_000)]
    epochs: Annotated[int, Interval(ge=1, le=100_000)]
    encoder: Annotated[Any, PluginField("encoders")] = "convnet"
    label_fraction: LabelFraction = 1.0
    labels_per_class: Annotated[int, Interval(ge=1)] = 1
    imbalance: Imbalance | None = None
    unlabelled_imbalance: Imbalance | None = None
    unlabelled_ratio: UnlabelledRatio | None = None
    unlabelled_classes: Annotated[int, Interval(ge=1)] | None = None
    label_noise: LabelNoise | None = None
    unlabelled_from: UnlabelledFrom | None = None
    scenario: Scenario | None = None
    validation: Validation = "held_out"
    optimizer: Annotated[Any, PluginField("optimizers")] = "sgd"
    schedule: Schedule = Schedule()
    projector: Projector = Projector()
    precision: Literal["auto", "float32", "bfloat16"] = "auto"


SUBSAMPLING_KEYS = ("imbalance", "unlabelled_imbalance", "unlabelled_ratio", "validation")  # may leave out images
DRAW_KEYS = (*SUBSAMPLING_KEYS, "label_fraction", "labels_per_class", "unlabelled_classes")  # axes that decide which
