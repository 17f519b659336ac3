"""The rounds of a command: what is asked now, and what comes next when that is done. A plain grid has one."""

from collections.abc import Iterator
from pathlib import Path

from cl_semisup.results.snapshot import SuiteSnapshot
from cl_semisup.scheduling import budget
from cl_semisup.scheduling.scheduler import missing
from cl_semisup.search.outcomes import Outcomes
from cl_semisup.search.plan import plan
from cl_semisup.suite.run import Run
from cl_semisup.suite.suite import Suite
from cl_semisup.text import show


class Rounds:
    """The runs of a suite in rounds, each a list of those that are missing or to be made again.

    `data_dir` is that of the command line. With `redo`, a record that is to be made again decides nothing before.
    With `at_once`, for a command with a budget, rounds are small: what is worth most, at least so many runs.
    """

    def __init__(self, results: Path, suite: Suite, data_dir: str | None = None, redo: str = "none"):
        self.results, self.suite, self.data_dir, self.redo = results, suite, data_dir, redo
        self.at_once = 0
        self._scheduled: set[str] = set()  # runs of earlier rounds: none is given twice
        self._outcomes = Outcomes(results, suite.score, suite.data_dir, self._is_known)

    def snapshot(self) -> SuiteSnapshot:
        """The suite with the runs that are asked for now."""
        if not self.suite.in_rounds:
            return SuiteSnapshot.of(self.suite, self.data_dir)
        tune_repetitions = self.suite.tune_repetitions
        if self.suite.search:
            baseline = self.suite.baseline
            requested = plan(self.suite.runs, self.suite.search, self._outcomes, baseline, tune_repetitions).runs
        else:
            from cl_semisup.search import tuning  # imported here: it needs pandas, which takes half a second

            requested = tuning.requested(self.suite.runs, tune_repetitions, self._outcomes)
        return SuiteSnapshot.of(self.suite, self.data_dir, requested)

    def todo(self, snapshot: SuiteSnapshot) -> list[Run]:
        """The runs of this round."""
        requested = [run for run in snapshot.runs if run.id not in self._scheduled]
        return missing(self.results, requested, self.redo, snapshot.data_folder)

    def __iter__(self) -> Iterator[list[Run]]:
        """The rounds that are left; each is asked for when the one before is done."""
        number = 1
        while todo := self.todo(snapshot := self.snapshot()):
            if self.at_once:
                todo = budget.first_of(todo, self.at_once, self.suite.search, self._outcomes.validation_of)
            if self.suite.in_rounds:
                snapshot.save(self.results)
                share = 100 * len(snapshot.runs) / len(self.suite.runs)
                tuned = f"the choice of configs in {self.suite.tune_repetitions} repetitions"
                who = "the search" if self.suite.search else tuned
                show(f"Round {number}: {len(todo)} runs to do. So far {who} asks for {share:.0f} % of its grid.")
            self._scheduled |= {run.id for run in todo}
            yield todo
            number += 1
            if not self.suite.in_rounds and not self.at_once:
                return
        snapshot.save(self.results)

    def _is_known(self, run: Run) -> bool:
        return self.redo != "all" or run.id in self._scheduled
