"""Records of evaluations may come from strangers: what they claim is checked before it stands in a table."""

from pathlib import Path
from typing import Any

import pytest

from cl_semisup.errors import ResultsError
from cl_semisup.report import comparison
from cl_semisup.results import all_records, evaluation_records
from cl_semisup.suite.run import digest
from tests.helpers.records import run, write


def record(**changes: Any) -> dict[str, Any]:
    asked = {"features": "f", "labels": "5 a class", "repetition": 0}
    whole: dict[str, Any] = {"schema": 1, "kind": "evaluation", "id": digest(asked), "status": "ok", "reason": ""}
    whole |= {"asked": asked, "resolved": {}, "scores": {"knn_top1": 0.5}, "diagnostics": {"effective_rank": None}}
    whole |= {"cost": {"evaluation_seconds": 1.0}, "protocol": {"fingerprint": "a"}, "versions": {}}
    return whole | changes


def test_a_sound_record_is_a_row(tmp_path: Path) -> None:
    evaluation_records.write(tmp_path, "f", record())
    (row,) = all_records.results(tmp_path).to_dict("records")
    assert (row["kind"], row["knn_top1"], row["labels"], row["protocol"]) == ("evaluation", 0.5, "5 a class", "a")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": {"knn_top1": 1e99}}, "needs a fraction in [0, 1] as scores.knn_top1. Got 1e+99"),
        ({"scores": {"knn_top1": "x"}}, "needs a fraction in [0, 1] as scores.knn_top1. Got 'x'"),
        ({"scores": {"status": 0.5}}, "needs a name of its own for each measure. Got 'status'"),
        ({"scores": {"kind": 0.5}}, "needs a name of its own for each measure. Got 'kind'"),
        ({"scores": {"features": 0.5}}, "needs a name of its own for each measure. Got 'features'"),
        ({"diagnostics": {"a": {"b": 1}}}, "needs a number as diagnostics.a. Got {'b': 1}"),
        ({"diagnostics": {f"a{i}": 1 for i in range(3000)}}, "must have at most 2000 measures. Got 3002"),
        ({"cost": {"evaluation_seconds": 1e200}}, "needs a number as cost.evaluation_seconds. Got 1e+200"),
        ({"asked": {"features": "another"}}, "is about another evaluation than its name says"),
        ({"status": 7}, "needs 'status' as str. Got int"),
        ({"protocol": {"fingerprint": [1]}}, "needs the fingerprint of its protocol as str"),
    ],
)
def test_a_false_record_is_told_with_its_place(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = evaluation_records.write(tmp_path, "f", record(**changes))
    with pytest.raises(ResultsError) as caught:
        all_records.results(tmp_path)
    assert message in str(caught.value) and str(caught.value).startswith((str(path), f"record {path.stem}: "))


def test_a_record_in_anothers_place_is_told(tmp_path: Path) -> None:
    path = evaluation_records.write(tmp_path, "f", record())
    path.rename(path.with_name(f"{'0' * 12}.json"))
    with pytest.raises(ResultsError, match="is about another evaluation than its name says. Delete it, and evaluate"):
        all_records.results(tmp_path)


def test_no_measure_of_a_run_stands_in_the_place_of_a_setting(tmp_path: Path) -> None:
    asked = run("clop", params={"weight": 1.0})
    write(tmp_path, asked, diagnostics={"loss.clop.weight": 0.5})
    with pytest.raises(ResultsError, match=f"record {asked.id}: needs a name of its own .* Got 'loss.clop.weight'"):
        all_records.results(tmp_path)


def test_folders_that_share_untrained_runs_alone_are_compared_in_words(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / name, run().untrained())
    text = comparison.folders(tmp_path / "a", tmp_path / "b", "linear_top1")
    assert text.endswith("In both: 1 run.\nNo trained run is in both.")
