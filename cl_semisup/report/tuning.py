"""How the config of each loss was chosen, in sentences: by the suite's `validation` and `tune_repetitions`."""

from collections.abc import Collection

from cl_semisup.results.validation import validation_score

CHOSEN_BY = {  # the suite's `validation` -> what the column `tuned` holds
    "all": "config chosen on the validation part",
    "held_out": "config chosen on training images that trained nothing",
    "labelled": "config chosen by visible labels alone",
}
_MEASURED_ON = {
    "all": "accuracy on training images held out of training the probe, with all their labels",
    "held_out": "accuracy on training images that trained neither the network nor the probe, with their labels",
    "labelled": (
        "accuracy on visible labels that the probe has not learnt from, in folds where there are few; no hidden label"
        " is used, but the network has trained with these"
    ),
}


def chosen_by(validation: str) -> str:
    """What the column `tuned` holds. Records may come from strangers, so any word may."""
    return CHOSEN_BY.get(validation, "config chosen by validation")


def tuning_note(scores: Collection[str], score: str, validation: str, several: bool = False) -> str:
    """How one `validation` chose. `scores` are those that some record has; `several`: the suite compares settings."""
    name, word = validation_score(score, validation), f"`validation: {validation}`: " if several else ""
    if name not in scores:
        return f"{word}No record has a validation score: each loss stands in the first config of the grid, untuned."
    measured = _MEASURED_ON.get(validation, _MEASURED_ON["all"])
    return f"{word}Each loss stands in its config with the best mean {name}: {measured}; never on the test images."


def curse_note(tune_repetitions: int, chosen: bool) -> str:
    """How to read the winner's curse; `chosen`: some config has won."""
    if not chosen:
        return f"The first {tune_repetitions} repetitions were to choose the configs and are not reported."
    return (
        f"The first {tune_repetitions} repetitions chose the configs and are not reported; all other columns are of"
        " fresh repetitions. The winner's curse is the mean of the former minus that of the latter, of the same config:"
        " by so much a table of the repetitions that tuned would be too high."
    )
