"""Suites that come along are named without a path; `init` writes one; shells complete names."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cl_semisup import cli
from cl_semisup.cli import arguments, init
from cl_semisup.plugins import groups
from cl_semisup.results import snapshot
from cl_semisup.results.snapshot import SuiteSnapshot
from cl_semisup.scheduling import suite_run
from cl_semisup.suite import suite
from cl_semisup.system import installation

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_suite_that_comes_along_is_read_from_any_folder() -> None:
    found = suite.read("small/fractions")
    assert (found.name, found.file) == ("fractions", "small/fractions")
    assert found.runs == suite.read(ROOT / "suites" / "small" / "fractions.yaml").runs


def test_a_file_of_that_name_comes_first(tmp_path: Path, text: str) -> None:
    (tmp_path / "quickstart").write_text(text)
    assert len(suite.read("quickstart").runs) == 3


def test_its_data_come_along_too(tmp_path: Path) -> None:
    assert suite.read("features").data_dir == str(ROOT / "suites" / "data")
    (tmp_path / "suites" / "data").mkdir(parents=True)
    assert installation.data_dir("features", "suites/data") == "suites/data"  # the user's own folder comes first
    assert installation.data_dir("my.yaml", "suites/reference") == "suites/reference"  # not for a user's own suite


def test_a_report_of_a_name_is_of_the_suite_that_has_run_here(tmp_path: Path, text: str) -> None:
    (tmp_path / "quickstart.yaml").write_text(text)
    SuiteSnapshot.of(suite.read("quickstart.yaml")).save(tmp_path)
    assert len(suite_run.snapshot_of(tmp_path, Path("quickstart"), None).runs) == 3
    assert len(suite_run.snapshot_of(tmp_path / "none", Path("small/lines"), None).runs) > 3
    snapshot.require_own_folder(tmp_path, SuiteSnapshot.of(suite.read("small/lines")))


def test_every_suite_has_its_question(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(installation.suites()) == len(list((ROOT / "suites").rglob("*.yaml")))
    for name, path in installation.suites().items():
        assert installation.question(name) == yaml.safe_load(path.read_text())["question"].strip(), name
    assert cli.main(["list", "suites"]) == 0
    out = capsys.readouterr().out
    assert re.search("^  digits +On handwritten digits, how do supervised, self-supervised and", out, re.MULTILINE)


def test_the_core_losses_are_listed_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "losses"]) == 0
    titles = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    assert titles == [f"losses, {group}:" for group in groups.GROUPS]
    assert {"nt_xent", "supcon", "clop", "cross_entropy"} <= set(groups.of_losses()["core"])


def test_a_loss_of_ones_own_is_in_no_group(tmp_path: Path, forget_plugins: None) -> None:
    from cl_semisup import plugins

    (tmp_path / "mine.py").write_text(
        'from dataclasses import dataclass\n\n\n@dataclass(frozen=True)\nclass Mine:\n    """Mine."""\n\n'
        "    def __call__(self, z1, z2, labels=None):\n        return (z1 - z2).square().mean()\n"
    )
    plugins.add(tmp_path / "mine.py")
    assert list(groups.of_losses().items())[-1] == (groups.OWN, ["mine"])


def test_init_writes_a_sound_suite_with_a_comment_at_each_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["init"]) == 0
    assert capsys.readouterr().out.startswith(
        "my.yaml is written. Look at it, then: python benchmark.py check my.yaml;"
    )
    found = suite.read("my.yaml")
    assert not found.notes
    assert len({run.loss_name if hasattr(run, "loss_name") else next(iter(run.loss)) for run in found.runs}) >= 4
    assert all("#" in line for line in init.SUITE.splitlines() if line.startswith(("datasets", "losses", "baseline")))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my.yaml", "my.yaml: must not exist yet. Got a file that does. Name another one, or remove it."),
        ("my.txt", "my.txt: a suite's file ends in .yaml. Got '.txt'. Name it my.yaml."),
    ],
)
def test_init_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, message: str) -> None:
    (tmp_path / "my.yaml").write_text("mine")
    assert cli.main(["init", name]) == cli.BAD_INPUT
    assert message in capsys.readouterr().err
    assert (tmp_path / "my.yaml").read_text() == "mine"


def test_shells_complete_suites_and_files(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").touch()
    (tmp_path / "smalls").mkdir()
    found = arguments.complete_suite("small")
    assert {"small/fractions", "small.yaml", "smalls/"} <= set(found)
    assert "quickstart" not in found


def test_the_command_answers_a_shell_that_completes(tmp_path: Path) -> None:
    pytest.importorskip("argcomplete")
    line = "cl-semisup check quick"
    environment = os.environ | {
        "_ARGCOMPLETE": "1",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "_ARGCOMPLETE_IFS": " ",
    }
    environment |= {"_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "answer"), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "cl_semisup"], env=environment, check=True, capture_output=True)
    assert (tmp_path / "answer").read_text().split() == ["quickstart"]
