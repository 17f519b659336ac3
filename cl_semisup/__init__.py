"""A benchmark suite for contrastive losses with few labels: suites ask, runs answer, leaderboards compare."""

from typing import TYPE_CHECKING, Any

import cl_semisup.plugins  # noqa: F401  # first: it remembers the text of every plug-in module that is imported
from cl_semisup.version import __version__

if TYPE_CHECKING:
    from cl_semisup.api import evaluate, evaluate_encoder, leaderboard, results, run

__all__ = ["__version__", "evaluate", "evaluate_encoder", "leaderboard", "results", "run"]


def __getattr__(name: str) -> Any:
    """The functions of `api.py`, imported when they are used: this import stays cheap and needs no torch.

    `results` is also a room. Once a module of that room is imported, the name here is the room, which can be called.
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from cl_semisup import api

    return getattr(api, name)
