"""Small inline SVG images: axes, lines, intervals, marks. Colours are CSS classes, which the page's theme defines.

A series is drawn in `currentColor` of a group with class `k0`, `k1`, ...; pages colour these groups and may hide
them. Text is escaped here. Coordinates have one decimal, so the same data give the same bytes.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from cl_semisup.text import html as escape

WIDTH, HEIGHT = 400, 280
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 12, 44  # margins around the plot, in user units (pixels at full width)
Point = tuple[float, float]


@dataclass(frozen=True)
class Scale:
    """Maps a range of values onto pixels, linearly or by logarithm."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    @cached_property
    def ends(self) -> tuple[float, float]:
        return (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)

    def __call__(self, value: float) -> float:
        low, high = self.ends
        if self.log:
            value = math.log10(value)
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def all(self, values: Iterable[float]) -> list[float]:
        """Like a call for each; curves have thousands of points."""
        low, high = self.ends
        unit = (self.end - self.start) / (high - low)
        return [self.start + (v - low) * unit for v in (map(math.log10, values) if self.log else values)]

    def clamped(self, value: float) -> float:
        """Like a call, with the value clamped to the range."""
        return self(min(max(value, self.low), self.high))

    def ticks(self, count: int = 6) -> list[float]:
        """About `count` round values: steps of 1, 2 or 5; on a long logarithmic range 1, 2, 5 or only powers of ten."""
        if self.log and self.high > 5 * self.low:
            low, high = math.log10(self.low), math.log10(self.high)
            factors = (1, 2, 5) if high - low < 1.7 else (1,)
            powers = range(math.floor(low), math.ceil(high) + 1)
            ticks = [f * 10.0**power for power in powers for f in factors]
            ticks = [v for v in ticks if self.low * 0.999 <= v <= self.high * 1.001]
            return ticks[:: 1 + len(ticks) // (count + 2)]
        step = _round_step((self.high - self.low) / count)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(f * power for f in (1, 2, 5, 10) if f * power >= rough * 0.999)


def span(values: Iterable[float], pad: float = 0.06, log: bool = False) -> tuple[float, float]:
    """The range of the finite values with a margin; never empty."""
    known = [v for v in values if math.isfinite(v) and (v > 0 or not log)]
    if not known:
        return (0.1, 1.0) if log else (0.0, 1.0)
    low, high = min(known), max(known)
    if log:
        margin = (high / low) ** pad if high > low else 1.5
        return low / margin, high * margin
    margin = (high - low) * pad or max(abs(high) * pad, 1e-6)
    return low - margin, high + margin


@dataclass(frozen=True)
class Axes:
    """A plot's two scales and their labels. `names_x` replaces the numbers of `ticks_x`."""

    x_range: tuple[float, float]
    y_range: tuple[float, float]
    x_label: str
    y_label: str
    log_x: bool = False
    log_y: bool = False
    ticks_x: Sequence[float] = ()
    names_x: Sequence[str] = ()
    width: float = WIDTH
    height: float = HEIGHT

    @property
    def x(self) -> Scale:
        return Scale(*self.x_range, LEFT, self.width - RIGHT, self.log_x)

    @property
    def y(self) -> Scale:
        return Scale(*self.y_range, self.height - BOTTOM, TOP, self.log_y)

    def frame(self) -> str:
        """Grid, ticks and labels."""
        bottom, right = self.height - BOTTOM, self.width - RIGHT
        parts = []
        ticks = list(self.ticks_x) or self.x.ticks()
        names = list(self.names_x) or [short(v) for v in ticks]
        for value, name in zip(ticks, names, strict=True):
            at = self.x(value)
            parts.append(f'<path class="grid" d="M{at:.1f} {TOP}V{bottom}"/>')
            parts.append(f'<text x="{at:.1f}" y="{bottom + 16}" text-anchor="middle">{escape(name)}</text>')
        for value in self.y.ticks():
            at = self.y(value)
            parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{right}"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{short(value)}</text>')
        middle = (TOP + bottom) / 2
        parts.append(text((LEFT + right) / 2, self.height - 8, self.x_label, "middle"))
        turned = f'transform="translate(13 {middle:.1f}) rotate(-90)" text-anchor="middle"'
        parts.append(f"<text {turned}>{escape(self.y_label)}</text>")
        return "".join(parts)


def picture(inside: str, title: str, width: float = WIDTH, height: float = HEIGHT) -> str:
    """An SVG element with a title for screen readers."""
    head = f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}">'
    return f"{head}{inside}</svg>"


def series(index: int, inside: str) -> str:
    """The group of all that belongs to one loss."""
    return f'<g class="k k{index}">{inside}</g>'


def line(points: Iterable[Point], dash: int = 0, thin: bool = False) -> str:
    """A polyline through the finite points, broken at points that are not finite."""
    path, pen = [], "M"
    for x, y in points:
        if not (math.isfinite(x) and math.isfinite(y)):
            pen = "M"
            continue
        path.append(f"{pen}{x:.1f} {y:.1f}")
        pen = "L"
    thinness = ' class="thin"' if thin else ""
    return f'<path{thinness} fill="none" stroke="currentColor" d="{"".join(path)}"{_dash(dash)}/>' if path else ""


def _dash(index: int) -> str:
    patterns = ("", "6 3", "2 2", "8 3 2 3", "1 3", "10 4")
    pattern = patterns[index % len(patterns)]
    return f' stroke-dasharray="{pattern}"' if pattern else ""


def mark(x: float, y: float, shape: int, title: str) -> str:
    """A filled mark with a hover text; different shapes make losses distinguishable without colour."""
    shapes = (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/>',
        f'<rect x="{x - 3.6:.1f}" y="{y - 3.6:.1f}" width="7.2" height="7.2"/>',
        f'<path d="M{x:.1f} {y - 5:.1f}l4.8 8.4h-9.6z"/>',
        f'<path d="M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5 -5z"/>',
        f'<path d="M{x:.1f} {y + 5:.1f}l4.8 -8.4h-9.6z"/>',
        f'<path d="M{x - 4.5:.1f} {y - 1.5:.1f}h3v-3h3v3h3v3h-3v3h-3v-3h-3z"/>',
    )
    return f'<g fill="currentColor">{shapes[shape % len(shapes)]}<title>{escape(title)}</title></g>'


def whisker(x: float, low: float, high: float) -> str:
    """A vertical interval."""
    d = f"M{x:.1f} {low:.1f}V{high:.1f}M{x - 3:.1f} {low:.1f}h6M{x - 3:.1f} {high:.1f}h6"
    return f'<path class="thin" stroke="currentColor" d="{d}"/>'


def bar(y: float, low: float, high: float) -> str:
    """A horizontal interval."""
    d = f"M{low:.1f} {y:.1f}H{high:.1f}M{low:.1f} {y - 4:.1f}v8M{high:.1f} {y - 4:.1f}v8"
    return f'<path stroke="currentColor" d="{d}"/>'


def dots(points: Iterable[Point], kind: str) -> str:
    """Many small dots in one path, with a hundredth of the bytes of circles."""
    path = "".join(f"M{x:.0f} {y:.0f}h0" for x, y in points)
    return f'<path class="dots {kind}" d="{path}"/>' if path else ""


def ring(x: float, y: float, kind: str, title: str) -> str:
    """An open circle, visible on top of dots of its own colour."""
    circle = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
    return f'<g class="ring {kind}">{circle}{circle}<title>{escape(title)}</title></g>'


def text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def short(value: float) -> str:
    """`0.3`, `12`, `1e5`"""
    if value and (abs(value) >= 1e4 or abs(value) < 1e-3):
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:.4g}"
