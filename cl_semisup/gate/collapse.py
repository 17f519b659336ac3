"""The collapse experiment as a gate: descents of free embeddings, and the claims that they must bear out.

Its suite has keys of its own: `question`, `descents` (a list of grids over `dynamics.Descent`), `minimisers` (losses)
and `repetitions`. There is no reference: what must hold is written here as claims, each with its bound.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

from annotated_types import Interval

from cl_semisup.config import grid, yaml_source
from cl_semisup.config.grid import Problem
from cl_semisup.errors import SuiteError, unknown
from cl_semisup.gate import dynamics, page
from cl_semisup.gate.dynamics import Course, Descent
from cl_semisup.gate.finding import MOVED, SAME, Finding
from cl_semisup.gate.verdict import Verdict
from cl_semisup.plugins import PluginField
from cl_semisup.report import svg

KEYS = ("question", "descents", "minimisers", "repetitions")
FULL, LINE = 0.95, 1.5  # share of D above which a rank is full; rank below which all points lie on one line
BELOW, BEYOND, HONEST = 0.9, 1.1, 2.0  # rates, in units of the temperature
IMAGES_OF_A_SIMPLEX = (5, 9)  # at most D + 1 in the 8 dimensions that minimisers are sought in


@dataclass(frozen=True)
class Experiment:
    """A checked collapse suite: `descents` without their repetitions, `minimisers` as named losses."""

    file: str
    question: str
    descents: tuple[Descent, ...]
    minimisers: tuple[dict[str, dict[str, Any]], ...]
    repetitions: int


@dataclass(frozen=True)
class Claim:
    """Something that must hold: the worst value found, the bound it is held to, and whether it keeps it."""

    text: str
    value: float
    bound: str
    holds: bool


@dataclass(frozen=True)
class Result:
    """What came of an experiment: the courses of every descent's repetitions, and the claims."""

    experiment: Experiment
    courses: dict[Descent, tuple[Course, ...]]
    claims: tuple[Claim, ...]

    def rank(self, asked: Descent) -> float:
        return mean(course.final_rank for course in self.courses[asked])

    def verdict(self) -> Verdict:
        """The claims as findings, for JUnit."""
        found = []
        for claim in self.claims:
            verdict = SAME if claim.holds else MOVED
            found.append(Finding("collapse", claim.text, "", claim.bound, None, claim.value, verdict))
        return Verdict(self.experiment.file, tuple(found), "claims of cl_semisup/gate/collapse.py")

    def text(self) -> str:
        """Ranks by dynamics and rate, and the claims."""
        lines = [self.experiment.question, ""]
        for title, rows in _tables(self):
            lines += [title, *rows, ""]
        for claim in self.claims:
            sign = "holds" if claim.holds else "FAILS"
            lines.append(f"{sign}  {claim.text} ({claim.bound}; worst {claim.value:.4g})")
        failed = sum(not claim.holds for claim in self.claims)
        lines.append(
            f"{failed} of {len(self.claims)} claims fail." if failed else f"All {len(self.claims)} claims hold."
        )
        return "\n".join(lines)

    def html(self) -> str:
        """The same with pictures."""
        parts = [f"<h1>{escape(self.experiment.question)}</h1><div class=row>", *_figures(self), "</div>"]
        return page.whole("Collapse", [*parts, f"<pre>{escape(self.text())}</pre>"])


def is_one(path: Path) -> bool:
    """Does the file ask for descents? Any other is read as an ordinary suite, with its messages."""
    try:
        data = yaml_source.parse(path.read_text("utf-8"), str(path)).data
    except (OSError, ValueError):
        return False
    return isinstance(data, Mapping) and "descents" in data


def read(path: Path) -> Experiment:
    """A checked experiment; every fault at once, with its place."""
    return parse(path.read_text("utf-8"), str(path))


def parse(text: str, file: str) -> Experiment:
    source = yaml_source.parse(text, file)
    faults: list[Problem] = []
    data = source.data
    for key in data:
        if key not in KEYS:
            faults.append(Problem((key,), f"{unknown('key', key, KEYS)}.", of_key=True))
    if "question" not in data:
        faults.append(Problem((), "needs 'question' (what it asks). Got nothing. Add 'question: ...'."))
    asked = data["descents"]
    nodes = list(enumerate(asked)) if isinstance(asked, list) else [(None, asked)]
    descents = []
    for index, node in nodes:
        place: yaml_source.YamlPath = ("descents",) if index is None else ("descents", index)
        rows = grid.mapping(node, Descent, place, faults, grid.defaults(Descent))
        descents += [Descent(**row) for row in rows]
    named = grid.expand(
        data.get("minimisers", ["nt_xent"]), Annotated[Any, PluginField("losses")], ("minimisers",), faults
    )
    times = grid.expand(
        data.get("repetitions", 2), Annotated[int, Interval(ge=1, le=100)], ("repetitions",), faults, "of every descent"
    )
    if faults:
        raise SuiteError(f"{source.where(f.path, f.of_key)}: {f.text}" for f in faults)
    losses = tuple(option.value for option in named)
    return Experiment(file, str(data["question"]), tuple(dict.fromkeys(descents)), losses, times[0].value)


def run(experiment: Experiment) -> Result:
    """All descents and all claims; seconds on one core."""
    courses = {
        asked: tuple(dynamics.descend(replace(asked, repetition=r)) for r in range(experiment.repetitions))
        for asked in experiment.descents
    }
    claims = [claim for make in CLAIMS for claim in make(experiment, courses)]
    return Result(experiment, courses, tuple(claims))


# claims -------------------------------------------------------------------------------------------------------------

Courses = Mapping[Descent, tuple[Course, ...]]
Select = Callable[[Descent], bool]


def _ranks(courses: Courses, select: Select) -> list[float]:
    """Final ranks as a share of D of every repetition of the chosen descents."""
    return [course.final_rank / asked.dim for asked, of in courses.items() if select(asked) for course in of]


def _plain(asked: Descent) -> bool:
    """Without prototypes, and at temperatures at which the softmax is nearly uniform, as the algebra assumes."""
    return asked.weight == 0 and asked.start == "uniform" and asked.temperature >= 0.5


def _threshold(_: Experiment, courses: Courses) -> list[Claim]:
    def chosen(low: float, high: float, *kinds: str) -> list[float]:
        return _ranks(courses, lambda a: _plain(a) and a.dynamics in kinds and low <= a.rate <= high)

    found = []
    if below := chosen(0, BELOW, "repulsion"):
        text = "repulsion alone keeps the rank at rates below the temperature"
        found.append(Claim(text, min(below), f"share of D >= {FULL}", min(below) >= FULL))
    beyond = [
        course.final_rank
        for a, of in courses.items()
        if _plain(a) and a.dynamics == "repulsion" and a.rate >= BEYOND
        for course in of
    ]
    if beyond:
        text = "repulsion alone loses it at rates beyond the temperature: one line is left"
        found.append(Claim(text, max(beyond), f"rank <= {LINE}", max(beyond) <= LINE))
    back = _ranks(courses, lambda a: a.start == "collapsed" and not a.weight and a.rate <= BELOW)
    if back:
        text = "below the temperature points that start as one spread out again"
        found.append(Claim(text, min(back), f"share of D >= {FULL}", min(back) >= FULL))
    if honest := chosen(0, HONEST, "gradient", "free"):
        text = "the full gradient keeps it at the same rates, up to twice the temperature"
        found.append(Claim(text, min(honest), f"share of D >= {FULL}", min(honest) >= FULL))
    if tangent := chosen(0, HONEST, "tangent"):
        text = "the tangent gradient oscillates at those rates without losing more than a fifth of it"
        found.append(Claim(text, min(tangent), "share of D >= 0.8", min(tangent) >= 0.8))
    return found


def _rescue(_: Experiment, courses: Courses) -> list[Claim]:
    """Over the weight, from collapse up to C and from full rank down to C."""

    def series(rate: float, share: float) -> list[tuple[Descent, float]]:
        chosen = [a for a in courses if (a.dynamics, a.rate, a.label_fraction) == ("repulsion", rate, share)]
        chosen = [a for a in chosen if a.weight > 0 and a.start == "uniform"]
        return [(a, mean(c.final_rank for c in courses[a])) for a in sorted(chosen, key=lambda a: a.weight)]

    found = []
    if lifted := series(BEYOND, 1.0):
        ranks, classes = [rank for _, rank in lifted], lifted[0][0].classes
        growing = all(b >= a - 0.05 for a, b in zip(ranks, ranks[1:], strict=False))
        text = "with all labels the prototype term lifts a collapsed rank, the more the stronger, towards C"
        holds = growing and 0.9 * classes <= ranks[-1] <= classes + 0.1
        found.append(Claim(text, ranks[-1], f"growing to {0.9 * classes:g} .. {classes + 0.1:g}", holds))
    few = {a.weight: rank for a, rank in series(BEYOND, 0.1)}
    pairs = [(few[a.weight], rank) for a, rank in lifted if a.weight in few and a.weight >= 0.5]
    if pairs:
        worst = max(some / every for some, every in pairs)
        text = "with a tenth of the labels it lifts less: unlabelled points have no shared encoder to follow"
        found.append(Claim(text, worst, "share of the rank with all labels < 1", worst < 1))
    if lowered := series(0.5, 1.0):
        last, classes = lowered[-1][1], lowered[0][0].classes
        text = "a strong weight with all labels lowers a healthy rank towards C"
        found.append(Claim(text, last, f"rank <= {classes + 0.5:g}", last <= classes + 0.5))
    return found


def _minimisers(experiment: Experiment, _: Courses) -> list[Claim]:
    found = []
    for images in IMAGES_OF_A_SIMPLEX:
        wanted, worst = -1 / (images - 1), 0.0
        for named in experiment.minimisers:
            got = dynamics.minimise(named, images, dim=8)
            worst = max(worst, abs(got.cosine - wanted), 1 - got.alignment, got.spread)
        names = ", ".join(next(iter(named)) for named in experiment.minimisers)
        text = f"{names} share their minimiser for {images} images: views equal, cosines {wanted:.4g}"
        found.append(Claim(text, worst, "deviation < 1e-4", worst < 1e-4))
    return found


def _stationary(_: Experiment, __: Courses) -> list[Claim]:
    still = max(dynamics.tangent_gradient("equal"), dynamics.tangent_gradient("antipodal"))
    changes = [dynamics.escape(noise, shared=True) for noise in (0.01, 0.1, 0.3)]
    text = "all points equal, or on one line, is stationary on the sphere"
    saddle = "it is a saddle: moving both views of each image alike lowers the loss"
    return [
        Claim(text, still, "gradient < 1e-12", still < 1e-12),
        Claim(saddle, max(changes), "change < 0", max(changes) < 0),
    ]


CLAIMS = (_threshold, _rescue, _minimisers, _stationary)


# tables and pictures ------------------------------------------------------------------------------------------------


def _tables(result: Result) -> list[tuple[str, list[str]]]:
    """Effective rank by rate, one row a dynamics and temperature; by weight, one row a rate and label share."""
    plain = [a for a in result.courses if a.weight == 0 and a.start == "uniform"]
    pulled = [a for a in result.courses if a.weight > 0 or a.start == "collapsed"]
    by_rate = _rows(result, plain, lambda a: f"{a.dynamics}, t {a.temperature:g}", "rate")
    named = lambda a: f"rate {a.rate:g}, labels {a.label_fraction:g}, {a.start}"  # noqa: E731
    by_weight = _rows(result, pulled, named, "weight")
    titles = ("Effective rank by learning rate over temperature", "Effective rank by weight of the prototype term")
    return [(title, rows) for title, rows in zip(titles, (by_rate, by_weight), strict=True) if len(rows) > 1]


def _rows(result: Result, chosen: Sequence[Descent], name: Callable[[Descent], str], axis: str) -> list[str]:
    values = sorted({getattr(a, axis) for a in chosen})
    names = list(dict.fromkeys(map(name, chosen)))
    width = max(map(len, names), default=0)
    lines = [" " * width + "".join(f"{value:>8g}" for value in values)]
    for row in names:
        ranks = {getattr(a, axis): result.rank(a) for a in chosen if name(a) == row}
        lines.append(f"{row:{width}}" + "".join(f"{ranks[v]:8.2f}" if v in ranks else f"{'-':>8}" for v in values))
    return lines


def _figures(result: Result) -> list[str]:
    """Rank against rate, along steps around the threshold, and against the prototypes' weight."""
    plain = [a for a in result.courses if _plain(a) and a.temperature == 0.5]
    pulled = [a for a in result.courses if a.weight > 0 and a.start == "uniform"]
    alone = [a for a in plain if a.dynamics == "repulsion" and a.rate in (BELOW, 1, BEYOND)]
    by_rate = [(a.dynamics, (a.rate, result.rank(a))) for a in plain]
    by_weight = [(f"rate {a.rate:g} t, labels {a.label_fraction:g}", (a.weight, result.rank(a))) for a in pulled]
    along = [
        (f"{a.rate:g} t", (a.steps * i / (len(course.rank) - 1), rank))
        for a in alone
        for course in result.courses[a][:1]
        for i, rank in enumerate(course.rank)
    ]
    return [
        *_figure("Rank against rate, temperature 0.5", "learning rate / temperature", by_rate, True),
        *_figure("Repulsion alone, around the threshold", "step", along, False),
        *_figure("Prototypes lift a collapsed rank and lower a healthy one", "weight", by_weight, True),
    ]


def _figure(caption: str, x_label: str, named: Sequence[tuple[str, svg.Point]], log: bool) -> list[str]:
    """One picture of effective ranks; none without points."""
    if not named:
        return []
    x, y = ([point[i] for _, point in named] for i in (0, 1))
    axes = svg.Axes((min(x), max(x) * 1.01), (0, max(y) * 1.1), x_label, "effective rank", log_x=log)
    lines = []
    for name in dict.fromkeys(name for name, _ in named):
        points = sorted(point for other, point in named if other == name)
        lines.append((name, [(axes.x(a), axes.y(b)) for a, b in points]))
    return [page.figure(axes, lines, caption)]
