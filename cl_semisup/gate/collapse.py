"""The collapse experiment as a gate: descents of free embeddings, and assertions about their ranks.

Its suite (`collapse_suite`) has no reference; this module states the assertions, each with its bound. A number that is
not finite is within none.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean

from cl_semisup.gate import dynamics, page
from cl_semisup.gate.collapse_suite import Experiment
from cl_semisup.gate.dynamics import Descent, RankTrajectory
from cl_semisup.gate.gate_check import CHANGED, SAME, GateCheck
from cl_semisup.gate.result import GateResult
from cl_semisup.report import svg
from cl_semisup.text import html as escape

FULL_RANK = 0.95  # share of D from which a rank counts as full
MAX_LINE_RANK = 1.5  # up to this rank all points lie on one line
RATE_BELOW, RATE_ABOVE, MAX_STABLE_RATE = 0.9, 1.1, 2.0  # in units of the temperature
UNIFORM_TEMPERATURE, LOW_TEMPERATURE = 0.5, 0.1  # at and above the first the softmax is nearly uniform
SIMPLEX_IMAGES = (5, 9)  # at most D + 1, with D = 8


@dataclass(frozen=True)
class Assertion:
    """A property that must hold: the worst measured value, its bound in words, and whether the value is within it."""

    text: str
    value: float
    bound: str
    holds: bool


Trajectories = Mapping[Descent, tuple[RankTrajectory, ...]]  # descent -> one for each repetition


@dataclass(frozen=True)
class CollapseResult:
    """Trajectories of all descents, and the assertions about them."""

    experiment: Experiment
    trajectories: Trajectories
    assertions: tuple[Assertion, ...]

    def mean_final_rank(self, descent: Descent) -> float:
        return mean(trajectory.final_rank for trajectory in self.trajectories[descent])

    def gate_result(self) -> GateResult:
        """The assertions as checks of the gate, for JUnit and the exit code."""
        checks = tuple(
            GateCheck("collapse", a.text, "", a.bound, None, a.value, SAME if a.holds else CHANGED)
            for a in self.assertions
        )
        return GateResult(self.experiment.file, checks, "claims of cl_semisup/gate/collapse.py")

    def text(self) -> str:
        """Tables of ranks, and the assertions."""
        lines = [self.experiment.question, ""]
        for title, rows in _tables(self):
            lines += [title, *rows, ""]
        for assertion in self.assertions:
            sign = "holds" if assertion.holds else "FAILS"
            lines.append(f"{sign}  {assertion.text} ({assertion.bound}; worst {assertion.value:.4g})")
        total, failed = len(self.assertions), sum(not assertion.holds for assertion in self.assertions)
        lines.append(f"{failed} of {total} claims fail." if failed else f"All {total} claims hold.")
        return "\n".join(lines)

    def html(self) -> str:
        """The same with plots."""
        parts = [f"<h1>{escape(self.experiment.question)}</h1><div class=row>", *_plots(self), "</div>"]
        return page.html_page("Collapse", [*parts, f"<pre>{escape(self.text())}</pre>"])


def run(experiment: Experiment) -> CollapseResult:
    """Runs all descents and evaluates all assertions; takes seconds on one core."""
    trajectories = {
        descent: tuple(dynamics.run_descent(replace(descent, repetition=r)) for r in range(experiment.repetitions))
        for descent in experiment.descents
    }
    assertions = tuple(assertion for make in ASSERTIONS for assertion in make(experiment, trajectories))
    return CollapseResult(experiment, trajectories, assertions)


# assertions ---------------------------------------------------------------------------------------------------------


def _most(values: Iterable[float]) -> float:
    """The largest value; NaN, which is within no bound, if there is one."""
    listed = list(values)
    return math.nan if any(map(math.isnan, listed)) else max(listed)


def _least(values: Iterable[float]) -> float:
    return -_most(-value for value in values)


def _final_ranks(trajectories: Trajectories, select: Callable[[Descent], bool]) -> list[float]:
    """Final ranks, as shares of D, of all repetitions of the selected descents."""
    return [t.final_rank / descent.dim for descent, all_t in trajectories.items() if select(descent) for t in all_t]


def _without_prototypes(d: Descent) -> bool:
    """True at temperatures of a nearly uniform softmax, as the algebra assumes, and without the prototype term."""
    return d.weight == 0 and d.start == "uniform" and d.temperature >= UNIFORM_TEMPERATURE


def _threshold(_: Experiment, trajectories: Trajectories) -> list[Assertion]:
    def ranks(low: float, high: float, *kinds: str) -> list[float]:
        select = lambda d: _without_prototypes(d) and d.dynamics in kinds and low <= d.rate <= high  # noqa: E731
        return _final_ranks(trajectories, select)

    def at_least(share: float, ranks: list[float], text: str) -> list[Assertion]:
        return [Assertion(text, _least(ranks), f"share of D >= {share}", _least(ranks) >= share)] if ranks else []

    assertions = at_least(
        FULL_RANK, ranks(0, RATE_BELOW, "repulsion"), "repulsion alone keeps the rank at rates below the temperature"
    )
    above = [
        t.final_rank
        for d, all_t in trajectories.items()
        if _without_prototypes(d) and d.dynamics == "repulsion" and d.rate >= RATE_ABOVE
        for t in all_t
    ]
    if above:
        text = "repulsion alone loses it at rates beyond the temperature: one line is left"
        assertions.append(Assertion(text, _most(above), f"rank <= {MAX_LINE_RANK}", _most(above) <= MAX_LINE_RANK))
    select = lambda d: d.start == "collapsed" and not d.weight and d.rate <= RATE_BELOW  # noqa: E731
    text = "below the temperature points that start as one spread out again"
    assertions += at_least(FULL_RANK, _final_ranks(trajectories, select), text)
    text = "the full gradient keeps it at the same rates, up to twice the temperature"
    assertions += at_least(FULL_RANK, ranks(0, MAX_STABLE_RATE, "gradient", "free"), text)
    text = "the tangent gradient oscillates at those rates without losing more than a fifth of it"
    return assertions + at_least(0.8, ranks(0, MAX_STABLE_RATE, "tangent"), text)


def _conditions(_: Experiment, trajectories: Trajectories) -> list[Assertion]:
    """Where the threshold is not the temperature."""

    def ranks(dynamics: str, temperature: float, low: float, high: float) -> list[float]:
        def selected(d: Descent) -> bool:
            is_low = temperature == LOW_TEMPERATURE
            in_regime = d.temperature <= LOW_TEMPERATURE if is_low else d.temperature >= temperature
            return d.dynamics == dynamics and d.weight == 0 and in_regime and low <= d.rate <= high

        return [t.final_rank for d, all_t in trajectories.items() if selected(d) for t in all_t]

    full, dims = FULL_RANK, max((d.dim for d in trajectories), default=0)
    claims = [
        ("the anchor's own term alone keeps the rank up to one and a half times the temperature",
         ranks("one_sided", UNIFORM_TEMPERATURE, 0, 1.5), full * dims, dims),
        ("the anchor's own term alone loses it from 2.2 times on: its threshold is twice the temperature",
         ranks("one_sided", UNIFORM_TEMPERATURE, 2.2, 100), 0, MAX_LINE_RANK),
        ("without the partner in the sum the rank is kept below the temperature, as with it",
         ranks("without_partner", UNIFORM_TEMPERATURE, 0, RATE_BELOW), full * dims, dims),
        ("without the partner in the sum the rank is lost beyond the temperature, as with it",
         ranks("without_partner", UNIFORM_TEMPERATURE, RATE_ABOVE, 100), 0, MAX_LINE_RANK),
        ("with the partner in the softmax alone the rank is lost beyond the temperature too",
         ranks("other_images", UNIFORM_TEMPERATURE, RATE_ABOVE, 100), 0, MAX_LINE_RANK),
        ("but at temperature 0.1 it is kept up to five times the temperature: the partner has most of the softmax",
         ranks("other_images", LOW_TEMPERATURE, 0, 5), full * dims, dims),
        ("and it is lost at fifteen times: the threshold is higher, not gone",
         ranks("other_images", LOW_TEMPERATURE, 15, 100), 0, dims / 3),
        ("at temperature 0.1 the threshold is soft: some of the rank is lost just below it",
         ranks("repulsion", LOW_TEMPERATURE, RATE_BELOW, RATE_BELOW), dims / 2, full * dims),
        ("at temperature 0.1 clusters are left beyond the threshold, and no line",
         ranks("repulsion", LOW_TEMPERATURE, 1.5, 100), MAX_LINE_RANK, dims / 3),
    ]  # fmt: skip
    assertions = []
    for text, found, low, high in claims:
        if found:
            worst = max(found, key=lambda rank: math.inf if math.isnan(rank) else max(low - rank, rank - high))
            bound = f"rank in {low:g} .. {high:g}"
            assertions.append(Assertion(text, worst, bound, low - 1e-9 <= worst <= high + 1e-9))
    return assertions


def _rescue(_: Experiment, trajectories: Trajectories) -> list[Assertion]:
    """With a growing weight a collapsed rank rises to C, and a full rank falls to C."""

    def series(rate: float, share: float) -> list[tuple[Descent, float]]:
        selected = [d for d in trajectories if (d.dynamics, d.rate, d.label_fraction) == ("repulsion", rate, share)]
        selected = sorted((d for d in selected if d.weight > 0 and d.start == "uniform"), key=lambda d: d.weight)
        return [(d, mean(t.final_rank for t in trajectories[d])) for d in selected]

    assertions = []
    if rising := series(RATE_ABOVE, 1.0):
        ranks, classes = [rank for _, rank in rising], rising[0][0].classes
        growing = all(b >= a - 0.05 for a, b in zip(ranks, ranks[1:], strict=False))
        text = "with all labels the prototype term lifts a collapsed rank, the more the stronger, towards C"
        holds = growing and 0.9 * classes <= ranks[-1] <= classes + 0.1
        assertions.append(Assertion(text, ranks[-1], f"growing to {0.9 * classes:g} .. {classes + 0.1:g}", holds))
    few_labels = {d.weight: rank for d, rank in series(RATE_ABOVE, 0.1)}
    ratios = [few_labels[d.weight] / rank for d, rank in rising if d.weight in few_labels and d.weight >= 0.5]
    if ratios:
        text = "with a tenth of the labels it lifts less: unlabelled points have no shared encoder to follow"
        assertions.append(Assertion(text, _most(ratios), "share of the rank with all labels < 1", _most(ratios) < 1))
    if falling := series(0.5, 1.0):
        last, classes = falling[-1][1], falling[0][0].classes
        text = "a strong weight with all labels lowers a healthy rank towards C"
        assertions.append(Assertion(text, last, f"rank <= {classes + 0.5:g}", last <= classes + 0.5))
    return assertions


def _minimisers(experiment: Experiment, _: Trajectories) -> list[Assertion]:
    assertions = []
    for images in SIMPLEX_IMAGES:
        cosine, worst = -1 / (images - 1), 0.0
        for named_loss in experiment.minimisers:
            m = dynamics.minimise(named_loss, images, dim=8)
            worst = _most([worst, abs(m.image_cosine - cosine), 1 - m.view_cosine, m.image_cosine_range])
        names = ", ".join(next(iter(named_loss)) for named_loss in experiment.minimisers)
        text = f"{names} share their minimiser for {images} images: views equal, cosines {cosine:.4g}"
        assertions.append(Assertion(text, worst, "deviation < 1e-4", worst < 1e-4))
    return assertions


def _stationary(_: Experiment, __: Trajectories) -> list[Assertion]:
    norm = _most([dynamics.stationary_gradient_norm("equal"), dynamics.stationary_gradient_norm("antipodal")])
    change = _most(dynamics.loss_change(noise, shared=True) for noise in (0.01, 0.1, 0.3))
    stationary = "all points equal, or on one line, is stationary on the sphere"
    saddle = "it is a saddle: moving both views of each image alike lowers the loss"
    return [
        Assertion(stationary, norm, "gradient < 1e-12", norm < 1e-12),
        Assertion(saddle, change, "change < 0", change < 0),
    ]


ASSERTIONS = (_threshold, _conditions, _rescue, _minimisers, _stationary)


# tables and plots ---------------------------------------------------------------------------------------------------


def _tables(result: CollapseResult) -> list[tuple[str, list[str]]]:
    """Effective ranks by rate, for each dynamics and temperature; by weight, for each rate and label share."""
    repelled = [d for d in result.trajectories if d.weight == 0 and d.start == "uniform"]
    others = [d for d in result.trajectories if d.weight > 0 or d.start == "collapsed"]
    by_rate = _rows(result, repelled, lambda d: f"{d.dynamics}, t {d.temperature:g}", "rate")
    row_name = lambda d: f"rate {d.rate:g}, labels {d.label_fraction:g}, {d.start}"  # noqa: E731
    by_weight = _rows(result, others, row_name, "weight")
    titles = ("Effective rank by learning rate over temperature", "Effective rank by weight of the prototype term")
    return [(title, rows) for title, rows in zip(titles, (by_rate, by_weight), strict=True) if len(rows) > 1]


def _rows(
    result: CollapseResult, descents: Sequence[Descent], row_name: Callable[[Descent], str], axis: str
) -> list[str]:
    values = sorted({getattr(d, axis) for d in descents})
    names = list(dict.fromkeys(map(row_name, descents)))
    width = max(map(len, names), default=0)
    lines = [" " * width + "".join(f"{value:>8g}" for value in values)]
    for name in names:
        ranks = {getattr(d, axis): result.mean_final_rank(d) for d in descents if row_name(d) == name}
        lines.append(f"{name:{width}}" + "".join(f"{ranks[v]:8.2f}" if v in ranks else f"{'-':>8}" for v in values))
    return lines


def _plots(result: CollapseResult) -> list[str]:
    """Rank against rate, against steps around the threshold, and against the prototypes' weight."""
    rank = result.mean_final_rank
    repelled = [d for d in result.trajectories if _without_prototypes(d) and d.temperature == 0.5]
    with_prototypes = [d for d in result.trajectories if d.weight > 0 and d.start == "uniform"]
    threshold = [d for d in repelled if d.dynamics == "repulsion" and d.rate in (RATE_BELOW, 1, RATE_ABOVE)]
    by_rate = [(d.dynamics, (d.rate, rank(d))) for d in repelled]
    by_weight = [(f"rate {d.rate:g} t, labels {d.label_fraction:g}", (d.weight, rank(d))) for d in with_prototypes]
    by_step = [
        (f"{d.rate:g} t", (d.steps * i / (len(ranks) - 1), step_rank))
        for d in threshold
        for ranks in [result.trajectories[d][0].ranks]
        for i, step_rank in enumerate(ranks)
    ]
    return [
        *_plot("Rank against rate, temperature 0.5", "learning rate / temperature", by_rate, True),
        *_plot("Repulsion alone, around the threshold", "step", by_step, False),
        *_plot("Prototypes lift a collapsed rank and lower a healthy one", "weight", by_weight, True),
    ]


def _plot(caption: str, x_label: str, named_points: Sequence[tuple[str, svg.Point]], log: bool) -> list[str]:
    """One plot of effective ranks, a line for each name; [] without points."""
    if not named_points:
        return []
    x, y = zip(*(point for _, point in named_points), strict=True)
    axes = svg.Axes((min(x), max(x) * 1.01), (0, max(y) * 1.1), x_label, "effective rank", log_x=log)
    lines = []
    for name in dict.fromkeys(name for name, _ in named_points):
        points = sorted(point for other, point in named_points if other == name)
        lines.append((name, [(axes.x(a), axes.y(b)) for a, b in points]))
    return [page.figure(axes, lines, caption)]
