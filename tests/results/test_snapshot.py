"""The folder of a suite's tables belongs to one suite file."""

from dataclasses import replace
from pathlib import Path

import pytest

from cl_semisup import cli, report
from cl_semisup.errors import InputError
from cl_semisup.results import snapshot
from cl_semisup.results.snapshot import SuiteSnapshot, require_own_folder
from cl_semisup.scheduling import suite_run
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


def test_a_report_keeps_its_folder_though_the_suite_never_ran(
    text: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Runs that other suites have made can be all that a report needs."""
    first, second = suite_file("a/exp.yaml", text), suite_file("b/exp.yaml", text.replace("0.1", "0.2"))
    for one in (*first.runs, *second.runs):
        write(Path("results"), one)
    assert cli.main(["report", "a/exp.yaml"]) == 0
    before = {path: path.read_bytes() for path in Path("results/exp").iterdir()}
    assert cli.main(["report", "b/exp.yaml"]) == cli.BAD_INPUT
    assert "must not be that of another suite in results" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in Path("results/exp").iterdir()}


def test_of_two_suites_that_begin_at_once_the_last_keeps_the_folder(
    text: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = suite_file("a/exp.yaml", text), suite_file("b/exp.yaml", text.replace("0.1", "0.2"))
    check = snapshot.require_own_folder
    monkeypatch.setattr(snapshot, "require_own_folder", lambda results, suite: None)  # neither sees the other
    for one in (first, second):
        suite_run.prepare_folder(Path("results"), one)
    monkeypatch.setattr(snapshot, "require_own_folder", check)
    with pytest.raises(InputError, match="must not be that of another suite"):
        report.make(Path("results"), first)
    assert [path.name for path in Path("results/exp").iterdir()] == ["suite.json"]
    report.make(Path("results"), second)


def test_names_that_differ_in_case_alone_share_no_folder(text: str, here: Path) -> None:
    suite_file("a/Exp.yaml", text).save(Path("results"))
    second = suite_file("b/exp.yaml", text)
    require_own_folder(Path("results"), second)
    Path("results/exp").symlink_to("Exp")  # as a file system does that ignores case
    with pytest.raises(InputError, match="^b/exp.yaml: name: must differ from 'Exp' in results by more than case"):
        require_own_folder(Path("results"), second)


def test_an_exported_table_replaces_no_other_one(text: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = suite_file("a/exp.yaml", text), suite_file("b/exp.yaml", text.replace("0.1", "0.2"))
    for folder, suite_of in (("one", first), ("two", second)):
        for one in suite_of.runs:
            write(Path(folder), one)
    export = ["export", "--to", "csv", "--results"]
    assert cli.main([*export, "one", "a/exp.yaml", "out"]) == cli.main([*export, "one", "a/exp.yaml", "out"]) == 0
    before = Path("out/exp.csv").read_bytes()
    assert cli.main([*export, "two", "b/exp.yaml", "out"]) == cli.BAD_INPUT
    assert "out/exp.csv: must be a table of the runs of 'exp', which would replace it. Got other rows." in (
        capsys.readouterr().err
    )
    assert Path("out/exp.csv").read_bytes() == before
    for other in ("question\n42\n", "\xff"):
        Path("out/exp.csv").write_text(other, "latin-1")
        assert cli.main([*export, "two", "b/exp.yaml", "out"]) == cli.BAD_INPUT
    Path("out/exp.csv").unlink()
    assert cli.main([*export, "two", "b/exp.yaml", "out"]) == 0


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
