"""The collapse experiment: its numbers and its assertions, which can fail."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from cl_semisup import cli, losses
from cl_semisup.errors import SuiteError
from cl_semisup.gate import ci, collapse, collapse_suite, dynamics
from cl_semisup.gate.dynamics import Descent

ROOT = Path(__file__).parents[2]
SMALL = """\
question: Does it collapse?
descents:
  - {dynamics: [repulsion, gradient], rate: [0.5, 1.1]}
  - {dynamics: repulsion, rate: [0.5, 1.1], weight: [0.1, 1, 5]}
  - {dynamics: repulsion, rate: 0.5, start: collapsed}
minimisers: [{nt_xent: {temperature: 0.3}}, {dhel: {temperature: 0.3}}]
repetitions: 1
"""


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> object:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield None
    torch.set_num_threads(threads)


@pytest.mark.parametrize(("rate", "rank"), [(0.5, 16.0), (0.9, 16.0), (1.0, 7.9), (1.1, 1.0), (5.0, 1.0)])
def test_repulsion_alone_loses_rank_at_a_rate_of_the_temperature(rate: float, rank: float) -> None:
    assert dynamics.run_descent(Descent(rate=rate)).final_rank == pytest.approx(rank, abs=0.2)


@pytest.mark.parametrize(("rate", "rank"), [(1.1, 16.0), (1.5, 16.0), (2.2, 1.0), (5.0, 1.0)])
def test_the_anchors_own_term_alone_loses_rank_at_twice_the_temperature(rate: float, rank: float) -> None:
    assert dynamics.run_descent(Descent(dynamics="one_sided", rate=rate)).final_rank == pytest.approx(rank, abs=0.2)


@pytest.mark.parametrize(
    ("temperature", "rate", "rank"), [(1, 0.9, 16.0), (1, 1.1, 1.0), (0.1, 5.0, 16.0), (0.1, 15.0, 1.0)]
)
def test_a_sum_without_the_partner_that_the_softmax_has_collapses_later_at_a_low_temperature(
    temperature: float, rate: float, rank: float
) -> None:
    descent = Descent(dynamics="other_images", temperature=temperature, rate=rate)
    assert dynamics.run_descent(descent).final_rank == pytest.approx(rank, abs=0.5)


def test_each_repulsion_is_a_sum_over_the_named_points() -> None:
    z = F.normalize(torch.randn(6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64), dim=1)
    descent = Descent(rate=0.7, temperature=0.5)
    kinds = [  # partner in the softmax, partner in the sum, each pair twice
        ("repulsion", True, True, True),
        ("one_sided", True, True, False),
        ("without_partner", False, False, True),
        ("other_images", True, False, True),
    ]
    for kind, in_softmax, in_sum, is_mutual in kinds:
        wanted = z.clone()
        for a in range(6):
            normalised = [b for b in range(6) if b != a and (in_softmax or b != (a + 3) % 6)]
            total = sum(math.exp(float(z[a] @ z[b]) / 0.5) for b in normalised)
            for b in (b for b in normalised if in_sum or b != (a + 3) % 6):
                w = math.exp(float(z[a] @ z[b]) / 0.5) / total
                wanted[a] -= 0.7 * w * z[b]
                if is_mutual:
                    wanted[b] -= 0.7 * w * z[a]
        torch.testing.assert_close(dynamics.UPDATES[kind](z, descent), wanted)


def test_at_a_low_temperature_the_threshold_is_soft() -> None:
    ranks = [dynamics.run_descent(Descent(rate=rate, temperature=0.1)).final_rank for rate in (0.5, 0.9, 2.0)]
    assert ranks[0] > 15.9
    assert 10 < ranks[1] < 15
    assert 1.5 < ranks[2] < 5


def test_a_collapse_leaves_one_point_or_one_line_and_says_which() -> None:
    trajectory = dynamics.run_descent(Descent(rate=1.5))
    assert trajectory.mean_cosine == pytest.approx(1)
    assert trajectory.mean_norm == pytest.approx(1)
    assert trajectory.ranks[0] > 15


@pytest.mark.parametrize("kind", ["gradient", "free"])
def test_the_full_gradient_keeps_its_rank_at_twice_that_rate(kind: str) -> None:
    assert dynamics.run_descent(Descent(dynamics=kind, rate=2.0)).final_rank > 15.9  # type: ignore[arg-type]


def test_the_gradient_of_the_dynamics_is_the_gradient_of_the_loss() -> None:
    random = torch.Generator().manual_seed(0)
    z = torch.randn(2, 6, 5, generator=random, dtype=torch.float64).requires_grad_()
    loss = losses.build("nt_xent", temperature=0.5)(z[0], z[1]) * 12  # summed over the 12 anchors
    (wanted,) = torch.autograd.grad(loss, z)
    descent, y = Descent(dynamics="free", rate=1.0), z.detach().reshape(12, 5)
    found = (y - dynamics.UPDATES["free"](y, descent)) / descent.temperature
    torch.testing.assert_close(found, wanted.reshape(12, 5))


def test_ranks_are_recorded_at_even_distances_and_at_the_end() -> None:
    descent = Descent(rate=0.7, images=4, dim=3, steps=103)
    each = dynamics.run_descent(descent, points=103).ranks
    assert len(each) == 104
    assert dynamics.run_descent(descent, points=50).ranks == (*each[:103:2], each[103])


@pytest.mark.parametrize(("weight", "rank"), [(0.1, 2.35), (0.5, 3.35), (1.0, 3.70), (2.0, 3.96), (5.0, 3.98)])
def test_prototypes_lift_a_collapsed_rank_towards_the_number_of_classes(weight: float, rank: float) -> None:
    assert dynamics.run_descent(Descent(rate=1.1, weight=weight)).final_rank == pytest.approx(rank, abs=0.1)


@pytest.mark.parametrize("named", [{"nt_xent": {"temperature": 0.3}}, {"dhel": {"temperature": 0.3}}, {"kcl": {}}])
def test_losses_of_one_family_share_the_simplex_as_their_minimiser(named: dict) -> None:  # type: ignore[type-arg]
    minimiser = dynamics.minimise(named, images=5, dim=8, steps=1000)
    assert minimiser.view_cosine == pytest.approx(1, abs=1e-4)
    assert minimiser.image_cosine == pytest.approx(-0.25, abs=1e-4)
    assert minimiser.image_cosine_range < 1e-3


def test_collapsed_points_are_stationary_and_a_saddle() -> None:
    assert dynamics.stationary_gradient_norm("equal") < 1e-12
    assert dynamics.stationary_gradient_norm("antipodal") < 1e-12
    assert dynamics.loss_change(0.1, shared=True) == pytest.approx(-0.12, abs=0.03)
    _, saddle = collapse._stationary(collapse_suite.parse(SMALL, "s.yaml"), {})
    changes = [dynamics.loss_change(noise, shared=True) for noise in (0.01, 0.1, 0.3)]
    assert saddle.value == max(changes) and saddle.holds  # of both views moved alike; apart, the loss rises


def test_all_assertions_hold_and_fail_when_the_dynamics_are_others(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = collapse_suite.parse(SMALL, "s.yaml")
    result = collapse.run(experiment)
    assert result.gate_result().exit_code == 0
    assert "All 10 claims hold." in result.text()
    first, second = next(rows for title, rows in collapse._tables(result) if "learning rate" in title)[1:]
    for row, kind in ((first, "repulsion"), (second, "gradient")):  # each row has the ranks of its own dynamics
        ranks = [result.mean_final_rank(Descent(dynamics=kind, rate=rate)) for rate in (0.5, 1.1)]  # type: ignore[arg-type]
        assert row.startswith(kind) and row.split()[-2:] == [f"{rank:.2f}" for rank in ranks]
    assert first.split()[-2:] != second.split()[-2:]
    assert "<svg" in result.html()
    assert ci.junit(result.gate_result()).count("<testcase") == 10

    monkeypatch.setitem(dynamics.UPDATES, "repulsion", dynamics.UPDATES["gradient"])
    broken = collapse.run(replace(experiment, minimisers=()))
    assert broken.gate_result().exit_code == 1
    assert "FAILS  repulsion alone loses it" in broken.text()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("rate: [0.5, 1.1]}", "rate: [-1]}", "s.yaml:3:46: descents[0].rate[0]: must be greater than 0"),
        ("gradient]", "gradent]", "s.yaml:3:28: descents[0].dynamics[1]: must be"),
        ("weight:", "wieght:", "s.yaml:4:45: descents[1].wieght: unknown key 'wieght'. Did you mean 'weight'?"),
        ("repetitions: 1", "repetitions: 0", "s.yaml:7:14: repetitions: must be greater than or equal to 1"),
        ("question: Does it collapse?\n", "", "s.yaml:1:1: suite: needs 'question'"),
        ("nt_xent:", "nt_xnt:", "unknown loss 'nt_xnt'"),
        ("repetitions: 1", "rate: 1", "s.yaml:7:1: rate: unknown key 'rate'."),
        ("repetitions: 1", "repetitions: [1, 2]", "s.yaml:7:14: repetitions: must be one value, not a grid."),
        ("question: Does it collapse?", "question: null", "s.yaml:1:11: question: must be a valid string"),
        ("question: Does it collapse?", "question: [a, b]", "s.yaml:1:11: question: must be one value, not a grid."),
        ("rate: [0.5, 1.1]}", "rate: 1e308}", "descents[0].rate: must be less than or equal to"),
        ("rate: [0.5, 1.1]}", "temperature: 1e-308}", "descents[0].temperature: must be greater than or equal to"),
        ("weight:", "classes: 1000, weight:", "descents[1].classes: must not exceed dim, here 16, where"),
        (
            "{dhel: {temperature: 0.3}}",
            "paws",
            "s.yaml:6:45: minimisers[1]: must be a loss of two views alone. Got 'paws'",
        ),
        ("{dhel: {temperature: 0.3}}", "moco_v3", "minimisers[1]: must be a loss of two views alone. Got 'moco_v3': "),
    ],
)
def test_a_fault_of_a_collapse_suite_is_told_with_its_place(old: str, new: str, message: str) -> None:
    assert old in SMALL
    with pytest.raises(SuiteError) as error:
        collapse_suite.parse(SMALL.replace(old, new), "s.yaml")
    assert message in str(error.value)


@pytest.mark.parametrize("none", ["[]", "null"])
def test_a_suite_without_a_descent_claims_nothing(none: str) -> None:
    with pytest.raises(SuiteError, match=r"s.yaml:2:11: descents: must have a descent.* Got none. Add one."):
        collapse_suite.parse(f"question: q\ndescents: {none}\n", "s.yaml")


def test_what_is_not_finite_holds_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """`max(0.0, nan)` is 0.0, and `min([1.0, nan])` is 1.0."""
    whole = collapse_suite.parse(SMALL.replace("repetitions: 1", "repetitions: 2"), "s.yaml")
    run = dynamics.run_descent
    for descent in (Descent(weight=1e6), Descent(rate=1e6, dynamics="free"), Descent(temperature=1e-3, rate=1e6)):
        assert run(replace(descent, steps=3)).ranks  # at the bounds of its settings

    def broken(descent: Descent) -> dynamics.RankTrajectory:
        found = run(replace(descent, steps=1))
        return replace(found, ranks=(math.nan,)) if descent.repetition else found

    monkeypatch.setattr(dynamics, "run_descent", broken)
    monkeypatch.setattr(dynamics, "minimise", lambda *_, **__: dynamics.Minimiser(math.nan, math.nan, math.nan))
    monkeypatch.setattr(dynamics, "stationary_gradient_norm", lambda kind: {"equal": 0.0}.get(kind, math.nan))
    monkeypatch.setattr(dynamics, "loss_change", lambda noise, shared: math.nan if noise == 0.1 else -1.0)
    result = collapse.run(whole)
    assert len(result.assertions) == 10
    assert not any(assertion.holds for assertion in result.assertions)


def test_a_claim_that_is_not_finite_is_null_in_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "s.yaml").write_text(SMALL)
    claim = collapse.Assertion("a claim", math.nan, "below 1", False)
    monkeypatch.setattr(collapse, "ASSERTIONS", (lambda *_: [claim],))
    monkeypatch.setattr(dynamics, "run_descent", lambda _: dynamics.RankTrajectory((1.0, 1.0), 0.0, 0.0))
    assert cli.main(["gate", str(tmp_path / "s.yaml"), "--json", str(tmp_path / "s.json")]) == 1
    assert json.loads((tmp_path / "s.json").read_text())["claims"][0]["value"] is None


def test_the_shipped_experiment_is_valid() -> None:
    experiment = collapse_suite.read(ROOT / "suites" / "collapse.yaml")
    assert {descent.dynamics for descent in experiment.descents} == set(dynamics.UPDATES)
    assert collapse_suite.is_collapse_suite(ROOT / "suites" / "collapse.yaml")
    assert not collapse_suite.is_collapse_suite(ROOT / "suites" / "gate.yaml")
