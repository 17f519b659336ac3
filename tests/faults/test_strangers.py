"""A results folder from elsewhere: nothing in it is waited for, written through, deleted through, or believed unread."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cl_semisup import cli
from cl_semisup.errors import InputError, ResultsError
from cl_semisup.execution import training_groups
from cl_semisup.execution.machine import Machine
from cl_semisup.results import packed, record_size, records, snapshot
from cl_semisup.results.run_table import gather
from cl_semisup.results.snapshot import SuiteSnapshot
from cl_semisup.scheduling import cleanup
from cl_semisup.scheduling.claims import Claims
from cl_semisup.suite import renamed, suite
from cl_semisup.suite.run import digest
from cl_semisup.suite.suite import Suite
from cl_semisup.system import owner
from cl_semisup.training import state_file
from cl_semisup.training.checkpoint import Checkpoint
from tests.helpers.records import write
from tests.system.test_files import SPECIAL

pytestmark = pytest.mark.timeout(60)
CURVES = {"history": {"step": [0], "loss": [1.0]}}


@pytest.fixture
def asked(tmp_path: Path, text: str) -> Suite:
    (tmp_path / "s.yaml").write_text(text)
    return suite.read(tmp_path / "s.yaml")


@pytest.fixture
def results(tmp_path: Path, asked: Suite) -> Path:
    """A finished suite, and a file of somebody else outside of it."""
    for run in asked.runs:
        write(tmp_path / "results", run, curves=CURVES)
    SuiteSnapshot.of(asked).save(tmp_path / "results")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a.json").write_text("of somebody else")
    return tmp_path / "results"


def report(tmp_path: Path, what: str = "s.yaml") -> int:
    return cli.main(["report", str(tmp_path / what) if "." in what else what, "--results", str(tmp_path / "results")])


def put(kind: str, path: Path) -> None:
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    SPECIAL[kind](path)


@pytest.mark.parametrize("kind", SPECIAL)
def test_a_record_that_is_no_file_is_told_at_once(
    results: Path, tmp_path: Path, asked: Suite, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = records.path_of(results, asked.runs[0])
    put(kind, path)
    assert report(tmp_path) == cli.NO_RESULTS
    assert f"{path}: must be a record in JSON: " in capsys.readouterr().err


@pytest.mark.parametrize("kind", SPECIAL)
def test_curves_that_are_no_file_are_told_and_left_out(
    results: Path, tmp_path: Path, asked: Suite, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = records.curves_path(records.path_of(results, asked.runs[-1]))
    put(kind, path)
    assert records.read_curves(records.path_of(results, asked.runs[-1])) == {}
    assert f"{path}: curves are left out: " in capsys.readouterr().err


@pytest.mark.parametrize("kind", SPECIAL)
def test_a_snapshot_that_is_no_file_is_told_and_the_suite_read_again(
    results: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = results / "s" / "suite.json"
    put(kind, path)
    assert report(tmp_path, "s") == cli.BAD_INPUT
    assert f"{path}: cannot be read: " in capsys.readouterr().err
    assert report(tmp_path) == cli.OK
    assert f"{path}: is not used: " in capsys.readouterr().err


@pytest.mark.parametrize("kind", SPECIAL)
def test_leases_and_states_that_are_no_files_are_told_at_once(
    results: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    put(kind, results / "claims" / "abc.0.lease")
    with pytest.raises(ResultsError, match=r"abc cannot be claimed: .*\. Check the results folder"):
        Claims(results).take("abc")
    put(kind, results / "checkpoints" / "abc.pt")
    assert Checkpoint(results / "checkpoints" / "abc.pt", interval=0).load(torch.device("cpu")) is None
    assert "abc.pt: the saved state is not continued: " in capsys.readouterr().err


@pytest.mark.parametrize("command", ["run", "check", "report", "gate"])
@pytest.mark.parametrize("kind", ["pipe", "socket", "folder", "device", "dangling link", "link to itself"])
def test_a_suite_that_is_no_file_is_bad_input(
    tmp_path: Path, command: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    put(kind, tmp_path / "t.yaml")
    words = [] if command == "gate" else ["--results", str(tmp_path / "results")]
    assert cli.main([command, str(tmp_path / "t.yaml"), *words]) == cli.BAD_INPUT
    assert "t.yaml: " in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("kind", SPECIAL)
def test_a_report_replaces_what_is_in_its_place(results: Path, tmp_path: Path, kind: str) -> None:
    if kind == "folder":
        put(kind, results / "s" / "report.html")
        assert report(tmp_path) == cli.NO_RESULTS
        return
    for name in ("leaderboard.md", "leaderboard.csv", "leaderboard.tex", "leaderboard.parquet", "report.html"):
        put(kind, results / "s" / name)
    assert report(tmp_path) == cli.OK
    assert stat.S_ISREG(os.lstat(results / "s" / "report.html").st_mode)
    assert (tmp_path / "outside" / "a.json").read_text() == "of somebody else"


def test_a_device_is_never_replaced_by_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "out.json")
    with pytest.raises(InputError, match=r"out.json: must be a regular file, or none yet"):
        records.write_text(tmp_path / "out.json", "{}")
    assert stat.S_ISFIFO(os.lstat(tmp_path / "out.json").st_mode)


# Links that lead elsewhere ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["checkpoints/{id}.{pid}.tmp", "checkpoints/.tmp-{id}", "checkpoints/{id}.pt", "records/digits/clop/x.json"]
)
def test_a_link_prepared_under_a_name_that_we_use_changes_nothing_outside(
    results: Path, tmp_path: Path, asked: Suite, name: str
) -> None:
    training = training_groups.group([asked.runs[-1]])[0]
    link = results / name.format(id=training.id, pid=os.getpid())
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(tmp_path / "outside" / "a.json")
    path = Machine("cpu", "data", checkpoints=str(results / "checkpoints")).checkpoint_path(training)
    Checkpoint(path, interval=0).save({"step": 1})
    assert not path.is_symlink()
    cleanup.remove_state(results, training)
    assert (tmp_path / "outside" / "a.json").read_text() == "of somebody else"


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("checkpoints", "records/digits/clop"),
        ("claims", "records/digits/clop"),
        ("checkpoints", "../outside"),
        ("records/digits/nt_xent", "records/digits/clop"),
        ("s", "records/digits/clop"),
    ],
)
def test_a_folder_that_is_a_link_is_told_and_nothing_behind_it_changes(
    results: Path, tmp_path: Path, asked: Suite, link: str, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, behind = results / link, results / target
    if path.exists():
        path.rename(tmp_path / "moved")
    path.symlink_to(behind.resolve(), target_is_directory=True)
    for run in asked.runs:  # as if they were left by a killed command
        (behind / f"{training_groups.group([run])[0].id}.json").write_text("left")
    before = {file: file.read_bytes() for file in behind.iterdir()}
    cleanup.remove_leftovers(results, asked.runs)
    for training in training_groups.group(asked.runs):
        cleanup.remove_state(results, training)
    assert cli.main(["run", str(tmp_path / "s.yaml"), "--results", str(results)]) == cli.NO_RESULTS
    assert f"{path}: must not be a link. Got one to " in capsys.readouterr().err
    assert {file: file.read_bytes() for file in behind.iterdir()} == before


@pytest.mark.parametrize("command", ["report", "check"])
@pytest.mark.parametrize("link", ["records", "records/digits", "records/digits/nt_xent"])
def test_nothing_is_read_behind_a_folder_that_is_a_link(
    results: Path, tmp_path: Path, link: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (results / link).rename(tmp_path / "behind")
    (results / link).symlink_to(tmp_path / "behind", target_is_directory=True)
    assert cli.main([command, str(tmp_path / "s.yaml"), "--results", str(results)]) == cli.NO_RESULTS
    assert f"{results / link}: must not be a link. Got one to " in capsys.readouterr().err


@pytest.mark.parametrize("link", ["s", "s/report.html"])
def test_a_report_never_lands_behind_a_link(results: Path, tmp_path: Path, link: str) -> None:
    if link == "s":
        (results / "s").rename(tmp_path / "moved")
    target = tmp_path / "outside" / ("" if link == "s" else "a.json")
    (results / link).symlink_to(target)
    assert report(tmp_path) == (cli.NO_RESULTS if link == "s" else cli.OK)
    assert [path.name for path in (tmp_path / "outside").iterdir()] == ["a.json"]
    assert (tmp_path / "outside" / "a.json").read_text() == "of somebody else"


# Snapshots, scores and states ---------------------------------------------------------------------------------------


def tamper(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("left", [0, 1, 2])
def test_a_snapshot_with_fewer_runs_does_not_stand_for_the_suite(
    results: Path, tmp_path: Path, asked: Suite, left: int
) -> None:
    tamper(results / "s" / "suite.json", lambda content: content.update(runs=content["runs"][:left]))
    assert snapshot.current(results, tmp_path / "s.yaml") is None
    assert report(tmp_path) == cli.OK
    table = (results / "s" / "leaderboard.csv").read_text()
    assert all(run.loss_name in table for run in asked.runs)
    options = cli.build_parser().parse_args(["run", str(tmp_path / "s.yaml"), "--results", str(results)])
    assert cli.run.finished_snapshot(options) is None


def test_a_snapshot_of_another_user_or_version_is_read_again(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert snapshot.current(results, tmp_path / "s.yaml") is not None
    with monkeypatch.context() as other:
        other.setattr(owner, "key", lambda: b"of somebody else")
        assert snapshot.current(results, tmp_path / "s.yaml") is None
    monkeypatch.setattr(snapshot, "code_hash", lambda: "of another version")
    assert snapshot.current(results, tmp_path / "s.yaml") is None
    assert snapshot.current(results, tmp_path / "s.yaml", own_only=False) is not None


def test_without_torch_a_strangers_snapshot_is_believed_with_a_word(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(owner, "key", lambda: b"of somebody else")
    monkeypatch.setattr(suite, "read", lambda *_: (_ for _ in ()).throw(ModuleNotFoundError("no torch", name="torch")))
    assert report(tmp_path) == cli.OK
    assert "cannot be compared with the suite's file without torch. They are believed." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "code", "rule"),
    [
        (lambda runs: runs * 3, cli.BAD_INPUT, "it has the run "),
        (lambda runs: [*runs, dict(reversed(runs[-1].items()))], cli.BAD_INPUT, "it has the run "),
        (lambda runs: [*runs, runs[-1] | {"label_fraction": 1}], cli.NO_RESULTS, "are one run in other words"),
    ],
)
def test_a_run_counts_once(
    results: Path, tmp_path: Path, change: Any, code: int, rule: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that is there three times would be three repetitions, with an interval of no width."""
    path = results / "s" / "suite.json"
    tamper(path, lambda content: [run.update(label_fraction=1.0) for run in content["runs"]])
    tamper(path, lambda content: content.update(runs=change(content["runs"])))
    assert report(tmp_path, "s") == code
    assert rule in capsys.readouterr().err


@pytest.mark.parametrize("name", ["grid_runs", "tune_repetitions"])
def test_numbers_of_runs_are_not_negative(
    results: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tamper(results / "s" / "suite.json", lambda content: content.update({name: -1}))
    assert report(tmp_path, "s") == cli.BAD_INPUT
    assert "must be at least 0" in capsys.readouterr().err


def test_a_named_suite_without_runs_is_told(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tamper(results / "s" / "suite.json", lambda content: content.update(runs=[]))
    assert report(tmp_path, "s") == cli.BAD_INPUT
    assert "it has no runs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("learning_rate", "0.1", "a number as 'learning_rate'"),
        ("label_fraction", [0.1], "a number as 'label_fraction'"),
        ("learning_rate", 10**400, "a number as 'learning_rate'"),
        ("epochs", None, "a whole number as 'epochs'"),
        ("repetition", True, "a whole number as 'repetition'"),
        ("batch_size", 1.5, "a whole number as 'batch_size'"),
        ("loss", {}, "one plug-in and its settings as 'loss'"),
        ("dataset", {"digits": 1}, "one plug-in and its settings as 'dataset'"),
        ("probes", ["knn"], "plug-ins and their settings as 'probes'"),
        ("probes", {"transfer": {"datasets": 5}}, "data sets and their settings as the datasets of 'transfer'"),
        ("probes", {"transfer": {"datasets": [{}]}}, "data sets and their settings as the datasets of 'transfer'"),
        ("views", "none", "settings or a list of plug-ins and their settings as 'views'"),
        ("precision", 16, "text as 'precision'"),
    ],
)
def test_a_strangers_run_has_the_types_of_a_run(
    results: Path, tmp_path: Path, key: str, value: Any, rule: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tamper(results / "s" / "suite.json", lambda content: content["runs"][-1].update({key: value}))
    assert report(tmp_path, "s") == cli.BAD_INPUT
    assert f"a run needs {rule}" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["loss", "repetition", "views"])
def test_a_strangers_run_lacks_nothing(
    results: Path, tmp_path: Path, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tamper(results / "s" / "suite.json", lambda content: content["runs"][0].pop(key))
    assert report(tmp_path, "s") == cli.BAD_INPUT
    assert f"as {key!r}. Got nothing." in capsys.readouterr().err


@pytest.mark.parametrize("run", [None, [], "x"])
def test_a_strangers_run_is_a_mapping(
    results: Path, tmp_path: Path, run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    tamper(results / "s" / "suite.json", lambda content: content.update(runs=[run]))
    assert report(tmp_path, "s") == cli.BAD_INPUT
    assert "a run must be a mapping. Got " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("diagnostics", "status", 1.0),
        ("scores", "task", 0.5),
        ("cost", "loss", 1.0),
        ("diagnostics", "linear_top1", 0.99),
        ("cost", "knn_top1", 0.99),
    ],
)
def test_a_measure_never_takes_the_place_of_a_column_or_of_another_measure(
    results: Path,
    tmp_path: Path,
    asked: Suite,
    part: str,
    name: str,
    value: float,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = records.path_of(results, asked.runs[-1])
    tamper(path, lambda record: record[part].update({name: value}))
    assert report(tmp_path) == cli.NO_RESULTS
    assert f"{path}: needs a name of its own for each measure. Got {name!r}" in capsys.readouterr().err


@pytest.mark.parametrize("part", records.MEASURED)
def test_a_record_has_a_limited_number_of_measures(
    results: Path, tmp_path: Path, asked: Suite, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = records.path_of(results, asked.runs[-1])
    tamper(path, lambda record: record[part].update({f"m{i}": 0.5 for i in range(record_size.MAX_MEASURES)}))
    assert report(tmp_path) == cli.NO_RESULTS
    assert f"{path}: must have at most 2000 measures. Got 200" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("member", "value", "words"),
    [
        ("resolved", {"x": [[]] * 30_000}, "must hold at most 20000 values. Got more."),
        ("versions", {"plugins": {f"p{i}": "v" for i in range(20_000)}}, "must hold at most 20000 values. Got more."),
        ("reason", "x" * 20_000, "must have a reason of at most 10000 characters. Got 20000."),
    ],
)
def test_a_record_holds_no_more_than_a_record_can(
    results: Path, tmp_path: Path, asked: Suite, member: str, value: Any, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = records.path_of(results, asked.runs[-1])
    tamper(path, lambda record: record.update({member: value}))
    assert report(tmp_path) == cli.NO_RESULTS
    assert f"{path}: {words}" in capsys.readouterr().err


def test_the_columns_that_no_measure_may_take_are_those_of_the_table(results: Path, asked: Suite) -> None:
    table = gather(results, asked.runs)
    measures = {
        name
        for run in asked.runs
        for part in records.MEASURED
        for name in records.read(records.path_of(results, run))[part]
    }
    assert set(table.frame.columns) - measures == records.COLUMNS


def test_a_record_of_a_run_of_other_types_is_told_with_its_file(
    results: Path, tmp_path: Path, asked: Suite, capsys: pytest.CaptureFixture[str]
) -> None:
    path = records.path_of(results, asked.runs[-1])
    record = json.loads(path.read_text())
    record["run"]["learning_rate"] = "0.1"
    record["id"] = digest(renamed.first_words(record["run"]))
    path.with_name(f"{record['id']}.json").write_text(json.dumps(record))
    assert cli.main(["compare", str(results), str(results)]) == cli.NO_RESULTS
    assert f"{record['id']}.json: a run needs a number as 'learning_rate'. Got '0.1'." in capsys.readouterr().err


@pytest.mark.parametrize("name", ["file", "question", "data_folder"])
def test_a_strangers_text_holds_no_nul(
    results: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tamper(results / "s" / "suite.json", lambda content: content.update({name: "a\0b"}))
    assert report(tmp_path, "s") == cli.BAD_INPUT
    assert "its texts must not hold NUL" in capsys.readouterr().err


@pytest.mark.parametrize("score", [1e99, 1.01, -0.01, 87.5, True, "0.5", None])
def test_a_score_that_is_no_fraction_is_no_score(
    results: Path, tmp_path: Path, asked: Suite, score: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = records.path_of(results, asked.runs[-1])
    tamper(path, lambda record: record["scores"].update(knn_top1=score))
    assert report(tmp_path) == cli.NO_RESULTS
    assert f"{path}: needs a fraction in [0, 1] as scores.knn_top1. Got {score!r}." in capsys.readouterr().err


def test_a_state_signed_with_another_key_or_moved_is_not_continued(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, cpu = tmp_path / "checkpoints" / "run.pt", torch.device("cpu")
    Checkpoint(path, interval=0, key=b"theirs").save({"weights": torch.ones(2)})
    assert Checkpoint(path, interval=0, key=b"ours").load(cpu) is None
    assert "run.pt: the saved state is not continued: damaged, or made elsewhere." in capsys.readouterr().err
    assert Checkpoint(path, interval=0, key=b"theirs").load(cpu) is not None
    path.rename(path.with_name("other.pt"))
    assert Checkpoint(path.with_name("other.pt"), interval=0, key=b"theirs").load(cpu) is None
    assert state_file.read(path, b"theirs") is None


def test_the_key_is_made_once_and_is_the_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    owner._key_in.cache_clear()
    try:
        made = owner.key()
        owner._key_in.cache_clear()
        assert owner.key() == made == (tmp_path / "cl_semisup" / "key").read_bytes()
        assert stat.S_IMODE(os.stat(tmp_path / "cl_semisup" / "key").st_mode) == 0o600
        (tmp_path / "cl_semisup" / "key").write_bytes(b"half")  # its maker was killed
        owner._key_in.cache_clear()
        assert len(owner.key()) == owner.KEY_BYTES
    finally:
        monkeypatch.undo()
        owner._key_in.cache_clear()


# Size ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["record", "curves", "suite.json", "lease"])
def test_a_file_over_its_limit_is_told_and_not_read(
    results: Path, tmp_path: Path, asked: Suite, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    record = records.path_of(results, asked.runs[-1])
    paths = {"record": record, "curves": records.curves_path(record), "suite.json": results / "s" / "suite.json"}
    path = paths.get(kind, results / "claims" / "abc.0.lease")
    path.parent.mkdir(exist_ok=True)
    with open(path, "wb") as file:
        file.truncate(2**40)  # without taking room
    if kind == "lease":
        with pytest.raises(ResultsError, match="more than the 1000 "):
            Claims(results).take("abc")
        return
    assert report(tmp_path) == (cli.NO_RESULTS if kind == "record" else cli.OK)
    assert f"{path}: " in (err := capsys.readouterr().err)
    assert "more than the " in err


def test_every_published_file_is_far_below_its_limit() -> None:
    published = Path(__file__).parents[2] / "results" / "published"
    assert max(len(records.to_json(one)) for one in records.read_folder(published)) * 50 < records.MAX_RECORD_BYTES
    assert max(path.stat().st_size for path in published.glob("records/*.parquet")) * 50 < packed.MAX_BYTES
    assert max(path.stat().st_size for path in published.glob("*/suite.json")) * 50 < snapshot.MAX_BYTES
