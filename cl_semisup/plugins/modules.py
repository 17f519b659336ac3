"""Where a module's file lies, found without importing anything."""

import importlib.machinery
import sys
from functools import cache
from pathlib import Path


@cache
def file_of(module: str) -> Path | None:
    """The Python file of a module, or the `__init__.py` of a package; None if there is none."""
    folders, spec = None, None
    words = module.split(".")
    for count in range(1, len(words) + 1):
        spec = _find(".".join(words[:count]), folders)
        if spec is None:
            return None
        folders = list(spec.submodule_search_locations or [])
    origin = spec.origin if spec else None
    return Path(origin) if origin and origin.endswith(".py") else None


def _find(name: str, folders: list[str] | None) -> importlib.machinery.ModuleSpec | None:
    """As the import system finds it; `folders` are those of the package around it."""
    for finder in sys.meta_path:
        find_spec = getattr(finder, "find_spec", None)
        if find_spec and (spec := find_spec(name, folders, None)):
            found: importlib.machinery.ModuleSpec = spec
            return found
    return None
