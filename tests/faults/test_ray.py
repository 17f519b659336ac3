"""A real Ray cluster of several nodes: workers and nodes die, commands are stopped, and records stay the same."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ray", reason="Ray is not installed: pip install 'cl-semisup[ray]'")

from ray.cluster_utils import Cluster

from cl_semisup.engines import pool, ray_engine
from cl_semisup.engines.local import LocalEngine
from cl_semisup.engines.ray_engine import RayEngine
from cl_semisup.errors import EngineError
from cl_semisup.execution import data, stop
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine, Need
from cl_semisup.results import records
from cl_semisup.scheduling import scheduler
from cl_semisup.suite import suite
from cl_semisup.suite.run import Run
from tests.faults.tables import table

pytestmark = [
    pytest.mark.timeout(900),  # nodes and workers take seconds to start, on a busy machine minutes
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Ray leaves the logs of its nodes open
]
ROOT = Path(__file__).parents[2]
FAULTY = Path(__file__).with_name("faulty.py")
TINY = Path(__file__).with_name("tiny.yaml")
STEPS = 88
MakeRun = Callable[..., Run]


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where workers count their faults; set before nodes start."""
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def cluster(faults: Path) -> Iterator[Cluster]:
    """A head without room for runs, and two nodes of one CPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAULTS", str(faults))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # else tests that run beside these take the whole CPU
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        for _ in range(2):
            cluster.add_node(num_cpus=1)
    yield cluster
    ray_engine.ray.shutdown()
    cluster.shutdown()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del cluster
        gc.collect()


@pytest.fixture
def engine(cluster: Cluster, machine: Machine, faults: Path) -> Iterator[Callable[..., RayEngine]]:
    """`engine(limit=3)`: the cluster, with the faulty loss as a plug-in and no fault counted yet."""
    for file in faults.iterdir():
        file.unlink()
    engines = []

    def make(**options: Any) -> RayEngine:
        ray_engine.connect(cluster.address)
        engines.append(RayEngine(machine, Need(1, 0), plugin_files=[FAULTY], **options))
        return engines[-1]

    yield make
    for one in engines:
        one.cancel()


def calls(faults: Path) -> int:
    return (faults / "calls").stat().st_size if (faults / "calls").exists() else 0


def comparable(results: Path, run: Run) -> dict[str, Any]:
    """All that must be the same wherever a run was executed."""
    path = records.path_of(results, run)
    return _same(records.read(path), records.read_curves(path))


def undisturbed(run: Run) -> dict[str, Any]:
    (Path(os.environ["FAULTS"]) / "faults").write_bytes(b"." * 1000)  # no fault is left to happen here
    return _same(*Executor(Machine("cpu", "data"))(run))


def _same(record: dict[str, Any], curves: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in records.OF_ONE_ATTEMPT} | curves


def test_a_killed_worker_is_replaced_and_its_run_goes_on_from_the_fetched_state(
    tmp_path: Path, faulty_run: MakeRun, engine: Callable[..., RayEngine], faults: Path
) -> None:
    run, results = faulty_run("kill", at=30), tmp_path / "results"
    assert scheduler.run_all(results, [run], engine()).statuses == {"ok": 1}
    assert STEPS < calls(faults) < STEPS + 25
    assert comparable(results, run) == undisturbed(run)
    assert not list((results / "checkpoints").iterdir())


def test_sigterm_fetches_states_and_the_next_start_goes_on_to_the_bit(
    tmp_path: Path, faulty_run: MakeRun, engine: Callable[..., RayEngine], machine: Machine, faults: Path
) -> None:
    run, results = replace(faulty_run("none"), epochs=40), tmp_path / "results"  # long enough to be stopped on its way
    object.__setattr__(machine, "checkpoint_seconds", 1e9)  # only the signal makes it save a state

    def send_sigterm() -> None:
        while calls(faults) < 10:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=send_sigterm).start()
    with pytest.raises(stop.Stopped) as stopped:
        scheduler.run_all(results, [run], engine())
    assert stopped.value.exit_code == 143
    assert len(list((results / "checkpoints").iterdir())) == 1
    scheduler.run_all(results, [run], engine())
    assert 5 * STEPS <= calls(faults) < 5 * STEPS + 10  # its verdict computes a few losses more
    assert comparable(results, run) == undisturbed(run)


def test_a_run_that_takes_too_long_or_kills_every_worker_has_failed(
    tmp_path: Path,
    faulty_run: MakeRun,
    engine: Callable[..., RayEngine],
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool, "MAX_ATTEMPTS", 2)
    object.__setattr__(machine, "checkpoint_seconds", 1e9)
    slow, deadly, results = faulty_run("hang"), faulty_run("kill", at=1, times=1000), tmp_path / "results"
    assert scheduler.run_all(results, [slow], engine(limit=3)).statuses == {"failed": 1}
    assert records.read(records.path_of(results, slow))["reason"] == "took longer than the limit of 3 s"
    assert scheduler.run_all(results, [deadly], engine()).statuses == {"failed": 1}
    reason = records.read(records.path_of(results, deadly))["reason"]
    assert reason.startswith("the worker process died 2 times, the last time by")


def test_code_and_data_reach_workers_without_a_shared_folder(
    tmp_path: Path, cluster: Cluster, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.npz"
    draw = np.random.default_rng(0)
    images, labels = draw.integers(0, 256, (40, 1, 8, 8), dtype=np.uint8), np.arange(40) % 2
    np.savez(file, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    text = f"{{question: Mine, datasets: {{arrays: {{file: {file.name}}}}}, encoder: mlp, losses: nt_xent, epochs: 1,"
    text += " label_fraction: 1.0, learning_rate: 0.1, batch_size: 16, repetitions: 1}"
    run = suite.parse(text, "s.yaml", str(tmp_path)).runs[-1]
    machine = replace(machine, data_dir=str(tmp_path))
    expected, read = _same(*Executor(machine)(run)), data.load_images

    def read_and_remove(named: Any, data_dir: str) -> Any:
        images = read(named, data_dir)
        file.unlink()
        return images

    monkeypatch.setattr(data, "load_images", read_and_remove)
    ray_engine.connect(cluster.address)

    @ray_engine.ray.remote
    def where() -> str:
        import cl_semisup

        return cl_semisup.__file__

    assert not Path(ray_engine.ray.get(where.remote())).is_relative_to(ROOT)
    scheduler.run_all(tmp_path / "results", [run], RayEngine(machine, Need(0.5, 0)))
    assert comparable(tmp_path / "results", run) == expected


def command(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "benchmark.py", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_ctrl_c_and_a_node_killed_in_the_middle_leave_the_leaderboard_of_the_local_engine(
    tmp_path: Path, cluster: Cluster
) -> None:
    lost = cluster.add_node(num_cpus=1)
    there, here = tmp_path / "there", tmp_path / "here"
    arguments = (str(TINY), "--results", str(there), "--engine", "ray", "--address", cluster.address)

    def until(count: int, process: subprocess.Popen[str]) -> None:
        while len(list(records.all_paths(there))) < count and process.poll() is None:
            time.sleep(0.1)

    process = command(*arguments)
    until(1, process)
    os.killpg(process.pid, signal.SIGINT)
    output = process.communicate(timeout=200)[0]
    assert process.returncode == 130, output
    assert "Traceback" not in output
    before = len(list(records.all_paths(there)))
    process = command(*arguments)
    until(before + 2, process)
    cluster.remove_node(lost, allow_graceful=False)  # by SIGKILL
    output = process.communicate(timeout=400)[0]
    assert process.returncode == 0, output
    scheduler.run_all(here, list(suite.read(TINY).runs), LocalEngine(Machine("cpu", "data"), 2))
    report = command("report", str(TINY), "--results", str(here))
    assert report.wait(60) == 0, report.communicate()[0]
    assert table(there) == table(here)
    for run in suite.read(TINY).runs:
        assert comparable(there, run) == comparable(here, run)


def test_a_need_that_no_node_can_meet_is_refused_at_once(tmp_path: Path, cluster: Cluster) -> None:
    arguments = (str(TINY), "--results", str(tmp_path), "--engine", "ray", "--address", cluster.address)
    process = command(*arguments, "--run-cpus", "2")
    output = process.communicate(timeout=200)[0]
    assert process.returncode == 2, output
    rule = (
        "--run-cpus, --run-gpus: a run must fit on one node. Got a need of 2 CPU, and nodes of 0 CPU and 0 GPU, 1 CPU"
    )
    assert rule in output


def test_an_address_where_nobody_listens_is_refused_at_once() -> None:
    with pytest.raises(EngineError, match=r"--address: no Ray cluster can be used. Got '127.0.0.1:1': .*refused"):
        ray_engine.connect("127.0.0.1:1")


def test_slots_are_counted_node_by_node() -> None:
    nodes = [{"Resources": {"CPU": 4.0, "GPU": 1.0}}, {"Resources": {"CPU": 16.0}}]
    assert ray_engine.count_slots(nodes, Need(1, 0)) == 20
    assert ray_engine.count_slots(nodes, Need(1, 0.25)) == 4
    assert ray_engine.count_slots(nodes, Need(0.1, 0.1)) == 10
    assert ray_engine.count_slots(nodes, Need(1, 2)) == 0
