"""Ranges of diagnostics, by their definitions in measures/geometry.py; what lies outside was never measured."""

from collections.abc import Mapping
from typing import Any

RANGES = {
    "feature_std": (0.0, 1.0),
    "projection_feature_std": (0.0, 1.0),
    "alignment": (0.0, 4.0),
    "uniformity": (-8.0, 0.0),
    "effective_rank": (0.0, 1e9),
    "projection_effective_rank": (0.0, 1e9),
}
ROUNDING = 1e-3  # of any precision in which a record's run may have been trained


def problem(diagnostics: Mapping[str, Any], rounding: float = ROUNDING) -> str:
    """The first of these numbers that its definition cannot give; "" if there is none. Null was not finite."""
    for name, (least, most) in RANGES.items():
        value = diagnostics.get(name)
        if value is not None and not least - rounding <= value <= most + rounding:
            return f"has {name} {value!r:.40}, outside of [{least:g}, {most:g}]."
    return ""
