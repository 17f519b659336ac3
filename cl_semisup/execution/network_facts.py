"""What a record says of the weights that a network began with."""

from dataclasses import asdict
from typing import Any

from torch import nn


def network_facts(encoder: nn.Module) -> dict[str, Any]:
    """`weights`: file, hash, prefix and what was left out; `frozen`: the modules that do not train. {} for neither."""
    facts: dict[str, Any] = {}
    if (loaded := getattr(encoder, "loaded", None)) is not None:
        facts["weights"] = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(loaded).items()}
        facts["weights"]["ignored"] = facts["weights"]["ignored"][:100]
    if frozen := getattr(encoder, "frozen", ()):
        facts["frozen"] = ["all"] if frozen == ("",) else list(frozen)
    return facts
