"""Stops a training whose curves say that it has collapsed or diverged beyond return; the rule is `verdict.hopeless`."""

from functools import cached_property

from torch import Tensor

from cl_semisup.execution.collapsed_loss import collapsed_loss_value
from cl_semisup.losses import Loss
from cl_semisup.results import verdict
from cl_semisup.training.loop import History
from cl_semisup.training.model import Model


class EarlyStop:
    """Judges the curves of one training; `reason` says why it was stopped, if it was.

    Args:
        active: False lets every training go on
        points: of the curves, after which a training ends in any case; 0 for all
        model, loss, visible_labels, batch, classes: of the training, as for `collapsed_loss_value`
    """

    def __init__(
        self, active: bool, points: int, model: Model, loss: Loss, visible_labels: Tensor, batch: int, classes: int
    ):
        self.active, self.points, self.model = active, points, model
        self.loss, self.visible_labels = loss, visible_labels
        self.batch, self.classes = batch, classes
        self.reason = ""

    def ends(self, history: History) -> bool:
        """Whether the training goes no further than these curves."""
        if self.points and len(history.loss) >= self.points:
            return True
        if not self.active:
            return False
        self.reason = verdict.hopeless(
            history.loss, history.feature_std, lambda: self._collapsed_value, self._projections_are_judged
        )
        return bool(self.reason)

    @cached_property
    def _collapsed_value(self) -> float | None:
        return collapsed_loss_value(self.loss, self.visible_labels, self.batch, self.model.dim, self.classes)

    @property
    def _projections_are_judged(self) -> bool:
        """Without a projector they are the features; and beside a frozen encoder they are all that was trained."""
        encoder_is_frozen = not any(p.requires_grad for p in self.model.encoder.parameters())
        return encoder_is_frozen or not list(self.model.projector.parameters())
