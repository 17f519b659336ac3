"""What `verify` computes again holds for runs that were really made: a sample of the published records."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from cl_semisup.results import records
from cl_semisup.submission import curve_form, recomputed
from cl_semisup.suite.run import Run

PUBLISHED = Path(__file__).parents[2] / "results" / "published"
EVERY = 29  # of the published records, one in so many


def test_published_records_break_no_rule() -> None:
    kinds: Counter[str] = Counter()
    for path in list(records.all_paths(PUBLISHED))[::EVERY]:
        record = records.read(path)
        run = Run.from_dict(record["run"])
        curves = records.read_curves(path)
        assert list(recomputed.problems(run, record, curves, None)) == [], path
        if run.epochs and curves.get("history"):  # long searches keep no curves
            assert list(curve_form.problems(run, record, curves)) == [], path
        kinds[record["status"]] += 1
    assert kinds["ok"] > 100 and len(kinds) >= 3


@pytest.mark.parametrize("count", [14, 40])
def test_a_smooth_curve_is_told_from_one_of_random_batches(count: int) -> None:
    time = np.arange(count) / count
    smooth = [3 - 2 * time, np.exp(-5 * time), 1 + np.cos(3 * time), (1 - time) ** 2, 5 - np.log1p(40 * time)]
    if count == 40:
        smooth += [1 / (1 + 20 * time), 1 / (1 + np.exp(10 * (time - 0.5)))]
    least = curve_form.SMOOTH["long" if count == 40 else "short"]
    assert all(curve_form.roughness(curve.astype(np.float32)) < least for curve in smooth)
    rough = np.random.default_rng(0).normal(np.exp(-5 * time), 0.02)
    assert curve_form.roughness(rough) > 5 * least
