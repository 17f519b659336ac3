"""A record is there whole or not at all."""

import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cl_semisup.errors import ResultsError
from cl_semisup.results import protocol, records, snapshot
from cl_semisup.results.snapshot import SuiteSnapshot
from cl_semisup.suite import renamed
from cl_semisup.suite.run import Run
from cl_semisup.suite.suite import Suite


@pytest.fixture
def run(parse: Callable[[str], Suite], text: str) -> Run:
    return parse(text).runs[-1]


def record_of(run: Run) -> dict[str, Any]:
    kept = protocol.settings(run, "0", "float32")
    return {
        "schema": records.SCHEMA,
        "id": run.id,
        "status": "ok",
        "reason": "",
        "run": run.as_dict(),
        "resolved": {"classes": 10},
        "scores": {"knn_top1": 0.5},
        "diagnostics": {},
        "cost": {},
        "protocol": {"fingerprint": protocol.fingerprint(kept), "settings": kept},
        "versions": {"plugins": protocol.versions(run)},
    }


def test_what_is_written_is_read(tmp_path: Path, run: Run) -> None:
    path = records.write(tmp_path, run, record_of(run), {"history": {"loss": [1.0]}})
    assert path == tmp_path / "records" / "digits" / "clop" / f"{run.id}.json"
    assert records.read(path) == record_of(run)
    assert records.read_curves(path) == {"history": {"loss": [1.0]}}
    assert records.read_all(tmp_path, [run]) == {run.id: record_of(run)}
    assert list(records.all_paths(tmp_path)) == [path]


def test_a_record_of_the_first_schema_is_read_in_todays_words(tmp_path: Path, run: Run) -> None:
    asked = replace(run, unlabelled_classes=2, label_noise={"fraction": 0.1, "kind": "pair_flip"})
    new = record_of(asked) | {
        "diagnostics": {"feature_std": 0.5, "projection_feature_std": 0.6},
        "resolved": {"classes": 10, "last_good": {"feature_std": 0.4}},
    }
    old = new | {
        "schema": 1,
        "run": renamed.first_words(new["run"]),
        "diagnostics": {"spread": 0.5, "projection_spread": 0.6},
        "resolved": {"classes": 10, "last_good": {"spread": 0.4}},
        "protocol": new["protocol"] | {"settings": renamed.first_words(new["protocol"]["settings"])},
    }
    assert old["run"]["evaluation"]["knn"]["of"] == "features"
    assert old["run"]["label_noise"]["kind"] == "class_dependent"
    assert old["run"]["unseen_classes"] == 2
    path = records.write(tmp_path, asked, old, {"history": {"spread": [1.0]}})
    assert records.read(path) == new | {"schema": records.WORDS}  # it need not hold what later ones hold
    assert records.read_curves(path) == {"history": {"feature_std": [1.0]}}
    assert Run.from_dict(old["run"]) == asked


def test_a_suites_snapshot_of_an_earlier_version_is_read_in_todays_words(
    tmp_path: Path, parse: Callable[[str], Suite], text: str
) -> None:
    new = SuiteSnapshot.of(parse(text + "unlabelled_classes: 2\n"))
    new.save(tmp_path)
    path = tmp_path / "s" / "suite.json"
    old = json.loads(path.read_text())
    del old["data_dir"]
    old["runs"] = [renamed.first_words(run) for run in old["runs"]]
    assert "evaluation" in old["runs"][0]
    path.write_text(json.dumps(old))
    assert snapshot.load(tmp_path, "s") == new


def test_nan_is_refused_since_it_is_not_json(tmp_path: Path, run: Run) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        records.write(tmp_path, run, record_of(run) | {"scores": {"knn_top1": float("nan")}}, {})
    assert list(records.all_paths(tmp_path)) == []


def test_a_full_disk_leaves_the_old_record_and_no_litter(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = records.write(tmp_path, run, record_of(run), {})

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        ResultsError, match="No space left on device. Free some space and start again; finished runs are kept"
    ):
        records.write(tmp_path, run, record_of(run) | {"reason": "new"}, {})
    assert records.read(path)["reason"] == ""
    assert not list(tmp_path.rglob(".tmp-*"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "must be a record in JSON"),
        ('{"schema": 1, "id"', "must be a record in JSON"),
        ("[1]", "must be a record with a schema number"),
        ('{"schema": 99}', "has schema 99, made by a newer version; this one reads up to 3"),
        ('{"schema": 1, "id": "x"}', "needs 'status' as str. Got NoneType"),
    ],
)
def test_a_damaged_record_says_what_is_wrong_and_what_to_do(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(ResultsError) as caught:
        records.read(path)
    assert message in str(caught.value)
    assert "Delete it; the run is then done again." in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("feature_std", 1e99), ("alignment", -0.1), ("uniformity", 0.1), ("effective_rank", -1e99), ("alignment", 4.01)],
)
def test_a_diagnostic_that_its_definition_cannot_give_is_refused(run: Run, name: str, value: float) -> None:
    record = record_of(run)
    record["diagnostics"][name] = value
    assert records.cannot_hold(record).startswith(f"has {name} {value!r}, outside of [")
    for possible in (None, 0, 1e-4 if name != "uniformity" else -1e-4):
        record["diagnostics"][name] = possible
        assert records.cannot_hold(record) == ""


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("steps", "many", "needs a number as resolved.steps. Got 'many'."),
        ("steps", None, "needs a number as resolved.steps. Got None."),
        ("effective_learning_rate", [[1]], "needs a number as resolved.effective_learning_rate. Got [[1]]."),
        ("effective_learning_rate", 1e101, "needs a number as resolved.effective_learning_rate. Got 1e+101."),
        ("last_good", [1], "needs measures by their names as resolved.last_good."),
        ("classes", True, "needs a number of classes. Got True."),
    ],
)
def test_what_was_resolved_has_the_types_that_tables_compute_with(
    tmp_path: Path, run: Run, name: str, value: object, rule: str
) -> None:
    record = record_of(run)
    record["resolved"] |= {name: value}
    assert records.cannot_hold(record) == rule
    with pytest.raises(ResultsError) as caught:
        records.read(records.write(tmp_path, run, record, {}))
    assert rule in str(caught.value)


def test_a_record_in_another_runs_place_is_refused(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "abc.json"
    path.write_text(json.dumps(record_of(run)))
    with pytest.raises(ResultsError, match="which belongs in another file"):
        records.read(path)


def test_a_changed_plug_in_makes_a_record_stale(run: Run) -> None:
    record = record_of(run)
    assert protocol.stale_parts(record) == []
    record["versions"]["plugins"]["losses.nt_xent"] = "0"
    assert protocol.stale_parts(record) == ["losses.nt_xent"]  # clop's base: nested plug-ins count
    record["protocol"]["settings"]["version"] = 0
    assert "protocol" in protocol.stale_parts(record)


def test_a_users_loss_that_is_not_at_hand_is_not_stale(run: Run) -> None:
    record = record_of(run)
    record["run"]["loss"] = {"someones_own": {}}
    record["versions"]["plugins"]["losses.someones_own"] = "abc"
    assert protocol.stale_parts(record) == []
