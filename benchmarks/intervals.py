"""Do intervals cover? Simulated scores of losses on test images, and what of the truth each kind of interval covers.

    python benchmarks/intervals.py [--simulations 500]

The truth is the accuracy, or the difference of two losses, over all repetitions and all images that could have been
drawn. Each image has a difficulty, each repetition a strength, and both meet at random:

    x_rt = 1 where  m + a r_r + b i_t + c e_rt + noise > 0,    all standard normal

Compared are the t-interval over repetitions alone, a percentile bootstrap that draws repetitions and images anew (200
draws), and the interval of `results/statistics.py: crossed_ci`.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import _common
from cl_semisup.results.statistics import crossed_ci, mean_ci

BOOTSTRAPS = 200
ABOUT = (
    "Share of simulations in which a nominal 95 % interval holds the truth over all repetitions and all test images. "
    "Repetitions and images are crossed; `difference` is that of two losses, paired by image."
)


def simulated(random: np.random.Generator, repetitions: int, images: int, spread: float) -> np.ndarray:
    """(2, R, T) bool of two losses that share what is hard and differ in a part of it."""
    hard, own_hard = random.normal(size=(1, 1, images)), 0.5 * random.normal(size=(2, 1, images))
    strength = spread * random.normal(size=(2, repetitions, 1))
    rest = 0.5 * random.normal(size=(2, repetitions, images))
    mean = np.array([1.5, 1.2]).reshape(2, 1, 1)
    return mean + hard + own_hard + strength + rest + random.normal(size=rest.shape) > 0


def truth(spread: float) -> np.ndarray:
    """(2,) the accuracy of each loss over everything that could be drawn."""
    return norm.cdf(np.array([1.5, 1.2]) / np.sqrt(1 + 0.25 + spread**2 + 0.25 + 1))


def bootstrap(values: np.ndarray, random: np.random.Generator) -> tuple[float, float]:
    """Percentiles of means over repetitions and images that are drawn with replacement, both at once."""
    r, t = values.shape
    rows = random.multinomial(r, np.full(r, 1 / r), BOOTSTRAPS) / r
    columns = random.multinomial(t, np.full(t, 1 / t), BOOTSTRAPS) / t
    low, high = np.percentile(((rows @ values) * columns).sum(axis=1), [2.5, 97.5])
    return float(low), float(high)


def coverage(repetitions: int, images: int, spread: float, simulations: int) -> Iterator[dict[str, Any]]:
    random = np.random.default_rng(0)
    true = truth(spread)
    held = {what: np.zeros(3) for what in ("accuracy", "difference")}
    for _ in range(simulations):
        losses = simulated(random, repetitions, images, spread).astype(float)
        for what, values, target in (
            ("accuracy", losses[0], true[0]),
            ("difference", losses[0] - losses[1], true[0] - true[1]),
        ):
            alone, crossed = mean_ci(values.mean(axis=1)), crossed_ci(values)
            low, high = bootstrap(values, random)
            held[what] += [
                abs(alone.mean - target) <= alone.ci_half_width,
                low <= target <= high,
                abs(crossed.mean - target) <= crossed.ci_half_width,
            ]
    for what, counts in held.items():
        yield {
            "of": what,
            "repetitions": repetitions,
            "test images": images,
            "spread of repetitions": spread,
            "over repetitions alone %": round(100 * counts[0] / simulations, 1),
            "bootstrap of both %": round(100 * counts[1] / simulations, 1),
            "crossed_ci %": round(100 * counts[2] / simulations, 1),
        }


def main() -> None:
    options = _common.parser(__doc__)
    options.add_argument("--simulations", type=int, default=500)
    simulations = options.parse_args().simulations
    cases = [(r, t, spread) for r in (3, 6) for t in (100, 360, 1000) for spread in (0.05, 0.2)]
    rows = [row for case in cases for row in coverage(*case, simulations)]
    print(_common.write("intervals", ABOUT, rows, packages=("numpy", "scipy")))


if __name__ == "__main__":
    main()
