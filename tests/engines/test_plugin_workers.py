"""A user's own loss may do anything to its process: other losses' runs stay as they are, and only its own run fails."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cl_semisup import plugins
from cl_semisup.engines import fork_server, pool
from cl_semisup.engines.local import LocalEngine
from cl_semisup.errors import InputError
from cl_semisup.execution import training_groups
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine
from cl_semisup.plugins import process_state
from cl_semisup.suite import suite
from cl_semisup.suite.run import Run

pytestmark = pytest.mark.skipif(not fork_server.uses_fork_server("cpu"), reason="workers are forked on Linux only")
LOSS = '''
import os, random
from dataclasses import dataclass
import torch
import torch.nn.functional as F
IMPORT

@dataclass(frozen=True)
class Own:
    """A user's own loss."""

    def __call__(self, z1, z2, labels=None):
        CALL
        return (z1 - z2).square().mean()
'''
SUITE = """\
question: Do losses stay apart?
datasets: digits
encoder: {mlp: {width: 8, layers: 1}}
losses: [own, nt_xent, dcl]
label_fraction: 0.1
learning_rate: 0.1
batch_size: 128
repetitions: 1
epochs: 1
score: knn_top1
probes: {linear: false, geometry: false}
validation: all
"""
MakeRuns = Callable[..., dict[str, Run]]
OTHERS = {"nt_xent", "dcl"}


@pytest.fixture
def make_runs(tmp_path: Path) -> Iterator[MakeRuns]:
    """`make_runs(call="...", imports="...")`: loss -> a run; the code runs in each call, or at import, of a user's loss."""
    before = dict(plugins._user_files)

    def make(call: str = "pass", imports: str = "") -> dict[str, Run]:
        (tmp_path / "own.py").write_text(
            LOSS.replace("CALL", call.replace("\n", "\n        ")).replace("IMPORT", imports)
        )
        plugins.load.cache_clear()
        plugins.add(tmp_path / "own.py")
        runs = suite.parse(SUITE, "s.yaml").runs
        return {next(iter(run.loss)): run for run in runs if run.epochs}

    yield make
    plugins._user_files.clear()
    plugins._user_files.update(before)
    process_state.environment_before.clear()
    process_state.added_folders.clear()
    plugins.load.cache_clear()
    plugins.version.cache_clear()


def execute(runs: dict[str, Run], tmp_path: Path, order: tuple[str, ...] = ("own", "nt_xent", "dcl")) -> dict[str, Any]:
    """Loss -> record, by one worker at a time, the user's own loss first."""
    engine = LocalEngine(Machine("cpu", "data"), 1, [tmp_path / "own.py"])
    done: dict[str, Any] = {}
    try:
        for name in order:
            engine.submit(training_groups.single_run(runs[name]))
        deadline = time.monotonic() + 100
        while len(done) < len(order) and time.monotonic() < deadline:
            for training, ((record, _),) in engine.results(1):
                name = next(iter(training.runs[0].loss))
                assert name not in done
                assert record["id"] == runs[name].id
                done[name] = record
    finally:
        engine.cancel()
    return done


def scores(record: dict[str, Any]) -> tuple[Any, ...]:
    return record["status"], record["scores"], record["diagnostics"], record["versions"]["machine"]


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, tuple[Any, ...]]:
    text = SUITE.replace("own, ", "")
    runs = {next(iter(run.loss)): run for run in suite.parse(text, "s.yaml").runs if run.epochs}
    executor = Executor(Machine("cpu", "data"))
    return {name: scores(executor(run)[0]) for name, run in runs.items()}


@pytest.mark.parametrize(
    "call",
    [
        "torch.set_default_dtype(torch.float64)",
        "torch._C._set_grad_enabled(False)",
        "F.normalize = lambda x, *a, **k: x * 0",
        "torch.set_num_threads(2); torch.use_deterministic_algorithms(True)",
        "torch.manual_seed(0); random.seed(0); torch.Tensor.mean = None",
        "os.chdir('/'); os.environ.clear()",
        "os._exit(0)",
    ],
)
def test_what_a_loss_does_to_its_process_reaches_no_other_loss(
    make_runs: MakeRuns,
    undisturbed: dict[str, tuple[Any, ...]],
    tmp_path: Path,
    call: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool, "MAX_ATTEMPTS", 2)
    done = execute(make_runs(call), tmp_path)
    assert {name: scores(done[name]) for name in OTHERS} == undisturbed


def test_a_loss_that_is_only_imported_for_its_own_runs_changes_no_other(
    make_runs: MakeRuns, undisturbed: dict[str, tuple[Any, ...]], tmp_path: Path
) -> None:
    """In the command's process it has been imported too, but that process trains nothing."""
    import torch

    poison = f"if os.getpid() != {os.getpid()}: torch.set_default_dtype(torch.float64)\nos.environ['CC'] = 'no-such-compiler'"
    folder = os.getcwd()
    done = execute(make_runs("pass", poison + "\nos.chdir('/')"), tmp_path, ("nt_xent", "own", "dcl"))
    os.environ.pop("CC", None)
    assert os.getcwd() == folder
    assert torch.get_default_dtype() == torch.float32
    assert {name: scores(done[name]) for name in OTHERS} == undisturbed
    assert {done[name]["resolved"].get("native") for name in OTHERS} == {done["nt_xent"]["resolved"].get("native")}


POISON = "torch.set_default_dtype(torch.float64); torch.Tensor.mean = None"
OF_EVERY_KIND = {  # kind -> (class body, what the suite says instead)
    "encoders": (
        "def build(self, channels, side):\n"
        "        net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(channels * side * side, 8))\n"
        "        net.dim = 8\n        CALL\n        return net.float()",
        ("{mlp: {width: 8, layers: 1}}", "own"),
    ),
    "optimizers": (
        "def build(self, weights, others):\n        CALL\n        return torch.optim.SGD([*weights, *others], lr=1.0)",
        ("epochs: 1", "epochs: 1\noptimizer: own"),
    ),
    "evaluation": (
        'scores = ("own",)\n\n    def measure(self, features):\n        CALL\n        return ProbeResult({"own": 1.0})',
        ("geometry: false", "geometry: false, own: {}"),
    ),
    "views": (
        'inputs = "images"\n\n    def view(self, images, draw):\n        CALL\n        return images / 2',
        ("epochs: 1", "epochs: 1\nviews: {crop_and_color: {}, own: {}}"),
    ),
    "datasets": (
        'views = {"noise": 0.1}\n\n    def load(self, data_dir):\n        CALL\n'
        "        x = np.random.default_rng(0).integers(0, 256, (300, 1, 8, 8), dtype=np.uint8)\n        y = np.arange(300) % 3\n"
        '        return Images(x, y, x, y, ("a", "b", "c"))',
        ("datasets: digits", "datasets: own"),
    ),
}
HEAD = """
import os
from dataclasses import dataclass
import numpy as np
import torch
from cl_semisup.data.images import Images
from cl_semisup.datasets import Generated
from cl_semisup.evaluation import ProbeResult

@dataclass(frozen=True)
class Own(BASE):
    \"\"\"A user's own.\"\"\"

    """


def execute_with(kind: str, call: str, tmp_path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The record of a run with a user's own plug-in of this kind, and that of the same run without it, by one worker."""
    body, (old, new) = OF_EVERY_KIND[kind]
    base = "Generated" if kind == "datasets" else "object"
    (tmp_path / "own.py").write_text((HEAD.replace("BASE", base) + body).replace("CALL", call))
    assert plugins.add(tmp_path / "own.py") == (kind, "own")
    text = SUITE.replace("[own, nt_xent, dcl]", "[nt_xent]")
    assert old in text
    first, second = (
        next(run for run in suite.parse(wanted, "s.yaml").runs if run.epochs)
        for wanted in (text.replace(old, new), text)
    )
    assert first.id != second.id
    engine, done = LocalEngine(Machine("cpu", "data"), 1, [tmp_path / "own.py"]), {}
    try:
        for run in (first, second):
            engine.submit(training_groups.single_run(run))
        deadline = time.monotonic() + 100
        while len(done) < 2 and time.monotonic() < deadline:
            done |= {training.runs[0].id: record for training, ((record, _),) in engine.results(1)}
    finally:
        engine.cancel()
    return done[first.id], done[second.id]


def require_gone(folder: Path) -> None:
    """Every process that has left a file named after it in the folder has ended, or ends soon."""
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{path.name[3:]}").exists() for path in folder.glob("pid*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("kind", OF_EVERY_KIND)
def test_no_kind_of_plug_in_reaches_the_runs_of_others(
    kind: str, undisturbed: dict[str, tuple[Any, ...]], tmp_path: Path, forget_plugins: None
) -> None:
    """Its file reaches the worker, which ends after its run; the next run, without it, is as ever.

    A copy of the worker that it makes ends where its code ends: it writes into the folder before and never after.
    """
    here = os.getpid()
    poison = f"if os.getpid() != {here}: os.fork(); open(f'{tmp_path}/pid{{os.getpid()}}', 'w').close(); {POISON}"
    own, without = execute_with(kind, poison, tmp_path)
    assert scores(without) == undisturbed["nt_xent"]
    assert own["versions"]["plugins"][f"{kind}.own"] == plugins.version(kind, "own")
    assert 2 <= len(list(tmp_path.glob("pid*"))) < 64  # one a call
    require_gone(tmp_path)


ONCE = "if not os.path.exists('{folder}/forked'):\n    open('{folder}/forked', 'w').close()\n    "


@pytest.mark.parametrize(
    "call",
    [ONCE + "os.fork()", ONCE + "if os.fork(): import time; time.sleep(0.2)", "os.fork()"],
)
def test_the_copies_of_a_loss_that_forks_answer_nothing_and_end(
    make_runs: MakeRuns, undisturbed: dict[str, tuple[Any, ...]], tmp_path: Path, call: str
) -> None:
    pids = f"\nopen(f'{tmp_path}/pid{{os.getpid()}}', 'w').close()"
    done = execute(make_runs(call.format(folder=tmp_path) + pids), tmp_path)
    assert {name: scores(done[name]) for name in OTHERS} == undisturbed
    assert done["own"]["status"] in ("ok", "collapsed"), done["own"]["reason"]
    assert len(list(tmp_path.glob("pid*"))) < 64  # a copy a step; if copies trained on, 2 to the power of the steps
    require_gone(tmp_path)


def test_what_a_plug_in_prints_shows_control_characters_as_escapes(
    make_runs: MakeRuns, capsys: pytest.CaptureFixture[str]
) -> None:
    """At import and in its calls; what others print meanwhile does not change."""
    prints = "import sys\nprint('\\x1b[2J{0}'); sys.stderr.writelines(['\\x9b1m{0}'])"
    runs = make_runs(prints.format("called"), prints.format("imported"))
    record, _ = Executor(Machine("cpu", "data"))(runs["own"])
    assert record["status"] != "failed", record["reason"]
    out, err = capsys.readouterr()
    for word in ("imported", "called"):
        assert f"\\x1b[2J{word}\n" in out
        assert f"\\x9b1m{word}" in err
    assert not {"\x1b", "\x9b"} & {*out, *err}
    print("\x1b")
    assert capsys.readouterr().out == "\x1b\n"


@pytest.mark.parametrize(
    "garbage",
    [
        "b'garbage'",  # read as a length it is 1.7 GB
        "b'\\0\\0\\0\\1x'",
        "os.urandom(300000)",
        "pickle.dumps((1, 2))",
    ],
)
def test_a_worker_that_sends_what_is_no_answer_fails_its_run_alone(
    make_runs: MakeRuns,
    undisturbed: dict[str, tuple[Any, ...]],
    tmp_path: Path,
    garbage: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool, "MAX_ATTEMPTS", 2)
    write = f"""import pickle, sys
frame = sys._getframe()
while "pipe" not in frame.f_locals:
    frame = frame.f_back
os.write(frame.f_locals["pipe"].fileno(), {garbage})"""
    done = execute(make_runs(write), tmp_path)
    assert {name: scores(done[name]) for name in OTHERS} == undisturbed
    assert done["own"]["status"] == "failed"
    assert done["own"]["reason"].endswith("died 2 times, the last time by bytes in its pipe that are no answer")


def test_bytes_written_to_every_file_of_a_worker_reach_no_other_worker(
    make_runs: MakeRuns, undisturbed: dict[str, tuple[Any, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "MAX_ATTEMPTS", 2)
    write = """for descriptor in range(3, 100):
    try: os.write(descriptor, b"garbage")
    except OSError: pass"""
    done = execute(make_runs(write), tmp_path)
    assert {name: scores(done[name]) for name in OTHERS} == undisturbed
    assert done["own"]["reason"].endswith("died 2 times, the last time by bytes in its pipe that are no answer")
    again = execute(make_runs(), tmp_path)  # by the same server
    assert {name: scores(again[name]) for name in OTHERS} == undisturbed


@pytest.mark.parametrize(
    "start",
    [
        "os.system('sleep 150 &')",
        "import subprocess; subprocess.Popen(['sleep', '150'], start_new_session=True, close_fds=False)",
        # without Python's own fork, after which the copy would end with the worker
        "import ctypes; ctypes.CDLL(None).fork() or (ctypes.CDLL(None).setsid(), ctypes.CDLL(None).sleep(150))",
    ],
)
@pytest.mark.timeout(200)
def test_what_a_dead_worker_has_started_is_not_waited_for(
    make_runs: MakeRuns,
    undisturbed: dict[str, tuple[Any, ...]],
    tmp_path: Path,
    start: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool, "MAX_ATTEMPTS", 2)
    began = time.monotonic()
    done = execute(make_runs(f"{start}\nos.kill(os.getpid(), 9)"), tmp_path)
    assert time.monotonic() - began < 120
    assert {name: scores(done[name]) for name in OTHERS} == undisturbed
    assert "died 2 times, the last time by signal SIGKILL" in done["own"]["reason"]


def test_a_loss_may_start_processes_of_its_own(make_runs: MakeRuns, tmp_path: Path) -> None:
    call = "import multiprocessing; multiprocessing.get_context('spawn').Lock()"  # known to multiprocessing's tracker
    done = execute(make_runs(call), tmp_path)
    assert done["own"]["status"] == "ok", done["own"]


@pytest.mark.parametrize(
    "call",
    [
        "raise KeyboardInterrupt",
        "raise GeneratorExit('now')",
        "raise SystemExit(3)",
        "raise type('Own', (BaseException,), {})",
    ],
)
def test_whatever_a_loss_raises_fails_its_run_alone(
    make_runs: MakeRuns, undisturbed: dict[str, tuple[Any, ...]], tmp_path: Path, call: str
) -> None:
    done = execute(make_runs(call), tmp_path)
    assert {name: scores(done[name]) for name in OTHERS} == undisturbed
    assert done["own"]["status"] == "failed"
    assert done["own"]["reason"].split(":")[0] in ("KeyboardInterrupt", "GeneratorExit", "SystemExit", "Own")


def test_a_loss_that_replaces_a_built_in_function_fails_its_run_alone_and_is_told(
    make_runs: MakeRuns, undisturbed: dict[str, tuple[Any, ...]], tmp_path: Path
) -> None:
    done = execute(make_runs("import builtins; builtins.isinstance = lambda *_: 1 / 0; isinstance(1, int)"), tmp_path)
    assert {name: scores(done[name]) for name in OTHERS} == undisturbed
    assert done["own"]["status"] == "failed"
    assert done["own"]["reason"].startswith("ZeroDivisionError")


@pytest.mark.parametrize(
    "error", ["KeyboardInterrupt", "SystemExit(0)", "GeneratorExit", "type('E', (BaseException,), {})"]
)
def test_whatever_a_file_raises_when_imported_is_told_with_its_line(tmp_path: Path, error: str) -> None:
    (tmp_path / "own.py").write_text(f"\nraise {error}\n" + LOSS.replace("IMPORT", "").replace("CALL", "pass"))
    with pytest.raises(InputError, match=r"own.py:2: the plug-in cannot be loaded. \w+: \w+"):
        plugins.add(tmp_path / "own.py")


def test_a_loss_that_cannot_be_imported_in_a_worker_fails_its_run_alone(
    make_runs: MakeRuns, undisturbed: dict[str, tuple[Any, ...]], tmp_path: Path
) -> None:
    done = execute(make_runs("pass", f"if os.getpid() != {os.getpid()}: raise KeyboardInterrupt"), tmp_path)
    assert {name: scores(done[name]) for name in OTHERS} == undisturbed
    assert "own.py:6: the plug-in cannot be loaded. KeyboardInterrupt" in done["own"]["reason"]


def test_an_answer_to_another_training_or_of_another_process_is_none(make_runs: MakeRuns) -> None:
    import pickle

    from cl_semisup.engines import worker_main
    from cl_semisup.engines.worker import LocalWorker, WorkerLost

    runs = make_runs()
    asked = runs["dcl"].id
    for process, training, results in ((None, "another", ()), (1, asked, ()), (None, asked, None), (None, asked, "x")):
        worker = LocalWorker(Machine("cpu", "data"), ())
        assert worker.receive() is not None
        worker.training = training_groups.single_run(runs["dcl"])
        ours, theirs = worker.pipe, os.pipe()
        content = pickle.dumps(worker_main.Answer(process or worker.process.pid or 0, training, results))
        os.write(theirs[1], worker._token + len(content).to_bytes(8) + content)
        os.dup2(theirs[0], ours.fileno())
        with pytest.raises(WorkerLost, match="an answer that nobody has asked for"):
            worker.receive()
        worker.kill()
