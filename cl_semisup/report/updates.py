"""Similarity of updates: do two losses change features in the same direction? From the probe `update_similarity`."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

MAX_ENTRY = 1_000_000  # a stranger's file may hold anything


def update_cosine(curves: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Mean cosine of the rows in two runs' curves (`records.read_curves`); NaN without any, or of different shapes."""
    a, b = (_rows(one.get("updates")) for one in (curves, other))
    if a is None or b is None or a.shape != b.shape:
        return math.nan
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    products = (a * b).sum(axis=1)
    return float(np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0).mean())


def _rows(entries: object) -> np.ndarray | None:
    """(n, F); None for anything but rows of as many whole numbers."""
    if not isinstance(entries, list) or not entries or not all(isinstance(row, list) and row for row in entries):
        return None
    if len({len(row) for row in entries}) != 1 or {type(x) for row in entries for x in row} != {int}:
        return None
    rows = np.array(entries, dtype=float)
    return rows if np.abs(rows).max() <= MAX_ENTRY else None
