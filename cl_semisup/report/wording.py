"""Numbers as text: scores in percent, `92.2 ± 1.8`, and a dash where a number would mislead."""

import math

from cl_semisup.results.statistics import Interval, MeanCI

DASH = "—"
MINUS = "\N{MINUS SIGN}"
TIMES_OR_OVER = "\N{MULTIPLICATION SIGN}\N{DIVISION SIGN}"


def format_number(value: float, spec: str = ".2f") -> str:
    return DASH if math.isnan(value) else f"{value:z{spec}}"  # z: no negative zero


def format_mean_ci(value: MeanCI, spec: str = ".2f", repetitions: int = 0) -> str:
    """`0.98 ± 0.01`; without a mean a dash and, if `repetitions` are given, how many there are: `4/5`."""
    if math.isnan(value.mean):
        return f"{DASH} {value.n}/{repetitions}" if repetitions else DASH
    return f"{value.mean:z{spec}}" + _plus_minus(value.ci_half_width, spec)


def format_percent(value: MeanCI, repetitions: int = 0) -> str:
    """A share in percent: `92.2 ± 1.8`."""
    return format_mean_ci(MeanCI(100 * value.mean, 100 * value.ci_half_width, value.n), ".1f", repetitions)


def format_points(value: MeanCI) -> str:
    """A difference of scores in percentage points, signed: `+0.4 ± 2.0`."""
    if math.isnan(value.mean):
        return DASH
    mean = f"{100 * value.mean:+.1f}".replace("-", MINUS)
    return (mean if mean.strip(f"+{MINUS}0.") else "0.0") + _plus_minus(100 * value.ci_half_width, ".1f")


def format_area_difference(value: MeanCI) -> str:
    """A signed difference of areas: `+0.001 ± 0.014`."""
    if math.isnan(value.mean):
        return DASH
    return f"{value.mean:+.3f}".replace("-", MINUS) + _plus_minus(value.ci_half_width, ".3f")


def _plus_minus(ci_half_width: float, spec: str) -> str:
    return "" if math.isnan(ci_half_width) else f" ± {ci_half_width:{spec}}"


def format_interval(interval: Interval | None, spec: str = ".1f", scale: float = 1.0) -> str:
    """`1.5 [1.0, 2.5]`"""
    if interval is None or math.isnan(interval.value):
        return DASH
    value, low, high = (format(scale * x, spec) for x in (interval.value, interval.low, interval.high))
    return f"{value} [{low}, {high}]"


def format_ranks(ranks: tuple[int, int]) -> str:
    """`1-3`, or `2` where the rank is known"""
    low, high = ranks
    return str(low) if low == high else f"{low}\N{EN DASH}{high}"


def format_learning_rate(log10: MeanCI) -> str:
    """A learning rate from its log10, the interval as a factor: `0.3 ×÷ 1.4`."""
    if math.isnan(log10.mean):
        return "none"
    width = log10.ci_half_width
    size = f"{10**width:.2g}" if width < 1.5 else "over 30"  # an interval of three decades and more says nothing
    factor = "" if math.isnan(width) or size == "1" else f" {TIMES_OR_OVER} {size}"
    return f"{10**log10.mean:.3g}{factor}"


def format_p(p: float) -> str:
    """`.03`, or `< .001`"""
    return "< .001" if p < 5e-4 else f"{p:.2g}" if p < 0.0095 else f"{p:.2f}"


def format_seconds(value: float) -> str:
    """At most one decimal: `2.3`, `140`, `5200`."""
    return format_number(value, ".1f" if value < 100 else ".0f")


def format_ratio(value: float) -> str:
    """`1.3x`, `12x`"""
    return format_number(value, ".1f" if value < 9.95 else ".0f") + ("" if math.isnan(value) else "x")


def format_status_counts(counts: dict[str, int]) -> str:
    """`ok 10, diverged 2`"""
    return ", ".join(f"{status} {count}" for status, count in counts.items())


def pluralize(n: int, noun: str) -> str:
    """`1 loss`, `3 losses`, `2 data sets`"""
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{n} {noun if n == 1 else plural}"


def ellipsize(text: str, max_length: int) -> str:
    """Shorten a text in its middle: names of one loss with several settings often differ only at the end."""
    head = (max_length - 1) // 2
    return text if len(text) <= max_length else f"{text[:head]}…{text[len(text) - (max_length - 1 - head) :]}"
