"""The result of a gate run, or a reference's history, as one small HTML page with curves."""

import math
from collections.abc import Iterable, Sequence

from cl_semisup.gate.history import MetricSeries
from cl_semisup.gate.reference import Measurements
from cl_semisup.gate.result import GateResult
from cl_semisup.gate.trajectory import FREE_EMBEDDINGS, QUANTITIES, Row
from cl_semisup.report import svg
from cl_semisup.text import html as escape

STYLE = """body{color:#1b1f24;background:#fff}
body{margin:2em auto;max-width:72em;padding:0 1em;font:15px/1.5 system-ui,sans-serif}
pre{background:#f4f6f8;padding:1em;overflow-x:auto;font-size:13px}h2{font-size:1.1em;margin:1.6em 0 .4em}
.row{display:flex;flex-wrap:wrap;gap:1em}figure{margin:0;width:22em}figcaption{font-size:.85em;color:#5b6570}
svg{width:100%;height:auto;font:12px system-ui,sans-serif;stroke-width:1.8}svg text{fill:#5b6570;stroke:none}
svg .grid{stroke:#d9dee3;stroke-width:1;fill:none}.k{color:#c25200}.k0{color:#6b747d;stroke-width:5;opacity:.5}
.k2{color:#0067a3}.k3{color:#00835f}.k4{color:#a8478a}
@media(prefers-color-scheme:dark){body{color:#e6e9ec;background:#14181c}pre{background:#1c2228}svg .grid{stroke:#333b43}
.k{color:#ff9a57}.k0{color:#9aa5af}.k2{color:#5fb3f0}.k3{color:#3fd0a0}.k4{color:#ea9fcf}}"""
STROKES = ("───", "╌╌╌", "┈┈┈", "─·─")  # the dashes of svg.line
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def of_result(result: GateResult, reference: Measurements, current: Measurements) -> str:
    """The table, then the trajectories of every loss; the broad grey line is the reference."""
    parts = [f"<h1>Gate: {escape(result.suite)}</h1>", f"<pre>{escape(result.text())}</pre>"]
    parts.append("<p>Broad grey: the reference. Thin: this run. Where nothing moved one lies on the other.</p>")
    changed = {(check.loss, check.where) for check in result.changed_checks}
    for loss, descent in current.embedding_descent.items():
        parts.append(f"<h2>{escape(loss)}</h2><div class=row>")
        if loss in reference.embedding_descent:
            stored_steps = reference.embedding_descent[loss].steps
            parts.append(_curves(stored_steps, descent.steps, 0, FREE_EMBEDDINGS, loss))
        for cell, trajectory in current.trajectory.get(loss, {}).items():
            stored = reference.trajectory.get(loss, {}).get(cell)
            for quantity in (0, 1, 3) if (loss, cell) in changed else (0,):
                parts.append(_curves(stored.steps if stored else [], trajectory.steps, quantity, cell, loss))
        parts.append("</div>")
    return html_page(f"Gate: {result.suite}", parts)


def of_history(title: str, all_series: Iterable[MetricSeries]) -> str:
    """Every metric over the stored updates, with its standard error; a square marks a change point."""
    parts = [f"<h1>{escape(title)}</h1>", "<div class=row>"]
    for series in all_series:
        intervals = [(value - error, value + error) for value, error in zip(series.values, series.errors, strict=True)]
        y_range = svg.span(end for interval in intervals for end in interval)
        axes = svg.Axes((-0.5, max(len(series.values) - 0.5, 0.5)), y_range, "update", series.metric)
        points = [(axes.x(float(i)), axes.y(value)) for i, value in enumerate(series.values)]
        marks = "".join(svg.mark(*p, int(i in series.change_points), series.describe(i)) for i, p in enumerate(points))
        marks += "".join(svg.whisker(points[i][0], *map(axes.y, interval)) for i, interval in enumerate(intervals))
        changes = "; ".join(map(series.describe, series.change_points))
        caption = escape(f"{series.loss}: {series.metric}. " + (f"Steps: {changes}" if changes else "No step."))
        image = svg.picture(axes.frame() + svg.series(1, svg.line(points) + marks), f"{series.loss}, {series.metric}")
        parts.append(f"<figure>{image}<figcaption>{caption}</figcaption></figure>")
    return html_page(title, [*parts, "</div>"])


def figure(axes: svg.Axes, lines: Sequence[tuple[str, Sequence[svg.Point]]], caption: str) -> str:
    """A plot of named lines in different colours and dashes, with a legend below."""
    drawn = "".join(svg.series(i + 1, svg.line(points, dash=i)) for i, (_, points) in enumerate(lines))
    names = "".join(
        f"<br><span class='k k{i + 1}'>{STROKES[i % len(STROKES)]}</span> {escape(name)}"
        for i, (name, _) in enumerate(lines)
    )
    image = svg.picture(axes.frame() + drawn, caption)
    return f"<figure>{image}<figcaption>{escape(caption)}{names}</figcaption></figure>"


def html_page(title: str, parts: Sequence[str]) -> str:
    """A page without scripts, fonts or network access."""
    head = f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    head += f'<meta name="viewport" content="width=device-width"><title>{escape(title)}</title><style>{STYLE}</style>'
    return f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(parts)}</body></html>\n"


def _curves(reference: Sequence[Row], current: Sequence[Row], quantity: int, where: str, loss: str) -> str:
    """One quantity over the steps: the reference as a broad line under the thin one of this run."""
    lines = [[math.nan if (v := row[quantity]) is None else v for row in rows] for rows in (reference, current)]
    x_range = (0, max(*map(len, lines), 2) - 1)
    axes = svg.Axes(x_range, svg.span(value for line in lines for value in line), "step", QUANTITIES[quantity])
    drawn = "".join(
        svg.series(i, svg.line([(axes.x(step), axes.y(value)) for step, value in enumerate(line)]))
        for i, line in enumerate(lines)
    )
    image = svg.picture(axes.frame() + drawn, f"{loss}, {where}: {QUANTITIES[quantity]}")
    return f"<figure>{image}<figcaption>{escape(where)}</figcaption></figure>"
