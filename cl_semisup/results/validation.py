"""The score by which a loss is tuned, never one of test images."""

VALIDATION_SCORES = tuple(
    f"{prefix}linear_top1{suffix}_validation" for suffix in ("", "_labelled") for prefix in ("", "projection_")
)


def validation_score(score: str, validation: str = "all") -> str:
    """The score that tunes a board that is ordered by `score`, by the suite's `validation`.

    It is of projections if that score is, else of features. `labelled` lets visible labels alone choose; so does
    `held_out` for a score that learns from them (its images are new to the network, so their labels may test it).
    """
    by_labelled = validation == "labelled" or (validation == "held_out" and score.endswith("_labelled"))
    return VALIDATION_SCORES[2 * by_labelled + score.startswith("projection_")]
