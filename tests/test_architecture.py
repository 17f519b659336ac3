"""Imports go one way, plug-ins stand alone, and the core never names a plug-in."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from cl_semisup import plugins

PACKAGE = Path(__file__).parents[1] / "cl_semisup"
OPEN = set(plugins.FOLDERS)

# room (a folder, or a module at the top) -> the rooms that it may import. Top to bottom is the direction of the data.
MAY_IMPORT = {
    "text": set(),
    "system": set(),  # files, the cache folder, the limits of a container, where the package lies
    "errors": {"text"},
    "seeds": set(),
    "device": {"errors"},  # what GPUs do otherwise, for the rooms that compute on one
    "plugins": {"errors", "system", "text"},
    "weights": {"errors", "system"},
    "encoders": {"config", "errors", "plugins", "weights"},
    "optimizers": {"config"},
    "measures": set(),
    "native": {"encoders", "errors", "system"},
    "contrast": {"errors", "native", "system"},
    "views": {"data", "errors", "native"},
    "data": {"device", "errors", "native", "seeds", "system"},
    "config": {"errors", "plugins", "system"},
    "datasets": {"data", "errors", "seeds", "system"},  # images are decoded on the usable cores
    "losses": {"config", "contrast", "device", "errors", "plugins", "seeds", "system"},  # draws are sent to a device
    "evaluation": {"contrast", "data", "errors", "measures", "plugins", "seeds", "system"},
    "contract": {"config", "data", "errors", "evaluation", "losses", "plugins", "system"},
    "suite": {
        "config",
        "data",
        "encoders",
        "errors",
        "evaluation",
        "losses",
        "optimizers",  # whether one fits the encoder
        "plugins",
        "system",
        "weights",
    },
    "results": {"config", "data", "errors", "plugins", "seeds", "suite", "system", "text", "weights"},
    "search": {"results", "suite"},
    "citation": {"plugins", "results", "suite", "version"},  # what a suite's plug-ins come from, as BibTeX
    "report": {"errors", "results", "search", "seeds", "suite", "system", "text"},
    "scoring": {"data", "errors", "evaluation", "measures", "report", "results", "seeds", "suite", "system", "text"},
    "version": set(),
    "training": {
        "data",
        "device",
        "encoders",  # which layers an encoder is made of
        "errors",
        "losses",
        "measures",
        "native",
        "optimizers",  # what an optimizer asks of a step
        "seeds",
        "suite",
        "system",
        "text",
    },
}
JOINING = {
    "__main__",
    "execution",
    "scheduling",
    "engines",
    "gate",
    "cli",
    "api",
    "pytest_plugin",
    "submission",  # packs, checks and runs again what others send in
}  # they may import any of these
TORCH_FREE_ROOMS = {
    "text",
    "errors",
    "system",
    "seeds",
    "plugins",
    "config",
    "suite",
    "results",
}
TORCH_FREE_ROOMS |= {"search", "report", "citation"}
TORCH_FREE_FILES = {
    "weights/__init__.py",
    "weights/source.py",
    "data/images.py",
    "data/labels.py",
    "data/settings.py",
    "data/description.py",
    "data/pixel_facts.py",
    "data/splits.py",
    "native/__init__.py",
    "native/library.py",
}


FILES = sorted(PACKAGE.rglob("*.py"))


def _in_package(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def _home(path: Path) -> str:
    """The room that a file belongs to."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@cache
def _nodes(path: Path) -> list[ast.AST]:
    """Every node of a file's syntax tree."""
    return list(ast.walk(ast.parse(path.read_text("utf-8"))))


@cache
def _imports(path: Path) -> set[str]:
    """Dotted names of all modules that a file imports, wherever in the file."""
    found: set[str] = set()
    for node in _nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@cache
def _graph() -> dict[str, set[str]]:
    """Module -> the modules of ours that it imports; a package is its `__init__`."""
    names = {path: ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in FILES}
    modules = {name.removesuffix(".__init__"): path for path, name in names.items()}
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        found = _imports(path) & set(modules)
        packages = {name.rpartition(".")[0] for name in found}  # `from package import module` names both
        graph[module] = {name for name in found - {module} if name not in packages or _takes_from(path, name, modules)}
    return graph


def _takes_from(path: Path, package: str, modules: Iterable[str]) -> bool:
    """Does the file take a name from the package itself, and not only modules in it?"""
    for node in _nodes(path):
        if not isinstance(node, ast.ImportFrom) or node.module != package:
            continue
        if any(f"{package}.{alias.name}" not in modules for alias in node.names):
            return True
    return False


def _circle(graph: Mapping[str, set[str]]) -> list[str]:
    """Names that import each other in a circle; [] if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [str(name) for name in error.args[1]]
    return []


def test_imports_go_one_way() -> None:
    rooms, wrong = {_home(path) for path in FILES}, {}
    for path in FILES:
        home = _home(path)
        if home not in JOINING and home != "__init__":
            imported = {name.split(".")[1] for name in _imports(path) if name.startswith("cl_semisup.")}
            if unwanted := imported & rooms - MAY_IMPORT[home] - {home}:
                wrong[_in_package(path)] = sorted(unwanted)
    assert not wrong, "they must not import these rooms"


def test_no_file_imports_itself_through_others() -> None:
    assert not _circle(_graph())


def test_no_room_imports_itself_through_others() -> None:
    rooms: dict[str, set[str]] = {}
    for module, imported in _graph().items():
        home = module.split(".")[1:2]
        for name in home:
            rooms.setdefault(name, set()).update(
                x.split(".")[1] for x in imported if "." in x and x.split(".")[1] != name
            )
    assert not _circle(rooms)


def test_a_circle_is_found() -> None:
    assert set(_circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})) == {"a", "b", "c"}


def test_a_room_is_small_enough_to_read() -> None:
    """Files of 350 lines and functions of 60 at most; what is longer has more than one subject."""
    long_files = {str(path): n for path in FILES if (n := len(path.read_text("utf-8").splitlines())) > 350}
    assert not long_files
    long_functions = [
        f"{path}:{node.lineno} {node.name}"
        for path in FILES
        for node in _nodes(path)
        if isinstance(node, ast.FunctionDef) and node.end_lineno and node.end_lineno - node.lineno >= 60
    ]
    assert not long_functions


def test_reading_and_ranking_records_needs_no_torch() -> None:
    light = [path for path in FILES if _home(path) in TORCH_FREE_ROOMS or _in_package(path) in TORCH_FREE_FILES]
    assert len(light) > len(TORCH_FREE_FILES) + len(TORCH_FREE_ROOMS)
    top_names = {_in_package(path): {name.split(".")[0] for name in _imports(path)} for path in light}
    assert not {
        path: heavy for path, names in top_names.items() if (heavy := names & {"torch", "torchvision", "sklearn"})
    }


def test_plug_ins_never_import_each_other() -> None:
    plug_ins = {f"cl_semisup.{folder}.{name}" for folder in OPEN for name in plugins.names(folder)}
    assert len(plug_ins) > 100
    assert not {
        _in_package(path): found for path in FILES if _home(path) in OPEN and (found := _imports(path) & plug_ins)
    }


def test_the_core_never_names_a_plug_in() -> None:
    """`if loss == "clop"` is a defect; a default that a user may change (nt_xent, sgd, convnet) is not a branch."""
    names = "|".join(
        name for folder in ("losses", "datasets", "encoders", "optimizers", "views") for name in plugins.names(folder)
    )
    branch = re.compile(rf"(==|!=|\bin\b)\s*[(\[{{]?\s*[\"']({names})[\"']")
    for path in FILES:
        if _home(path) not in OPEN:
            assert not branch.search(path.read_text("utf-8")), path


def test_the_core_knows_no_engine() -> None:
    """An engine is one file; the command line chooses it, and Ray is imported where runs are to execute on it."""
    engines = {f"cl_semisup.engines.{name}" for name in ("local", "ray_engine", "slurm")}
    for path in FILES:
        if _home(path) not in ("cli", "api", "gate"):
            assert not _imports(path) & engines, path
        if path.name != "ray_engine.py":
            assert "ray" not in {name.split(".")[0] for name in _imports(path)}, path
    plain = "import sys, cl_semisup.cli, cl_semisup.scheduling.scheduler, cl_semisup.execution.execute; "
    plain += f"assert not {{'ray', 'torchvision', *{sorted(engines)}}} & set(sys.modules)"  # torchvision: 2 s, 170 MB
    subprocess.run([sys.executable, "-c", plain], check=True, cwd=PACKAGE.parent)


def test_no_drawer_for_odds_and_ends() -> None:
    assert not {path.stem for path in FILES} & {"utils", "helpers", "misc", "common", "tools"}
