import math
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge
from torch import Tensor

from cl_semisup.losses import Requirements, Share, Views
from cl_semisup.losses._numbers import wide
from cl_semisup.losses._pseudo_labels import CLASSIFIER, supervised
from cl_semisup.losses._schedule import of


@dataclass(frozen=True)
class MeanTeacher:
    """Mean Teacher: the classifier agrees with the moving average of itself on another view of the image.

        L = CE of the labelled images + w(t) mean_i 1/C |softmax(s_i) - softmax(t_i)|^2
        w(t) = w exp(-5 (1 - min(1, t / r))^2),  t the share of training done

    s: logits of the network on one view, t: of its momentum copy on the other. Both directions are averaged, and the CE
    of both views.

    Group: semi-supervised
    Source: arXiv 1703.01780; CuriousAI/mean-teacher pytorch/mean_teacher/losses.py, softmax_mse_loss
    Difference: both views are the suite's (there: shift, mirror, noise and dropout) and both are taught; labelled and
    unlabelled images come in the same batches; the decay follows half a cosine (there a step); no second head;
    the network is evaluated, not its average
    Degenerate: without a labelled image only the agreement is left, whose best solution is a constant.

    Args:
        weight: w, >= 0; the squared error is a mean over the classes, not a sum
        ramp_up: r, share of training in which the weight grows; 0 means from the start
        momentum: decay of the average at the first step
        last_momentum: decay of the average at the last step
    """

    weight: Annotated[float, Ge(0)] = 100.0
    ramp_up: Share = 0.25
    momentum: Share = 0.99
    last_momentum: Share = 0.999

    @property
    def requirements(self) -> Requirements:
        return Requirements(
            labels=True,
            needs=("logits", "momentum_logits", "progress"),
            momentum=(self.momentum, self.last_momentum),
            exempt=CLASSIFIER,
        )

    def __call__(
        self,
        z1: Tensor,
        z2: Tensor,
        labels: Tensor | None = None,
        *,
        logits: Views,
        momentum_logits: Views,
        progress: float,
    ) -> Tensor:
        agreement = self._difference(logits[0], momentum_logits[1]) + self._difference(logits[1], momentum_logits[0])
        classification = supervised(logits[0], labels) + supervised(logits[1], labels)
        return (classification + self._weight(progress) * agreement) / 2

    def _weight(self, progress: float) -> float:
        done = min(1.0, progress / self.ramp_up) if self.ramp_up else 1.0
        return self.weight * of(math.exp, -5 * (1 - done) ** 2)

    @staticmethod
    def _difference(student: Tensor, teacher: Tensor) -> Tensor:
        return (wide(student).softmax(dim=1) - wide(teacher).detach().softmax(dim=1)).square().mean()
