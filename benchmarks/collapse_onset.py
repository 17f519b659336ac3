"""When is it decided that a network without batch norm collapses? From the curves of suites/trial/collapse.yaml.

    python benchmarks/collapse_onset.py

For SimCLR and CLOP, at each of several logged steps: the probability (area under the ROC curve) that a run which ends
collapsed has a smaller feature std, a smaller effective rank or a smaller gradient there than one of the same loss,
label share and learning rate which ends ok. 50 % tells nothing, 100 % everything. Pairs of runs are pooled over all
settings in which both ends occur. Below, the median feature std of the batch along training. Nothing is trained.
"""

import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import _common
from cl_semisup.results import records
from cl_semisup.suite import suite

SUITE = _common.ROOT / "suites" / "trial" / "collapse.yaml"
PUBLISHED = _common.ROOT / "results" / "published"
LOSSES = ("nt_xent", "clop")
POINTS = (0, 1, 2, 4, 8, 12, 16, 20, 30)  # of the 44 logged ones
SIGNS = {"feature_std": "feature std", "effective_rank": "effective rank", "gradient_norm": "gradient norm"}
ABOUT = (
    "Probability (percent) that a run which ends collapsed has a smaller value at a step than a run of the same loss,"
    " label share and learning rate which ends ok: 50 tells nothing, 100 everything. {pairs} pairs of runs of SimCLR"
    " and CLOP in suites/trial/collapse.yaml. The last three columns are the median feature std of the batch, which"
    " is 1 for a uniform cloud and 0 for one point."
)
Histories = dict[str, list[dict[str, Any]]]  # how runs ended -> their histories


def histories() -> tuple[dict[tuple[Any, ...], Histories], dict[str, list[np.ndarray]]]:
    """By setting, and the feature std of all runs in the three groups of the table."""
    by_setting: dict[tuple[Any, ...], Histories] = defaultdict(lambda: {"ok": [], "collapsed": []})
    groups: dict[str, list[np.ndarray]] = defaultdict(list)
    for run in suite.read(SUITE).runs:
        ((name, settings),) = run.loss.items()
        if name not in LOSSES or not run.epochs:
            continue
        path = records.path_of(PUBLISHED, run)
        status, history = records.read(path)["status"], records.read_curves(path)["history"]
        if status not in ("ok", "collapsed"):
            continue
        key = name, settings.get("weight"), run.label_fraction, run.learning_rate
        by_setting[key][status].append(history)
        rate = run.learning_rate or 0.0
        group = "rate at most 0.1" if rate <= 0.1 else f"rate from 0.3, ends {status}" if rate >= 0.3 else ""
        groups[group].append(np.array(history["feature_std"], float))
    return by_setting, groups


def smaller(by_setting: dict[tuple[Any, ...], Histories], sign: str, point: int) -> tuple[float, int]:
    """The share of pairs in which the collapsed run's value is smaller (ties half), and the number of pairs."""
    hits, pairs = 0.0, 0
    for ends in by_setting.values():
        collapsed, ok = (
            np.array([h[sign][point] for h in ends[end] if len(h[sign]) > point]) for end in ("collapsed", "ok")
        )
        below = collapsed[:, None] < ok
        hits += float(below.sum() + (collapsed[:, None] == ok).sum() / 2)
        pairs += below.size
    return hits / pairs, pairs


def rows() -> Iterator[dict[str, Any]]:
    by_setting, groups = histories()
    steps = next(iter(by_setting.values()))["ok"][0]["step"]
    for point in POINTS:
        row: dict[str, Any] = {"step": steps[point]}
        for sign, words in SIGNS.items():
            share, row["pairs"] = smaller(by_setting, sign, point)
            row[f"{words} smaller %"] = round(100 * share)
        for group in ("rate at most 0.1", "rate from 0.3, ends ok", "rate from 0.3, ends collapsed"):
            values = [std[point] for std in groups[group] if len(std) > point]
            row[f"std, {group}"] = float(np.median(values))
        yield row


def main() -> None:
    _common.parser(__doc__).parse_args()
    found = list(rows())
    pairs = {row.pop("pairs") for row in found}
    print(_common.write("collapse_onset", ABOUT.format(pairs=max(pairs)), found, packages=("numpy",)))


if __name__ == "__main__":
    main()
