"""Bits of test images that are right: what is packed comes back, and what is damaged is not taken for an answer."""

import json

import numpy as np
import pytest

from cl_semisup.results.right_images import pack, unpack


@pytest.mark.parametrize("images", [1, 7, 8, 9, 360])
def test_what_is_packed_comes_back(images: int) -> None:
    random = np.random.RandomState(images)
    right = {name: random.rand(images) < 0.5 for name in ("linear_top1", "knn_top1")}
    packed = json.loads(json.dumps(pack(right)))
    for name, expected in right.items():
        found = unpack(packed, name)
        assert found is not None
        assert found.dtype == bool
        assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    "packed",
    [
        None,
        [],
        {},
        {"images": 8, "scores": []},
        {"images": 8, "scores": {}},
        {"images": 8, "scores": {"s": 7}},
        {"images": 8, "scores": {"s": "!!!!"}},
        {"images": 9, "scores": {"s": "/w=="}},  # one byte, which is eight images
        {"images": 0, "scores": {"s": ""}},
        {"images": True, "scores": {"s": "/w=="}},
        {"images": 8.0, "scores": {"s": "/w=="}},
        {"images": 8, "scores": {"s": "\u00e9w=="}},
    ],
)
def test_damaged_bits_are_no_answer(packed: object) -> None:
    assert unpack(packed, "s") is None
