"""Numbers as people read them: scores in percent, `92.2 ± 1.8`, a dash where a number would mislead."""

import math

from cl_semisup.report.ranking import Bounded
from cl_semisup.results.leaderboard import Estimate

DASH = "—"
MINUS = "\N{MINUS SIGN}"
TIMES_OR_OVER = "\N{MULTIPLICATION SIGN}\N{DIVISION SIGN}"


def percent(found: Estimate, of: int = 0) -> str:
    """`92.2 ± 1.8`; a single value has no interval; a missing run leaves a dash and `4/5`."""
    return with_half(Estimate(100 * found.mean, 100 * found.half, found.n), ".1f", of)


def points(found: Estimate) -> str:
    """A difference of scores in percentage points, signed: `+0.4 ± 2.0`."""
    if math.isnan(found.mean):
        return DASH
    mean = f"{100 * found.mean:+.1f}".replace("-", MINUS)
    return (mean if mean.strip(f"+{MINUS}0.") else "0.0") + (
        "" if math.isnan(found.half) else f" ± {100 * found.half:.1f}"
    )


def plain(value: float, form: str = ".2f") -> str:
    return DASH if math.isnan(value) else f"{value:z{form}}"  # z: no negative zero


def with_half(found: Estimate, form: str = ".2f", of: int = 0) -> str:
    """`0.98 ± 0.01` in the unit it has; a missing run leaves a dash and, if they are `of` so many, `4/5`."""
    if math.isnan(found.mean):
        return f"{DASH} {found.n}/{of}" if of else DASH
    return f"{found.mean:z{form}}" + ("" if math.isnan(found.half) else f" ± {found.half:{form}}")


def bounded(found: Bounded | None, form: str = ".1f", scale: float = 1.0) -> str:
    """`1.5 [1.0, 2.5]`"""
    if found is None or math.isnan(found.value):
        return DASH
    value, low, high = (format(scale * x, form) for x in (found.value, found.low, found.high))
    return f"{value} [{low}, {high}]"


def rate(log10: Estimate, of: int) -> str:
    """A learning rate from its log10, with the factor of its interval, times or over: `0.3 x/ 1.4 (5/6)`."""
    if math.isnan(log10.mean):
        return "none"
    factor = "" if math.isnan(log10.half) or log10.half < 5e-3 else f" {TIMES_OR_OVER} {10**log10.half:.2g}"
    return f"{10**log10.mean:.3g}{factor}" + (f" ({log10.n}/{of})" if log10.n < of else "")


def seconds(value: float) -> str:
    """Three digits at most: `2.3`, `140`, `5200`."""
    return plain(value, ".1f" if value < 100 else ".0f")


def times(value: float) -> str:
    """`1.3x`, `12x`: a multiple of something."""
    return plain(value, ".1f" if value < 9.95 else ".0f") + ("" if math.isnan(value) else "x")


def endings(ended: dict[str, int]) -> str:
    """`ok 10, diverged 2`"""
    return ", ".join(f"{ending} {count}" for ending, count in ended.items())


def count(n: int, what: str) -> str:
    """`1 loss`, `3 losses`, `2 data sets`"""
    plural = what + ("es" if what.endswith("s") else "s")
    return f"{n} {what if n == 1 else plural}"


def cut(text: str, most: int) -> str:
    """A text that has no room without its middle: names of one loss's settings often differ at the end alone."""
    head = (most - 1) // 2
    return text if len(text) <= most else f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"
