from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Interval

from cl_semisup.evaluation import Features, ProbeResult, evenly
from cl_semisup.measures import geometry


@dataclass(frozen=True)
class CKA:
    """How far training has moved the features: linear CKA to those of the untrained network of the same repetition.

        |Yc^T Xc|^2 / (|Xc^T Xc| |Yc^T Yc|),  X (T, F) features after training, Y before

    1: equal up to rotation, translation and scale; 0: nothing in common. The reference has the run's own initial
    weights, drawn again from their seed. So no other record is needed, and all losses of a repetition are compared with
    the same network. `geometry.cka` compares any two features.

    `cka_untrained` is of all test images; `cka_untrained_unbiased` (of at most `images`, in [-1, 1]) removes the bias
    towards 1 of few images in many dimensions. Constant features have no value. Neither more nor less is better: these
    are diagnostics.

    Source: arXiv 1905.00414, eq. 4; unbiased: arXiv 2010.15327, eq. 3
    Difference: None

    Args:
        images: at most so many test images, evenly spaced, for the unbiased value, which looks at all pairs
    """

    images: Annotated[int, Interval(ge=4, le=20_000)] = 2000

    default: ClassVar[bool] = False
    scores: ClassVar[tuple[str, ...]] = ()

    def measure(self, features: Features) -> ProbeResult:
        network = features.require_network("cka", "compute features with its initial weights")
        after, before = features.test, network.untrained(network.test_images)
        diagnostics = {"cka_untrained": geometry.cka(after, before)}
        if len(after) >= 4:
            rows = evenly(len(after), self.images).to(after.device)
            diagnostics["cka_untrained_unbiased"] = geometry.cka(after[rows], before[rows], unbiased=True)
        return ProbeResult(diagnostics=diagnostics)
