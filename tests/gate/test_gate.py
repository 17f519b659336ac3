"""The gate finds planted faults in the right tier, passes unchanged code, and says what to do in every error."""

import argparse
import importlib.util
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from cl_semisup import cli, losses
from cl_semisup.contract import Batch
from cl_semisup.gate import ci, function, gate_check, history, outcome, page, plan, reference, result, trajectory
from cl_semisup.gate.float64 import float64
from cl_semisup.gate.gate_check import CHANGED, INCONCLUSIVE, SAME, GateCheck
from cl_semisup.gate.trajectory import Trajectory

ROOT = Path(__file__).parents[2]
pytest_plugins = ["pytester"]


def _power() -> ModuleType:
    """The benchmark script, which defines the planted faults."""
    spec = importlib.util.spec_from_file_location("gate_power", ROOT / "benchmarks" / "gate_power.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gate_power"] = module
    spec.loader.exec_module(module)
    return module


power = _power()
FEWER = "\n".join(line for line in power.SUITE.splitlines() if line.strip() not in ("- cross_entropy", "- clop")) + "\n"


@pytest.fixture(scope="module")
def gate_plan() -> plan.Plan:
    return power.small_plan()


@pytest.fixture(scope="module")
def stored(gate_plan: plan.Plan) -> reference.Reference:
    return power.reference_of(gate_plan, ("function", "trajectory"))


# float64 ------------------------------------------------------------------------------------------------------------


def test_single_precision_becomes_double_inside_and_only_inside() -> None:
    with float64():
        assert torch.zeros(2).float().dtype == torch.float64
        assert torch.arange(3, dtype=torch.float32).dtype == torch.float64
        assert torch.zeros(2).to(torch.float32).dtype == torch.float64
        assert torch.zeros(2).bfloat16().dtype == torch.bfloat16
        assert torch.nn.Linear(2, 2).weight.dtype == torch.float64
    assert torch.zeros(2).float().dtype == torch.float32


def test_double_precision_ends_with_an_error_inside() -> None:
    with pytest.raises(RuntimeError, match="inside"), float64():
        raise RuntimeError("inside")
    assert torch.get_default_dtype() == torch.float32


# planted faults -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [f for f in power.FAULTS if f.tier == "function"], ids=lambda f: f.name)
def test_a_fault_of_a_loss_is_found_in_the_function_tier(
    fault: Any, gate_plan: plan.Plan, stored: reference.Reference
) -> None:
    found = power.find(fault, gate_plan, stored, ("function",))
    assert found is not None
    assert found.exit_code == 1
    assert "the loss itself" in next(iter(found.causes().values()))


@pytest.mark.parametrize("fault", [f for f in power.FAULTS if f.tier == "trajectory"], ids=lambda f: f.name)
def test_a_fault_of_training_is_found_in_the_trajectory_tier_and_not_before(
    fault: Any, gate_plan: plan.Plan, stored: reference.Reference
) -> None:
    needed = {"momentum encoder stands still": "moco_v3(hidden=32)"}
    loss = needed.get(fault.name, "clop(prototypes=learned)")
    few = replace(gate_plan, cells={loss: gate_plan.cells[loss]})
    assert power.find(fault, few, stored, ("function",)) is None
    found = power.find(fault, few, stored, ("trajectory",))
    assert found is not None
    assert {f.where for f in found.changed_checks} == {"lr 0.3, batch 64"}


def test_unchanged_code_passes_and_deviates_by_rounding_only(gate_plan: plan.Plan, stored: reference.Reference) -> None:
    some = replace(gate_plan, cells=dict(list(gate_plan.cells.items())[:3]))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = power.run_checks(some, stored, ("function", "trajectory"))[0]
    finally:
        torch.set_num_threads(threads)
    assert found.exit_code == 0
    assert len(found.checks) == 3 * (len(function.fixed_inputs()) + 2)
    assert max(gate_check.relative_deviation(f.reference, f.current) for f in found.checks) < 1e-11


def test_a_fault_of_long_training_is_found_by_the_outcome_tier_alone() -> None:
    text = (
        power.SUITE[: power.SUITE.index("losses:")] + "losses: nt_xent\n" + power.SUITE[power.SUITE.index("label_f") :]
    )
    one = power.small_plan(text.replace("learning_rate: 0.3", "learning_rate: 1"))
    before = power.reference_of(one)
    late = next(f for f in power.FAULTS if "step 25" in f.name)
    found = power.find(late, one, before)
    assert found is not None
    assert {f.tier for f in found.changed_checks} == {"outcome"}
    assert power.find(power.Fault("nothing", "", lambda stack: None), one, before) is None


def test_training_that_amplifies_rounding_is_kept_for_as_long_as_it_says_something() -> None:
    rows = [[1.0, 1.0, 1.0, 1.0] for _ in range(5)]
    grown = [[1.0 + (1e-9 if step >= 3 else 1e-13), 1.0, 1.0, 1.0] for step in range(5)]
    kept = trajectory.predictable_steps(Trajectory(rows, {"status": "ok"}), Trajectory(grown, {"status": "ok"}))
    assert len(kept.steps) == 3
    assert kept.end == {}


def test_the_first_step_that_differs_is_named() -> None:
    then = [[1.0, 2.0, 3.0, 4.0] for _ in range(4)]
    now = [list(row) for row in then]
    now[2][1] *= 1 + 1e-6
    now[3][0] = 9.0
    found = trajectory.compare("x", "cell", Trajectory(then), Trajectory(now))
    assert (found.status, found.step, found.quantity) == (CHANGED, 2, "gradient norm")


def test_a_run_that_breaks_is_told_with_its_reason() -> None:
    end = {"status": "failed", "reason": "ValueError: a bug"}
    found = trajectory.compare("x", "cell", Trajectory([[1.0] * 4], {"status": "ok"}), Trajectory([], end))
    assert (found.status, found.note) == (CHANGED, "ValueError: a bug")


def test_unlabelled_labelled_and_degenerate_inputs_are_all_measured() -> None:
    inputs = function.fixed_inputs()
    assert inputs["no labels"].labels is None
    assert (inputs["some labels"].labels == -1).any()
    assert float(inputs["short rows"].z1.norm(dim=1).max()) < 1e-3
    assert all(isinstance(batch, Batch) and batch.z1.dtype == torch.float64 for batch in inputs.values())


def test_a_gradient_that_turns_without_changing_its_length_is_seen() -> None:
    gradient = torch.eye(16, dtype=torch.float64)[0]
    assert abs(function.projection(gradient) - function.projection(gradient.roll(1))) > 1e-3


# statistics ---------------------------------------------------------------------------------------------------------


def _runs(scores: list[float | None], losses_: list[float] | None = None) -> list[outcome.RunSummary]:
    kept = losses_ or [1.0] * len(scores)
    return [
        {"status": "diverged" if s is None else "ok", "loss": loss, "scores": {} if s is None else {"top1": s}}
        for s, loss in zip(scores, kept, strict=True)
    ]


def _outcome(then: list[float | None], now: list[float | None], **rest: Any) -> dict[str, GateCheck]:
    cell = "lr 1, batch 64"
    found = outcome.compare({"x": {cell: _runs(then)}}, {"x": {cell: _runs(now)}}, **rest)
    return {f.quantity: f for f in found}


SCORES = [0.80, 0.84, 0.79, 0.86, 0.81, 0.83, 0.85, 0.80]


def test_a_drop_in_every_pair_is_found_although_seeds_differ_by_more() -> None:
    found = _outcome([*SCORES], [s - 0.02 + 0.001 * (i % 3) for i, s in enumerate(SCORES)])
    assert found["top1"].status == CHANGED
    assert found["top1"].sigmas is not None and found["top1"].sigmas < -10
    assert found["final loss"].status == found["stable learning rates"].status == SAME


def test_noise_without_a_drop_is_inconclusive_and_never_a_regression() -> None:
    noise = [0.03, -0.03, 0.02, -0.02, 0.03, -0.03, 0.01, -0.01]
    found = _outcome([*SCORES], [s + d for s, d in zip(SCORES, noise, strict=True)])
    assert found["top1"].status == INCONCLUSIVE
    assert "n = 8" in found["top1"].note


def test_a_change_below_half_the_margin_is_no_regression_however_certain() -> None:
    found = _outcome([*SCORES], [s - 0.004 for s in SCORES])
    assert found["top1"].status == SAME


def test_divergence_where_training_was_sound_is_found() -> None:
    found = _outcome([*SCORES], [None] * 8)
    assert found["top1"].status == CHANGED
    assert found["stable learning rates"].status == CHANGED
    assert found["stable learning rates"].current == 0


def test_stable_learning_rates_are_counted_from_the_smallest_up() -> None:
    ok, bad = _runs([0.5, 0.5]), _runs([None, 0.5])
    cells = {"lr 0.1, batch 64": ok, "lr 10, batch 64": ok, "lr 1, batch 64": bad, "lr 0.1, batch 256": ok}
    assert list(outcome.stable_rates(cells, 2)) == [(1 + 1) / 2, (3 + 1) / 2]
    assert outcome.largest_stable_rate(cells) == 0.1
    assert outcome.largest_stable_rate({**cells, "lr 1, batch 64": ok, "lr 1, batch 256": ok}) == 1
    assert outcome.largest_stable_rate({"lr 0.1, batch 64": bad}) == 0


def test_a_run_that_fails_needs_no_statistics() -> None:
    failed = [{"status": "failed", "loss": None, "scores": {}, "reason": "RuntimeError: a bug"}]
    found = outcome.compare({"x": {"lr 1, batch 2": _runs([0.5])}}, {"x": {"lr 1, batch 2": failed}})
    assert [f.note for f in found if f.status == CHANGED] == ["RuntimeError: a bug"]


def test_the_second_look_is_for_losses_in_doubt_only() -> None:
    cells = {
        loss: {"lr 1, batch 64": [argparse.Namespace(id=f"{loss}{r}", repetition=r) for r in range(8)]} for loss in "ab"
    }
    noise = [0.03, -0.03, 0.02, -0.02, 0.03, -0.03, 0.01, -0.01]
    then = {loss: {"lr 1, batch 64": _runs([*SCORES])} for loss in "ab"}
    now = {f"a{r}": _runs([SCORES[r]])[0] for r in range(8)}
    now |= {f"b{r}": _runs([SCORES[r] + noise[r]])[0] for r in range(8)}
    executed: list[str] = []

    def execute(runs: Any) -> Any:
        executed.extend(run.id for run in runs)
        return {run.id: now[run.id] for run in runs}

    found, measured = outcome.run_checks(cells, then, execute)  # type: ignore[arg-type]
    assert sorted(executed) == [*(f"a{r}" for r in range(4)), *(f"b{r}" for r in range(8))]
    assert {f.status for f in found if f.loss == "a"} == {SAME}
    assert len(measured["b"]["lr 1, batch 64"]) == 8


def test_false_alarms_stay_below_one_in_a_hundred_gates() -> None:
    found = power.simulated_alarms(200)
    assert found["alarms"] <= 2
    assert found["found"] > 100  # and a change of one and a half margins is seen


def test_repetitions_without_a_common_seed_raise_no_alarm_either() -> None:
    random = np.random.RandomState(3)
    pool = {
        loss: {"lr 1, batch 64": _runs(list(0.8 + 0.02 * random.standard_normal(24)), list(1 + 0.02 * random.rand(24)))}
        for loss in "abcd"
    }
    found = power.outcome_alarms(pool, pool, 100, paired=False)
    assert found["alarms"] <= 1
    assert found["inconclusive"] > 0
    assert power.outcome_alarms(pool, pool, 10)["inconclusive"] == 0  # nor do the same repetitions, without a doubt


def test_a_count_of_no_false_alarms_bounds_their_rate_and_does_not_make_it_nothing() -> None:
    assert power.upper_bound(0, 200) == pytest.approx(1 - 0.05 ** (1 / 200))  # 1.5 %
    assert power.upper_bound(2, 200) > power.upper_bound(0, 200)


def test_unchanged_code_is_rerun_against_references_of_its_own(tmp_path: Path, gate_plan: plan.Plan) -> None:
    with pytest.MonkeyPatch.context() as fewer:
        fewer.setattr(power, "outcome_pool", lambda gate_plan: {})
        fewer.setattr(power, "RERUN_LOSSES", ("supcon",))
        gates = power.exact_gates(gate_plan, 2)
        power.store(gates, tmp_path)
        assert len({run.id for gate in gates for run in gate.runs}) == 2
        found = power.rerun(gate_plan, tmp_path)
        assert (found["gates"], found["moved"]) == (2, [])
        assert found["largest"] < 1e-11
        supcon = next(f for f in power.FAULTS if f.name == "sum instead of mean")
        with power.planted(supcon):
            assert len(power.rerun(gate_plan, tmp_path)["moved"]) == 2


# plan and reference -------------------------------------------------------------------------------------------------


def test_a_loss_is_named_by_what_differs_from_its_defaults() -> None:
    assert plan.loss_name({"nt_xent": {"temperature": 0.5}}) == "nt_xent"
    assert plan.loss_name({"nt_xent": {"temperature": 0.1}}) == "nt_xent(temperature=0.1)"
    named = {"clop": {"base": {"supcon": {"temperature": 0.3}}, "weight": 2.0}}
    assert plan.loss_name(named) == "clop(base=supcon(temperature=0.3), weight=2)"


def test_comments_and_the_order_of_keys_do_not_ask_another_question() -> None:
    assert power.small_plan("# why\n" + power.SUITE).suite_hash == power.small_plan().suite_hash
    assert power.small_plan(power.SUITE.replace("epochs: 4", "epochs: 5")).suite_hash != power.small_plan().suite_hash


def test_a_reference_survives_writing_and_shows_a_step_a_line(
    tmp_path: Path, gate_plan: plan.Plan, stored: reference.Reference
) -> None:
    path = tmp_path / "r.json"
    reference.write(path, stored)
    again = reference.read_for(gate_plan, path)
    assert again.measurements == stored.measurements
    assert again.history == stored.history
    steps = next(iter(stored.measurements.trajectory["nt_xent"].values())).steps
    row = ", ".join(json.dumps(v) for v in steps[3])
    assert any(line.strip().strip(",") == f"[{row}]" for line in path.read_text().splitlines())


def test_the_shipped_reference_is_of_the_shipped_suite_and_of_this_code() -> None:
    shipped = plan.read(ROOT / "suites" / "gate.yaml")
    kept = reference.read_for(shipped, ROOT / "suites" / "gate.reference.json")
    assert set(kept.measurements.function) == set(kept.measurements.outcome) == set(shipped.cells)
    assert all(entry["reason"] for entry in kept.history)
    assert function.compare("dhel", kept.measurements.function["dhel"], function.measure(shipped.build_loss("dhel")))


# the command --------------------------------------------------------------------------------------------------------

TINY = """\
question: Has anything changed?
datasets: digits
encoder: {mlp: {width: 8, layers: 1}}
losses: [nt_xent]
label_fraction: 0.1
learning_rate: 0.1
batch_size: 256
repetitions: 2
epochs: 1
projector: {dim: 8}
probes: {linear: false}
score: knn_top1
validation: all
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    threads = torch.get_num_threads()
    yield path
    torch.set_num_threads(threads)


def _gate(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = cli.main(["gate", *map(str, words), *([] if "--history" in words else ["--workers", "1"])])
    out, err = capsys.readouterr()
    return code, out, err


def test_from_no_reference_to_a_regression_and_its_reason(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = _gate(capsys, tiny)
    assert code == 3
    assert 'no reference there. Make one with --update --reason "..."' in err

    code, _, err = _gate(capsys, tiny, "--update")
    assert code == 2
    assert err.startswith("--update: needs --reason")

    assert _gate(capsys, tiny, "--update", "--reason", "first")[0] == 0
    code, out, _ = _gate(capsys, tiny)
    assert code == 0
    assert "PASSED" in out

    warmer = losses.build("nt_xent", temperature=0.505)
    kind = type(warmer)
    right = kind.__call__
    with monkeypatch.context() as wrong:
        wrong.setattr(kind, "__call__", lambda self, *rest: right(warmer, *rest))
        wrong.setenv("GITHUB_ACTIONS", "true")
        files = {name: tmp_path / f"out.{name}" for name in ("json", "junit", "html")}
        code, out, _ = _gate(capsys, tiny, *(word for name, path in files.items() for word in (f"--{name}", path)))
        assert code == 1
        assert "MOVED" in out
        assert "Likely cause, nt_xent: the loss itself" in out
        assert f"::error file={tiny},title=gate%2C function%3A nt_xent::" in out
        found = json.loads(files["json"].read_text())
        assert found["exit_code"] == 1
        assert {f["tier"] for f in found["findings"]} == {"function", "trajectory", "outcome"}
        suites = ElementTree.fromstring(files["junit"].read_text())
        assert int(suites.find("testsuite[@name='function']").get("failures", 0)) == len(function.fixed_inputs())  # type: ignore[union-attr]
        assert "<svg" in files["html"].read_text()
        assert _gate(capsys, tiny, "--update", "--reason", "a warmer temperature")[0] == 0
        assert _gate(capsys, tiny)[0] == 0

    code, out, _ = _gate(capsys, tiny, "--history")
    assert code == 0
    assert "step to" in out
    assert "(a warmer temperature)" in out


def test_a_reference_of_another_suite_is_refused(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tiny.with_suffix(".reference.json")
    path.write_text(json.dumps({"schema": 1, "recipe": 0}))
    assert _gate(capsys, tiny)[0] == 3
    path.write_text("{")
    code, _, err = _gate(capsys, tiny)
    assert (code, "must be a reference in JSON" in err) == (2, True)
    kept = json.loads((ROOT / "suites" / "gate.reference.json").read_text())
    path.write_text(json.dumps(kept))
    code, _, err = _gate(capsys, tiny)
    assert code == 3
    assert "must be made from the suite as it is" in err


def test_a_fault_in_the_gate_s_suite_is_told_with_its_place(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.write_text(TINY.replace("nt_xent", "nt_xnt"))
    code, _, err = _gate(capsys, tiny)
    assert code == 2
    assert "tiny.yaml:4:10: losses[0]: unknown loss 'nt_xnt'. Did you mean 'nt_xent'?" in err


# what is printed ----------------------------------------------------------------------------------------------------

NASTY = GateCheck("function", 'x"<&]]>%\n::y', "a,b", "value", 1.0, 2.0, CHANGED, note="line\none\x1b[0m")


def test_names_and_messages_are_escaped_wherever_they_go() -> None:
    nasty_result = result.GateResult("s.yaml", (NASTY,), "reference")
    case = ElementTree.fromstring(ci.junit(nasty_result)).find(".//failure")
    assert case is not None and "line" in case.get("message", "")
    (line,) = ci.annotations(nasty_result).splitlines()
    assert "%0A" in line and "\n" not in line
    html = page.of_result(
        nasty_result,
        reference.Measurements(),
        reference.Measurements(embedding_descent={"<b>": Trajectory([[1.0] * 4])}),
    )
    assert "<b>" not in html and "&lt;b&gt;" in html


def test_the_cause_follows_the_tier_and_the_first_step() -> None:
    def cause(**changed: Any) -> str:
        base = {
            "tier": "trajectory",
            "loss": "x",
            "where": "lr 1",
            "quantity": "loss",
            "reference": 1.0,
            "current": 2.0,
        }
        return result.likely_cause([GateCheck(**{**base, "status": CHANGED, **changed})], False)

    assert "the loss itself" in cause(tier="function")
    assert "remembers between steps" in cause(where=trajectory.FREE_EMBEDDINGS, step=3)
    assert "comes before the loss" in cause(step=0)
    assert "optimizer, schedule or momentum copy; steps 0 to 6" in cause(step=7)
    assert "evaluation" in cause(step=-1)
    assert "single precision" in cause(tier="outcome")


def test_the_history_finds_the_update_at_which_a_figure_stepped() -> None:
    levels = [1.0] * 5 + [1.3] * 4
    assert history.change_points(levels, 1e-9) == [5]
    random = np.random.RandomState(0)
    noisy = [value + 0.02 * random.standard_normal() for value in levels]
    assert history.change_points(noisy, 0.02) == [5]
    assert history.change_points([1 + 0.02 * random.standard_normal() for _ in range(12)], 0.02) == []
    assert history.change_points([0.0, 1.0, 1.0, 0.5], 1e-9) == [1, 3]


# the pytest plug-in -------------------------------------------------------------------------------------------------

EXAMPLE = """\
import torch


def margin_loss(z1, z2, labels=None, margin=0.1):
    u, v = (torch.nn.functional.normalize(z, dim=1) for z in (z1, z2))
    return ((u - v).square().sum(dim=1) - margin).relu().mean()


def test_margin_loss_is_what_it_was(gate):
    gate(margin_loss)


def test_something_else():
    pass
"""
INSTALLED = any(entry.name == "cl_gate" for entry in metadata.entry_points(group="pytest11"))
LOADED = () if INSTALLED else ("-p", "cl_semisup.pytest_plugin")  # pytest finds an installed one by itself


def test_a_project_s_own_tests_hold_its_losses_to_their_references(pytester: pytest.Pytester) -> None:
    words = ("-p", "no:cacheprovider", *LOADED)
    pytester.makepyfile(test_margin=EXAMPLE)
    assert pytester.runpytest_inprocess(*words).ret == 1
    pytester.runpytest_inprocess(*words, "--cl-gate-update", "first").assert_outcomes(passed=1, deselected=1)
    result = pytester.runpytest_inprocess(*words, "--cl-gate")
    result.assert_outcomes(passed=1, deselected=1)
    stored = json.loads((pytester.path / "cl_gate.json").read_text())
    ((key, kept),) = stored["losses"].items()
    assert key.endswith("::test_margin_loss_is_what_it_was")
    assert kept["history"][0]["reason"] == "first"

    pytester.makepyfile(test_margin=EXAMPLE.replace("margin=0.1", "margin=0.101"))
    result = pytester.runpytest_inprocess(*words, "--cl-gate")
    result.assert_outcomes(failed=1, deselected=1)
    result.stdout.fnmatch_lines(["*the loss has changed:*", "*--cl-gate-update*"])

    damaged = json.dumps(stored | {"losses": {key: kept | {"free": kept["free"][:2]}}})  # two steps that still agree
    (pytester.path / "cl_gate.json").write_text(damaged)
    result = pytester.runpytest_inprocess(*words, "--cl-gate")
    result.assert_outcomes(failed=1, deselected=1)
    result.stdout.fnmatch_lines(["*sha256: must be the hash of all else in the file.*Delete it and make it anew.*"])

    (pytester.path / "cl_gate.json").write_text("{}")
    result = pytester.runpytest_inprocess(*words, "--cl-gate")
    result.stdout.fnmatch_lines(["*must be a file of references of schema 1. Delete it and make it anew.*"])
    result = pytester.runpytest_inprocess(*words, "--cl-gate-update", " ")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--cl-gate-update: needs a reason, which is kept. Got none.*"])


def test_the_plug_in_that_pytest_loads_everywhere_brings_nothing_heavy() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    name = project["entry-points"]["pytest11"]["cl_gate"]
    code = f"import sys, {name}; sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'scipy', 'yaml')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_example_of_the_manual_is_the_one_that_is_tested() -> None:
    text = (ROOT / "docs" / "gate.md").read_text()
    block = text.split("```python\n")[1].split("```")[0]
    assert block.strip() in EXAMPLE
    assert len(block.strip().splitlines()) <= 15


def test_the_inputs_of_the_function_tier_are_what_stored_references_were_measured_on() -> None:
    random = np.random.RandomState(7)
    first, noise = random.standard_normal((12, 16)), random.standard_normal((12, 16))
    inputs = function.fixed_inputs()
    np.testing.assert_array_equal(inputs["all labels"].z1.numpy(), first)
    np.testing.assert_array_equal(inputs["all labels"].z2.numpy(), first + noise / 2)
    np.testing.assert_allclose(inputs["nearly one point"].z2.numpy(), first[:1] + (first + noise / 2) / 100, rtol=1e-14)
    np.testing.assert_allclose(inputs["short rows"].z1.numpy(), first / 10_000, rtol=1e-14)
    assert inputs["some labels"].labels is not None and inputs["no labels"].labels is None
    assert inputs["some labels"].labels.tolist() == [0, -1, 2, 3, -1, 1, 2, -1, 0, 1, -1, 3]


def test_what_a_strangers_reference_says_of_itself_stays_on_its_line() -> None:
    told = result.GateResult("s.yaml", (), "made at 1\nPASSED \x1b[32m", ("torch 2\r -> 3",)).text()
    assert "Reference: made at 1\\nPASSED \\x1b[32m" in told.splitlines()
    assert "Changed since: torch 2\\r -> 3" in told.splitlines()
