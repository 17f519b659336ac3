"""The pictures of a search: the rungs tried with the edges drawn, and who dropped out of a race when."""

from collections.abc import Mapping, Sequence

from cl_semisup.report import race, svg, wording
from cl_semisup.report.edges import EdgeLine, EdgeRow
from cl_semisup.report.figures import Figure
from cl_semisup.report.search_result import SearchResult
from cl_semisup.results.naming import RunNames
from cl_semisup.results.snapshot import SuiteSnapshot
from cl_semisup.search.edges import Region
from cl_semisup.search.lines import neighbour_axis
from cl_semisup.search.racing import RaceResult
from cl_semisup.suite.search import Edge
from cl_semisup.text import html as escape

WIDTH, LEFT, RIGHT = 720, 230, 110
ROW, GAP = 12, 10  # height of a row, and of the space between two groups
MAX_NAME = 32  # characters
EDGES_CAPTION = (
    "A row a repetition. Filled: good; open: falls short of its share or of the untrained network; x: diverged;"
    " +: collapsed. The bar is what fits a repetition alone; upright lines are the edges that fit all of them."
)
RACE_CAPTION = (
    "A bar as long as a config took part; x: dropped after that repetition. On the right its mean paired difference"
    " to the leader with a 95 % t-interval, points of the validation score."
)


def search_figures(suite: SuiteSnapshot, searched: SearchResult | None, index: Mapping[str, int]) -> list[Figure]:
    """A picture a task; none for a search that has neither edges nor a race. `index` numbers the losses."""
    if searched is None:
        return []
    if isinstance(suite.search, Edge):
        by_task: dict[str, list[EdgeLine]] = {}
        for line in searched.lines:
            by_task.setdefault(line.task, []).append(line)
        return [edge_figure(task, lines, searched.rows, suite.search, index) for task, lines in by_task.items()]
    names = RunNames(list(suite.runs))
    races: dict[str, list[RaceResult]] = {}
    for one in searched.races:
        races.setdefault(names.tasks(one.configs[0].run)[0], []).append(one)
    return [race_figure(task, found, names, index) for task, found in races.items()]


def edge_figure(
    task: str, lines: Sequence[EdgeLine], rows: Sequence[EdgeRow], search: Edge, index: Mapping[str, int]
) -> Figure:
    """Every rung tried, a row a line, in groups of the repetitions of a loss at one value of the other axis."""
    groups: dict[tuple[str, float], list[EdgeLine]] = {}
    for line in lines:
        groups.setdefault((line.loss, line.neighbour), []).append(line)
    several = len({line.neighbour for line in lines}) > 1
    x = svg.Scale(search.values[0], search.values[-1], LEFT, WIDTH - 20, log=True)
    fitted = {(row.loss, row.neighbour): row.fitted for row in rows if row.task == task}
    parts, y = [], 10.0
    for (loss, neighbour), group in groups.items():
        name = f"{loss}, {neighbour_axis(search).replace('_', ' ')} {neighbour:g}" if several else loss
        middle = y + ROW * (len(group) - 1) / 2 + 4
        inside = [svg.text(LEFT - 14, middle, wording.ellipsize(name, MAX_NAME), "end")]
        inside += [_line(line, name, search, x, y + ROW * i) for i, line in enumerate(group)]
        inside += _edges(fitted[loss, neighbour], len(group), search, x, y)
        parts.append(_coloured(index.get(loss), "".join(inside)))
        y += ROW * len(group) + GAP
    frame = _frame(x, y, x.ticks(), search.name)
    image = svg.picture(frame + "".join(parts), f"edges of {search.name} on {task}", WIDTH, y + 40)
    return Figure(f"{task}: edges of {search.name}", image, EDGES_CAPTION)


def _line(line: EdgeLine, name: str, search: Edge, x: svg.Scale, y: float) -> str:
    """The rungs of one repetition, and the bar of its stable region."""
    judged, parts = line.words, []
    title = f"{name}, repetition {line.repetition}: "
    if line.region.found:
        low, high = search.values[line.region.low], search.values[line.region.high]
        title += f"stable from {low:g} to {high:g}"
        parts.append(f'<path class="region" d="M{x(low) - 3:.1f} {y:.1f}H{x(high) + 3:.1f}"/>')
    else:
        title += "no stable region"
    at = {rung: x(search.values[rung]) for rung in judged}
    parts.append(svg.dots([(at[rung], y) for rung, verdict in judged.items() if verdict == "good"], "rung"))
    shapes = {
        "low": "m-3 0a3 3 0 1 0 6 0a3 3 0 1 0 -6 0",
        "weak": "m-3 0a3 3 0 1 0 6 0a3 3 0 1 0 -6 0",
        "diverged": "m-3 -3l6 6m0 -6l-6 6",
        "collapsed": "m-3.5 0h7m-3.5 -3.5v7",
    }
    path = "".join(f"M{at[rung]:.1f} {y:.1f}{shapes[verdict]}" for rung, verdict in judged.items() if verdict in shapes)
    parts.append(f'<path class="thin" fill="none" stroke="currentColor" d="{path}"/>' if path else "")
    return f"<g>{''.join(parts)}<title>{escape(title)}</title></g>"


def _edges(fitted: Region, repetitions: int, search: Edge, x: svg.Scale, y: float) -> list[str]:
    """Upright lines at the edges that are fitted to all repetitions."""
    bottom = y + ROW * (repetitions - 1) + 6
    ends = (x(search.values[end]) for end in (fitted.low, fitted.high) if fitted.found)
    return [f'<path stroke="currentColor" d="M{at:.1f} {y - 6:.1f}V{bottom:.1f}"/>' for at in ends]


def race_figure(task: str, found: Sequence[RaceResult], names: RunNames, index: Mapping[str, int]) -> Figure:
    """A bar a config, in groups of the configs of a loss, who stayed first."""
    repetitions = max(len(one.scores) for result in found for one in result.configs)
    x = svg.Scale(0, max(repetitions, 1), LEFT, WIDTH - RIGHT)
    parts, y = [], 12.0
    for result in sorted(found, key=lambda one: names.losses[one.configs[0].run.id]):
        ranked = race.ranked(result)
        for place, one in enumerate(ranked):
            loss, config = names.losses[one.run.id], names.config(one.run)
            end, behind = x(len(one.scores)), race.behind(one, ranked[0], len(ranked))[0]
            outcome = race.outcome(one, ranked[0], result)
            inside = [svg.text(LEFT - 10, y + 4, wording.ellipsize(config, MAX_NAME), "end")]
            if place == 0:
                inside.insert(0, svg.text(4, y + 4, wording.ellipsize(loss, 12)))
            inside.append(f'<path class="raced" d="M{LEFT} {y:.1f}H{end:.1f}"/>')
            if one.dropped:
                cross = f"M{end - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"
                inside.append(f'<path stroke="currentColor" d="{cross}"/>')
            inside.append(
                svg.text(WIDTH - RIGHT + 12, y + 4, race.outcome(one, one, result) if one is ranked[0] else behind)
            )
            title = escape(f"{loss}, {config}: {outcome}")
            parts.append(_coloured(index.get(loss), f"{''.join(inside)}<title>{title}</title>"))
            y += ROW + 4
        y += GAP
    frame = _frame(x, y, list(range(repetitions + 1)), "repetitions")
    image = svg.picture(frame + "".join(parts), f"race on {task}", WIDTH, y + 40)
    return Figure(f"{task}: race for the best config", image, RACE_CAPTION)


def _coloured(number: int | None, inside: str) -> str:
    """In the colour of a loss; where its own settings are searched, the leaderboard knows it by other names."""
    return f"<g>{inside}</g>" if number is None else svg.series(number, inside)


def _frame(x: svg.Scale, bottom: float, ticks: Sequence[float], label: str) -> str:
    """Upright grid lines with their numbers and the name of the axis."""
    parts = [f'<path class="grid" d="M{x(tick):.1f} 2V{bottom:.1f}"/>' for tick in ticks]
    parts += [svg.text(x(tick), bottom + 16, svg.short(tick), "middle") for tick in ticks]
    return "".join([*parts, svg.text((x.start + x.end) / 2, bottom + 34, label, "middle")])
