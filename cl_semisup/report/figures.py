"""Which pictures a report has, and what is in them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from cl_semisup.report import svg, wording
from cl_semisup.report.ranking import Friedman
from cl_semisup.results import records
from cl_semisup.results.leaderboard import UNFINISHED, Board, Line
from cl_semisup.suite.run import UNTRAINED

PALETTE = 8  # colours of losses; after them colours come again with another dash and shape
LARGEST = 1e300  # of a number that is drawn
Curves = Mapping[str, Sequence[dict[str, Any]]]  # loss -> the curves of each repetition
BROKEN = 3  # runs of a loss that collapsed or diverged whose curves are drawn
CLASSES = 10  # colours of classes in an embedding picture


@dataclass(frozen=True)
class Figure:
    """A picture with what it shows and how to read it."""

    title: str
    image: str
    caption: str = ""


class Figures:
    """Draws with one colour, shape and dash a loss, the same in every picture of a report."""

    def __init__(self, losses: Sequence[str]):
        self.index = {loss: i for i, loss in enumerate(losses)}

    def swatch(self, loss: str) -> str:
        """The loss's sign in the legend."""
        i = self.index[loss]
        inside = svg.series(i, svg.line([(1, 8), (33, 8)], self._dash(i)) + svg.mark(17, 8, i, loss))
        return svg.picture(inside, "", 34, 16).replace('role="img" aria-label=""', 'aria-hidden="true" class="swatch"')

    def scores(self, board: Board) -> Figure:
        """Every loss of a task with its interval, the floor as a line."""
        lines = [line for line in board.trained if not math.isnan(line.scores[board.score].mean)]
        floor = next((line.scores[board.score].mean for line in board.lines if line.loss == UNTRAINED), math.nan)
        ends = [100 * end for line in lines for end in _ends(line, board.score)]
        height = 56 + 22 * len(lines)
        left = 40 + 6.2 * max((min(len(line.loss), 30) for line in lines), default=0)
        axes = svg.Axes(_clipped(svg.span([*ends, 100 * floor])), (0, 1), "", "", height=height)
        x = svg.Scale(*axes.x_range, left, axes.width - svg.RIGHT)
        parts = []
        for tick in x.ticks(5):
            parts.append(f'<path class="grid" d="M{x(tick):.1f} 6V{height - 44}"/>')
            parts.append(svg.text(x(tick), height - 28, svg.short(tick), "middle"))
        if not math.isnan(floor):
            title = f"untrained {100 * floor:.1f}"
            parts.append(f'<path class="floor" d="M{x(100 * floor):.1f} 6V{height - 44}"><title>{title}</title></path>')
        for row, line in enumerate(lines):
            y, (low, high) = 18 + 22 * row, _ends(line, board.score)
            title = f"{line.loss} {wording.percent(line.scores[board.score])} %, {line.verdict}"
            i, mean = self.index[line.loss], x(100 * line.scores[board.score].mean)
            name = svg.text(left - 10, y + 4, wording.cut(line.loss, 30), "end")
            parts.append(
                svg.series(
                    i, name + svg.bar(y, x.inside(100 * low), x.inside(100 * high)) + svg.mark(mean, y, i, title)
                )
            )
        parts.append(svg.text((left + axes.width) / 2, height - 8, f"{board.score} %", "middle"))
        image = svg.picture("".join(parts), f"{board.score} on {board.task}", height=height)
        return Figure(board.task, image, "Mean and 95 % t-interval over repetitions; dashed: the untrained network.")

    def over_budget(self, boards: Sequence[Board]) -> Figure:
        """Score over the label budget, a line a loss."""
        score, budgets = boards[0].score, sorted({board.budget for board in boards})
        per_class = boards[0].labels.endswith("/class")
        ends = [100 * end for board in boards for line in board.lines for end in _ends(line, score)]
        axes = svg.Axes(
            svg.span(budgets, 0.12, log=True),
            _clipped(svg.span(ends)),
            "labels per class" if per_class else "share of labels",
            f"{score} %",
            log_x=True,
            ticks_x=budgets,
            names_x=[board.labels.removesuffix("/class") for board in sorted(boards, key=lambda b: b.budget)],
        )
        parts = [axes.frame()]
        for loss, i in self.index.items():
            points, marks = [], []
            for board in sorted(boards, key=lambda b: b.budget):
                line = next((line for line in board.lines if line.loss == loss), None)
                if line is None or math.isnan(line.scores[score].mean):
                    continue
                x = axes.x(board.budget) + 5 * (i - (len(self.index) - 1) / 2)  # side by side, or intervals overlap
                points.append((x, axes.y(100 * line.scores[score].mean)))
                title = f"{loss}, {board.labels}: {wording.percent(line.scores[score])} %"
                marks.append(self._marked(axes, x, line, score, title))
            if points:
                parts.append(svg.series(i, svg.line(points, self._dash(i)) + "".join(marks)))
        image = svg.picture("".join(parts), f"{score} over the label budget on {boards[0].dataset}")
        return Figure(boards[0].dataset, image, "Mean and 95 % t-interval; losses are shifted sideways a little.")

    def cost(self, board: Board) -> Figure | None:
        """Score over training time."""
        known = [line for line in board.trained if not math.isnan(line.scores[board.score].mean)]
        cost = {line.loss: line.cell.mean_of("train_seconds") for line in known}
        known = [line for line in known if cost[line.loss] > 0]
        if not known:
            return None
        ends = [100 * end for line in known for end in _ends(line, board.score)]
        x_range = svg.span([cost[line.loss] for line in known], 0.15, log=True)
        axes = svg.Axes(x_range, _clipped(svg.span(ends)), "training seconds a run", f"{board.score} %", log_x=True)
        parts = [axes.frame()]
        for line in known:
            i, x = self.index[line.loss], axes.x(cost[line.loss])
            took = wording.seconds(cost[line.loss])
            title = f"{line.loss}: {wording.percent(line.scores[board.score])} % in {took} s"
            parts.append(svg.series(i, self._marked(axes, x, line, board.score, title)))
        return Figure(board.task, svg.picture("".join(parts), f"score over cost on {board.task}"))

    def curves(self, curves: Curves) -> list[Figure]:
        """Loss, effective rank and gradient norm along training, a thin line a repetition of the tuned config."""
        trained = {loss: runs for loss, runs in curves.items() if loss != UNTRAINED}
        history = {loss: [one.get("history", {}) for one in runs] for loss, runs in trained.items()}
        named = (("loss", "training loss"), ("effective_rank", "effective rank"), ("gradient_norm", "gradient norm"))
        found = [self._curve(history, key, label) for key, label in named]
        return [figure for figure in found if figure]

    def _curve(self, history: Mapping[str, Sequence[Mapping[str, Any]]], key: str, label: str) -> Figure | None:
        lines = {loss: [_finite_points(one, key) for one in runs] for loss, runs in history.items()}
        points = [p for runs in lines.values() for run in runs for p in run]
        if not points:
            return None
        values = [y for _, y in points]
        log = min(values) > 0 and max(values) > 20 * min(values)
        x_range = (0.0, max([x for x, _ in points] + [1.0]))
        axes = svg.Axes(x_range, svg.span(values, log=log), "step", label, log_y=log)
        parts, at = [axes.frame()], (axes.x, axes.y)
        for loss, runs in lines.items():
            i = self.index[loss]
            paths = [_placed(run, *at) for run in runs]
            drawn = "".join(svg.line(path, self._dash(i), thin=True) for path in paths)
            parts.append(svg.series(i, f"{drawn}<title>{escape(loss)}</title>"))
        return Figure(label, svg.picture("".join(parts), f"{label} along training"))

    def spectrum(self, board: Board, curves: Curves) -> Figure | None:
        """Singular values of the test features over the largest one, the first repetition of the tuned config."""
        found: dict[str, list[float]] = {}
        for line in board.lines:
            values: list[float] = next(
                (c["singular_values"] for c in curves[line.loss] if c.get("singular_values")), []
            )
            if values and values[0] > 0:
                found[line.loss] = [max(v / values[0], 1e-6) for v in values]
        if not found:
            return None
        most = max(len(values) for values in found.values())
        y_range = svg.span([v for values in found.values() for v in values], 0.02, log=True)
        axes = svg.Axes((1, max(most, 2)), y_range, "index", "singular value / largest", log_y=True)
        parts = [axes.frame()]
        for loss, values in found.items():
            i = self.index[loss]
            drawn = svg.line([(axes.x(n + 1), axes.y(v)) for n, v in enumerate(values)], self._dash(i))
            parts.append(svg.series(i, f"{drawn}<title>{escape(loss)}</title>"))
        return Figure(board.task, svg.picture("".join(parts), f"singular values on {board.task}"))

    def embeddings(self, board: Board, curves: Curves) -> list[Figure]:
        """Test features on their two principal directions, a panel a loss, coloured by class.

        A loss with prototypes has a second panel: its projections, among which the prototypes are.
        """
        found = []
        for line in board.lines:
            for key, caption in (("picture", ""), ("projection_picture", "projections and prototypes")):
                picture = next((c[key] for c in curves[line.loss] if c.get(key)), None)
                if picture:
                    found.append(Figure(line.loss, _cloud(picture, f"{line.loss} on {board.task}"), caption))
        return found

    def critical_difference(self, found: Friedman) -> Figure:
        """Mean ranks on an axis; losses closer than the critical difference are joined."""
        ordered = sorted(found.mean_ranks.items(), key=lambda item: (item[1], item[0]))
        height = 70 + 20 * len(ordered)
        x = svg.Scale(1, len(ordered), 150, svg.WIDTH - 20)
        parts = [f'<path class="grid" d="M{x(r):.1f} 24V{height - 20}"/>' for r in range(1, len(ordered) + 1)]
        parts += [svg.text(x(r), 18, str(r), "middle") for r in range(1, len(ordered) + 1)]
        for row, (loss, rank) in enumerate(ordered):
            y, i = 40 + 20 * row, self.index[loss]
            reach = [other for _, other in ordered if rank <= other <= rank + found.critical_difference]
            joined = svg.bar(y, x(rank), x(max(reach))) if len(reach) > 1 else ""
            named = svg.text(140, y + 4, wording.cut(loss, 20), "end")
            parts.append(svg.series(i, named + joined + svg.mark(x(rank), y, i, f"{loss}: mean rank {rank:.2f}")))
        image = svg.picture("".join(parts), "mean ranks with critical difference", height=height)
        caption = (
            f"Friedman p = {found.p:.2g} over {found.datasets} data sets. A bar reaches to the losses that Nemenyi's"
            f" test (critical difference {found.critical_difference:.2f}) does not tell apart."
        )
        return Figure("Mean ranks", image, caption)

    def _marked(self, axes: svg.Axes, x: float, line: Line, score: str, title: str) -> str:
        """A loss's mark at its score with its interval; an interval is cut where the plot ends."""
        low, high = (axes.y.inside(100 * end) for end in _ends(line, score))
        y = axes.y(100 * line.scores[score].mean)
        return svg.whisker(x, low, high) + svg.mark(x, y, self.index[line.loss], title)

    @staticmethod
    def _dash(index: int) -> int:
        return index // PALETTE + (index % 2)


def _ends(line: Line, score: str) -> tuple[float, float]:
    found = line.scores[score]
    half = 0.0 if math.isnan(found.half) else found.half
    return found.mean - half, found.mean + half


def _clipped(found: tuple[float, float]) -> tuple[float, float]:
    """A range of percent: an interval may reach beyond 0 or 100, a score may not."""
    low, high = max(found[0], -1.0), min(found[1], 101.0)
    return (low, high) if low < high else (low - 1, low + 1)


def read_curves(board: Board, results: Path) -> Curves:
    """The curves of the runs that have ended of every loss's tuned config, by repetition."""
    found = {}
    for line in board.lines:
        ended = zip(line.cell.runs["status"], line.cell.runs["path"], strict=True)
        paths = [results / path for status, path in ended if status not in UNFINISHED]
        found[line.loss] = [_sound(records.read_curves(path)) for path in paths]
    return found


def read_broken(board: Board, results: Path) -> tuple[Curves, list[str]]:
    """Curves of the first few runs that collapsed or diverged in a config that was not chosen, and which these are."""
    curves: dict[str, list[dict[str, Any]]] = {}
    named: list[str] = []
    for line in board.trained:
        ended = [
            (results / path, f"{line.loss} at {cell.config}")
            for cell in line.cells
            if cell is not line.cell
            for status, path in zip(cell.runs["status"], cell.runs["path"], strict=True)
            if status in ("collapsed", "diverged")
        ][:BROKEN]
        if ended:
            curves[line.loss] = [_sound(records.read_curves(path)) for path, _ in ended]
            named += dict.fromkeys(name for _, name in ended)
    return curves, named


def _sound(curves: Mapping[str, Any]) -> dict[str, Any]:
    """Those parts of a curves file that are lists of numbers as long as they should be; it may come from a stranger."""
    history = curves.get("history")
    found: dict[str, Any] = {"history": {}, "singular_values": []}
    if isinstance(history, dict):
        found["history"] = {key: values for key, values in history.items() if _numbers(values, gaps=True)}
    if _numbers(curves.get("singular_values")):
        found["singular_values"] = curves["singular_values"]
    for key in ("picture", "projection_picture"):
        if points := _points(curves.get(key)):
            found[key] = points | {"prototypes": _points(curves[key].get("prototypes"))}
    return found


def _points(picture: Any) -> dict[str, list[Any]]:
    """Coordinates and whole labels of as many points each; {} for anything else."""
    if not isinstance(picture, dict) or not all(_numbers(picture.get(key)) for key in ("x", "y", "label")):
        return {}
    x, y, label = picture["x"], picture["y"], [int(label) for label in picture["label"]]
    return {"x": x, "y": y, "label": label} if x and len(x) == len(y) == len(label) else {}


def _numbers(values: Any, gaps: bool = False) -> bool:
    """A list of finite numbers, with null for those that were not if `gaps` are allowed."""
    if not isinstance(values, list):
        return False
    kinds = set(map(type, values))  # a report looks at millions of numbers: no loop of ours
    if gaps and type(None) in kinds:
        return _numbers([v for v in values if v is not None])
    return kinds <= {int, float} and max(map(abs, values), default=0) <= LARGEST


def _placed(points: Sequence[tuple[float, float]], x: svg.Scale, y: svg.Scale) -> list[tuple[float, float]]:
    return list(zip(x.all(v for v, _ in points), y.all(v for _, v in points), strict=True))


def _finite_points(history: Mapping[str, Any], key: str) -> list[tuple[float, float]]:
    """(step, value) where both were recorded; a value that was not finite is null."""
    pairs = zip(history.get("step", []), history.get(key, []), strict=False)
    return [(x, y) for x, y in pairs if x is not None and y is not None and math.isfinite(y)]


def _cloud(picture: Mapping[str, Any], title: str) -> str:
    """A square scatter with equal scales; prototypes as rings, in the colour of their class if they have one."""
    side, margin = 200.0, 8.0
    prototypes = picture["prototypes"] or {"x": [], "y": [], "label": []}
    both = [*picture["x"], *picture["y"], *prototypes["x"], *prototypes["y"]]
    unit = (side - 2 * margin) / (2 * (float(np.max(np.abs(both))) or 1.0))

    def at(a: float, b: float) -> tuple[float, float]:
        return side / 2 + a * unit, side / 2 - b * unit

    labels = picture["label"]
    parts = [f'<rect class="box" x="0.5" y="0.5" width="{side - 1:g}" height="{side - 1:g}"/>']
    for label in sorted(set(labels)):
        points = [at(a, b) for a, b, k in zip(picture["x"], picture["y"], labels, strict=True) if k == label]
        parts.append(svg.dots(points, f"c{label % CLASSES}"))
    for a, b, k in zip(prototypes["x"], prototypes["y"], prototypes["label"], strict=True):
        parts.append(
            svg.ring(
                *at(a, b), f"c{k % CLASSES}" if k >= 0 else "", f"prototype of class {k}" if k >= 0 else "prototype"
            )
        )
    return svg.picture("".join(parts), title, side, side)
