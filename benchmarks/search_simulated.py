"""Searches, races and stopping rules against simulated losses whose truth is known; nothing is trained.

    python benchmarks/search_simulated.py     # about a minute

Writes results/search_simulated.md and search_simulated.json. Three parts: edges found by search on a ladder of 41 rungs
beside those of the full grid; races of nine configs, in which the truly best one should stay; confidence sequences,
which should hold at all of thirty looks at once, beside t-intervals, which do not.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from benchmarks import _common
from cl_semisup.results.statistics import mean_ci
from cl_semisup.search import racing
from cl_semisup.search.confidence import half_width
from cl_semisup.search.edges import Ladder
from tests.search.test_edges import LADDER, cliff, searches, slow_loss

SEARCHES, RACES, SEQUENCES = 10_000, 2_000, 4_000
KINDS = {"cliffs": cliff, "scores that fall slowly": slow_loss}
LADDERS = (9, 13, 20, 25, 33, 57)  # rungs of others, each searched a tenth as often
CONFIGS, REPETITIONS, LOOKS = 9, 12, 30
DRAWS: dict[str, Callable[[np.random.Generator, tuple[int, int]], np.ndarray]] = {
    "normal": lambda random, shape: random.normal(0, 1, shape),
    "uniform": lambda random, shape: random.uniform(-1, 1, shape),
    "skewed": lambda random, shape: random.gamma(4.0, 1.0, shape) - 4.0,
}


def main() -> None:
    _common.parser(__doc__).parse_args()
    rows = [*edge_rows(), *race_rows(), *sequence_rows()]
    about = (
        "`right` is the share in which the truth is met: an edge within one rung; the truly best config is never"
        " dropped; the true mean lies inside the interval at every look. `of the grid` says the same of what it is"
        " compared with: edges of the full grid, or t-intervals at every look. `runs` are those needed, of all of the"
        f" full grid's. {SEARCHES:,} searches each, in threes: the repetitions that an edge is fitted to, on"
        " 41 rungs, 8 a decade, where nothing else is said, and a tenth as many on other ladders;"
        f" {RACES:,} races of {CONFIGS} configs over {REPETITIONS} repetitions, which share noise of 3 points;"
        f" {SEQUENCES:,} sequences of {LOOKS} paired differences, looked at from the fourth on."
    )
    _common.write("search_simulated", about, rows)


def row(part: str, case: str, right: float, grid: float | None, runs: float | None) -> dict[str, Any]:
    """A line of the table; shares as percent."""
    values = {"right": right, "of the grid": grid, "runs": runs}
    return {"part": part, "case": case} | {
        name: "" if value is None else f"{100 * value:.1f} %" for name, value in values.items()
    }


def edge_rows() -> Iterator[dict[str, Any]]:
    """On the ladder of 41 rungs, and on shorter and longer ones."""
    for kind, made in KINDS.items():
        for deviation in (0.0, 0.005, 0.01):
            found = searches(made, SEARCHES // 3, deviation)
            case = f"{kind}; noise {100 * deviation:g} %"
            yield row("edges", case, found["search"], found["grid"], found["runs"])
    for count in LADDERS:
        for kind, made in KINDS.items():
            found = searches(made, SEARCHES // 30, 0.005, Ladder(count, LADDER.per_decade, LADDER.share))
            case = f"{kind}; noise 0.5 %; {count} rungs"
            yield row("edges", case, found["search"], found["grid"], found["runs"])


def race_rows() -> Iterator[dict[str, Any]]:
    for gap in (0.0, 0.01, 0.03):
        random = np.random.default_rng(6)
        kept, used = [], []
        for _ in range(RACES):
            means = 0.8 - gap * np.arange(CONFIGS)
            shared = random.normal(0, 0.03, REPETITIONS)
            scores = means[:, None] + shared + random.normal(0, 0.01, (CONFIGS, REPETITIONS))
            _, dropped, _ = racing.race([own.__getitem__ for own in scores], REPETITIONS)
            kept.append(dropped[0] == 0)
            used.append(sum(when or REPETITIONS for when in dropped) / scores.size)
        case = f"configs {100 * gap:g} % apart; noise 1 %"
        yield row("races", case, float(np.mean(kept)), None, float(np.mean(used)))


def sequence_rows() -> Iterator[dict[str, Any]]:
    for kind, draw in DRAWS.items():
        draws = draw(np.random.default_rng(3), (SEQUENCES, LOOKS))
        held, held_by_t = [], []
        for values in draws:
            looks = [values[:n] for n in range(4, LOOKS + 1)]
            held.append(all(abs(one.mean()) <= half_width(len(one), float(one.std(ddof=1))) for one in looks))
            held_by_t.append(all(abs((ci := mean_ci(one)).mean) <= ci.ci_half_width for one in looks))
        yield row("confidence sequences", f"{kind} differences", float(np.mean(held)), float(np.mean(held_by_t)), None)


if __name__ == "__main__":
    main()
