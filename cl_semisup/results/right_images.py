"""Which test images each score of a run has right: a bit an image, in the curves beside the record."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Right = NDArray[np.bool_]  # (T,) of the test images


def pack(right: Mapping[str, Right]) -> dict[str, Any]:
    """Score -> (T,) as JSON: bits, eight a byte and the first the highest, in base64."""
    (images,) = {len(one) for one in right.values()}
    scores = {name: base64.b64encode(np.packbits(one).tobytes()).decode() for name, one in right.items()}
    return {"images": images, "scores": scores}


def unpack(packed: object, score: str) -> Right | None:
    """(T,) of one score; None if it is not there or damaged."""
    if not isinstance(packed, dict) or not isinstance(packed.get("scores"), dict):
        return None
    images, text = packed.get("images"), packed["scores"].get(score)
    if type(images) is not int or not isinstance(text, str) or images < 1:
        return None
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(content) != -(-images // 8):
        return None
    return np.unpackbits(np.frombuffer(content, np.uint8), count=images).astype(bool)
