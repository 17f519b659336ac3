"""Arithmetic for oracles: one number at a time, in float64, sharing no code with the package."""

from collections.abc import Iterable, Sequence

import torch

Number = torch.Tensor  # a 0-dimensional float64 tensor, so that the oracle has a gradient too
Rows = Sequence[torch.Tensor]


def dot(a: Iterable[Number], b: Iterable[Number]) -> Number:
    return total(x * y for x, y in zip(a, b, strict=True))


def total(values: Iterable[Number]) -> Number:
    result = torch.zeros((), dtype=torch.float64)
    for value in values:
        result = result + value
    return result


def mean(values: Iterable[Number]) -> Number:
    values = list(values)
    return total(values) / len(values)


def norm(a: Sequence[Number]) -> Number:
    return dot(a, a).sqrt()


def cosine(a: Sequence[Number], b: Sequence[Number]) -> Number:
    return dot(a, b) / (norm(a) * norm(b))


def log_sum_exp(values: Iterable[Number]) -> Number:
    return total(value.exp() for value in values).log()


def same_thing(labels: Sequence[int] | None, i: int, j: int) -> bool:
    """Are images i and j known to be the same: the same image, or two of the same class?"""
    return i == j or (labels is not None and labels[i] >= 0 and labels[i] == labels[j])
