"""Plug-ins that installed packages offer: entry points of the group `cl_semisup.plugins`.

    [project.entry-points."cl_semisup.plugins"]
    my_loss = "my_package.my_loss"            # a module with one public dataclass
    my_probe = "my_package.parts:MyProbe"     # or a class of a module

The name is the plug-in's; its kind is read from the module's text. A module is imported when its plug-in is used.
"""

import importlib.metadata
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cl_semisup.errors import InputError
from cl_semisup.plugins import kinds, modules

GROUP = "cl_semisup.plugins"


@dataclass(frozen=True)
class Installed:
    """A plug-in of an installed package: its module's dotted name and file, its class, and the package's version."""

    module: str
    path: Path
    class_name: str
    package: str


@cache
def found() -> dict[tuple[str, str], Installed]:
    """(folder, name) -> plug-in, of all packages; InputError if one cannot be used or two have one name."""
    offered: dict[tuple[str, str], Installed] = {}
    for point in importlib.metadata.entry_points(group=GROUP):
        package = f"{point.dist.name} {point.dist.version}" if point.dist else "a package"
        where = f"{package}: entry point {point.name!r} of {GROUP}"
        if not point.name.isidentifier() or point.name.startswith("_"):
            raise InputError(f"{where}: its name is the plug-in's. Use letters, digits and _, in the package.")
        path = modules.file_of(point.module)
        if path is None:
            got = f"Got {point.module!r}, which is not found. Mend or uninstall the package"
            raise InputError(f"{where}: must name a module of Python code. {got}.")
        folder, class_name = kinds.kind(kinds.Source.read(path, point.module), point.attr or None)
        other = offered.setdefault((folder, point.name), Installed(point.module, path, class_name, package))
        if other.module != point.module or other.class_name != class_name:
            noun = kinds.SHAPES[folder][0]
            raise InputError(f"{where}: the {noun} {point.name!r} is in {other.package} too. Uninstall one of the two.")
    return offered
