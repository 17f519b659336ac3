"""What a run trains with, and the curves of its training."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cl_semisup.data.views import ViewMaker
from cl_semisup.losses import Loss
from cl_semisup.training.model import Model


class Diverged(ArithmeticError):
    """The loss, a gradient or a feature is not finite. The history up to this step is complete."""

    def __init__(self, step: int, quantity: str, details: str = ""):
        self.step = step
        super().__init__(f"{quantity} is not finite at step {step}{details}")


@dataclass
class History:
    """Curves of a run with one value per logged step. The loss is the mean since the last logged step.

    Effective rank, feature_std and alignment are computed from the normalized projections of the batch.
    """

    step: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    gradient_norm: list[float] = field(default_factory=list)
    effective_rank: list[float] = field(default_factory=list)
    feature_std: list[float] = field(default_factory=list)
    alignment: list[float] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class TrainingSetup:
    """What a run trains with.

    Args:
        views: recipe (`full`, `weak`, `local`) -> maker of random views
        images: (M, channels, side, side) uint8, or float32 features (M, F, 1, 1)
        visible_labels: (M,) int64, the labels that the run may see; -1 elsewhere
        seed_key: (data set, repetition), the start of every seed. The loss is not part of it, so that all losses of a
            repetition draw the same batches and views
        encode: a fast version of the encoder, if there is one
        local_views: local views of an image, for a loss that needs their projections
        larger_images: (M, channels, S, S) the same images at a larger side, which the views are cropped from; or none
        rows: (M',) positions of the images that are trained on, on the host; None for all
        layer_causal: whether each layer moves by the loss of its own output alone
        hopeless: whether the curves of loss and feature_std so far say that going on is in vain; a function of them
            alone, so that a resumed training and all processes stop at the same step
    """

    model: Model
    loss: Loss
    views: dict[str, ViewMaker]
    optimizer: torch.optim.Optimizer
    images: Tensor
    visible_labels: Tensor
    seed_key: tuple[object, ...]
    history: History
    encode: Callable[[Tensor], Tensor] | None = None
    local_views: int = 0
    larger_images: Tensor | None = None
    rows: Tensor | None = None
    layer_causal: bool = False
    hopeless: Callable[[History], bool] = lambda history: False

    @property
    def pool(self) -> Tensor:
        """(M',) positions of the images that are trained on, on the host."""
        return torch.arange(len(self.images)) if self.rows is None else self.rows

    @property
    def stored(self) -> Tensor:
        """The images that the views are made of."""
        return self.images if self.larger_images is None else self.larger_images
