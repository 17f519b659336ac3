"""The JSON Schema of searches, for editors."""

from typing import Any

from cl_semisup.suite.search import FIRST_REPETITIONS, MAX_PER_DECADE, MAX_REPETITIONS


def edge_schema() -> dict[str, Any]:
    """The JSON Schema of an edge, for editors."""
    end = {"type": "number", "exclusiveMinimum": 0}
    properties = {
        "edge": {
            "description": "the lowest and the highest value",
            "type": "array",
            "items": end,
            "minItems": 2,
            "maxItems": 2,
        },
        "per_decade": {
            "description": "rungs from one power of ten to the next",
            "type": "integer",
            "minimum": 1,
            "maximum": MAX_PER_DECADE,
            "default": 8,
        },
        "share": {
            "description": "of its best score that a run must keep",
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": 1,
            "default": 0.9,
        },
    }
    text = "the smallest and the largest value at which a run learns, instead of a grid (docs/search.md)"
    return _object(text, properties, "edge")


def resolve_schema() -> dict[str, Any]:
    """The JSON Schema of `resolve`, for editors."""
    properties = {
        "resolve": {
            "description": "half-width in percentage points of the intervals of differences to the baseline",
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": 100,
        },
        "max": {
            "description": "repetitions at most",
            "type": "integer",
            "minimum": FIRST_REPETITIONS,
            "maximum": MAX_REPETITIONS,
            "default": 30,
        },
    }
    return _object("as many repetitions as it takes (docs/search.md)", properties, "resolve")


def _object(description: str, properties: dict[str, Any], required: str) -> dict[str, Any]:
    return {
        "description": description,
        "type": "object",
        "properties": properties,
        "required": [required],
        "additionalProperties": False,
    }


def race_schema(values: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of a race between such values."""
    many = {"type": "array", "items": values, "minItems": 2, "uniqueItems": True}
    text = "the best of these values, found by racing over repetitions (docs/search.md)"
    return _object(text, {"best": {"description": "what competes", **many}}, "best")
