"""Networks that suites have kept: what stands beside the tensors in their safetensors file. It may be a stranger's."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cl_semisup.errors import InputError
from cl_semisup.system import files
from cl_semisup.weights.reader import Stored, read

ID = re.compile(r"[0-9a-f]{12}")  # of a run
KEY = "cl_semisup"  # of the description among the texts of the file
ENCODER = "encoder."  # before the encoder's names where projector and heads are kept too


@dataclass(frozen=True)
class Description:
    """What is needed to build the encoder again and to give it the images that it was trained on.

    Args:
        id: of the run
        encoder: the architecture, a plug-in and its settings
        channels, side: of the images
        dim: width of the features
        mean, std: by which pixels in [0, 1] are normalised, a channel each
        dataset: its name
        loss: its name
    """

    id: str
    encoder: dict[str, dict[str, Any]]
    channels: int
    side: int
    dim: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    dataset: str
    loss: str

    def as_metadata(self) -> dict[str, str]:
        return {"format": "pt", KEY: json.dumps(asdict(self), sort_keys=True)}


def read_kept(path: Path) -> tuple[Description, Stored]:
    """A kept file; InputError if it is none. The encoder's settings are not checked here."""
    stored = read(path)
    text = stored.metadata.get(KEY)
    if text is None:
        rule = "must be a network that a suite has kept (`keep: encoder`), which says how to build it"
        raise InputError(f"{path}: {rule}. Got weights alone. Name <results>/kept/<id>.safetensors.")
    try:
        content = files.parse_json(text.encode())
        found = Description(**content | {"mean": tuple(content["mean"]), "std": tuple(content["std"])})
        numbers = (found.channels, found.side, found.dim)
        if not all(type(n) is int and 0 < n < 100_000 for n in numbers) or not _are_floats(found, found.channels):
            raise ValueError("channels, side, dim, mean or std are no sizes and numbers")
        if not all(isinstance(text, str) for text in (found.id, found.dataset, found.loss)):
            raise TypeError("id, dataset and loss must be text")
        if not ID.fullmatch(found.id):  # files are named after it
            raise ValueError(f"id must be 12 hex digits, not {found.id!r:.40}")
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: its description cannot be read. Got {error}. Keep the network again.") from None
    return found, stored


def _are_floats(found: Description, channels: int) -> bool:
    both = (*found.mean, *found.std)
    return len(both) == 2 * channels and all(type(value) is float for value in both)
