"""A damaged reference is bad input, with the place of its damage, or a finding. It never passes."""

import copy
import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cl_semisup import cli
from cl_semisup.errors import InputError
from cl_semisup.gate import check, gate_check, plan, reference, stored, trajectory
from cl_semisup.gate.gate_check import CHANGED, INCONCLUSIVE, SAME
from cl_semisup.gate.reference import Measurements
from cl_semisup.gate.trajectory import Trajectory
from tests.system.test_files import SPECIAL

pytestmark = pytest.mark.timeout(60)
SHIPPED = Path(__file__).parents[2] / "suites" / "gate.reference.json"
CONTENT = json.loads(SHIPPED.read_text())
LOSS = "nt_xent"
CELL = next(iter(CONTENT["trajectory"][LOSS]))


def columns(cell: dict[str, Any]) -> list[list[Any]]:
    """The lists of an outcome's cell, one entry a repetition each."""
    return [cell["status"], cell["loss"], *cell["scores"].values()]


DAMAGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no function": (lambda c: c.pop("function"), "must have the key 'function'"),
    "no machine": (lambda c: c["made"].pop("torch"), "made: must have the key 'torch'"),
    "no end": (lambda c: c["trajectory"][LOSS][CELL].pop("end"), f"{LOSS}.{CELL}: must have the key 'end'"),
    "no history": (lambda c: c.update(history=[]), "history: must have 1 or more members. Got 0"),
    "function is a list": (lambda c: c.update(function=[]), "function: must be an object. Got []"),
    "free is null": (lambda c: c["free"].update({LOSS: None}), f"free.{LOSS}: must be a list. Got None"),
    "a date is a number": (lambda c: c["made"].update(at=1), "made.at: must be text. Got 1"),
    "a commit is a list": (lambda c: c["history"][0].update(commit=[]), "history[0].commit: must be text"),
    "text for a number": (
        lambda c: c["function"][LOSS]["all labels"].__setitem__(0, "5"),
        f"function.{LOSS}.all labels[0]: must be a finite number. Got '5'",
    ),
    "true for a number": (lambda c: c["free"][LOSS][0].__setitem__(1, True), f"free.{LOSS}[0][1]: must be a finite"),
    "no inputs": (lambda c: c["function"].update({LOSS: {}}), f"function.{LOSS}: must have 1 or more members"),
    "no steps": (lambda c: c["free"].update({LOSS: []}), f"free.{LOSS}: must have 1 to 20 members. Got 0"),
    "no steps of a cell": (
        lambda c: c["trajectory"][LOSS][CELL].update(steps=[]),
        f"{CELL}.steps: must have 1 or more members",
    ),
    "too many steps": (lambda c: c["free"][LOSS].extend(c["free"][LOSS]), "must have 1 to 20 members. Got 40"),
    "a short row": (lambda c: c["function"][LOSS]["all labels"].pop(), "must have 5 members. Got 4"),
    "a long row": (lambda c: c["free"][LOSS][3].append(1.0), f"free.{LOSS}[3]: must have 4 members. Got 5"),
    "a row in a row": (lambda c: c["free"][LOSS].__setitem__(2, [[1.0] * 4]), f"free.{LOSS}[2]: must have 4"),
    "negative count": (lambda c: c["history"][0].update(moved=-1), "history[0].moved: must be a whole number"),
    "negative error": (
        lambda c: c["history"][0]["figures"][LOSS].update(value=[1.0, -1.0]),
        f"history[0].figures.{LOSS}.value[1]: must be at least 0. Got -1.0",
    ),
    "unknown status": (lambda c: c["outcome"][LOSS][CELL]["status"].__setitem__(0, "fine"), "must be one of ok, "),
    "a status of two": (lambda c: c["outcome"][LOSS][CELL]["status"].__setitem__(0, ["ok"]), "must be one of ok, "),
    "a score too large": (
        lambda c: c["outcome"][LOSS][CELL]["scores"]["knn_top1"].__setitem__(0, 1e99),
        "scores.knn_top1[0]: must be a fraction in [0, 1]. Got 1e+99",
    ),
    "a sound run without a loss": (lambda c: c["outcome"][LOSS][CELL]["loss"].__setitem__(0, None), "loss[0]: must be"),
    "a sound run without scores": (lambda c: c["outcome"][LOSS][CELL].update(scores={}), "scores: must have 1 or more"),
    "columns of two lengths": (lambda c: c["outcome"][LOSS][CELL]["loss"].pop(), "loss: must have 8 members. Got 7"),
    "no hash": (lambda c: c.pop("sha256"), "must have the key 'sha256'. Got none"),
    "a trajectory without its last step": (lambda c: c["trajectory"][LOSS][CELL]["steps"].pop(), "sha256: must be"),
    "an end as of a cut trajectory": (lambda c: c["trajectory"][LOSS][CELL].update(end={}), "sha256: must be the hash"),
    "a descent of one step": (lambda c: c["free"].update({LOSS: c["free"][LOSS][:1]}), "sha256: must be the hash"),
    "a figure of another row": (
        lambda c: c["function"][LOSS].update({"no labels": c["function"][LOSS]["short rows"]}),
        "sha256: must be the hash of all else in the file. Got another: it was damaged or changed",
    ),
    "a score less at the end": (
        lambda c: c["trajectory"][LOSS][CELL]["end"].pop("knn_top1"),
        "sha256: must be the hash",
    ),
    "one repetition less": (
        lambda c: [column.pop() for column in columns(c["outcome"][LOSS][CELL])],
        "sha256: must be the hash",
    ),
    "schema is text": (lambda c: c.update(schema="1"), "schema: must be a whole number of at least 0. Got '1'"),
}
NUMBER = re.compile(r"\[(?=-?\d)")
TEXTS: dict[str, tuple[Callable[[str], str], str]] = {
    "truncated": (lambda text: text[:5000], "must be a reference in JSON: "),
    "empty": (lambda text: "", "must be a reference in JSON: "),
    "huge": (lambda text: text + " " * stored.MAX_BYTES, f"more than the {stored.MAX_BYTES} that are read"),
    "nested": (lambda text: "[" * 100_000, "is nested too deeply"),
    "duplicate key": (lambda text: text.replace('"schema"', '"recipe": 1,\n "schema"', 1), "'recipe' is there twice"),
    "NaN": (lambda text: NUMBER.sub("[NaN, ", text, 1), "NaN is no number"),
    "infinity": (lambda text: NUMBER.sub("[-Infinity, ", text, 1), "-Infinity is no number"),
    "overflow": (lambda text: NUMBER.sub("[1e999, ", text, 1), "1e999 is no number"),
    "long number": (lambda text: NUMBER.sub(f"[{'9' * 400}, ", text, 1), "must"),
    "a list": (lambda text: "[]", "must be an object. Got []"),
    "no UTF-8": (lambda text: text.replace("dhel", "dh\udcffel", 1), "must be a reference in JSON: "),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_value_is_told_with_its_place(tmp_path: Path, damage: str) -> None:
    change, message = DAMAGES[damage]
    content = copy.deepcopy(CONTENT)
    change(content)
    (tmp_path / "r.json").write_text(json.dumps(content))
    with pytest.raises(InputError) as caught:
        reference.read(tmp_path / "r.json")
    assert str(caught.value).startswith(f"{tmp_path / 'r.json'}: ")
    assert message in str(caught.value)
    assert 'Make one with --update --reason "..."' in str(caught.value)


@pytest.mark.parametrize("damage", TEXTS)
def test_a_damaged_text_is_told(tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    change, message = TEXTS[damage]
    path = tmp_path / "r.json"
    path.write_bytes(change(SHIPPED.read_text()).encode(errors="surrogateescape"))
    suite = str(SHIPPED.with_name("gate.yaml"))
    for words in ([], ["--history"]):
        assert cli.main(["gate", suite, "--reference", str(path), *words]) == cli.BAD_INPUT
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["pipe", "socket", "folder", "device", "link to itself"])
def test_a_reference_that_is_no_file_is_told_at_once(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    SPECIAL[kind](tmp_path / "r.json")
    suite = str(SHIPPED.with_name("gate.yaml"))
    assert cli.main(["gate", suite, "--reference", str(tmp_path / "r.json")]) == cli.BAD_INPUT
    assert "r.json: must be a reference in JSON: " in capsys.readouterr().err


def test_a_history_is_not_lost_with_a_damaged_reference(tmp_path: Path) -> None:
    assert reference.read_history(tmp_path / "r.json") == []
    for content in ("{", "{}", '{"history": []}', '{"history": [1]}'):
        (tmp_path / "r.json").write_text(content)
        with pytest.raises(InputError, match="It carries the history on: delete it to start anew"):
            reference.read_history(tmp_path / "r.json")
    os.unlink(tmp_path / "r.json")
    (tmp_path / "r.json").symlink_to("nowhere")
    with pytest.raises(Exception, match="no reference there"):
        reference.read_history(tmp_path / "r.json")


# What is absent or not finite is never the same ---------------------------------------------------------------------


@pytest.mark.parametrize("before", [None, float("nan"), float("inf")])
@pytest.mark.parametrize("now", [None, float("nan"), 1.0])
def test_a_number_that_is_not_finite_is_never_the_same(before: float | None, now: float | None) -> None:
    fields: dict[str, Any] = {"tier": "function", "loss": "x", "where": ""}
    for pair in ((before, now), (now, before)):
        found = gate_check.exact_check(("a", "b"), [1.0, pair[0]], [1.0, pair[1]], **fields)
        assert found.status == (CHANGED if now == 1.0 else INCONCLUSIVE)
    assert gate_check.exact_check(("a", "b"), [1.0], [1.0, 2.0], **fields).status == CHANGED


@pytest.mark.parametrize("missing", ["before", "now"])
def test_a_score_at_the_end_that_only_one_side_has_is_a_finding(missing: str) -> None:
    whole = Trajectory([[1.0] * 4], {"status": "ok", "reason": "", "knn_top1": 0.5, "feature_std": 0.1})
    less = Trajectory(whole.steps, {name: value for name, value in whole.end.items() if name != "knn_top1"})
    pair = (less, whole) if missing == "before" else (whole, less)
    assert trajectory.compare("x", "c", *pair).status == CHANGED
    assert trajectory.compare("x", "c", whole, whole).status == SAME


def test_a_step_that_is_not_finite_leaves_a_trajectory_inconclusive() -> None:
    diverged = Trajectory([[1.0] * 4, [None] * 4], {"status": "diverged", "reason": ""})
    assert trajectory.compare("x", "c", diverged, diverged).status == INCONCLUSIVE


@pytest.mark.parametrize("left", ["nothing", "no cell", "fewer repetitions", "a cell of another name"])
def test_an_outcome_that_the_reference_lacks_is_a_finding(left: str) -> None:
    gate_plan = plan.read(SHIPPED.with_name("gate.yaml"))
    run = {"status": "ok", "loss": 1.0, "scores": {gate_plan.suite.score: 0.5}}
    outcome = {
        loss: {cell: [run] * len(runs) for cell, runs in cells.items()} for loss, cells in gate_plan.cells.items()
    }
    kept = reference.Reference("s", "", reference.provenance(), {}, [{"reason": ""}], Measurements(outcome=outcome))
    everything = {one.id: run for one in gate_plan.runs}
    checks = check.run_checks(gate_plan, kept, lambda _: everything, ("outcome",), lambda _: None)[0]
    assert checks.exit_code == 0
    loss = next(iter(outcome))
    if left == "no cell":
        outcome[loss].popitem()
    elif left == "a cell of another name":
        outcome[loss]["\x1b[31mx"] = outcome[loss].popitem()[1]
    elif left == "fewer repetitions":
        outcome[loss] = {cell: runs[:1] for cell, runs in outcome[loss].items()}
    changed = outcome if left != "nothing" else {}
    kept = replace(kept, measurements=Measurements(outcome=changed))
    checks = check.run_checks(gate_plan, kept, lambda _: everything, ("outcome",), lambda _: None)[0]
    assert checks.exit_code == 1
    assert {found.note for found in checks.changed_checks} == {"not in the reference"}
