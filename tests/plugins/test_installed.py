"""Packages offer plug-ins by entry points; here a package is two folders on sys.path, without pip."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from cl_semisup import cli, contract, plugins
from cl_semisup.config import grid
from cl_semisup.engines.local import LocalEngine
from cl_semisup.errors import InputError
from cl_semisup.execution import training_groups
from cl_semisup.execution.machine import Machine
from cl_semisup.execution.training_groups import Finished
from cl_semisup.plugins import modules
from cl_semisup.results import protocol
from cl_semisup.suite import suite

pytestmark = pytest.mark.usefixtures("forget_plugins")

LOSS = '''
from dataclasses import dataclass
from .shared import mark

mark("loss")

@dataclass(frozen=True)
class Pull:
    """Views attract each other.

    Args:
        weight: of it
    """

    weight: float = 1.0

    def __call__(self, z1, z2, labels=None):
        return self.weight * (z1 - z2).square().mean()
'''
PARTS = '''
from dataclasses import dataclass
from cl_semisup.evaluation import ProbeResult

class Above:
    def measure(self, features):
        return ProbeResult({"ones": 1.0})

@dataclass(frozen=True)
class Ones(Above):
    """Always one."""

    scores = ("ones",)

@dataclass(frozen=True)
class Darker:
    """Half as bright."""

    inputs = "images"

    def view(self, images, draw):
        return images / 2
'''
SUITE = """\
question: Do installed plug-ins run?
datasets: digits
encoder: {mlp: {width: 8, layers: 1}}
losses: pull
learning_rate: 0.1
batch_size: 128
repetitions: 1
epochs: 1
score: ones
probes: {ones: {}, linear: false, geometry: false, knn: false}
views: {darker: {}}
validation: all
"""
POINTS = "pull = demo.losses\nones = demo.parts:Ones\ndarker = demo.parts:Darker\n"
Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """`install(points, name)`: a package with these entry points is found by this process and those that it starts."""
    home = tmp_path / "site"
    monkeypatch.syspath_prepend(home)

    def make(points: str = POINTS, name: str = "demo") -> Path:
        (home / name).mkdir(parents=True, exist_ok=True)
        (home / name / "__init__.py").write_text("")
        mark = f"def mark(what):\n    __import__('pathlib').Path({str(tmp_path)!r}, 'ran_' + what).touch()\n"
        (home / name / "shared.py").write_text(mark)
        (home / name / "losses.py").write_text(LOSS)
        (home / name / "parts.py").write_text(PARTS)
        info = home / f"{name}-1.2.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[cl_semisup.plugins]\n{points}")
        forget()
        return home

    yield make
    forget()
    for module in [module for module in sys.modules if module.partition(".")[0] in ("demo", "other")]:
        del sys.modules[module]


def forget() -> None:
    plugins.installed.found.cache_clear()
    modules.file_of.cache_clear()
    plugins.load.cache_clear()
    plugins.version.cache_clear()
    plugins._installed_files.clear()


def test_an_installed_plug_in_is_known_by_its_name_and_imported_when_it_is_used(
    install: Install, tmp_path: Path
) -> None:
    install()
    assert "pull" in plugins.names("losses")
    assert "ones" in plugins.names("evaluation")
    assert "darker" in plugins.names("views")
    assert plugins.summary("losses", "pull") == "Views attract each other."
    assert plugins.summary("views", "darker") == "Half as bright."
    assert plugins.origin("losses", "pull") == "demo 1.2"
    assert plugins.origin("losses", "clop") == ""
    assert plugins.is_users_own("losses", "pull")
    version = plugins.version("losses", "pull")
    assert not (tmp_path / "ran_loss").exists()
    assert plugins.load("losses", "pull").__module__ == "demo.losses"
    assert plugins.load("evaluation", "ones").__name__ == "Ones"
    assert (tmp_path / "ran_loss").exists()
    assert plugins.version("losses", "pull") == version


def test_its_version_is_the_hash_of_its_file_as_of_a_users_own(install: Install, tmp_path: Path) -> None:
    home = install()
    (tmp_path / "mine.py").write_text(LOSS)
    plugins.register(tmp_path / "mine.py")
    version = plugins.version("losses", "pull")
    assert plugins.version("losses", "mine") == version
    (home / "demo" / "losses.py").write_text(LOSS.replace("1.0", "2.0"))
    forget()
    assert plugins.version("losses", "pull") not in (version, plugins.MISSING)


def test_the_version_of_an_imported_module_is_that_of_the_code_that_runs(install: Install) -> None:
    home = install()
    version = plugins.version("losses", "pull")
    plugins.load("losses", "pull")
    (home / "demo" / "losses.py").write_text(LOSS.replace("1.0", "2.0"))
    plugins.version.cache_clear()
    assert plugins.version("losses", "pull") == version


def test_list_says_where_each_comes_from(install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install()
    (tmp_path / "mine.py").write_text(LOSS.replace("from .shared import mark", "mark = print"))
    assert cli.main(["list", "--plugin", str(tmp_path / "mine.py")]) == 0
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if line.endswith("Views attract each other. (from demo 1.2)")]
    assert [line for line in out.splitlines() if line.endswith(f"Views attract each other. (from {tmp_path}/mine.py)")]
    assert f"  ones{' ' * 11}" in out
    heads = [line.rstrip(":") for line in out.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert list(dict.fromkeys(head.partition(",")[0] for head in heads)) == [
        "losses",
        "datasets",
        "encoders",
        "optimizers",
        "probes",
        "views",
        "suites",
    ]


def test_a_worker_finds_it_by_itself(install: Install) -> None:
    install()
    runs = suite.parse(SUITE, "s.yaml").runs
    run = next(run for run in runs if run.epochs)
    assert run.views == [{"darker": {}}]
    engine = LocalEngine(Machine("cpu", "data"), 1)
    try:
        engine.submit(training_groups.single_run(run))
        done: list[Finished] = []
        deadline = time.monotonic() + 100
        while not done and time.monotonic() < deadline:
            done = engine.results(1)
    finally:
        engine.cancel()
    ((_, ((record, _),)),) = done
    assert record["status"] in ("ok", "collapsed"), record["reason"]
    assert record["scores"]["ones"] == 1.0
    assert record["versions"]["plugins"]["losses.pull"] == plugins.version("losses", "pull")


def test_runs_with_an_installed_plug_in_are_isolated(install: Install) -> None:
    install()
    text = (Path(__file__).parents[1] / "tiny.yaml").read_text("utf-8")
    plain = suite.parse(text, "s.yaml").runs
    assert not protocol.uses_users_own(plain)  # a probe that is installed is no default
    assert protocol.uses_users_own(suite.parse(text + "probes: {ones: {}}\n", "s.yaml").runs)
    assert protocol.uses_users_own(suite.parse(text + "views: {darker: {}}\n", "s.yaml").runs)


def test_the_contract_finds_an_installed_one(install: Install) -> None:
    install()
    results = {result.clause: result.outcome for result in contract.check("views", "darker")}
    assert set(results.values()) == {"ok"}


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ("clop = demo.losses", "demo 1.2: the loss 'clop' exists already. Uninstall that package."),
        ("pull = demo.none", "demo 1.2: entry point 'pull' of cl_semisup.plugins: must name a module of Python code."),
        ("my-loss = demo.losses", "entry point 'my-loss' of cl_semisup.plugins: its name is the plug-in's."),
        ("pull = demo.shared", "shared.py: a plug-in holds one public dataclass. Got 0: []."),
        ("pull = demo.parts", "parts.py: a plug-in holds one public dataclass. Got 2: ['Ones', 'Darker']."),
        ("pull = demo.parts:None_", "parts.py: a plug-in holds a public dataclass None_. Got 0: []."),
    ],
)
def test_what_cannot_be_used_is_told(install: Install, points: str, message: str) -> None:
    install(points)
    with pytest.raises(InputError) as caught:
        plugins.names("losses")
    assert message in str(caught.value)


def test_two_packages_with_one_name_are_told(install: Install) -> None:
    install()
    install("pull = other.losses", "other")
    with pytest.raises(InputError, match=r"the loss 'pull' is in (demo|other) 1.2 too. Uninstall one of the two."):
        plugins.names("losses")


def test_a_users_file_of_the_same_name_is_told(install: Install, tmp_path: Path) -> None:
    install()
    (tmp_path / "pull.py").write_text(dedent(LOSS))
    with pytest.raises(InputError, match=r"the loss 'pull' exists already \(demo 1.2\). Rename the file."):
        plugins.register(tmp_path / "pull.py")


def test_an_error_in_its_module_is_told_with_its_line(install: Install) -> None:
    home = install()
    (home / "demo" / "losses.py").write_text(LOSS.replace('mark("loss")', "1 / 0"))
    with pytest.raises(InputError, match=r"losses.py:5: the plug-in cannot be loaded. ZeroDivisionError"):
        grid.build("losses", "pull", {})
