from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Interval

from cl_semisup.errors import InputError
from cl_semisup.evaluation import Features, ProbeResult, evenly
from cl_semisup.measures import geometry


@dataclass(frozen=True)
class CKA:
    """How far training has moved the features: linear CKA to those of the untrained network of the same repetition.

        |Yc^T Xc|^2 / (|Xc^T Xc| |Yc^T Yc|),  X (T, F) features after training, Y before

    1: rotated, moved or scaled at most; 0: nothing in common. The reference has the run's own first weights, made again
    from the names of their seeds (it is the floor run of the repetition), so no other record is needed and all losses
    of a repetition are compared with the same one. A trained reference would have to be kept, or waited for, and runs
    wait for none; `geometry.cka` compares any two features at hand.

    `cka_untrained` is of all test images; `cka_untrained_unbiased` (of at most `images`, in [-1, 1]) takes away the
    bias towards 1 of few images in many dimensions. Constant features have no direction to compare: no value. More or
    less is not better: these are diagnostics.

    Source: arXiv 1905.00414, eq. 4; unbiased: arXiv 2010.15327, eq. 3
    Difference: None

    Args:
        images: at most so many test images, evenly spaced, for the unbiased value, which looks at all pairs
    """

    images: Annotated[int, Interval(ge=4, le=20_000)] = 2000

    default: ClassVar[bool] = False
    scores: ClassVar[tuple[str, ...]] = ()

    def measure(self, embedded: Features) -> ProbeResult:
        network = embedded.network
        if network is None:
            raise InputError("cka: needs the network, to know it untrained. Got features alone. Leave it out.")
        after, before = embedded.test, network.untrained(network.test_images)
        found = {"cka_untrained": geometry.cka(after, before)}
        if len(after) >= 4:
            rows = evenly(len(after), self.images).to(after.device)
            found["cka_untrained_unbiased"] = geometry.cka(after[rows], before[rows], unbiased=True)
        return ProbeResult(diagnostics=found)
