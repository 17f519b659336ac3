"""Verdicts on constructed representations: what is called collapsed, diverged or stuck, and what is not."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from cl_semisup import losses
from cl_semisup.evaluation import ProbeResult
from cl_semisup.execution import execute, trainer
from cl_semisup.execution.collapsed_loss import collapsed_loss_value
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine
from cl_semisup.measures import geometry
from cl_semisup.results import verdict
from cl_semisup.suite.run import Run
from cl_semisup.suite.suite import Suite
from cl_semisup.training import loop
from cl_semisup.training.setup import TrainingSetup

RECORDS = Path(__file__).parents[2] / "results" / "records"
CLASSES, IMAGES, DIM = 10, 400, 64
SHOWN = torch.where(torch.arange(1000) % 5 == 0, torch.arange(1000) % CLASSES, -1)


def judged(z: torch.Tensor, scores: dict[str, float] | None = None, classes: int = CLASSES) -> str:
    """The verdict on a feature_set of test features."""
    u = F.normalize(z, dim=1)
    found = {"feature_std": float(geometry.feature_std(u)), "effective_rank": float(geometry.effective_rank(u))}
    sizes = {"classes": classes, "images": len(z), "dim": z.shape[1]}
    return verdict.collapse(found, scores or {"knn_top1": 0.9}, **sizes, chance=1 / classes)


def gauss(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def simplex(classes: int, dim: int) -> torch.Tensor:
    return F.normalize(F.pad(torch.eye(classes) - 1 / classes, (0, dim - classes)), dim=1)


# collapse -----------------------------------------------------------------------------------------------------------


def test_uniform_and_rectified_clouds_are_sound() -> None:
    assert judged(gauss(IMAGES, DIM)) == ""
    assert judged(gauss(IMAGES, DIM).relu()) == ""
    assert judged(gauss(IMAGES, 2048)) == ""
    assert judged(5 + gauss(IMAGES, DIM)) == "", "a common offset is no collapse: a linear probe removes it"


def test_one_point_is_collapsed() -> None:
    assert judged(torch.ones(IMAGES, DIM)).startswith("all embeddings are nearly one point (feature std ")
    assert judged(100 + gauss(IMAGES, DIM)).startswith("all embeddings are nearly one point")


def test_the_feature_std_threshold_lies_at_a_fiftieth_of_a_uniform_cloud() -> None:
    assert verdict.collapse({"feature_std": 0.0199}) != ""
    assert verdict.collapse({"feature_std": 0.0201}) == ""


def test_a_line_is_dimensional_collapse() -> None:
    line = gauss(IMAGES, 1) * gauss(1, DIM) + 0.001 * gauss(IMAGES, DIM)
    assert judged(line).startswith("embeddings use too few directions (effective rank 1.")
    assert judged(line).endswith(", below 3.2)")


def test_a_plane_of_many_dimensions_is_dimensional_collapse() -> None:
    plane = gauss(IMAGES, 2) @ torch.randn(2, DIM, generator=torch.Generator().manual_seed(1))
    assert "too few directions" in judged(plane)


@pytest.mark.parametrize("classes", [2, 3, 4, 10, 100])
@pytest.mark.parametrize("dim", [128, 2048])
def test_neural_collapse_is_not_dimensional_collapse(classes: int, dim: int) -> None:
    """Every image of a class at one point of a simplex: C - 1 directions, and a perfect classifier."""
    assert judged(simplex(classes, dim)[torch.arange(500) % classes], classes=classes) == ""


def test_orthogonal_class_means_are_sound_too() -> None:
    assert judged(torch.eye(DIM)[torch.arange(500) % CLASSES]) == ""


def test_half_of_the_classes_merged_is_dimensional_collapse_when_the_dimensions_are_many() -> None:
    merged = simplex(CLASSES, 2048)[torch.arange(500) % 4]
    assert "too few directions" in judged(merged)


def test_the_lowest_rank_of_sound_features_follows_from_the_facts() -> None:
    assert verdict.lowest_rank(10, 10_000, 64) == pytest.approx(3.2)
    assert verdict.lowest_rank(10, 10_000, 512) == 4.5
    assert verdict.lowest_rank(100, 10_000, 512) == pytest.approx(25.6)
    assert verdict.lowest_rank(100, 200, 512) == 10
    assert verdict.lowest_rank(10, 10, 10) == 2
    assert verdict.lowest_rank(2, 10_000, 512) < 1
    assert verdict.lowest_rank(0, 0, 0) == 2


def test_probes_at_chance_know_nothing() -> None:
    facts: dict[str, Any] = {"classes": 10, "images": 10_000, "dim": DIM, "chance": 0.1}
    healthy = {"feature_std": 0.9, "effective_rank": 50.0}
    assert "tell nothing of the classes" in verdict.collapse(healthy, {"knn_top1": 0.105, "linear_top1": 0.09}, **facts)
    assert verdict.collapse(healthy, {"knn_top1": 0.107, "linear_top1": 0.09}, **facts) == ""
    assert verdict.collapse(healthy, {"knn_top1": 0.105, "linear_top1": 0.5}, **facts) == ""
    assert verdict.collapse(healthy, {"knn_top1_labelled": 0.1}, **facts) == "", "few labels may teach nothing"
    assert verdict.collapse(healthy, {}, **facts) == ""


def test_what_is_not_measured_is_not_judged() -> None:
    assert verdict.collapse({}) == ""
    assert verdict.stuck([], 4.8) == ""
    assert verdict.stuck([4.8], None) == ""


# the loss -----------------------------------------------------------------------------------------------------------


def point(name: str, batch: int = 64, visible_labels: torch.Tensor = SHOWN, **params: Any) -> float | None:
    loss = losses.build(name, dim=128, classes=CLASSES, seed=0, images=len(visible_labels), **params)
    return collapsed_loss_value(loss, visible_labels, batch, 128, CLASSES)


@pytest.mark.parametrize("batch", [16, 256])
@pytest.mark.parametrize(
    ("name", "params", "value"),
    [
        ("nt_xent", {}, lambda n: math.log(2 * n - 1)),
        ("nt_xent", {"temperature": 0.1}, lambda n: math.log(2 * n - 1)),
        ("supcon", {}, lambda n: math.log(2 * n - 1)),
        ("dhel", {"temperature": 0.3}, lambda n: 1 / 0.3 + 2 * math.log(n - 1)),
        ("vicreg", {}, lambda n: 25 * (1 - 0.01)),
        ("cross_entropy", {}, lambda n: math.log(CLASSES)),
    ],
)
def test_the_loss_of_a_point_is_its_closed_form(
    name: str, params: dict[str, Any], value: Callable[[int], float], batch: int
) -> None:
    assert point(name, batch, **params) == pytest.approx(value(batch), rel=1e-4)


def test_a_loss_that_depends_on_where_the_point_lies_has_no_chance_value() -> None:
    assert point("clop") is None


def test_a_loss_that_depends_on_the_labels_of_the_batch_has_no_chance_value() -> None:
    """Positives are summed and not averaged in this one, so a point's loss falls with their number."""
    assert point("supcon_in") is None


def test_a_loss_that_a_point_minimises_has_no_chance_value() -> None:
    """A loss that only aligns is as low for one point as for a perfect representation: ending there tells nothing."""

    def align(z1: torch.Tensor, z2: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return -F.cosine_similarity(z1, z2).mean()

    assert collapsed_loss_value(align, SHOWN, 64, 128, CLASSES) is None


@pytest.mark.parametrize(("gain", "has_value"), [(0.01, False), (0.04, True)])
def test_distinct_images_must_have_a_clearly_lower_loss_than_a_point(gain: float, has_value: bool) -> None:
    """Else a training that has learnt would end within the tolerance of the point's value, and count as stuck."""

    def barely(z1: torch.Tensor, z2: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return 1 - gain * (z1 - z1.mean(dim=0)).square().sum(dim=1).mean().clamp(max=1)

    assert (collapsed_loss_value(barely, SHOWN, 64, 128, CLASSES) is not None) == has_value


def test_a_loss_that_cannot_take_a_point_has_no_chance_value() -> None:
    def whitening(z1: torch.Tensor, z2: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return torch.linalg.cholesky(z1.T @ z1).sum()

    assert collapsed_loss_value(whitening, SHOWN, 64, 128, CLASSES) is None
    assert collapsed_loss_value(lambda z1, z2, y: (z1 - z2).sum() / 0, SHOWN, 64, 128, CLASSES) is None


def test_asking_a_loss_leaves_its_state_alone() -> None:
    class Counting(torch.nn.Module):
        calls = 0

        def forward(self, z1: torch.Tensor, z2: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return 1 - (z1 - z1.mean(dim=0)).square().mean()

    loss = Counting()
    assert collapsed_loss_value(loss, SHOWN, 64, 128, CLASSES) == pytest.approx(1)
    assert loss.calls == 0


def test_a_loss_that_ends_at_chance_is_stuck() -> None:
    chance = math.log(127)
    assert verdict.stuck([4.9, 4.85, chance * 1.004], chance) == (
        "the loss ends at 4.864, its value when all projections are one point (4.844)"
    )
    assert verdict.stuck([chance, 4.7], chance) == ""
    assert verdict.stuck([chance, 6.0], chance) == ""


@pytest.mark.parametrize(
    ("curve", "diverged"),
    [
        ([4.8, 4.0, 3.2], False),
        ([4.8, 9.0, 3.2], False),  # a spike that heals
        ([20.7, 26.5, 5864.0], True),
        ([20.0, 21.7, 23.0], False),
        ([0.01, 5.0], False),  # from next to nothing: at least ten whole units
        ([0.01, 11.0], True),
        ([-9.0, -3.0], False),
        ([-9.0, 82.0], True),
        ([4.8, math.nan], True),
        ([4.8, math.inf, 3.0], True),
        ([5.0], False),
        ([], False),
    ],
)
def test_an_exploded_loss_has_diverged(curve: list[float], diverged: bool) -> None:
    assert bool(verdict.divergence(curve)) is diverged


# whole runs ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(parse: Callable[[str], Suite], text: str) -> Run:
    """NT-Xent on digits, batch 128, one epoch."""
    return parse(text).runs[-2]


def ended(run: Run) -> tuple[str, str, dict[str, float]]:
    record, _ = Executor(Machine("cpu", "data"))(run)
    return record["status"], record["reason"], record["scores"]


def test_a_run_that_learns_is_ok(run: Run) -> None:
    assert ended(run)[:2] == ("ok", "")


@pytest.mark.parametrize(
    ("curve", "status", "reason"),
    [
        (
            [5.5, math.log(255)],
            "collapsed",
            "the loss ends at 5.541, its value when all projections are one point (5.541)",
        ),
        ([5.5, 1000.0], "diverged", "the loss grew from 5.5 to 1000"),
        ([5.5, 4.0], "ok", ""),
    ],
)
def test_a_run_is_judged_by_where_its_loss_ends(
    run: Run, monkeypatch: pytest.MonkeyPatch, curve: list[float], status: str, reason: str
) -> None:
    def train(parts: TrainingSetup, **_: object) -> loop.TrainingEnd:
        parts.history.loss.extend(curve)
        return loop.TrainingEnd("")

    monkeypatch.setattr(trainer.loop, "train", train)
    assert ended(run)[:2] == (status, reason)
    assert ended(run)[2].keys() >= {"knn_top1", "linear_top1"}, "scores are kept beside the verdict"


def test_a_run_is_judged_by_its_features(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute.evaluation, "measure", lambda *_: ProbeResult(diagnostics={"feature_std": 0.001}))
    assert ended(run)[0] == "collapsed"
    assert ended(run.untrained())[0] == "ok", "nothing was trained, so nothing collapsed"


@pytest.mark.skipif(not RECORDS.exists(), reason="no records come along")
def test_no_stored_record_that_is_ok_would_be_condemned() -> None:
    """Replayed on everything in results/: thresholds that condemn a run with a working probe are wrong."""
    condemned = []
    for path in sorted(RECORDS.glob("*/*/*.json")):
        if path.name.endswith(".curves.json"):
            continue
        record, curves = json.loads(path.read_text()), json.loads(path.with_suffix(".curves.json").read_text())
        if record["status"] != "ok" or not record["run"]["epochs"]:
            continue
        classes = record["resolved"]["classes"]
        why = verdict.collapse(
            record["diagnostics"], record["scores"], classes=classes, images=360, dim=64, chance=1 / classes
        )
        why = why or verdict.divergence([v for v in curves["history"]["loss"] if v is not None])
        if why and record["scores"].get("linear_top1", 0) > 0.5:
            condemned.append((path.name, why))
    assert condemned == []


@pytest.mark.parametrize(
    ("gain", "ci_half_width", "pairs", "word"),
    [
        (0.10, 0.09, 3, "ok"),
        (0.10, 0.10, 3, "unresolved"),
        (0.10, 0.10, 5, "unresolved"),
        (0.10, 0.10, 6, "weak"),
        (0.10, math.nan, 1, "unresolved"),
        (0.0, 0.01, 3, "weak"),
        (-0.01, math.nan, 1, "weak"),
        (math.nan, math.nan, 0, "ok"),
    ],
)
def test_a_gain_over_the_floor_is_judged_by_its_interval_where_the_pairs_suffice(
    gain: float, ci_half_width: float, pairs: int, word: str
) -> None:
    assert verdict.gain_verdict(gain, ci_half_width, pairs) == word


FLAT, LN = [5.0] * 30, 5.0  # a loss at its value for one point


def hopeless(losses: list[float], stds: list[float], value: float | None = LN, judged: bool = False) -> str:
    return verdict.hopeless(losses, stds, lambda: value, judged)


def test_a_training_is_hopeless_when_its_projections_have_been_a_point_for_ten_logged_steps() -> None:
    fading = [0.9, 0.5, 0.1, 0.01, 0.003, *(0.0019 - 0.0001 * i for i in range(10))]
    assert not hopeless(FLAT[:14], fading[:14])  # nine points below the limit
    assert "nearly one point (feature std 0.001 of" in hopeless(FLAT[:15], fading)
    assert not hopeless([6.0] * 15, fading)  # the loss still tells images apart
    assert not hopeless([6.0] * 6 + [5.0] * 9, fading)  # and has done so until now
    assert not hopeless(FLAT[:15], fading, value=None)  # a loss whose value at a point says nothing
    assert hopeless([6.0] * 15, fading, value=None, judged=True)  # what the verdict judges are these projections
    assert not hopeless(FLAT[:15], fading[:5] + fading[:4:-1], judged=True)  # on its way back


def test_a_training_is_hopeless_when_its_loss_has_been_exploded_for_ten_logged_steps() -> None:
    sound, exploded = [0.9] * 20, [90.0 + i for i in range(10)]
    assert not hopeless([2.0, 3.0, *exploded[:9]], sound[:11])
    assert hopeless([2.0, 3.0, *exploded], sound[:12]) == "the loss grew from 2 to 99"
    assert not hopeless([2.0, 3.0, *exploded[:9], 80], sound[:12])  # falls again
    assert not hopeless([2.0, *exploded[:5], 5.0, *exploded[5:]], sound[:12])  # was sound in between
    assert not hopeless([50.0, *exploded], sound[:11])  # not ten times its start


def test_a_hopeless_loss_is_asked_for_its_value_only_where_projections_are_a_point() -> None:
    def never() -> float:
        raise AssertionError

    assert not verdict.hopeless(FLAT[:12], [0.5] * 12, never)
