"""The figures of a report: which there are, and what they show."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cl_semisup.report import svg, wording
from cl_semisup.report.ranking import Friedman
from cl_semisup.results import records
from cl_semisup.results.leaderboard import UNFINISHED_STATUSES, Board, Row
from cl_semisup.suite.run import UNTRAINED
from cl_semisup.text import html as escape
from cl_semisup.text import show, visible

PALETTE = 8  # colours of losses; further losses have the same colours with another dash and shape
MAX_VALUE = 1e300  # of numbers that are drawn
MAX_POINTS = 20_000  # of a curve or an embedding plot; our own have a few hundred, in many rounds some thousands
Curves = Mapping[str, Sequence[dict[str, Any]]]  # loss -> the curves of each repetition
MAX_BROKEN_CURVES = 3  # a loss: runs that collapsed or diverged
CLASS_COLOURS = 10  # in an embedding plot


@dataclass(frozen=True)
class Figure:
    """An SVG image with its title and how to read it."""

    title: str
    image: str
    caption: str = ""


class Figures:
    """Draws every loss with one colour, shape and dash, the same in all figures of a report."""

    def __init__(self, losses: Sequence[str]):
        self.index = {loss: i for i, loss in enumerate(losses)}

    def swatch(self, loss: str) -> str:
        """The loss's symbol in the legend."""
        i = self.index[loss]
        inside = svg.series(i, svg.line([(1, 8), (33, 8)], self._dash(i)) + svg.mark(17, 8, i, loss))
        return svg.picture(inside, "", 34, 16).replace('role="img" aria-label=""', 'aria-hidden="true" class="swatch"')

    def scores(self, board: Board) -> Figure:
        """Every loss of a task with its interval, the floor as a line."""
        rows = _scored_rows(board)
        floor = next((row.scores[board.score].mean for row in board.rows if row.loss == UNTRAINED), math.nan)
        ends = [100 * end for row in rows for end in _ends(row, board.score)]
        height = 56 + 22 * len(rows)
        left = 40 + 6.2 * max((min(len(row.loss), 30) for row in rows), default=0)
        axes = svg.Axes(_clipped(svg.span([*ends, 100 * floor])), (0, 1), "", "", height=height)
        x = svg.Scale(*axes.x_range, left, axes.width - svg.RIGHT)
        parts = []
        for tick in x.ticks(5):
            parts.append(f'<path class="grid" d="M{x(tick):.1f} 6V{height - 44}"/>')
            parts.append(svg.text(x(tick), height - 28, svg.short(tick), "middle"))
        if not math.isnan(floor):
            title = f"untrained {100 * floor:.1f}"
            parts.append(f'<path class="floor" d="M{x(100 * floor):.1f} 6V{height - 44}"><title>{title}</title></path>')
        for number, row in enumerate(rows):
            y, (low, high) = 18 + 22 * number, _ends(row, board.score)
            title = f"{row.loss} {wording.format_percent(row.scores[board.score])} %, {row.verdict}"
            i, mean = self.index[row.loss], x(100 * row.scores[board.score].mean)
            name = svg.text(left - 10, y + 4, wording.ellipsize(row.loss, 30), "end")
            bar = svg.bar(y, x.clamped(100 * low), x.clamped(100 * high))
            parts.append(svg.series(i, name + bar + svg.mark(mean, y, i, title)))
        parts.append(svg.text((left + axes.width) / 2, height - 8, f"{board.score} %", "middle"))
        image = svg.picture("".join(parts), f"{board.score} on {board.task}", height=height)
        return Figure(board.task, image, "Mean and 95 % t-interval over repetitions; dashed: the untrained network.")

    def over_budget(self, boards: Sequence[Board]) -> Figure:
        """Score over the label budget, a line a loss."""
        score, budgets = boards[0].score, sorted({board.budget for board in boards})
        per_class = boards[0].labels.endswith("/class")
        ends = [100 * end for board in boards for row in board.rows for end in _ends(row, score)]
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
                row = board.row_of(loss)
                if row is None or math.isnan(row.scores[score].mean):
                    continue
                x = axes.x(board.budget) + 5 * (i - (len(self.index) - 1) / 2)  # side by side, or intervals overlap
                points.append((x, axes.y(100 * row.scores[score].mean)))
                title = f"{loss}, {board.labels}: {wording.format_percent(row.scores[score])} %"
                marks.append(self._marked(axes, x, row, score, title))
            if points:
                parts.append(svg.series(i, svg.line(points, self._dash(i)) + "".join(marks)))
        image = svg.picture("".join(parts), f"{score} over the label budget on {boards[0].dataset}")
        return Figure(boards[0].dataset, image, "Mean and 95 % t-interval; losses are shifted sideways a little.")

    def cost(self, board: Board) -> Figure | None:
        """Score over training time."""
        seconds = {row.loss: row.reported_cell.metric_mean("train_seconds") for row in board.trained_rows}
        rows = [row for row in _scored_rows(board) if seconds[row.loss] > 0]
        if not rows:
            return None
        ends = [100 * end for row in rows for end in _ends(row, board.score)]
        x_range = svg.span([seconds[row.loss] for row in rows], 0.15, log=True)
        axes = svg.Axes(x_range, _clipped(svg.span(ends)), "training seconds a run", f"{board.score} %", log_x=True)
        parts = [axes.frame()]
        for row in rows:
            i, x = self.index[row.loss], axes.x(seconds[row.loss])
            percent, duration = (
                wording.format_percent(row.scores[board.score]),
                wording.format_seconds(seconds[row.loss]),
            )
            mark = self._marked(axes, x, row, board.score, f"{row.loss}: {percent} % in {duration} s")
            parts.append(svg.series(i, mark))
        return Figure(board.task, svg.picture("".join(parts), f"score over cost on {board.task}"))

    def curves(self, curves: Curves) -> list[Figure]:
        """Loss, effective rank and gradient norm along training, a thin line a repetition of the tuned config."""
        trained = {loss: runs for loss, runs in curves.items() if loss != UNTRAINED}
        history = {loss: [one.get("history", {}) for one in runs] for loss, runs in trained.items()}
        labels = {"loss": "training loss", "effective_rank": "effective rank", "gradient_norm": "gradient norm"}
        figures = [self._curve(history, key, label) for key, label in labels.items()]
        return [figure for figure in figures if figure]

    def _curve(self, history: Mapping[str, Sequence[Mapping[str, Any]]], key: str, label: str) -> Figure | None:
        points_of = {loss: [_finite_points(one, key) for one in runs] for loss, runs in history.items()}
        points = [p for runs in points_of.values() for run in runs for p in run]
        if not points:
            return None
        values = [y for _, y in points]
        log = min(values) > 0 and max(values) > 20 * min(values)
        x_range = (0.0, max([x for x, _ in points] + [1.0]))
        axes = svg.Axes(x_range, svg.span(values, log=log), "step", label, log_y=log)
        parts, x, y = [axes.frame()], axes.x, axes.y
        for loss, runs in points_of.items():
            i = self.index[loss]
            paths = [zip(x.all(v for v, _ in run), y.all(v for _, v in run), strict=True) for run in runs]
            curves = "".join(svg.line(path, self._dash(i), thin=True) for path in paths)
            parts.append(svg.series(i, f"{curves}<title>{escape(loss)}</title>"))
        return Figure(label, svg.picture("".join(parts), f"{label} along training"))

    def spectrum(self, board: Board, curves: Curves) -> Figure | None:
        """Singular values of the test features over the largest one, the first repetition of the tuned config."""
        spectra: dict[str, list[float]] = {}
        for row in board.rows:
            values: list[float] = _first_stored(curves[row.loss], "singular_values") or []
            if values and values[0] > 0:
                spectra[row.loss] = [max(v / values[0], 1e-6) for v in values]
        if not spectra:
            return None
        length = max(len(values) for values in spectra.values())
        y_range = svg.span([v for values in spectra.values() for v in values], 0.02, log=True)
        axes = svg.Axes((1, max(length, 2)), y_range, "index", "singular value / largest", log_y=True)
        parts = [axes.frame()]
        for loss, values in spectra.items():
            i = self.index[loss]
            line = svg.line([(axes.x(n + 1), axes.y(v)) for n, v in enumerate(values)], self._dash(i))
            parts.append(svg.series(i, f"{line}<title>{escape(loss)}</title>"))
        return Figure(board.task, svg.picture("".join(parts), f"singular values on {board.task}"))

    def embeddings(self, board: Board, curves: Curves) -> list[Figure]:
        """Test features on their two principal directions, a panel a loss, coloured by class.

        A loss with prototypes has a second panel: its projections and the prototypes.
        """
        figures = []
        for row in board.rows:
            for key, caption in (("picture", ""), ("projection_picture", "projections and prototypes")):
                if picture := _first_stored(curves[row.loss], key):
                    figures.append(Figure(row.loss, _scatter(picture, f"{row.loss} on {board.task}"), caption))
        return figures

    def critical_difference(self, test: Friedman) -> Figure:
        """Mean ranks on an axis; losses closer than the critical difference are joined."""
        ordered = sorted(test.mean_ranks.items(), key=lambda item: (item[1], item[0]))
        height = 70 + 20 * len(ordered)
        x = svg.Scale(1, len(ordered), 150, svg.WIDTH - 20)
        parts = [f'<path class="grid" d="M{x(r):.1f} 24V{height - 20}"/>' for r in range(1, len(ordered) + 1)]
        parts += [svg.text(x(r), 18, str(r), "middle") for r in range(1, len(ordered) + 1)]
        for number, (loss, rank) in enumerate(ordered):
            y, i = 40 + 20 * number, self.index[loss]
            close = [other for _, other in ordered if rank <= other <= rank + test.critical_difference]
            bar = svg.bar(y, x(rank), x(max(close))) if len(close) > 1 else ""
            name = svg.text(140, y + 4, wording.ellipsize(loss, 20), "end")
            parts.append(svg.series(i, name + bar + svg.mark(x(rank), y, i, f"{loss}: mean rank {rank:.2f}")))
        image = svg.picture("".join(parts), "mean ranks with critical difference", height=height)
        caption = (
            f"Friedman p = {test.p:.2g} over {test.datasets} data sets. A bar reaches to the losses that Nemenyi's"
            f" test (critical difference {test.critical_difference:.2f}) does not tell apart."
        )
        return Figure("Mean ranks", image, caption)

    def _marked(self, axes: svg.Axes, x: float, row: Row, score: str, title: str) -> str:
        """A loss's mark at its score with its interval, clipped to the plot."""
        low, high = (axes.y.clamped(100 * end) for end in _ends(row, score))
        y = axes.y(100 * row.scores[score].mean)
        return svg.whisker(x, low, high) + svg.mark(x, y, self.index[row.loss], title)

    @staticmethod
    def _dash(index: int) -> int:
        return index // PALETTE + (index % 2)


def _scored_rows(board: Board) -> list[Row]:
    """The trained losses that have a mean score."""
    return [row for row in board.trained_rows if not math.isnan(row.scores[board.score].mean)]


def _ends(row: Row, score: str) -> tuple[float, float]:
    """The ends of a score's interval; the mean twice if there is none."""
    ci = row.scores[score]
    half_width = 0.0 if math.isnan(ci.ci_half_width) else ci.ci_half_width
    return ci.mean - half_width, ci.mean + half_width


def _clipped(percents: tuple[float, float]) -> tuple[float, float]:
    """A range of percent: an interval may reach beyond 0 or 100, a score may not."""
    low, high = max(percents[0], -1.0), min(percents[1], 101.0)
    return (low, high) if low < high else (low - 1, low + 1)


def read_curves(board: Board, results: Path) -> Curves:
    """Loss -> the curves of the finished runs of its tuned config, by repetition."""
    curves = {}
    for row in board.rows:
        runs = zip(row.reported_cell.runs["status"], row.reported_cell.runs["path"], strict=True)
        paths = [results / path for status, path in runs if status not in UNFINISHED_STATUSES]
        curves[row.loss] = [_read(path) for path in paths]
    return curves


def read_broken_curves(board: Board, results: Path) -> tuple[Curves, list[str]]:
    """Curves of the first few runs that collapsed or diverged in configs other than the tuned one; their names."""
    curves: dict[str, list[dict[str, Any]]] = {}
    names: list[str] = []
    for row in board.trained_rows:
        broken = [
            (results / path, f"{row.loss} at {cell.config}")
            for cell in row.cells
            if cell is not row.tuned_cell
            for status, path in zip(cell.runs["status"], cell.runs["path"], strict=True)
            if status in ("collapsed", "diverged")
        ][:MAX_BROKEN_CURVES]
        if broken:
            curves[row.loss] = [_read(path) for path, _ in broken]
            names += dict.fromkeys(name for _, name in broken)
    return curves, names


def _first_stored(curves: Sequence[dict[str, Any]], key: str) -> Any:
    """A value of the first repetition that has one, or None."""
    return next((one[key] for one in curves if one.get(key)), None)


def _read(path: Path) -> dict[str, Any]:
    """The curves beside a record, as far as they can be drawn; a line tells that some are too long."""
    curves = records.read_curves(path)
    parts = [curves.get(name) for name in ("history", "singular_values", "picture", "projection_picture")]
    parts += [part.get("prototypes") for part in parts if isinstance(part, dict)]
    lists = [values for part in parts for values in (part.values() if isinstance(part, dict) else [part])]
    longest = max((len(values) for values in lists if isinstance(values, list)), default=0)
    if longest > MAX_POINTS:
        rule = f"curves of more than {MAX_POINTS} points are not drawn. Got {longest}."
        show(f"{visible(records.curves_path(path))}: {rule}", error=True)
    return _checked(curves)


def _checked(curves: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a curves file that are lists of numbers of the right length; the file may come from a stranger."""
    history = curves.get("history")
    checked: dict[str, Any] = {"history": {}, "singular_values": []}
    if isinstance(history, dict):
        checked["history"] = {key: values for key, values in history.items() if _are_numbers(values, allow_none=True)}
    if _are_numbers(curves.get("singular_values")):
        checked["singular_values"] = curves["singular_values"]
    for key in ("picture", "projection_picture"):
        if points := _points(curves.get(key)):
            checked[key] = points | {"prototypes": _points(curves[key].get("prototypes"))}
    return checked


def _points(picture: Any) -> dict[str, list[Any]]:
    """Coordinates and whole-number labels, equally many of each; {} for anything else."""
    if not isinstance(picture, dict) or not all(_are_numbers(picture.get(key)) for key in ("x", "y", "label")):
        return {}
    x, y, label = picture["x"], picture["y"], [int(label) for label in picture["label"]]
    return {"x": x, "y": y, "label": label} if x and len(x) == len(y) == len(label) else {}


def _are_numbers(values: Any, allow_none: bool = False) -> bool:
    """Is it a list of finite numbers, no longer than is drawn? None stands for a value that was not finite."""
    if not isinstance(values, list) or len(values) > MAX_POINTS:
        return False
    types = set(map(type, values))  # faster than a Python loop: a report has millions of numbers
    if allow_none and type(None) in types:
        return _are_numbers([v for v in values if v is not None])
    return types <= {int, float} and max(map(abs, values), default=0) <= MAX_VALUE


def _finite_points(history: Mapping[str, Any], key: str) -> list[tuple[float, float]]:
    """(step, value) pairs; a value that was not finite is None and left out."""
    pairs = zip(history.get("step", []), history.get(key, []), strict=False)
    return [(x, y) for x, y in pairs if x is not None and y is not None and math.isfinite(y)]


def _scatter(picture: Mapping[str, Any], title: str) -> str:
    """A square scatter plot with equal scales; prototypes are rings in the colour of their class, if they have one."""
    side, margin = 200.0, 8.0
    prototypes = picture["prototypes"] or {"x": [], "y": [], "label": []}
    both = [*picture["x"], *picture["y"], *prototypes["x"], *prototypes["y"]]
    unit = (side - 2 * margin) / (2 * (float(np.max(np.abs(both))) or 1.0))

    def at(a: float, b: float) -> tuple[float, float]:
        return side / 2 + a * unit, side / 2 - b * unit

    labels = picture["label"]
    parts = [f'<rect class="box" x="0.5" y="0.5" width="{side - 1:g}" height="{side - 1:g}"/>']
    points: dict[int, list[svg.Point]] = {label: [] for label in sorted(set(labels))}
    for a, b, label in zip(picture["x"], picture["y"], labels, strict=True):
        points[label].append(at(a, b))
    parts += [svg.dots(those, f"c{label % CLASS_COLOURS}") for label, those in points.items()]
    for a, b, k in zip(prototypes["x"], prototypes["y"], prototypes["label"], strict=True):
        colour, title_of_ring = (f"c{k % CLASS_COLOURS}", f"prototype of class {k}") if k >= 0 else ("", "prototype")
        parts.append(svg.ring(*at(a, b), colour, title_of_ring))
    return svg.picture("".join(parts), title, side, side)
