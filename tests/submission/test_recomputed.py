"""What `verify` computes again holds for runs that were really made: a sample of the published records."""

from collections import Counter
from pathlib import Path

from cl_semisup.results import records
from cl_semisup.submission import recomputed
from cl_semisup.suite.run import Run

PUBLISHED = Path(__file__).parents[2] / "results" / "published"
EVERY = 29  # of the published records, one in so many


def test_published_records_break_no_rule() -> None:
    kinds: Counter[str] = Counter()
    for path in list(records.all_paths(PUBLISHED))[::EVERY]:
        record = records.read(path)
        run = Run.from_dict(record["run"])
        assert list(recomputed.problems(run, record, records.read_curves(path), None)) == [], path
        kinds[record["status"]] += 1
    assert kinds["ok"] > 100 and len(kinds) >= 3
