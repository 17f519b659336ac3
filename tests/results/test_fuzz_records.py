"""A results folder may be damaged or come from a stranger: a record is sound, or it is refused in words.

The long form: python benchmarks/fuzz.py records
"""

import copy
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from cl_semisup import report
from cl_semisup.errors import InputError, ResultsError
from cl_semisup.execution.execute import failed_record
from cl_semisup.execution.machine import Machine
from cl_semisup.results import leaderboard, records, snapshot
from cl_semisup.results.run_table import gather
from cl_semisup.results.snapshot import SuiteSnapshot
from cl_semisup.scheduling import progress, scheduler
from cl_semisup.suite import suite
from cl_semisup.suite.run import Run
from cl_semisup.suite.suite import Suite
from tests.helpers.fuzzing import fuzz

SUITE = """\
question: "Who is <script>alert(1)</script> | =1+1?"
name: fuzz
datasets: digits
encoder: {mlp: {width: 16, layers: 1}}
losses: nt_xent
learning_rate: 0.1
batch_size: 128
repetitions: 2
epochs: 1
validation: all
"""


@pytest.fixture(scope="module")
def fuzz_suite() -> Suite:
    return suite.parse(SUITE, "fuzz.yaml")


def sound(run: Run, reason: str = "") -> dict[str, Any]:
    record, _ = failed_record(run, Machine("cpu", "data"), reason)
    found = {"knn_top1": 0.5, "linear_top1": 0.75, "linear_top1_validation": 0.5}
    made = record | {"status": "ok", "scores": found, "resolved": {"classes": 10, "device": "cpu"}}
    return copy.deepcopy(made)  # its run is the suite's own


odd = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**400), 10**400),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["\ud800", "<script>", "../..", "=cmd()", "", {}, [], {"a": {}}, [[]], 2**63, -1, 0, 1e308]),
)


@st.composite
def tampered(draw: Callable[..., Any]) -> Callable[[dict[str, Any]], None]:
    """Something odd at a random place, at any depth, or a place gone."""
    moves = draw(
        st.lists(st.tuples(st.lists(st.integers(0, 30), min_size=1, max_size=4), st.booleans(), odd), max_size=3)
    )

    def tamper(record: dict[str, Any]) -> None:
        for path, gone, value in moves:
            node: Any = record
            for turn in path[:-1]:
                inside = sorted(key for key in node if isinstance(node[key], dict) and node[key])
                node = node[inside[turn % len(inside)]] if inside else node
            key = sorted(node)[path[-1] % len(node)]
            node[key] = copy.deepcopy(value)
            if gone:
                del node[key]
                node.setdefault("anything", copy.deepcopy(value))

    return tamper


def read_all(results: Path, chosen: Suite) -> None:
    """What reads records anywhere in the package, but for drawing."""
    scheduler.missing(results, chosen.runs, "stale")
    for record in records.read_all(results, chosen.runs).values():
        progress.format_record(record)
    gathered = gather(results, chosen.runs)
    leaderboard.boards(gathered, "linear_top1", "nt_xent")


@fuzz("records with odd values anywhere", tamper=tampered())
def test_a_tampered_record_is_refused_or_harmless(
    tamper: Callable[[dict[str, Any]], None], fuzz_suite: Suite, tmp_path_factory: pytest.TempPathFactory
) -> bool:
    results = tmp_path_factory.mktemp("results")
    for run in fuzz_suite.runs:
        record = sound(run)
        if run == fuzz_suite.runs[-1]:
            tamper(record)
        path = records.path_of(results, run)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record))
    try:
        read_all(results, fuzz_suite)
    except ResultsError as error:
        assert str(results) in str(error)
        assert "Delete it; the run is then done again." in str(error)
        str(error).encode()
        return False
    return True


@fuzz("records cut and garbled", cut=st.integers(0, 10_000), garbage=st.binary(max_size=20))
def test_a_cut_or_garbled_record_is_never_read_as_one(
    cut: int, garbage: bytes, fuzz_suite: Suite, tmp_path_factory: pytest.TempPathFactory
) -> bool:
    results, run = tmp_path_factory.mktemp("results"), fuzz_suite.runs[-1]
    path = records.write(results, run, sound(run), {})
    content = path.read_bytes()
    cut %= len(content) - 2  # the last two bytes are a brace and a newline
    path.write_bytes(content[:cut] + garbage)
    with pytest.raises(ResultsError, match="Delete it; the run is then done again"):
        records.read(path)
    return False


def test_a_report_of_tampered_words_is_escaped(tmp_path: Path, fuzz_suite: Suite) -> None:
    for run in fuzz_suite.runs:
        record = sound(run, "<script>alert(1)</script>|`=1+1")
        record["resolved"]["device"] = "<img src=x onerror=alert(1)>"
        record["scores"] |= {"<script>alert(2)</script>": 0.5, "=1+1": 0.5}
        records.write(tmp_path, run, record, {"history": {"step": ["<script>"], "loss": "x"}, "picture": [1]})
    made = report.make(tmp_path, SuiteSnapshot.of(fuzz_suite))
    for path in made.files:
        assert path.resolve().is_relative_to(tmp_path)
        if path.suffix == ".html":
            page = path.read_text()
            assert "<script>alert" not in page
            assert "<img src=x" not in page


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_link_is_no_record_and_nothing_is_written_through_it(tmp_path: Path, fuzz_suite: Suite, level: int) -> None:
    results, elsewhere, run = tmp_path / "results", tmp_path / "elsewhere", fuzz_suite.runs[-1]
    path = records.path_of(results, run)
    linked = [path, *path.parents][level]
    linked.parent.mkdir(parents=True)
    target = elsewhere / path.relative_to(linked)
    target.parent.mkdir(parents=True, exist_ok=True)
    (target if level else elsewhere.with_suffix(".json")).write_text(json.dumps(sound(run)))
    linked.symlink_to(elsewhere if level else elsewhere.with_suffix(".json"))
    with pytest.raises(ResultsError, match="the link .* in its path"):
        records.read(path)
    before = sorted(elsewhere.rglob("*"))
    if level:
        with pytest.raises(ResultsError, match=r"the link .* in its path\. Remove the link"):
            records.write(results, run, sound(run), {})
    else:
        records.write(results, run, sound(run, "mine"), {})
        assert not path.is_symlink()
    assert sorted(elsewhere.rglob("*")) == before


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: os.mkfifo(path), "a named pipe, not a regular file"),
        (lambda path: path.mkdir(), "a folder, not a regular file"),
        (lambda path: path.write_bytes(b" " * 500_001), "500001 bytes, more than the 500000 that are read"),
        (lambda path: path.write_text("[" * 100_000), "must be a record in JSON"),
        (lambda path: path.write_text('{"schema": NaN}'), "NaN is no number"),
        (lambda path: path.write_text('{"schema": 1' + "0" * 5000 + "}"), "must be a record in JSON"),
        (lambda path: path.write_text('{"schema": 1e999}'), "1e999 is no number"),
        (lambda path: path.write_text('{"schema": 1' + "0" * 400 + ".5}"), "is no number"),
        (lambda path: path.write_text('{"schema": 2, "schema": 2}'), "the key 'schema' is there twice"),
    ],
    ids=["pipe", "folder", "huge", "deep", "nan", "digits", "overflow", "long", "twice"],
)
def test_what_is_no_record_is_told_and_not_waited_for(
    tmp_path: Path, make: Callable[[Path], object], message: str
) -> None:
    make(tmp_path / "x.json")
    with pytest.raises(ResultsError, match=message):
        records.read(tmp_path / "x.json")
    assert records.read_curves(tmp_path / "x.json") == {}


def test_a_record_about_another_run_is_refused(tmp_path: Path, fuzz_suite: Suite) -> None:
    run = fuzz_suite.runs[-1]
    record = sound(run)
    record["run"]["learning_rate"] = 0.2
    path = records.write(tmp_path, run, record, {})
    with pytest.raises(ResultsError, match="is about another run than its name says"):
        records.read(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "../../elsewhere"),
        ("name", "other"),
        ("runs", [{"dataset": {"../..": {}}, "loss": {"x": {}}}]),
        ("score", 1),
    ],
)
def test_a_strangers_snapshot_cannot_send_a_report_elsewhere(
    tmp_path: Path, fuzz_suite: Suite, key: str, value: Any
) -> None:
    SuiteSnapshot.of(fuzz_suite).save(tmp_path)
    path = tmp_path / "fuzz" / "suite.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises((InputError, ResultsError)):
        snapshot.load(tmp_path, "fuzz")


def test_numbers_stay_what_they_are(tmp_path: Path, fuzz_suite: Suite) -> None:
    run = fuzz_suite.runs[-1]
    record = sound(run)
    record["scores"]["knn_top1"] = math.nextafter(0.5, 1)
    assert records.read(records.write(tmp_path, run, record, {})) == record


@pytest.mark.parametrize("name", ["checkpoints", "claims", "records", "fuzz"])
def test_a_results_folder_with_a_link_that_leads_out_is_refused(tmp_path: Path, fuzz_suite: Suite, name: str) -> None:
    results, elsewhere = tmp_path / "results", tmp_path / "elsewhere"
    for folder in (results, elsewhere):
        folder.mkdir()
    (results / name).symlink_to(elsewhere)
    with pytest.raises(ResultsError, match="must not be a link. Got one to .* Remove the link"):
        records.check_writable(results)
    assert not list(elsewhere.iterdir())
    (tmp_path / "link").symlink_to(results)  # a results folder that is itself a link is its user's choice
    (results / name).unlink()
    records.check_writable(tmp_path / "link")
