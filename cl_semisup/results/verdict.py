"""Is a run's representation sound? A score that looks plausible may come from a collapsed network.

    diverged    a loss, gradient or feature is not finite, or the loss ends far above its start
    collapsed   any of
                  one point      feature std below 0.02 of a uniform cloud's
                  few directions effective rank below max(2, 5 % of min(images, dimensions)), at most (classes - 1) / 2
                  no information both probes at chance, within two standard errors
                  chance loss    the loss ends at its value for a single point, within 0.5 %
    ok          none of these; leaderboards also compare it with other runs, those of the untrained floor:
                  weak           at or below the floor; or the interval of six pairs or more holds 0
                  unresolved     above the floor on average, but there are too few pairs to confirm it

Source of the thresholds: arXiv 2011.10566 calls a feature std of 0 collapsed and of 1 healthy; a threshold of 0.1
would condemn a freshly made ResNet-50 (0.08 on digits), whose features a linear probe reads well. The cap on the rank
excludes neural collapse: the C classes of a perfect classifier span C - 1 directions, which is no fault.
"""

import math
from collections.abc import Callable, Mapping, Sequence

MIN_FEATURE_STD = 0.02  # share of a uniform cloud's standard deviation below which all embeddings count as one point
RANK = 2.0  # effective rank below which embeddings lie in one direction
RANK_SHARE = 0.05  # share of all possible directions below which they are dimensionally collapsed
NEAR_CHANCE = 2.0  # standard errors above chance within which a probe has learnt nothing
SAME_LOSS = 0.005  # relative distance within which two loss values count as the same
EXPLODED = 10.0  # growth of an exploded loss, in units of its first value (at least 1)
HOPELESS_POINTS = 10  # of a run's curves, a quarter of its training, for which it has been broken in the same way
HOPELESS_STD = MIN_FEATURE_STD / 10  # of projections that are all one point; from 0.005 runs have come back
PROBES = ("knn_top1", "linear_top1")
MIN_PAIRS = 6  # with fewer repetitions an interval that holds 0 proves nothing: the sign test needs six


def divergence(losses: Sequence[float]) -> str:
    """Why a run's curve of losses counts as diverged, or "" if it does not; its first value is the reference."""
    if any(not math.isfinite(loss) for loss in losses):
        return "the loss is not finite"
    if len(losses) > 1 and losses[-1] - losses[0] > EXPLODED * max(1.0, abs(losses[0])):
        return f"the loss grew from {losses[0]:.4g} to {losses[-1]:.4g}"
    return ""


def gain_verdict(gain: float, ci_half_width: float, pairs: int) -> str:
    """`ok`, `weak` or `unresolved`, from a loss's paired gain over the untrained floor and its 95 % interval.

    With three pairs the interval reaches 2.5 standard deviations to either side, so a loss that gains ten points may
    have 0 inside: this proves neither `weak` nor `ok`. A single pair has no interval (NaN) and is unresolved. Without
    a gain (NaN, a side is missing) the verdict is `ok`.
    """
    if math.isnan(gain):
        return "ok"
    if gain <= 0:
        return "weak"
    if gain - ci_half_width > 0:  # False if the half-width is NaN
        return "ok"
    return "weak" if pairs >= MIN_PAIRS else "unresolved"


def collapse(
    diagnostics: Mapping[str, float],
    scores: Mapping[str, float] | None = None,
    *,
    classes: int = 0,
    images: int = 0,
    dim: int = 0,
    chance: float | None = None,
) -> str:
    """Why the test embeddings count as collapsed, or "" if they do not; unknown values are not judged.

    Args:
        diagnostics, scores: of the probes, by name
        classes, images, dim: classes, test images and feature dimensions, 0 where unknown
        chance: accuracy of the best constant guess on the test images
    """
    feature_std, rank = diagnostics.get("feature_std"), diagnostics.get("effective_rank")
    if feature_std is not None and feature_std < MIN_FEATURE_STD:
        share = f"feature std {feature_std:.3g} of a uniform cloud's, below {MIN_FEATURE_STD}"
        return f"all embeddings are nearly one point ({share})"
    min_rank = lowest_rank(classes, images, dim)
    if rank is not None and rank < min_rank:
        return f"embeddings use too few directions (effective rank {rank:.3g}, below {min_rank:.3g})"
    known = {name: value for name, value in (scores or {}).items() if name in PROBES}
    if chance is not None and images and known:
        limit = chance + NEAR_CHANCE * math.sqrt(chance * (1 - chance) / images)
        if max(known.values()) <= limit:
            values = ", ".join(f"{name} {value:.3g}" for name, value in sorted(known.items()))
            return f"the embeddings tell nothing of the classes ({values}; chance is {chance:.3g})"
    return ""


def lowest_rank(classes: int, images: int, dim: int) -> float:
    """The smallest effective rank of sound features; RANK if classes, images and dim are unknown (0).

    For three classes or fewer the cap is 1 or less, so that no rank is too low: their perfect features lie on a line
    or in a plane.
    """
    min_rank = max(RANK, RANK_SHARE * min(images, dim))
    return min(min_rank, (classes - 1) / 2) if classes else min_rank


def stuck(losses: Sequence[float], collapsed_value: float | None) -> str:
    """Why a loss curve shows that all projections are one point, or "" if it does not.

    Args:
        losses: the run's curve
        collapsed_value: the loss when all projections are the same; None if this value shows nothing
    """
    if not losses or collapsed_value is None:
        return ""
    end = losses[-1]
    if abs(end - collapsed_value) > SAME_LOSS * max(1e-6, abs(collapsed_value)):
        return ""
    return f"the loss ends at {end:.4g}, its value when all projections are one point ({collapsed_value:.4g})"


def hopeless(
    losses: Sequence[float],
    feature_stds: Sequence[float],
    collapsed_value: Callable[[], float | None],
    projections_are_judged: bool = False,
) -> str:
    """Why a training need not go on, or "": its curves so far say diverged or collapsed, and not only for a moment.

    For HOPELESS_POINTS on end, and not on the way back, either the loss has been exploded, or all projections one point
    while the loss was its value for a point. Where projections are what the verdict judges, the loss is not asked.

    Args:
        losses, feature_stds: the run's curves, a value a logged step; feature_stds are those of projections
        collapsed_value: gives what `stuck` compares with; asked only where the projections are one point
        projections_are_judged: there is no projector, or nothing but the projector is trained
    """
    if len(losses) <= HOPELESS_POINTS:
        return ""
    last, stds = losses[-HOPELESS_POINTS:], feature_stds[-HOPELESS_POINTS:]
    if last[-1] >= last[0] and all(divergence([losses[0], loss]) for loss in last):
        return divergence(losses)
    if max(stds) >= HOPELESS_STD or stds[-1] > stds[0]:
        return ""
    if not projections_are_judged and not all(stuck([loss], collapsed_value()) for loss in last):
        return ""
    return f"all projections are nearly one point (feature std {stds[-1]:.3g} of a uniform cloud's)"
