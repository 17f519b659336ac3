"""What finished runs say: their records, as far as a decision may rest on them.

A record that is stale or that failed decides nothing: its run counts as open, and the search waits for it.
"""

import math
from collections.abc import Callable
from pathlib import Path

from cl_semisup.results import protocol, records
from cl_semisup.results.data_hashes import DataHashes
from cl_semisup.results.validation import validation_score
from cl_semisup.search.edges import Outcome
from cl_semisup.suite.run import Run

Known = Callable[[Run], bool]  # may this run's record be used? not if it is about to be made again


class Outcomes:
    """Reads the records of a search's runs, each once while it can be used."""

    def __init__(self, results: Path, score: str, data_dir: str, known: Known = lambda run: True):
        self.results, self.score, self.data, self.known = results, score, DataHashes(data_dir), known
        self._records: dict[str, records.Record] = {}
        self._outcomes: dict[str, Outcome] = {}

    def record(self, run: Run) -> records.Record | None:
        """A run's record; None if there is none to rest a decision on."""
        if not self.known(run):
            return None
        if run.id not in self._records:
            path = records.path_of(self.results, run)
            if not records.exists(path):
                return None
            record = records.read(path)
            if record["status"] == "failed" or protocol.stale_parts(record, self.data):
                return None
            self._records[run.id] = record
        return self._records[run.id]

    def is_done(self, run: Run) -> bool:
        """Whether a run has a record that counts on leaderboards; a failed one counts too, as a missing score."""
        path = records.path_of(self.results, run)
        if not self.known(run) or not records.exists(path):
            return False
        return self.record(run) is not None or not protocol.stale_parts(records.read(path), self.data)

    def score_of(self, run: Run) -> float | None:
        """A run's score; chance for a diverged one, as on leaderboards. None while that is not known."""
        return self._named(run, self.score)

    def validation_of(self, run: Run) -> float | None:
        """A run's validation score, by which leaderboards tune; chance for a diverged one."""
        return self._named(run, validation_score(self.score, run.validated_by))

    def _named(self, run: Run, score: str) -> float | None:
        record = self.record(run)
        if record is None:
            return None
        return _chance(record) if record["status"] == "diverged" else float(record["scores"].get(score, math.nan))

    def outcome(self, run: Run) -> Outcome | None:
        """How a trained run did beside the untrained network of its repetition; None while either is not known."""
        if run.id not in self._outcomes and (outcome := self._judge(run)) is not None:
            self._outcomes[run.id] = outcome
        return self._outcomes.get(run.id)

    def _judge(self, run: Run) -> Outcome | None:
        record, floor = self.record(run), self.record(run.untrained())
        if record is None or floor is None:
            return None
        if record["status"] != "ok":
            return Outcome(record["status"])
        score, floor_score = (float(one["scores"].get(self.score, math.nan)) for one in (record, floor))
        if math.isnan(score - floor_score):
            return None
        return Outcome("ok", score - _chance(record), score - floor_score)


def _chance(record: records.Record) -> float:
    classes = record["resolved"].get("classes")
    return 1 / classes if classes else 0.0
