"""How big an installation is: bytes of the package and of all that it needs, by distribution.

`python benchmarks/install_size.py` writes benchmarks/results/install_size.md and .json. It measures the environment
that runs it. What only serves NVIDIA GPUs (`nvidia-*`, `cuda-*`, triton) is summed apart: CPU builds of torch do not
bring it.
"""

import re
import sys
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import _common

ROOT = _common.ROOT
GPU = re.compile(r"nvidia|cuda|triton")


def needed() -> dict[str, float]:
    """Distribution -> MB of everything that the package needs, down to the last dependency."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    queue, sizes = [_name(line) for line in project["dependencies"]], dict[str, float]()
    while queue:
        name = queue.pop()
        if name in sizes:
            continue
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # needed on another machine only
            continue
        sizes[name] = size(Path(str(file.locate())) for file in found.files or [])
        queue += [_name(line) for line in found.requires or [] if "extra ==" not in line]
    return sizes


def _name(requirement: str) -> str:
    match = re.match(r"[\w.-]+", requirement)
    return match.group().lower().replace("_", "-") if match else ""


def size(paths: Iterable[Path]) -> float:
    """MB of the files among these paths that are no compiled Python."""
    return sum(path.stat().st_size for path in paths if path.is_file() and path.suffix != ".pyc") / 1e6


def main() -> None:
    sizes = needed()
    gpu = sum(megabytes for name, megabytes in sizes.items() if GPU.match(name))
    own = size(path for folder in ("cl_semisup", "suites") for path in (ROOT / folder).rglob("*"))
    rest = sum(sizes.values()) - gpu
    figures = {
        "cl_semisup with its suites": own,
        "torch": sizes["torch"],
        "other libraries": rest - sizes["torch"],
        "what only NVIDIA GPUs need (nvidia-*, cuda-*, triton)": gpu,
        "all": own + rest + gpu,
        "all without what only NVIDIA GPUs need": own + rest,
    }
    rows = [{"what": what, "MB": float(f"{round(megabytes):.3g}")} for what, megabytes in figures.items()]
    print(_common.write("install_size", "Megabytes of files, without compiled `.pyc` files.", rows))


if __name__ == "__main__":
    main()
