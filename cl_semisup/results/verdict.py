"""Is a run's representation sound? Chance values in words: a number that looks plausible may be a collapse.

    diverged    a loss, gradient or feature is not finite, or the loss ends far above its start
    collapsed   any of
                  one point      feature std below 0.02 of a uniform cloud's
                  few directions effective rank below max(2, 5 % of min(images, dimensions)), at most (classes - 1) / 2
                  no information both probes at chance, within two standard errors
                  chance loss    the loss ends at its value for a single point, within 0.5 %
    ok          none of these; how it stands to the untrained floor needs other runs and is told on leaderboards
                  weak           at or below the floor, or with six pairs or more not above it by its interval
                  unresolved     above it, with fewer pairs than can say so

Where the thresholds come from: arXiv 2011.10566 calls a feature std of 0 collapsed and of 1 healthy; a threshold of 0.1
would condemn a freshly made ResNet-50 (0.08 on digits), whose features a linear probe reads well. The cap on the rank
keeps neural collapse out: a perfect classifier's C classes span C - 1 directions, and that is no fault.
"""

import math
from collections.abc import Mapping, Sequence

MIN_FEATURE_STD = 0.02  # share of a uniform cloud's standard deviation under which all embeddings are one point
RANK = 2.0  # effective rank under which embeddings lie in one direction, and
RANK_SHARE = 0.05  # share of all possible directions under which they are dimensionally collapsed
NEAR_CHANCE = 2.0  # standard errors above chance within which a probe knows nothing
SAME_LOSS = 0.005  # relative distance within which two losses are the same
EXPLODED = 10.0  # times its first value (at least 1) by which an exploded loss has grown
PROBES = ("knn_top1", "linear_top1")
LEAST_PAIRS = 6  # repetitions under which an interval that holds 0 tells nothing: the sign test needs six


def divergence(losses: Sequence[float]) -> str:
    """Why a run's curve of losses counts as diverged, or "" if it does not; its first value is the reference."""
    if any(not math.isfinite(loss) for loss in losses):
        return "the loss is not finite"
    if len(losses) > 1 and losses[-1] - losses[0] > EXPLODED * max(1.0, abs(losses[0])):
        return f"the loss grew from {losses[0]:.4g} to {losses[-1]:.4g}"
    return ""


def of_gain(gain: float, half: float, pairs: int) -> str:
    """`ok`, `weak` or `unresolved`: a loss's paired gain over the untrained floor, with half of its 95 % interval.

    With three pairs the interval is 2.5 standard deviations to either side, so a loss that gains ten points may well
    have 0 inside: that is no sign of weakness, and saying so would be as false as calling it ok. A single pair has no
    interval (NaN) and is unresolved. Where a side is missing (NaN gain) nothing is held against the loss.
    """
    if math.isnan(gain):
        return "ok"
    if gain <= 0:
        return "weak"
    if gain - half > 0:  # not where half is NaN
        return "ok"
    return "weak" if pairs >= LEAST_PAIRS else "unresolved"


def collapse(
    diagnostics: Mapping[str, float],
    scores: Mapping[str, float] | None = None,
    *,
    classes: int = 0,
    images: int = 0,
    dim: int = 0,
    chance: float | None = None,
) -> str:
    """Why the test embeddings count as collapsed, or "" if they do not; what is not known is not judged.

    Args:
        diagnostics, scores: of the probes, by name
        classes, images, dim: classes, test images and feature dimensions, 0 where unknown
        chance: accuracy of the best constant guess on the test images
    """
    feature_std, rank = diagnostics.get("feature_std"), diagnostics.get("effective_rank")
    if feature_std is not None and feature_std < MIN_FEATURE_STD:
        share = f"feature std {feature_std:.3g} of a uniform cloud's, below {MIN_FEATURE_STD}"
        return f"all embeddings are nearly one point ({share})"
    least = lowest_rank(classes, images, dim)
    if rank is not None and rank < least:
        return f"embeddings use too few directions (effective rank {rank:.3g}, below {least:.3g})"
    known = {name: value for name, value in (scores or {}).items() if name in PROBES}
    if chance is not None and images and known:
        limit = chance + NEAR_CHANCE * math.sqrt(chance * (1 - chance) / images)
        if max(known.values()) <= limit:
            told = ", ".join(f"{name} {value:.3g}" for name, value in sorted(known.items()))
            return f"the embeddings tell nothing of the classes ({told}; chance is {chance:.3g})"
    return ""


def lowest_rank(classes: int, images: int, dim: int) -> float:
    """The effective rank that sound features have at least; without facts that of one direction.

    For three classes or fewer the cap is 1 or less, so the rank says nothing: their perfect features lie on a line or
    in a plane.
    """
    asked = max(RANK, RANK_SHARE * min(images, dim))
    return min(asked, (classes - 1) / 2) if classes else asked


def stuck(losses: Sequence[float], of_a_point: float | None) -> str:
    """Why a loss curve says that the projections are one point, or "": it ends where such a loss would be.

    Args:
        losses: the run's curve
        of_a_point: the loss when all projections are the same; None where that tells nothing
    """
    if not losses or of_a_point is None:
        return ""
    if abs(losses[-1] - of_a_point) <= SAME_LOSS * max(1e-6, abs(of_a_point)):
        return f"the loss ends at {losses[-1]:.4g}, its value when all projections are one point ({of_a_point:.4g})"
    return ""
