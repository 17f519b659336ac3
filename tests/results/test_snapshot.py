"""The folder of a suite's tables belongs to one suite file."""

from dataclasses import replace
from pathlib import Path

import pytest

from cl_semisup import cli
from cl_semisup.errors import InputError
from cl_semisup.results import snapshot
from cl_semisup.results.snapshot import SuiteSnapshot, require_own_folder
from cl_semisup.suite import suite
from tests.helpers.records import write


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def suite_file(path: str, text: str) -> SuiteSnapshot:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)
    return SuiteSnapshot.of(suite.read(path))


@pytest.mark.parametrize("command", ["run", "check", "report"])
@pytest.mark.parametrize("second", ["b/exp.yaml", "b/other.yaml"])
def test_another_suite_of_the_same_name_is_refused(
    command: str, second: str, text: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = suite_file("a/exp.yaml", text)
    suite_file(second, text.replace("0.1", "0.2") + ("name: exp\n" if "other" in second else ""))
    for one in (*first.runs, *suite.read(second).runs):
        write(Path("results"), one)
    assert cli.main(["run", "a/exp.yaml"]) == 0
    before = {path: path.read_bytes() for path in Path("results/exp").iterdir()}
    capsys.readouterr()
    assert cli.main([command, second]) == cli.BAD_INPUT
    assert capsys.readouterr().err == (
        f"{second}: name: must not be that of another suite in results, whose tables would be overwritten. "
        "Got 'exp', of a/exp.yaml. Set another `name:` or --results. "
        "If this suite has moved and changed, delete results/exp/suite.json.\n"
    )
    assert before == {path: path.read_bytes() for path in Path("results/exp").iterdir()}
    assert cli.main([command, "a/exp.yaml"]) == 0
    assert cli.main(["check", second, "--results", "elsewhere"]) == 0


def test_a_suite_may_change_move_or_be_run_from_another_folder(
    text: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = suite_file("a/exp.yaml", text)
    first.save(Path("results"))
    require_own_folder(Path("results"), suite_file("a/exp.yaml", text + "# changed\n"))
    require_own_folder(Path("results"), suite_file("b/exp.yaml", text))
    monkeypatch.chdir(here / "a")
    require_own_folder(Path("../results"), suite_file("exp.yaml", text + "# changed\n"))
    monkeypatch.chdir(here)
    (here / "moved").mkdir()
    for name in ("a", "results"):
        Path(name).rename(here / "moved" / name)
    require_own_folder(Path("moved/results"), suite_file("moved/a/exp.yaml", text + "# changed\n"))


def test_one_name_in_two_working_folders_is_two_files(text: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite_file("a/exp.yaml", text)
    suite_file("b/exp.yaml", text + "# another\n")
    monkeypatch.chdir(here / "a")
    SuiteSnapshot.of(suite.read("exp.yaml")).save(here / "results")
    monkeypatch.chdir(here / "b")
    with pytest.raises(InputError, match="must not be that of another suite"):
        require_own_folder(here / "results", SuiteSnapshot.of(suite.read("exp.yaml")))


def test_snapshots_of_earlier_versions_are_told_apart_by_their_file(text: str, here: Path) -> None:
    first = suite_file("a/exp.yaml", text)
    first.save(Path("results"))
    path = Path("results/exp/suite.json")
    stored = snapshot.load(Path("results"), "exp")
    path.write_text(path.read_text().replace(stored.place, ""))
    require_own_folder(Path("results"), replace(first, text_hash="changed"))
    with pytest.raises(InputError, match=r"Got 'exp', of a/exp\.yaml"):
        require_own_folder(Path("results"), replace(first, text_hash="changed", file="b/exp.yaml"))
