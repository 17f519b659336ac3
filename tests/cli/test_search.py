"""A search on the command line, from the suite to the report, with real trainings."""

import re
from pathlib import Path

import pytest

from cl_semisup import cli
from cl_semisup.cli import engine
from cl_semisup.cli.exit_codes import BAD_INPUT
from cl_semisup.engines import fork_server
from cl_semisup.results import records
from tests.execution.test_execution import InProcess
from tests.helpers.records import run, write

EDGE = "learning_rate: {edge: [0.01, 1000], per_decade: 1}"


@pytest.fixture
def folder(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(engine, "choose", lambda *_: InProcess())
    monkeypatch.setattr(fork_server, "start_early", lambda _: None)
    (tmp_path / "s.yaml").write_text(text.replace("learning_rate: 0.1", EDGE).replace("[nt_xent, clop]", "vicreg"))
    return tmp_path


def test_a_search_runs_in_rounds_and_is_done_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["s.yaml", "--workers", "1"]) == cli.OK
    out = capsys.readouterr().out
    assert "s: 7 runs of this search so far (its full grid has 7), 0 done, 7 to run." in out  # one rung a decade is all
    assert "Round 1: 7 runs to do." in out
    assert "edges of learning_rate" in out
    assert cli.main(["s.yaml"]) == cli.OK
    assert "7 done, 0 to run." in capsys.readouterr().out
    for path in records.all_paths(folder / "results"):
        assert records.read(path)["status"] != "failed"
    assert cli.main(["report", "s.yaml"]) == cli.OK
    assert "edges of learning_rate" in capsys.readouterr().out
    (folder / "results" / "s" / "suite.json").unlink()  # as on a machine that has the records alone
    assert cli.main(["report", "s.yaml"]) == cli.OK
    assert "7 of the 7 runs of its full grid." in re.sub(r"\s+", " ", capsys.readouterr().out)


def test_check_says_what_a_search_asks_for_and_what_repetitions_resolve(
    folder: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "s.yaml").write_text(text.replace("learning_rate: 0.1", EDGE.replace("1}", "4}")))
    for n in range(4):
        for i, loss in enumerate(("nt_xent", "clop")):
            write(folder / "results", run(loss, n), 0.6 + 0.01 * i * n, cost={"evaluation_seconds": 1.0})
    assert cli.main(["check", "s.yaml"]) == cli.OK
    out = capsys.readouterr().out
    assert "A search: so far it asks for 13 of the 43 runs of its full grid; more rounds follow." in out
    assert "digits, labels 10%: differences between losses scatter by 1.3 points (1 comparisons in results)." in out
    assert "With 1 repetition no difference can be resolved (80 % power, paired t-test). 1 point needs 16 rep" in out


def test_check_expects_the_repetitions_of_resolve(folder: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    resolve = "repetitions: {resolve: 1.0, max: 30}\nbaseline: nt_xent"
    (folder / "s.yaml").write_text(text.replace("repetitions: 1", resolve))
    for n in range(4):
        for i, loss in enumerate(("nt_xent", "clop")):
            write(folder / "results", run(loss, n), 0.6 + 0.01 * i * n)
    assert cli.main(["check", "s.yaml"]) == cli.OK
    out = capsys.readouterr().out
    assert "differences to nt_xent scatter by 1.3 points" in out
    assert re.search(
        r"intervals of 1 points to either side at every look, expect some \d\d repetitions, at most 30", out
    )


def test_the_tasks_of_an_array_wait_for_each_others_rounds(
    folder: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["s.yaml", "--print-sbatch"]) == cli.OK
    assert "--no-wait" not in capsys.readouterr().out
    (folder / "grid.yaml").write_text(text)
    assert cli.main(["grid.yaml", "--print-sbatch"]) == cli.OK
    assert "--no-wait" in capsys.readouterr().out


def test_a_gate_refuses_a_search(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["gate", "s.yaml"]) == BAD_INPUT
    assert "s.yaml: a gate needs a grid. Got a search. List the values instead." in capsys.readouterr().err
