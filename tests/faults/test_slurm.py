"""The batch script on a real SLURM: its tasks share the work, are pre-empted, wait in the queue and go on."""

import subprocess
import sys
from pathlib import Path

import pytest

from cl_semisup.engines.local import LocalEngine
from cl_semisup.execution.machine import Machine
from cl_semisup.results import records
from cl_semisup.scheduling import scheduler
from cl_semisup.suite import suite
from tests.faults import slurm
from tests.faults.slurm import Slurm
from tests.faults.tables import table

ROOT = Path(__file__).parents[2]
TINY = Path(__file__).with_name("tiny.yaml")


@pytest.mark.timeout(900)  # a few minutes of waiting, some of processing
@pytest.mark.skipif(bool(slurm.missing()), reason=slurm.missing())
def test_pre_empted_tasks_go_on_and_the_leaderboard_is_that_of_one_machine(tmp_path: Path) -> None:
    there, here, batch = tmp_path / "there", tmp_path / "here", tmp_path / "array.sh"
    command = [sys.executable, "benchmark.py", str(TINY), "--results", str(there), "--workers", "2", "--print-sbatch"]
    batch.write_text(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)

    def done() -> int:
        return len(list(records.all_paths(there)))

    (tmp_path / "slurm").mkdir()
    with Slurm(tmp_path / "slurm") as cluster:
        array = cluster.call("sbatch", "--parsable", "--partition=low", str(batch)).strip()
        cluster.until(lambda: done() >= 2)
        urgent = cluster.call(
            "sbatch", "--parsable", "--partition=high", "--exclusive", "--wrap=true", "--output=/dev/null"
        )
        cluster.until(lambda: urgent.strip() not in cluster.call("squeue", "--noheader", "--format=%i"))
        before = done()
        states = cluster.call("squeue", "--noheader", "--array", "--format=%i %T").splitlines()
        assert states == [f"{array}_0 PENDING", f"{array}_1 PENDING"]
        cluster.start_now()
        cluster.until(lambda: not cluster.call("squeue", "--noheader"))
    runs = suite.read(TINY).runs
    assert before < done() == len(runs)
    for log in (there / "tiny").glob("slurm-*.log"):
        assert "DUE TO PREEMPTION" in log.read_text()
        assert "Stopped by SIGTERM. Finished runs are kept" in log.read_text()
    scheduler.run_all(here, list(runs), LocalEngine(Machine("cpu", "data"), 2))
    report = [sys.executable, "benchmark.py", "report", str(TINY), "--results", str(here)]
    subprocess.run(report, cwd=ROOT, check=True, capture_output=True)
    assert table(there) == table(here)
