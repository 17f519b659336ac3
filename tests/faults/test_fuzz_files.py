"""What is no regular file may stand in any place of a results folder, of data or of the cache: it is told at once.

The long form: python benchmarks/fuzz.py files
"""

import contextlib
import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from PIL import Image

from cl_semisup import cli, plugins
from cl_semisup.datasets.arrays import Arrays
from cl_semisup.datasets.image_folder import ImageFolder
from cl_semisup.errors import InputError, ResultsError
from cl_semisup.execution import training_groups
from cl_semisup.gate import reference
from cl_semisup.results import data_hashes, records, snapshot
from cl_semisup.results.snapshot import SuiteSnapshot
from cl_semisup.scheduling import cleanup
from cl_semisup.scheduling.claims import Claims
from cl_semisup.suite import suite
from cl_semisup.suite.suite import Suite
from cl_semisup.system import owner, stamps
from cl_semisup.training.checkpoint import Checkpoint
from tests.helpers.fuzzing import fuzz, hidden
from tests.helpers.records import curves, write
from tests.system.test_files import SPECIAL

OTHERS = "of somebody else"


def _sparse(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(2**42)  # without taking room


def _loop(path: Path) -> None:
    other = path.with_name(f"{path.name}.loop")
    other.unlink(missing_ok=True)
    path.symlink_to(other.name)
    other.symlink_to(path.name)


KINDS: dict[str, Callable[[Path], object]] = SPECIAL | {
    "sparse": _sparse,
    "link loop": _loop,
    "link to a sparse file": lambda path: (_sparse(path.with_name("big")), path.symlink_to("big")),
    "link to /proc": lambda path: path.symlink_to("/proc/self/environ"),
    "link to a terminal": lambda path: path.symlink_to("/dev/tty"),
    "link to its folder": lambda path: path.symlink_to("."),
    "empty": Path.touch,
    "not UTF-8": lambda path: path.write_bytes(b"\xff\xfe\x00{"),
    "unreadable": lambda path: (path.touch(), path.chmod(0)),
}


TEXT = """\
question: Is every place safe?
datasets: digits
encoder: {mlp: {width: 16, layers: 1}}
losses: nt_xent
label_fraction: 0.1
learning_rate: 0.1
batch_size: 128
repetitions: 1
epochs: 1
validation: all
"""


class World:
    """A finished suite with data, a state, a lease and a cache folder of its own; what is outside is somebody else's."""

    def __init__(self, folder: Path, asked: Suite):
        self.folder, self.results, self.data = folder, folder / "results", folder / "data"
        self.asked, self.run = asked, asked.runs[-1]
        self.state = self.results / "checkpoints" / f"{training_groups.group([self.run])[0].id}.pt"

    def make(self) -> None:
        for run in self.asked.runs:
            write(self.results, run, curves=curves(5, 5))
        SuiteSnapshot.of(self.asked).save(self.results)
        Checkpoint(self.state, interval=0, key=owner.key()).save({"step": 1})
        (self.results / "claims").mkdir(exist_ok=True)
        (self.folder / "outside").mkdir(exist_ok=True)
        (self.folder / "outside" / "a.json").write_text(OTHERS)
        (self.folder / "reference.json").write_text("{}")
        (self.folder / "mine.py").write_text("")
        self._make_data()

    def _make_data(self) -> None:
        pixels, labels = np.zeros((4, 4, 4), np.uint8), np.arange(4) % 2
        for part in ("train", "test"):
            for name in ("a", "b"):
                (self.data / "images" / part / name).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels[0]).save(self.data / "images" / part / name / "1.png")
        np.savez(self.data / "a.npz", train_images=pixels, train_labels=labels, test_images=pixels, test_labels=labels)

    def places(self) -> dict[str, Path]:
        record = records.path_of(self.results, self.run)
        places = {
            "record": record,
            "curves": records.curves_path(record),
            "snapshot": self.results / "s" / "suite.json",
            "lease": self.results / "claims" / f"{self.state.stem}.0.lease",
            "state": self.state,
            "table": self.results / "s" / "leaderboard.csv",
            "suite": self.folder / "s.yaml",
            "plug-in": self.folder / "mine.py",
            "reference": self.folder / "reference.json",
            "archive": self.data / "a.npz",
            "image": self.data / "images" / "train" / "a" / "1.png",
            "class folder": self.data / "images" / "test" / "b",
            "train": self.data / "images" / "train",
            "key": self.folder / "cache" / "cl_semisup" / "key",
            "half-written": record.with_name(f".tmp-{record.stem}.0"),
        }
        if cache := next(self.data.glob("images/.cl_semisup-*"), None):
            places["pixel cache"] = cache
        if kept := next((self.folder / "cache" / "cl_semisup").glob("data/*/*.json"), None):
            places["data hash"] = kept
        return places

    def actions(self) -> list[Callable[[], Any]]:
        """Everything that reads or writes these places."""
        path, images = records.path_of(self.results, self.run), ImageFolder("images", side=4)
        named: dict[str, dict[str, Any]] = {"arrays": {"file": "a.npz"}}
        claims = Claims(self.results)
        file = self.folder / "s.yaml"
        untouched = file.is_file() and file.stat().st_size == len(TEXT)  # reading the same text each time is slow
        return [
            *([] if untouched else [lambda: suite.read(file)]),
            lambda: records.read(path),
            lambda: records.read_curves(path),
            lambda: records.failures(self.results, self.asked.runs),
            lambda: records.read_all(self.results, self.asked.runs),
            lambda: snapshot.load(self.results, "s"),
            lambda: snapshot.current(self.results, self.folder / "s.yaml"),
            lambda: claims.take(self.state.stem) and claims.release(self.state.stem),
            lambda: Checkpoint(self.state, interval=0, key=owner.key()).load(torch.device("cpu")),
            lambda: cleanup.remove_leftovers(self.results, self.asked.runs),
            lambda: plugins.register(self.folder / "mine.py"),
            lambda: reference.read(self.folder / "reference.json"),
            lambda: reference.read_history(self.folder / "reference.json"),
            lambda: Arrays("a.npz").facts(self.data),
            lambda: data_hashes.current(named, str(self.data)),
            lambda: data_hashes.load(named, str(self.data)),
            lambda: images.data_files(self.data),
            lambda: images.facts(self.data),
            lambda: images.load(self.data),
            lambda: records.check_writable(self.results),
            lambda: records.write(self.results, self.run, {"schema": 2}, {}),
            lambda: SuiteSnapshot.of(self.asked).save(self.results),
            lambda: Checkpoint(self.state, interval=0, key=owner.key()).save({"step": 2}),
            lambda: cleanup.remove_state(self.results, training_groups.group([self.run])[0]),
        ]

    def put(self, kind: str, path: Path, level: int) -> None:
        """Something odd in the place of a file, or of a folder that many levels above it."""
        tops = (self.folder, self.results, self.data, self.folder / "cache" / "cl_semisup")
        chain = [path, *(one for one in path.parents if one.is_relative_to(self.folder) and one not in tops)]
        path = chain[min(level, len(chain) - 1)]
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif os.path.lexists(path):
            path.unlink()
        with contextlib.suppress(OSError):  # a folder above it is odd already
            KINDS[kind](path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("files")
    (folder / "s.yaml").write_text(TEXT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        world = World(folder, suite.read(folder / "s.yaml"))
        world.make()
        for action in world.actions():
            with contextlib.suppress(InputError, ResultsError):
                action()
        world.make()
    return world


@pytest.fixture
def copy(made: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], World]:
    """A copy of the world, in the place of the one before."""
    monkeypatch.setattr(stamps, "TICK_NS", 0)  # nobody writes these files a second time within a tick of the clock
    code = snapshot.code_hash()
    monkeypatch.setattr(snapshot, "code_hash", lambda: code)  # which reads the whole package
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "world" / "cache"))
    monkeypatch.chdir(tmp_path)

    def again() -> World:
        shutil.rmtree(tmp_path / "world", ignore_errors=True)
        shutil.copytree(made.folder, tmp_path / "world", symlinks=True)
        owner._key_in.cache_clear()
        return World(tmp_path / "world", made.asked)

    return again


odd_places = st.lists(
    st.tuples(st.integers(0, 100), st.sampled_from(sorted(KINDS)), st.sampled_from([0, 0, 0, 1, 2, 3])),
    min_size=1,
    max_size=4,
)


def spoil(world: World, odd: list[tuple[int, str, int]]) -> None:
    places = sorted(world.places().items())
    for number, kind, level in odd:
        world.put(kind, places[number % len(places)][1], level)


def assert_nothing_outside_changed(world: World) -> None:
    assert os.listdir(world.folder / "outside") == ["a.json"]
    assert (world.folder / "outside" / "a.json").read_text() == OTHERS


@fuzz("special files in any place, to all that reads or writes there", short=40, odd=odd_places)
def test_what_is_no_file_is_told_in_any_place(odd: list[tuple[int, str, int]], copy: Callable[[], World]) -> bool:
    world = copy()
    spoil(world, odd)
    told = io.StringIO()
    for action in world.actions():
        with contextlib.redirect_stderr(told):
            try:
                action()
            except (InputError, ResultsError) as error:
                told.write(f"{error}\n")
    assert not hidden(told.getvalue())
    assert_nothing_outside_changed(world)
    return not told.getvalue()


@fuzz(
    "special files in any place, to whole commands",
    short=6,
    share=20,
    odd=odd_places,
    command=st.sampled_from(["check", "report", "report s", "compare"]),
)
def test_no_command_waits_for_what_is_no_file(
    odd: list[tuple[int, str, int]], command: str, copy: Callable[[], World]
) -> bool:
    world = copy()
    spoil(world, odd)
    words = {
        "check": ["check", str(world.folder / "s.yaml"), "--results", str(world.results), "--workers", "1"],
        "report": ["report", str(world.folder / "s.yaml"), "--results", str(world.results)],
        "report s": ["report", "s", "--results", str(world.results)],
        "compare": ["compare", str(world.results), str(world.results)],
    }[command]
    told, shown = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(shown):
        code = cli.main(words)
    assert code in (cli.OK, cli.SOME_FAILED, cli.BAD_INPUT, cli.NO_RESULTS)
    assert code == cli.OK or told.getvalue()
    assert not hidden(told.getvalue() + shown.getvalue())
    assert_nothing_outside_changed(world)
    return code == cli.OK


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", KINDS)
def test_special_files_in_each_place_alone(kind: str, copy: Callable[[], World]) -> None:
    for place in copy().places():
        world = copy()
        world.put(kind, world.places()[place], 0)
        for action in world.actions():
            with contextlib.suppress(InputError, ResultsError):
                action()
        assert_nothing_outside_changed(world)
