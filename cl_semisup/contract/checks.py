"""What clauses of all kinds raise and check: faults, docstrings, and the state of global random generators."""

import inspect
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from cl_semisup import plugins
from cl_semisup.config import grid


class Broken(AssertionError):
    """A clause does not hold; the message says what was observed."""


def require_documentation(folder: str, name: str, *words: str) -> None:
    """Broken unless the plug-in's docstring has a summary, these words, and each setting in `Args:`."""
    plugin = plugins.load(folder, name)
    text = inspect.getdoc(plugin) or ""
    has_own = bool(vars(plugin).get("__doc__")) and not text.startswith(f"{plugin.__name__}(")  # dataclass's own
    absent = [] if has_own else ["a summary"]
    absent += [word for word in words if word not in text]
    absent += [f"Args: {name}" for name in grid.annotations(plugin) if name not in plugins.field_descriptions(plugin)]
    if absent:
        raise Broken(f"the docstring lacks {', '.join(absent)}.")


@contextmanager
def other_randomness(seed: int) -> Iterator[None]:
    """Global generators of Python, numpy and torch start from this seed within; Broken if one is used or seeded."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        at_start = _states()
        yield
        changed = [name for name, state in _states().items() if state != at_start[name]]
        if changed:
            remedy = "Draw from a generator of its own, seeded by cl_semisup.seeds.seed"
            raise Broken(f"it draws from or seeds the global generator of {', '.join(changed)}. {remedy}.")
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


def _states() -> dict[str, Any]:
    kind, keys, *rest = np.random.get_state()
    numpy_state = (kind, bytes(keys), *rest)  # type: ignore[arg-type]
    return {"random": random.getstate(), "numpy": numpy_state, "torch": bytes(torch.get_rng_state().numpy())}
