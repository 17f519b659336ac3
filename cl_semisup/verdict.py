"""Is a run's representation sound? Chance values in words: a number that looks plausible may be a collapse."""

from collections.abc import Mapping

SPREAD = 0.02  # share of a uniform cloud's standard deviation under which all embeddings are one point
RANK = 1.5  # effective rank under which all embeddings lie in one direction


def collapse(diagnostics: Mapping[str, float]) -> str:
    """Why the test embeddings count as collapsed, or "" if they do not."""
    spread, rank = diagnostics.get("spread"), diagnostics.get("effective_rank")
    if spread is not None and spread < SPREAD:
        return f"all embeddings are nearly one point (spread {spread:.3g} of a uniform cloud's, below {SPREAD})"
    if rank is not None and rank < RANK:
        return f"all embeddings lie in one direction (effective rank {rank:.3g}, below {RANK})"
    return ""
