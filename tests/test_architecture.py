"""Imports go one way, plug-ins stand alone, and the core never names a plug-in."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cl_semisup import plugins

PACKAGE = Path(__file__).parents[1] / "cl_semisup"
OPEN = set(plugins.FOLDERS)

# module or folder -> what of ours it may import. Top to bottom is the direction of the data.
MAY_IMPORT = {
    "errors": set(),
    "seeds": set(),
    "native": set(),
    "settings": set(),
    "run": set(),
    "plugins": {"errors"},
    "images": {"errors"},
    "yaml_source": {"errors"},
    "grid": {"errors", "plugins"},
    "protocol": {"plugins", "run"},
    "records": {"errors", "run"},
    "selection": {"errors", "records", "run"},
    "verdict": set(),
    "leaderboard": {"protocol", "records", "run", "selection", "errors", "seeds", "verdict"},
    "report": {"leaderboard", "records", "run", "selection", "protocol", "errors", "report", "seeds", "verdict"},
    "exporters": {"errors", "records", "leaderboard", "run", "selection"},
    "chunked": set(),
    "contrast": {"chunked", "native"},
    "geometry": set(),
    "logistic": {"geometry", "seeds", "errors"},
    "labels": {"errors", "seeds", "settings"},
    "views": {"native", "settings"},
    "datasets": {"errors", "images", "settings", "datasets", "seeds"},
    "layers": set(),
    "encoders": {"layers"},
    "optimizers": set(),
    "prototypes": {"errors", "contrast"},
    "losses": {"errors", "grid", "chunked", "contrast", "plugins", "losses", "seeds", "prototypes"},
    "dynamics": {"losses", "prototypes", "geometry", "seeds"},
    "evaluation": {
        "errors",
        "plugins",
        "evaluation",
        "geometry",
        "images",
        "logistic",
        "seeds",
        "contrast",
        "labels",
        "views",
    },
    "contract": {"grid", "losses", "plugins", "errors"},
    "training": {"geometry", "layers", "losses", "native", "seeds", "settings", "training", "views", "errors"},
    "suite": {
        "errors",
        "evaluation",
        "grid",
        "images",
        "labels",
        "losses",
        "plugins",
        "run",
        "selection",
        "settings",
        "yaml_source",
    },
}
FREE = {"execution", "gate", "pytest_plugin", "cli"}  # they join everything
TORCH_FREE = {
    "errors",
    "native",
    "seeds",
    "settings",
    "run",
    "plugins",
    "images",
    "yaml_source",
    "grid",
    "protocol",
    "records",
}
TORCH_FREE |= {"selection", "verdict", "leaderboard", "report", "exporters", "labels", "suite"}


def _files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def _home(path: Path) -> str:
    """The module or folder a file belongs to."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def _imports(path: Path) -> set[str]:
    """Dotted names of all modules that a file imports, wherever in the file, type-checking blocks aside."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", _files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    home = _home(path)
    if home in FREE or home == "__init__":
        return
    ours = {name.split(".")[1] for name in _imports(path) if name.startswith("cl_semisup.")}
    ours = {name for name in ours if (PACKAGE / name).exists() or (PACKAGE / f"{name}.py").exists()}
    assert ours <= MAY_IMPORT[home] | {home}, f"{home} must not import {sorted(ours - MAY_IMPORT[home])}"


@pytest.mark.parametrize("path", _files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_reading_and_ranking_records_needs_no_torch(path: Path) -> None:
    if _home(path) in TORCH_FREE:
        heavy = {name for name in _imports(path) if name.split(".")[0] in ("torch", "torchvision", "sklearn")}
        assert not heavy


@pytest.mark.parametrize("path", [p for p in _files() if _home(p) in OPEN], ids=lambda p: str(p.relative_to(PACKAGE)))
def test_plug_ins_never_import_each_other(path: Path) -> None:
    plug_ins = {f"cl_semisup.{folder}.{name}" for folder in OPEN for name in plugins.names(folder)}
    assert not _imports(path) & plug_ins


def test_the_core_never_names_a_plug_in() -> None:
    """`if loss == "clop"` is a defect; a default that a user may change (nt_xent, sgd, convnet) is not a branch."""
    names = "|".join(
        name for folder in ("losses", "datasets", "encoders", "optimizers") for name in plugins.names(folder)
    )
    branch = re.compile(rf"(==|!=|\bin\b)\s*[(\[{{]?\s*[\"']({names})[\"']")
    for path in _files():
        if _home(path) not in OPEN:
            assert not branch.search(path.read_text("utf-8")), path


def test_the_core_knows_no_engine() -> None:
    """An engine is one file; the command line chooses it, and Ray is imported where runs are to execute on it."""
    engines = {f"cl_semisup.execution.{name}" for name in ("local", "ray_engine", "slurm")}
    for path in _files():
        if path.name != "cli.py" and _home(path) != "gate":
            assert not _imports(path) & engines, path
        if path.name != "ray_engine.py":
            assert "ray" not in {name.split(".")[0] for name in _imports(path)}, path
    plain = "import sys, cl_semisup.cli, cl_semisup.execution.conduct, cl_semisup.execution.execute; "
    plain += f"assert not {{'ray', *{sorted(engines)}}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", plain], check=True, cwd=PACKAGE.parent)


def test_no_drawer_for_odds_and_ends() -> None:
    assert not {path.stem for path in _files()} & {"utils", "helpers", "misc", "common", "tools"}
