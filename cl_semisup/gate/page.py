"""The verdict as one small HTML page: the table, and reference and new curves over each other."""

import math
from collections.abc import Iterable, Sequence
from html import escape

from cl_semisup.gate.history import Series
from cl_semisup.gate.reference import ProbeResult
from cl_semisup.gate.trajectory import QUANTITIES, Row
from cl_semisup.gate.verdict import Verdict
from cl_semisup.report import svg

STYLE = """body{color:#1b1f24;background:#fff}
body{margin:2em auto;max-width:72em;padding:0 1em;font:15px/1.5 system-ui,sans-serif}
pre{background:#f4f6f8;padding:1em;overflow-x:auto;font-size:13px}h2{font-size:1.1em;margin:1.6em 0 .4em}
.row{display:flex;flex-wrap:wrap;gap:1em}figure{margin:0;width:22em}figcaption{font-size:.85em;color:#5b6570}
svg{width:100%;height:auto;font:12px system-ui,sans-serif;stroke-width:1.8}svg text{fill:#5b6570;stroke:none}
svg .grid{stroke:#d9dee3;stroke-width:1;fill:none}.k{color:#c25200}.k0{color:#6b747d;stroke-width:5;opacity:.5}
.k2{color:#0067a3}.k3{color:#00835f}.k4{color:#a8478a}
@media(prefers-color-scheme:dark){body{color:#e6e9ec;background:#14181c}pre{background:#1c2228}svg .grid{stroke:#333b43}
.k{color:#ff9a57}.k0{color:#9aa5af}.k2{color:#5fb3f0}.k3{color:#3fd0a0}.k4{color:#ea9fcf}}"""
STROKES = ("───", "╌╌╌", "┈┈┈", "─·─")  # as svg.line dashes them
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def of_verdict(verdict: Verdict, then: ProbeResult, now: ProbeResult) -> str:
    """Table first, then every loss's trajectories; the reference is the broad grey line."""
    parts = [f"<h1>Gate: {escape(verdict.suite)}</h1>", f"<pre>{escape(verdict.text())}</pre>"]
    parts.append("<p>Broad grey: the reference. Thin: this run. Where nothing moved one lies on the other.</p>")
    moved = {(f.loss, f.where) for f in verdict.moved}
    for loss in now.free:
        parts.append(f"<h2>{escape(loss)}</h2><div class=row>")
        if loss in then.free:
            parts.append(_curves(then.free[loss].steps, now.free[loss].steps, 0, "free embeddings", loss))
        for cell, trajectory in now.trajectory.get(loss, {}).items():
            before = then.trajectory.get(loss, {}).get(cell)
            for quantity in (0, 1, 3) if (loss, cell) in moved else (0,):
                parts.append(_curves(before.steps if before else [], trajectory.steps, quantity, cell, loss))
        parts.append("</div>")
    return whole(f"Gate: {verdict.suite}", parts)


def of_history(title: str, series: Iterable[Series]) -> str:
    """How every figure moved over the stored updates, with its standard error; a square is where it stepped."""
    parts = [f"<h1>{escape(title)}</h1>", "<div class=row>"]
    for one in series:
        points = [(float(i), value) for i, value in enumerate(one.values)]
        ends = [(value - error, value + error) for value, error in zip(one.values, one.errors, strict=True)]
        y_range = svg.span(end for pair in ends for end in pair)
        axes = svg.Axes((-0.5, max(len(points) - 0.5, 0.5)), y_range, "update", one.figure)
        drawn = [(axes.x(x), axes.y(y)) for x, y in points]
        marks = "".join(svg.mark(*drawn[i], 1 if i in one.steps else 0, one.told(i)) for i in range(len(drawn)))
        marks += "".join(svg.whisker(drawn[i][0], *map(axes.y, pair)) for i, pair in enumerate(ends))
        said = escape(
            f"{one.loss}: {one.figure}. "
            + ("Steps: " + "; ".join(map(one.told, one.steps)) if one.steps else "No step.")
        )
        image = svg.picture(axes.frame() + svg.series(1, svg.line(drawn) + marks), f"{one.loss}, {one.figure}")
        parts.append(f"<figure>{image}<figcaption>{said}</figcaption></figure>")
    return whole(title, [*parts, "</div>"])


def figure(axes: svg.Axes, lines: Sequence[tuple[str, Sequence[svg.Point]]], caption: str) -> str:
    """Lines of different colour and dash, and below them what each stands for."""
    drawn = "".join(svg.series(i + 1, svg.line(points, dash=i)) for i, (_, points) in enumerate(lines))
    names = "".join(
        f"<br><span class='k k{i + 1}'>{STROKES[i % len(STROKES)]}</span> {escape(name)}"
        for i, (name, _) in enumerate(lines)
    )
    image = svg.picture(axes.frame() + drawn, caption)
    return f"<figure>{image}<figcaption>{escape(caption)}{names}</figcaption></figure>"


def whole(title: str, parts: Sequence[str]) -> str:
    """A page that asks for nothing: no scripts, no fonts, no network."""
    head = f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    head += f'<meta name="viewport" content="width=device-width"><title>{escape(title)}</title><style>{STYLE}</style>'
    return f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(parts)}</body></html>\n"


def _curves(then: Sequence[Row], now: Sequence[Row], quantity: int, where: str, loss: str) -> str:
    """The broad line of the reference under the thin one of this run."""
    old, new = ([math.nan if (value := row[quantity]) is None else value for row in s] for s in (then, now))
    axes = svg.Axes((0, max(len(old), len(new), 2) - 1), svg.span([*old, *new]), "step", QUANTITIES[quantity])
    lines = "".join(
        svg.series(i, svg.line([(axes.x(step), axes.y(value)) for step, value in enumerate(values)]))
        for i, values in enumerate((old, new))
    )
    image = svg.picture(axes.frame() + lines, f"{loss}, {where}: {QUANTITIES[quantity]}")
    return f"<figure>{image}<figcaption>{escape(where)}</figcaption></figure>"
