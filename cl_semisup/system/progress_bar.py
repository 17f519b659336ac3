"""The one progress bar: drawn on terminals and in notebooks, and nowhere else."""

import builtins
from typing import Any


def in_notebook() -> bool:
    """Does this code run in a notebook, whose output is no terminal and which draws bars of its own?"""
    shell: Any = getattr(builtins, "get_ipython", None)
    return shell is not None and type(shell()).__name__ == "ZMQInteractiveShell"


def progress_bar(total: int, show: bool = True, **options: Any) -> Any:
    """A tqdm bar; `.disable` says whether it is not drawn."""
    if in_notebook():
        from tqdm.auto import tqdm as notebook_bar

        return notebook_bar(total=total, disable=not show, **options)
    from tqdm import tqdm

    return tqdm(total=total, disable=None if show else True, **options)
